package delta

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// volume is one of the driver's, open for writing, and what it should hold.
type volume struct {
	*bed
	*content
	id    string
	ref   ceph.ImageRef
	image ceph.Image
}

// snapshot is one of the driver's.
type snapshot struct {
	id   string
	snap uint64
	size int64
}

func (b *bed) create(t *testing.T, holds *content, source string) *volume {
	req := &csi.CreateVolumeRequest{
		Name:          "pvc-" + uuid.NewString(),
		CapacityRange: &csi.CapacityRange{RequiredBytes: holds.size},
		Parameters:    map[string]string{"clusterID": b.fsid, "pool": pool},
		VolumeCapabilities: []*csi.VolumeCapability{{
			AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		}},
	}
	if source != "" {
		req.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
			Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: source}}}
	}
	made, err := b.driver.CreateVolume(t.Context(), req)
	require.NoError(t, err)
	id, err := volumeid.Parse(made.GetVolume().GetVolumeId())
	require.NoError(t, err)
	v := &volume{bed: b, content: holds, id: made.GetVolume().GetVolumeId(), ref: id.Image}
	v.image, err = b.conn.OpenImage(t.Context(), v.ref, ceph.OpenOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.image.Close()) })
	return v
}

// restore makes a volume of the last snapshot, which holds what v holds now.
func (v *volume) restore(t *testing.T, s snapshot) *volume {
	holds := newContent(t, v.size, int64(len(v.data)))
	copy(holds.data, v.data)
	copy(holds.written, v.written)
	holds.clone = true
	return v.create(t, holds, s.id)
}

// snapshot makes one, of what is written up to now.
func (v *volume) snapshot(t *testing.T) snapshot {
	require.NoError(t, v.image.Flush())
	made, err := v.driver.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "snapshot-" + uuid.NewString(), SourceVolumeId: v.id})
	require.NoError(t, err)
	id, err := volumeid.ParseSnapshot(made.GetSnapshot().GetSnapshotId())
	require.NoError(t, err)
	require.Equal(t, v.size, made.GetSnapshot().GetSizeBytes())
	return snapshot{made.GetSnapshot().GetSnapshotId(), id.Snapshot.SnapID, v.size}
}

func (v *volume) grow(t *testing.T, size int64) {
	_, err := v.driver.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{
		VolumeId: v.id, CapacityRange: &csi.CapacityRange{RequiredBytes: size}})
	require.NoError(t, err)
	v.size = size
}

// at opens a volume as it was at a snapshot.
func (v *volume) at(t *testing.T, s snapshot) ceph.Image {
	opened, err := v.conn.OpenImage(t.Context(), v.ref, ceph.OpenOptions{ReadOnly: true, Snapshot: s.snap})
	require.NoError(t, err)
	return opened
}
