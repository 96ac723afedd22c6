package krbd

import (
	"io"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/tests/controlplane"
)

// secrets are those of an API server that the guest reaches through this process.
type secrets struct{ client client.Client }

// newSecrets starts the API server and writes the guest's kubeconfig.
func newSecrets(t *testing.T, dir string) secrets {
	config, c := controlplane.Start(t)
	for _, object := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}},
	} {
		require.NoError(t, c.Create(t.Context(), object))
	}
	require.NoError(t, clientcmd.WriteToFile(kubeconfig(t, config), filepath.Join(dir, "kubeconfig")))
	return secrets{client: c}
}

func kubeconfig(t *testing.T, config *rest.Config) api.Config {
	server, err := url.Parse(config.Host)
	require.NoError(t, err)
	kube := *api.NewConfig()
	kube.Clusters["c"] = &api.Cluster{Server: "https://" + forward(t, server.Host), TLSServerName: server.Hostname(), CertificateAuthorityData: config.CAData}
	kube.AuthInfos["u"] = &api.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	kube.Contexts["x"] = &api.Context{Cluster: "c", AuthInfo: "u"}
	kube.CurrentContext = "x"
	return kube
}

// forward makes an address of this process one that the guest can reach.
func forward(t *testing.T, address string) string {
	listener, err := net.Listen("tcp", netip.AddrPortFrom(near.Addr(), 0).String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go pass(conn, address)
		}
	}()
	return listener.Addr().String()
}

func pass(conn net.Conn, address string) {
	defer func() { _ = conn.Close() }()
	to, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	go func() { _, _ = io.Copy(to, conn); _ = to.Close() }()
	_, _ = io.Copy(conn, to)
}

// credentials gives the node a key of a type, to enter the cluster with.
func (b *bench) credentials(keyType string) {
	user := "csi-node." + nodeName + "." + keyType
	key := strings.TrimSpace(b.ceph("auth", "get-or-create-key", "client."+user, "mon", "profile rbd", "osd", "profile rbd pool="+pool, "--key-type", keyType))
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: connections.NodeSecret(nodeName)(b.cluster.FSID)},
		Data:       map[string][]byte{"fsid": []byte(b.cluster.FSID), "monHost": []byte(b.cluster.MonHost), "user": []byte(user), "key": []byte(key)},
	}
	err := b.secrets.client.Create(b.Context(), secret)
	if apierrors.IsAlreadyExists(err) {
		err = b.secrets.client.Update(b.Context(), secret)
	}
	require.NoError(b, err)
	b.user, b.key = user, key
}
