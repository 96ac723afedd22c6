package controller

import (
	"fmt"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/cairn-storage/cairn/csi/kms"
	"github.com/cairn-storage/cairn/csi/kms/secret"
	fakevault "github.com/cairn-storage/cairn/csi/kms/vault/fake"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/model"
)

var secrets = map[string]string{secret.Field: "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}

// encryptedBench is a controller that makes keys, with the KMS "kv".
func encryptedBench(t *testing.T) (*Server, *model.Cluster, ceph.Conn, *fakevault.Vault) {
	s, cluster, conn := bench(t)
	v := fakevault.New(t)
	config := fmt.Sprintf("provider: vault-kv\naddress: %s\nnamespace: %s\nauth: {method: token}\ncaCertificate: |\n  %s\n", v.URL, fakevault.Namespace,
		strings.ReplaceAll(strings.TrimSpace(v.CA()), "\n", "\n  "))
	meta := metav1.ObjectMeta{Namespace: "ns", Name: kms.ObjectName}
	core := fake.NewClientset(&corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"kv": config}},
		&corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{"kv.token": []byte(fakevault.Token)}}).CoreV1()
	keys := &kms.Keys{Source: kms.Kubernetes{ConfigMaps: core.ConfigMaps("ns"), Secrets: core.Secrets("ns")}}
	s.Keys, s.Upkeep.Forget = keys, keys.Forget
	return s, cluster, conn, v
}

func encrypted(id string) func(*csi.CreateVolumeRequest) {
	return func(r *csi.CreateVolumeRequest) {
		r.Parameters["encrypted"], r.Secrets = "true", secrets
		if id != "" {
			r.Parameters["encryptionKMS"] = id
		}
	}
}

// brings is what a node gets of a volume.
func (s *Server) brings(t *testing.T, volume *csi.Volume) string {
	t.Helper()
	resp, err := s.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{
		VolumeId: volume.GetVolumeId(), NodeId: "node-1", VolumeCapability: mountCapability(writer)})
	require.NoError(t, err)
	return resp.GetPublishContext()[kms.MetadataKey]
}

// opens checks that a volume opens with the key that its publication brings, and
// not without.
func (s *Server) opens(t *testing.T, conn ceph.Conn, volume *csi.Volume) ceph.Passphrase {
	t.Helper()
	require.Equal(t, "true", volume.GetVolumeContext()[EncryptedContext])
	passphrase, err := s.Keys.(*kms.Keys).Open(t.Context(), volume.GetVolumeId(), s.brings(t, volume), secrets)
	require.NoError(t, err)
	image, err := conn.OpenImage(t.Context(), imageRef(t, volume), ceph.OpenOptions{Passphrase: passphrase})
	require.NoError(t, err)
	require.NoError(t, image.Close())
	_, err = conn.OpenImage(t.Context(), imageRef(t, volume), ceph.OpenOptions{})
	require.Equal(t, ceph.Invalid, ceph.KindOf(err))
	return passphrase
}

// A volume, its clone and what is restored from its snapshot have the same
// passphrase and each a key of its own; a repeat makes none.
func TestEncrypted(t *testing.T) {
	for _, id := range []string{"", "kv"} {
		t.Run("KMS "+id, func(t *testing.T) {
			s, _, conn, v := encryptedBench(t)
			var data, restored, cloned *csi.Volume
			for range 2 {
				data = s.volume(t, "pvc-1", encrypted(id))
				restored = s.volume(t, "pvc-2", encrypted(id), fromSnapshot(s.snap(t, data, "snap").GetSnapshotId()), ofSize(2<<30))
				cloned = s.volume(t, "pvc-3", encrypted(id), fromVolume(data.GetVolumeId()))
			}
			passphrase := s.opens(t, conn, data)
			require.Equal(t, passphrase, s.opens(t, conn, restored))
			require.Equal(t, passphrase, s.opens(t, conn, cloned))
			require.NotEqual(t, s.brings(t, data), s.brings(t, cloned))
			require.NotEqual(t, passphrase, s.opens(t, conn, s.volume(t, "pvc-4", encrypted(id))))
			if id != "" {
				require.Equal(t, 4, v.Entries())
			}
			s.delete(t, data)
			s.opens(t, conn, restored)
			s.opens(t, conn, cloned)
			require.Empty(t, s.brings(t, s.volume(t, "plain")))
		})
	}
}

