package scenario

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
)

// The size of volumes before and after an expansion: what xfs needs at least.
const (
	size  = 320 << 20
	grown = 400 << 20
)

func (e *Env) create(what string, source *csi.VolumeContentSource) *csi.CreateVolumeRequest {
	return &csi.CreateVolumeRequest{Name: e.name(what), CapacityRange: bytes(size), Parameters: e.parameters(),
		VolumeCapabilities: []*csi.VolumeCapability{mode(false)}, VolumeContentSource: source}
}

// Volume makes a volume and returns its ID.
func (e *Env) Volume(what string, source *csi.VolumeContentSource) string {
	return e.make(e.create(what, source))
}

func (e *Env) make(req *csi.CreateVolumeRequest) string {
	ctx, cancel := e.ctx()
	defer cancel()
	answer, err := e.controller().CreateVolume(ctx, req)
	require.NoError(e, err)
	id := answer.GetVolume().GetVolumeId()
	e.Later(func(ctx context.Context) error {
		return only(e.controller().DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id}))
	})
	return id
}

// Data makes a volume that holds something.
func (e *Env) Data(what string) string {
	id := e.Volume(what, nil)
	e.Write(id, 0x5a, 1<<20)
	return id
}

// Snapshot makes a snapshot and returns its ID.
func (e *Env) Snapshot(what, volume string) string {
	e.Needs("Controller/CREATE_DELETE_SNAPSHOT")
	ctx, cancel := e.ctx()
	defer cancel()
	answer, err := e.controller().CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: e.name(what), SourceVolumeId: volume})
	require.NoError(e, err)
	id := answer.GetSnapshot().GetSnapshotId()
	e.Later(func(ctx context.Context) error {
		return only(e.controller().DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: id}))
	})
	return id
}

// Group makes a group snapshot and returns it.
func (e *Env) Group(what string, volumes ...string) *csi.VolumeGroupSnapshot {
	e.Needs("GroupController/CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT")
	ctx, cancel := e.ctx()
	defer cancel()
	answer, err := e.groups().CreateVolumeGroupSnapshot(ctx, &csi.CreateVolumeGroupSnapshotRequest{Name: e.name(what), SourceVolumeIds: volumes})
	require.NoError(e, err)
	group := answer.GetGroupSnapshot()
	e.ungroupLater(group)
	return group
}

func (e *Env) ungroupLater(group *csi.VolumeGroupSnapshot) {
	e.Later(func(ctx context.Context) error {
		return only(e.groups().DeleteVolumeGroupSnapshot(ctx, ungroup(group)))
	})
}

func members(group *csi.VolumeGroupSnapshot) (ids []string) {
	for _, s := range group.GetSnapshots() {
		ids = append(ids, s.GetSnapshotId())
	}
	return ids
}

// member is the snapshot of one volume in a group snapshot.
func member(group *csi.VolumeGroupSnapshot, volume string) string {
	for _, s := range group.GetSnapshots() {
		if s.GetSourceVolumeId() == volume {
			return s.GetSnapshotId()
		}
	}
	panic(&Failure{"no member of the group snapshot is of volume " + volume})
}

func ungroup(group *csi.VolumeGroupSnapshot) *csi.DeleteVolumeGroupSnapshotRequest {
	return &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: group.GetGroupSnapshotId(), SnapshotIds: members(group)}
}

// unread makes a volume to read only, from a snapshot of a mounted filesystem.
func (e *Env) unread() string {
	v := e.Volume("v", nil)
	e.Stage(v, mode(false))
	s := e.Snapshot("s", v)
	ctx, cancel := e.ctx()
	defer cancel()
	require.NoError(e, only(e.node().NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: v, StagingTargetPath: e.path("staging")})))
	req := e.create("unread", fromSnapshot(s))
	req.VolumeCapabilities = []*csi.VolumeCapability{reader()}
	return e.make(req)
}

func fromSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
}

func (e *Env) fromVolume(id string) *csi.VolumeContentSource {
	e.Needs("Controller/CLONE_VOLUME")
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}}
}

func (e *Env) stage(volume string, c *csi.VolumeCapability) *csi.NodeStageVolumeRequest {
	e.Later(func(ctx context.Context) error {
		return only(e.node().NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: volume, StagingTargetPath: e.path("staging")}))
	})
	return &csi.NodeStageVolumeRequest{VolumeId: volume, StagingTargetPath: e.path("staging"), VolumeCapability: c,
		VolumeContext: map[string]string{"pool": e.Pool}}
}

// Stage stages a volume.
func (e *Env) Stage(volume string, c *csi.VolumeCapability) {
	ctx, cancel := e.ctx()
	defer cancel()
	_, err := e.node().NodeStageVolume(ctx, e.stage(volume, c))
	require.NoError(e, err)
}

func (e *Env) publish(volume, target string, c *csi.VolumeCapability) *csi.NodePublishVolumeRequest {
	e.Later(func(ctx context.Context) error {
		return only(e.node().NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: volume, TargetPath: e.path(target)}))
	})
	return &csi.NodePublishVolumeRequest{VolumeId: volume, StagingTargetPath: e.path("staging"), TargetPath: e.path(target), VolumeCapability: c}
}

// Publish publishes a staged volume.
func (e *Env) Publish(volume, target string, c *csi.VolumeCapability) {
	ctx, cancel := e.ctx()
	defer cancel()
	_, err := e.node().NodePublishVolume(ctx, e.publish(volume, target, c))
	require.NoError(e, err)
}

// Grow expands a volume's image.
func (e *Env) Grow(volume string, to int64) {
	ctx, cancel := e.ctx()
	defer cancel()
	_, err := e.controller().ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: volume, CapacityRange: bytes(to)})
	require.NoError(e, err)
}
