package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority signs the lab's certificates. Its key is never written: each lab has
// a new one, and what it signed is all made at once.
type authority struct {
	cert *x509.Certificate
	pem  []byte
	key  *ecdsa.PrivateKey
}

// writeCertificates makes the keys and kubeconfigs of every part.
func writeCertificates(nodes int) error {
	ca, err := newAuthority()
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	if err := os.WriteFile(filepath.Join(pkiDir(), "ca.crt"), ca.pem, 0o644); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	if err := ca.writeServer(); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	if err := writeServiceAccountKey(); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	clients := []struct{ file, user, group string }{
		{Kubeconfig(), "lab-admin", "system:masters"},
		{filepath.Join(pkiDir(), "controller-manager"), "system:kube-controller-manager", ""},
		{filepath.Join(pkiDir(), "scheduler"), "system:kube-scheduler", ""},
		{filepath.Join(pkiDir(), "proxy"), "system:kube-proxy", ""},
	}
	for index := 1; index <= nodes; index++ {
		name := nodeName(index)
		clients = append(clients, struct{ file, user, group string }{
			filepath.Join(pkiDir(), name), "system:node:" + name, "system:nodes",
		})
	}
	for _, client := range clients {
		if err := ca.writeKubeconfig(client.file, client.user, client.group); err != nil {
			return fmt.Errorf("kubeconfig of %s: %w", client.user, err)
		}
	}
	return nil
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := newTemplate("cairn-lab", "")
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, pem: encode("CERTIFICATE", der), key: key}, nil
}

func newTemplate(name, group string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	subject := pkix.Name{CommonName: name}
	if group != "" {
		subject.Organization = []string{group}
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

func (a *authority) sign(template *x509.Certificate) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	key, err = encodeKey(private)
	return encode("CERTIFICATE", der), key, err
}

func (a *authority) writeServer() error {
	template := newTemplate("kube-apiserver", "")
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.IPAddresses = []net.IP{hostAddress.AsSlice(), kubernetesService.AsSlice(), net.IPv4(127, 0, 0, 1)}
	template.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	cert, key, err := a.sign(template)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(pkiDir(), "apiserver.crt"), cert, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(pkiDir(), "apiserver.key"), key, 0o600); err != nil {
		return err
	}
	// The API server calls kubelets (logs, exec) as an administrator.
	client := newTemplate("kube-apiserver", "system:masters")
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	cert, key, err = a.sign(client)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(pkiDir(), "kubelet-client.pem"), append(cert, key...), 0o600)
}

func writeServiceAccountKey() error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	key, err := encodeKey(private)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(pkiDir(), "service-account.key"), key, 0o600)
}

func (a *authority) writeKubeconfig(file, user, group string) error {
	template := newTemplate(user, group)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	cert, key, err := a.sign(template)
	if err != nil {
		return err
	}
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: lab
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: %q
  user:
    client-certificate-data: %s
    client-key-data: %s
contexts:
- name: lab
  context: {cluster: lab, user: %q}
current-context: lab
`, apiServerURL(), base64.StdEncoding.EncodeToString(a.pem), user,
		base64.StdEncoding.EncodeToString(cert), base64.StdEncoding.EncodeToString(key), user)
	return os.WriteFile(file, []byte(text), 0o600)
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key) // the form that service account keys must have
	if err != nil {
		return nil, err
	}
	return encode("EC PRIVATE KEY", der), nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