// Cut off at any of its calls, a create ends with a volume that opens.
func TestEncryptedCutOffAnywhere(t *testing.T) {
	for name, of := range map[string]func(*csi.Volume, string) func(*csi.CreateVolumeRequest){
		"create":  func(*csi.Volume, string) func(*csi.CreateVolumeRequest) { return plain },
		"restore": func(_ *csi.Volume, snapshot string) func(*csi.CreateVolumeRequest) { return fromSnapshot(snapshot) },
		"clone":   func(data *csi.Volume, _ string) func(*csi.CreateVolumeRequest) { return fromVolume(data.GetVolumeId()) },
	} {
		t.Run(name, func(t *testing.T) {
			for n, hit := 0, true; hit; n++ {
				s, cluster, conn, _ := encryptedBench(t)
				data := s.volume(t, "pvc-1", encrypted("kv"))
				req := request(func(r *csi.CreateVolumeRequest) {
					r.Name = "pvc-2"
					encrypted("kv")(r)
					of(data, s.snap(t, data, "snap").GetSnapshotId())(r)
				})
				heal := fromNowOn(cluster, n)
				_, err := s.CreateVolume(t.Context(), req)
				hit = heal()
				require.Equal(t, hit, err != nil)
				resp, err := s.CreateVolume(t.Context(), req)
				require.NoError(t, err)
				s.opens(t, conn, resp.GetVolume())
			}
		})
	}
}

func TestEncryptedRefuses(t *testing.T) {
	s, _, _, _ := encryptedBench(t)
	data, open := s.volume(t, "pvc-1", encrypted("")), s.volume(t, "pvc-open")
	param := func(key, value string) func(*csi.CreateVolumeRequest) {
		return func(r *csi.CreateVolumeRequest) { r.Parameters[key] = value }
	}
	other := func(r *csi.CreateVolumeRequest) { r.Secrets = map[string]string{secret.Field: "another passphrase"} }
	for name, c := range map[string]struct {
		change []func(*csi.CreateVolumeRequest)
		code   codes.Code
		says   string
	}{
		"neither":             {[]func(*csi.CreateVolumeRequest){param("encrypted", "yes")}, codes.InvalidArgument, "parameters.encrypted:"},
		"KMS without":         {[]func(*csi.CreateVolumeRequest){param("encryptionKMS", "kv")}, codes.InvalidArgument, "parameters.encryptionKMS:"},
		"KMS of nonsense":     {[]func(*csi.CreateVolumeRequest){encrypted("../x")}, codes.InvalidArgument, "parameters.encryptionKMS:"},
		"KMS unknown":         {[]func(*csi.CreateVolumeRequest){encrypted("none")}, codes.FailedPrecondition, "no such key"},
		"no secret":           {[]func(*csi.CreateVolumeRequest){param("encrypted", "true")}, codes.InvalidArgument, "secrets.encryptionKey:"},
		"plain of encrypted":  {[]func(*csi.CreateVolumeRequest){fromVolume(data.GetVolumeId())}, codes.InvalidArgument, "parameters.encrypted:"},
		"encrypted of plain":  {[]func(*csi.CreateVolumeRequest){encrypted(""), fromVolume(open.GetVolumeId())}, codes.InvalidArgument, "parameters.encrypted:"},
		"with another secret": {[]func(*csi.CreateVolumeRequest){encrypted(""), fromVolume(data.GetVolumeId()), other}, codes.FailedPrecondition, "secrets.encryptionKey"},
		"repeated as plain":   {[]func(*csi.CreateVolumeRequest){func(r *csi.CreateVolumeRequest) { r.Name = "pvc-1" }}, codes.AlreadyExists, "parameters.encrypted:"},
		"repeated with a KMS": {[]func(*csi.CreateVolumeRequest){func(r *csi.CreateVolumeRequest) { r.Name = "pvc-1" }, encrypted("kv")}, codes.AlreadyExists, "parameters.encryptionKMS:"},
		"repeated as encrypted": {[]func(*csi.CreateVolumeRequest){func(r *csi.CreateVolumeRequest) { r.Name = "pvc-open" }, encrypted("")},
			codes.AlreadyExists, "parameters.encrypted:"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.CreateVolume(t.Context(), request(func(r *csi.CreateVolumeRequest) {
				r.Name = "pvc-new"
				for _, change := range c.change {
					change(r)
				}
			}))
			is(t, err, c.code, c.says)
			require.NotContains(t, err.Error(), secrets[secret.Field])
		})
	}
	s.Keys = nil
	_, err := s.CreateVolume(t.Context(), request(encrypted("")))
	is(t, err, codes.FailedPrecondition, "makes no keys")
}
