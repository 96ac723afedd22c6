package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/kubernetes-csi/external-snapshot-metadata/pkg/api"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
)

const mebibyte = 1 << 20

// tellsChangedBlocks asks what two snapshots hold and what differs, as a backup
// program does: with a token of its own, over TLS, found by the
// SnapshotMetadataService.
func tellsChangedBlocks(t *testing.T) {
	ctx := bounded(t)
	require.NoError(t, story.InstallChangedBlocks(ctx))
	apply(t, claim{name: "backed-up", size: "64Mi", block: true}, pod{name: "backed-up", devices: []string{"backed-up"}})
	running(t, "backed-up")
	const write = "dd if=/dev/urandom of=/dev/backed-up bs=1M oflag=direct conv=notrunc status=none "
	in(t, "backed-up", write+"count=4")
	apply(t, snapshot{name: "sunday", claim: "backed-up"})
	ready(t, "volumesnapshot", "sunday")
	in(t, "backed-up", write+"count=1 seek=1; "+write+"count=2 seek=20; blkdiscard -o 3M -l 1M /dev/backed-up")
	apply(t, snapshot{name: "monday", claim: "backed-up"})
	ready(t, "volumesnapshot", "monday")

	applyText(t, `
apiVersion: v1
kind: ServiceAccount
metadata: {name: backup, namespace: `+namespace+`}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: backup, namespace: `+namespace+`}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cairn-snapshot-metadata-client}
subjects: [{kind: ServiceAccount, name: backup, namespace: `+namespace+`}]
`)
	b := backup{client: metadataClient(t), token: token(t, "--audience="+metadataService(t, "{.spec.audience}"))}
	require.Equal(t, [][2]int64{{0, 4 * mebibyte}}, b.allocated(t, "sunday", 0))
	require.Equal(t, [][2]int64{{0, 3 * mebibyte}, {20 * mebibyte, 2 * mebibyte}}, b.allocated(t, "monday", 0), "what was discarded is not there")
	want := [][2]int64{{1 * mebibyte, mebibyte}, {3 * mebibyte, mebibyte}, {20 * mebibyte, 2 * mebibyte}}
	require.Equal(t, want, b.delta(t, "sunday", "monday", 0), "what was discarded differs")
	require.Equal(t, want[2:], b.delta(t, "sunday", "monday", 4*mebibyte), "a backup that was cut off goes on from an offset")

	b.token = token(t)
	stream, err := b.client.GetMetadataAllocated(ctx, &api.GetMetadataAllocatedRequest{SecurityToken: b.token, Namespace: namespace, SnapshotName: "sunday"})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Equal(t, codes.Unauthenticated, status.Code(err), "a token for the API server: %v", err)
	drop(t, "pod/backed-up", "volumesnapshot/sunday", "volumesnapshot/monday", "pvc/backed-up")
}

// backup is a backup program.
type backup struct {
	client api.SnapshotMetadataClient
	token  string
}

func (b backup) allocated(t *testing.T, name string, from int64) [][2]int64 {
	t.Helper()
	stream, err := b.client.GetMetadataAllocated(bounded(t), &api.GetMetadataAllocatedRequest{
		SecurityToken: b.token, Namespace: namespace, SnapshotName: name, StartingOffset: from})
	require.NoError(t, err)
	return received(t, stream.Recv)
}

func (b backup) delta(t *testing.T, base, target string, from int64) [][2]int64 {
	t.Helper()
	content, err := kubectl.Get(bounded(t), namespace, "volumesnapshot/"+base, "{.status.boundVolumeSnapshotContentName}")
	require.NoError(t, err)
	handle, err := kubectl.Get(bounded(t), "", "volumesnapshotcontent/"+content, "{.status.snapshotHandle}")
	require.NoError(t, err)
	stream, err := b.client.GetMetadataDelta(bounded(t), &api.GetMetadataDeltaRequest{
		SecurityToken: b.token, Namespace: namespace, BaseSnapshotId: handle, TargetSnapshotName: target, StartingOffset: from})
	require.NoError(t, err)
	return received(t, stream.Recv)
}

// received gathers the extents of a stream: what touches is joined.
func received[M interface{ GetBlockMetadata() []*api.BlockMetadata }](t *testing.T, next func() (M, error)) (extents [][2]int64) {
	t.Helper()
	for {
		m, err := next()
		if errors.Is(err, io.EOF) {
			return extents
		}
		require.NoError(t, err)
		for _, b := range m.GetBlockMetadata() {
			if n := len(extents); n > 0 && extents[n-1][0]+extents[n-1][1] == b.GetByteOffset() {
				extents[n-1][1] += b.GetSizeBytes()
			} else {
				extents = append(extents, [2]int64{b.GetByteOffset(), b.GetSizeBytes()})
			}
		}
	}
}

func metadataService(t *testing.T, field string) string {
	t.Helper()
	value, err := kubectl.Get(bounded(t), "", "snapshotmetadataservice/block.csi.cairn.storage", field)
	require.NoError(t, err)
	return value
}

// token of the ServiceAccount of backups.
func token(t *testing.T, args ...string) string {
	t.Helper()
	out, err := kubectl.Run(bounded(t), append([]string{"-n", namespace, "create", "token", "backup"}, args...)...)
	require.NoError(t, err)
	return out
}

// metadataClient connects to the address of the SnapshotMetadataService. The lab has
// no DNS: the address of the Service stands for its name.
func metadataClient(t *testing.T) api.SnapshotMetadataClient {
	t.Helper()
	host, port, err := net.SplitHostPort(metadataService(t, "{.spec.address}"))
	require.NoError(t, err)
	authority, err := base64.StdEncoding.DecodeString(metadataService(t, "{.spec.caCert}"))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(authority))
	ip, err := kubectl.Get(bounded(t), kubectl.Namespace, "service/cairn-snapshot-metadata", "{.spec.clusterIP}")
	require.NoError(t, err)
	conn, err := grpc.NewClient(net.JoinHostPort(ip, port), grpc.WithTransportCredentials(credentials.NewTLS(
		&tls.Config{RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS13})))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return api.NewSnapshotMetadataClient(conn)
}
