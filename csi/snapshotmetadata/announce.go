package snapshotmetadata

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"

	"github.com/kubernetes-csi/external-snapshot-metadata/client/apis/snapshotmetadataservice/v1beta1"
	cbt "github.com/kubernetes-csi/external-snapshot-metadata/client/clientset/versioned"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/csi/identity"
)

// certificateLife is longer than a process's: each makes a certificate of its own.
const certificateLife = 10 * 365 * 24 * time.Hour

// Announce makes a certificate for an address (host:port), and tells clients by the
// driver's SnapshotMetadataService where the server is and by which certificate
// they know it. The key never leaves the process.
func Announce(ctx context.Context, client cbt.Interface, address string) (*tls.Config, error) {
	certificate, err := certify(address)
	if err != nil {
		return nil, err
	}
	services := client.CbtV1beta1().SnapshotMetadataServices()
	spec := v1beta1.SnapshotMetadataServiceSpec{Audience: Audience, Address: address,
		CACert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})}
	live, err := services.Get(ctx, identity.DriverName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = services.Create(ctx, &v1beta1.SnapshotMetadataService{ObjectMeta: metav1.ObjectMeta{Name: identity.DriverName}, Spec: spec}, metav1.CreateOptions{})
	case err == nil:
		live.Spec = spec
		_, err = services.Update(ctx, live, metav1.UpdateOptions{})
	}
	if err != nil {
		return nil, fmt.Errorf("write SnapshotMetadataService %s: %w", identity.DriverName, err)
	}
	return &tls.Config{Certificates: []tls.Certificate{*certificate}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13}, nil
}

// certify makes a key, and a certificate that is its own authority.
func certify(address string) (*tls.Certificate, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("the address of the server: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: identity.DriverName}, DNSNames: []string{host},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife), // clocks differ
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{signed}, PrivateKey: key}, nil
}
