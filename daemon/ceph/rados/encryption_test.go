package rados_test

import (
	"testing"

	"github.com/ceph/go-ceph/rbd"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// TestResumeEncrypted repeats the create of an encrypted image that was cut short
// before it was formatted, and leaves an image with data alone.
func TestResumeEncrypted(t *testing.T) {
	cluster := start(t)
	conn, pool := connect(t, cluster)
	ioctx, ctx := raw(t, cluster), t.Context()
	spec := ceph.ImageSpec{Size: 8 * mib, Passphrase: "secret", Metadata: map[string]string{"a": "1"}}
	options := rbd.NewRbdImageOptions()
	defer options.Destroy()
	begun, foreign := ceph.ImageRef{PoolID: pool, Name: "begun"}, ceph.ImageRef{PoolID: pool, Name: "foreign"}
	for _, ref := range []ceph.ImageRef{begun, foreign} {
		require.NoError(t, rbd.CreateImage(ioctx, ref.Name, uint64(40*mib), options))
	}
	image, err := conn.OpenImage(ctx, foreign, ceph.OpenOptions{})
	require.NoError(t, err)
	_, err = image.WriteAt([]byte("data"), 0)
	require.NoError(t, err)
	require.NoError(t, image.Close())
	require.Equal(t, ceph.Exists, ceph.KindOf(conn.CreateImage(ctx, foreign, spec)))

	require.NoError(t, conn.CreateImage(ctx, begun, spec))
	info, err := conn.ImageInfo(ctx, begun)
	require.NoError(t, err)
	require.True(t, info.Encrypted)
	require.EqualValues(t, spec.Size, info.Size)
	require.Equal(t, spec.Metadata, info.Metadata)
}
