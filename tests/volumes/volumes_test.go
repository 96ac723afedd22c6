package volumes

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cairn-storage/cairn/csi/node"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

const gib = int64(1) << 30

// TestVolumes runs all kinds on one cluster with two nodes.
func TestVolumes(t *testing.T) {
	s := newSite(t)
	one, two := s.machine("one"), s.machine("two")
	for name, run := range map[string]func(t *testing.T, one, two *machine){
		"encrypted":           encryptedVolume,
		"read by many nodes":  readByMany,
		"read as it is":       readAsItIs,
		"restored and larger": restoredLarger,
		"shared raw block":    sharedBlock,
		"static":              staticVolume,
	} {
		t.Run(name, func(t *testing.T) { run(t, one, two) })
	}
}

func writeSynced(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	_, err = f.WriteString(text)
	require.NoError(t, errors.Join(err, f.Sync(), f.Close()))
}

func requireText(t *testing.T, path, text string) {
	t.Helper()
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}

// What is written to an encrypted volume is not on any disk; its clone and its
// restored snapshot are encrypted too, and all are read with their keys.
func encryptedVolume(t *testing.T, one, two *machine) {
	const text, open = "nobody reads this but the pod", "anybody who has the disks reads this"
	encrypted := func(r *csi.CreateVolumeRequest) { r.Parameters["encrypted"] = "true" }
	c := capability("xfs", writer)
	v := one.volume(gib, c, encrypted)
	at := one.up(v, c)
	writeSynced(t, filepath.Join(at, "f"), text)
	plain := one.volume(gib, c, nil)
	writeSynced(t, filepath.Join(one.up(plain, c), "f"), open)
	one.down(plain)

	restored := one.volume(2*gib, c, both(encrypted, one.snapshot(v)))
	requireText(t, filepath.Join(two.up(restored, c), "f"), text)
	writeSynced(t, filepath.Join(two.target(restored), "g"), text+" either")
	two.down(restored)
	requireText(t, filepath.Join(two.up(restored, c), "g"), text+" either")
	two.down(restored)
	one.down(v)
	require.True(t, one.onDisk(open), "what is not encrypted is found")
	require.False(t, one.onDisk(text))
}

func both(f, g func(*csi.CreateVolumeRequest)) func(*csi.CreateVolumeRequest) {
	return func(r *csi.CreateVolumeRequest) { f(r); g(r) }
}

// A snapshot of a mounted filesystem is read by two nodes that begin at once, beside
// its origin: all that was synced is there, and the filesystem fills the volume.
func readByMany(t *testing.T, one, two *machine) {
	for _, filesystem := range []string{"ext4", "xfs"} {
		for _, encrypted := range []string{"false", "true"} {
			change := func(r *csi.CreateVolumeRequest) { r.Parameters["encrypted"] = encrypted }
			c, readOnly := capability(filesystem, writer), capability(filesystem, reader)
			v := one.volume(gib, c, change)
			writeSynced(t, filepath.Join(one.up(v, c), "f"), filesystem)
			restored := one.volume(2*gib, readOnly, both(change, one.snapshot(v)))
			var nodes sync.WaitGroup
			for _, m := range []*machine{one, two} {
				nodes.Go(func() { m.stageAgain(restored, readOnly) })
			}
			nodes.Wait()
			for _, m := range []*machine{one, two} {
				at := m.up(restored, readOnly)
				requireText(t, filepath.Join(at, "f"), filesystem)
				require.ErrorIs(t, os.WriteFile(filepath.Join(at, "g"), nil, 0o600), unix.EROFS)
				require.Empty(t, m.health(restored))
				require.Greater(t, m.size(restored), 3*gib/2)
			}
			two.down(restored)
			two.up(restored, readOnly)
			two.down(restored)
			one.down(restored)
			one.down(v)
		}
	}
}

// stageAgain stages a volume as kubelet does, again while it is told to come later.
func (m *machine) stageAgain(v *csi.Volume, c *csi.VolumeCapability) {
	var err error
	ok := assert.Eventually(m, func() bool {
		err = m.stage(v, c)
		return status.Code(err) != codes.Aborted
	}, time.Minute, 100*time.Millisecond, "the volume is staged")
	assert.NoError(m, err)
	assert.True(m, ok)
}

// A volume that was not made to be read only has a log that nobody but its user
// replays: that is told, and is over once it was mounted to write.
func readAsItIs(t *testing.T, one, two *machine) {
	for _, filesystem := range []string{"ext4", "xfs"} {
		c, readOnly := capability(filesystem, writer), capability(filesystem, reader)
		v := one.volume(gib, c, nil)
		writeSynced(t, filepath.Join(one.up(v, c), "f"), filesystem)
		restored := one.volume(gib, c, one.snapshot(v))
		two.up(restored, readOnly)
		health := two.health(restored)
		require.Len(t, health, 1)
		require.Equal(t, node.LogNotReplayed, health[0].GetReason())
		two.down(restored)
		requireText(t, filepath.Join(two.up(restored, c), "f"), filesystem)
		two.down(restored)
		requireText(t, filepath.Join(two.up(restored, readOnly), "f"), filesystem)
		require.Empty(t, two.health(restored))
		two.down(restored)
		one.down(v)
	}
}

func (m *machine) health(v *csi.Volume) []*csi.VolumeHealth_VolumeHealthEntry {
	answer, err := m.NodeGetVolumeHealth(m.within(), &csi.NodeGetVolumeHealthRequest{VolumeId: v.GetVolumeId()})
	require.NoError(m, err)
	return answer.GetVolumeHealth().GetHealthStatuses()
}

// size of the filesystem that a pod sees.
func (m *machine) size(v *csi.Volume) int64 {
	stats, err := m.NodeGetVolumeStats(m.within(), &csi.NodeGetVolumeStatsRequest{VolumeId: v.GetVolumeId(), VolumePath: m.target(v)})
	require.NoError(m, err)
	return stats.GetUsage()[0].GetTotal()
}

// A smaller snapshot in a larger volume fills it.
func restoredLarger(t *testing.T, one, two *machine) {
	for _, filesystem := range []string{"ext4", "xfs"} {
		c := capability(filesystem, writer)
		v := one.volume(gib, c, nil)
		writeSynced(t, filepath.Join(one.up(v, c), "f"), filesystem)
		restored := one.volume(3*gib, c, one.snapshot(v))
		requireText(t, filepath.Join(two.up(restored, c), "f"), filesystem)
		require.Greater(t, two.size(restored), 5*gib/2)
		two.down(restored)
		one.down(v)
	}
}

// Two nodes have one device: each reads what the other wrote.
func sharedBlock(t *testing.T, one, two *machine) {
	c := capability("", shared)
	v := one.volume(gib, c, nil)
	first, second := one.up(v, c), two.up(v, c)
	block := make([]byte, 4096)
	for i, path := range []string{first, second} {
		block[0] = byte(i + 1)
		direct(t, path, func(f *os.File) error { _, err := f.WriteAt(aligned(block), int64(i)*4096); return err })
	}
	for _, path := range []string{first, second} {
		for i := range 2 {
			got := aligned(make([]byte, 4096))
			direct(t, path, func(f *os.File) error { _, err := f.ReadAt(got, int64(i)*4096); return err })
			require.Equal(t, byte(i+1), got[0])
		}
	}
	one.down(v)
	two.down(v)
}

// An existing image is used by its volume ID: an empty one is formatted, one that
// holds something of no known format is left alone.
func staticVolume(t *testing.T, one, _ *machine) {
	id, err := one.conn.PoolID(t.Context(), pool)
	require.NoError(t, err)
	static := func(name string) (*csi.Volume, ceph.ImageRef) {
		ref := ceph.ImageRef{PoolID: id, Name: name}
		require.NoError(t, one.conn.CreateImage(t.Context(), ref, ceph.ImageSpec{Size: gib}))
		code, err := volumeid.ID{FSID: one.fsid, Image: ref}.Encode()
		require.NoError(t, err)
		return &csi.Volume{VolumeId: code}, ref
	}
	c := capability("ext4", writer)
	empty, _ := static("empty")
	writeSynced(t, filepath.Join(one.up(empty, c), "f"), "x")
	one.down(empty)
	requireText(t, filepath.Join(one.up(empty, c), "f"), "x")
	one.down(empty)

	held, ref := static("held")
	image, err := one.conn.OpenImage(t.Context(), ref, ceph.OpenOptions{})
	require.NoError(t, err)
	_, err = image.WriteAt([]byte("precious"), 4096)
	require.NoError(t, errors.Join(err, image.Flush(), image.Close()))
	err = one.stage(held, c)
	require.Equal(t, codes.FailedPrecondition, status.Code(err))
	require.ErrorContains(t, err, "holds data of no known format")
	_, err = one.NodeUnstageVolume(one.within(), &csi.NodeUnstageVolumeRequest{VolumeId: held.GetVolumeId(), StagingTargetPath: one.staging(held)})
	require.NoError(t, err)
	got := make([]byte, 8)
	image, err = one.conn.OpenImage(t.Context(), ref, ceph.OpenOptions{ReadOnly: true})
	require.NoError(t, err)
	_, err = image.ReadAt(got, 4096)
	require.NoError(t, errors.Join(err, image.Close()))
	require.Equal(t, "precious", string(got))
}
