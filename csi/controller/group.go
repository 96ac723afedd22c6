package controller

import (
	"context"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/timestamppb"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// GroupControllerGetCapabilities lists what the service can do.
func (s *Server) GroupControllerGetCapabilities(context.Context, *csi.GroupControllerGetCapabilitiesRequest) (*csi.GroupControllerGetCapabilitiesResponse, error) {
	return &csi.GroupControllerGetCapabilitiesResponse{Capabilities: []*csi.GroupControllerServiceCapability{{
		Type: &csi.GroupControllerServiceCapability_Rpc{Rpc: &csi.GroupControllerServiceCapability_RPC{
			Type: csi.GroupControllerServiceCapability_RPC_CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT}}}}}, nil
}

// CreateVolumeGroupSnapshot makes snapshots of several volumes at one instant.
// The group snapshot is kept in the pool of the first volume.
func (s *Server) CreateVolumeGroupSnapshot(ctx context.Context, req *csi.CreateVolumeGroupSnapshotRequest) (*csi.CreateVolumeGroupSnapshotResponse, error) {
	if err := checkName(req.GetName()); err != nil {
		return nil, err
	}
	codes, ids, err := parseMembers(req.GetSourceVolumeIds())
	if err != nil {
		return nil, err
	}
	if err := checkSnapshotParameters(req.GetParameters(), ids[0].FSID); err != nil {
		return nil, err
	}
	id := volumeid.GroupID{FSID: ids[0].FSID, Group: ceph.GroupRef{
		PoolID: ids[0].Image.PoolID, Namespace: ids[0].Image.Namespace, Name: volumeid.ImageName(req.GetName())}}
	var images []ceph.ImageRef
	for _, member := range ids {
		images = append(images, member.Image)
	}
	var made *csi.VolumeGroupSnapshot
	err = s.Clusters.Do(ctx, id.FSID, func(cluster ceph.Block) error {
		step.Enter(ctx, "make "+id.Group.String())
		info, err := cluster.SnapshotGroup(ctx, id.Group, images)
		if err != nil {
			return err
		}
		made, err = describeGroup(ctx, cluster, id, info)
		return err
	})
	if ceph.Is(err, ceph.Busy) {
		return nil, fault.Errorf(fault.Pending, "a volume is in another group at the moment: %w", err)
	}
	if err != nil {
		return nil, err
	}
	if err := sameMembers(req.GetName(), made, codes); err != nil {
		return nil, err
	}
	for _, image := range images {
		s.Upkeep.Snapshotted(id.FSID, image)
	}
	return &csi.CreateVolumeGroupSnapshotResponse{GroupSnapshot: made}, nil
}

// parseMembers reads the volumes of a group: in order, each once, of one cluster
// and RADOS namespace.
func parseMembers(given []string) ([]string, []volumeid.ID, error) {
	const field = "source_volume_ids"
	if len(given) == 0 {
		return nil, nil, fault.Field(fault.Invalid, field, "is empty")
	}
	codes := slices.Compact(slices.Sorted(slices.Values(given)))
	var ids []volumeid.ID
	for _, code := range codes {
		id, err := parseVolumeID(code, field)
		if err != nil {
			return nil, nil, err
		}
		if len(ids) > 0 && (id.FSID != ids[0].FSID || id.Image.Namespace != ids[0].Image.Namespace) {
			return nil, nil, fault.Field(fault.Refused, field, "%s and %s are not in one cluster and RADOS namespace: they cannot be snapshotted together", codes[0], code)
		}
		ids = append(ids, id)
	}
	return codes, ids, nil
}

func sameMembers(name string, made *csi.VolumeGroupSnapshot, codes []string) error {
	var have []string
	for _, snapshot := range made.GetSnapshots() {
		have = append(have, snapshot.GetSourceVolumeId())
	}
	slices.Sort(have)
	if !slices.Equal(have, codes) {
		return fault.Field(fault.Conflict, "source_volume_ids", "group snapshot %q exists, of %q", name, have)
	}
	return nil
}

func describeGroup(ctx context.Context, cluster ceph.Block, id volumeid.GroupID, info *ceph.GroupInfo) (*csi.VolumeGroupSnapshot, error) {
	code, err := id.Encode()
	if err != nil {
		return nil, err
	}
	group := &csi.VolumeGroupSnapshot{GroupSnapshotId: code, CreationTime: timestamppb.New(info.Created), ReadyToUse: true}
	for i := range info.Members {
		source, err := sourceOf(ctx, cluster, id.FSID, &info.Members[i])
		if err != nil {
			return nil, err
		}
		snapshot, err := describe(id.FSID, &info.Members[i], source)
		if err != nil {
			return nil, err
		}
		snapshot.GroupSnapshotId = code
		group.Snapshots = append(group.Snapshots, snapshot)
	}
	return group, nil
}

// DeleteVolumeGroupSnapshot removes a group snapshot with its members; that it is
// gone already is fine.
func (s *Server) DeleteVolumeGroupSnapshot(ctx context.Context, req *csi.DeleteVolumeGroupSnapshotRequest) (*csi.DeleteVolumeGroupSnapshotResponse, error) {
	if req.GetGroupSnapshotId() == "" {
		return nil, fault.Field(fault.Invalid, "group_snapshot_id", "is empty")
	}
	id, err := volumeid.ParseGroup(req.GetGroupSnapshotId())
	if err != nil {
		klog.FromContext(ctx).Info("Nothing to delete", "reason", err.Error())
		return &csi.DeleteVolumeGroupSnapshotResponse{}, nil
	}
	var members []ceph.SnapshotInfo
	err = s.Clusters.Do(ctx, id.FSID, func(cluster ceph.Block) error {
		step.Enter(ctx, "look at "+id.Group.String())
		info, err := cluster.Group(ctx, id.Group)
		switch {
		case ceph.Is(err, ceph.NotFound):
			// Part of it may be there: only its removal knows.
		case err != nil:
			return err
		default:
			members = info.Members
		}
		if err := listed(id.FSID, members, req.GetSnapshotIds()); err != nil {
			return err
		}
		step.Enter(ctx, "remove "+id.Group.String())
		return cluster.RemoveGroup(ctx, id.Group)
	})
	switch {
	case fault.KindOf(err) == "" && ceph.Is(err, ceph.NotFound):
		return &csi.DeleteVolumeGroupSnapshotResponse{}, nil
	case fault.KindOf(err) == fault.NotFound:
		return nil, fault.Errorf(fault.Refused, "group snapshot %s cannot be deleted: %w", req.GetGroupSnapshotId(), err)
	case err != nil:
		return nil, err
	}
	for _, member := range members {
		s.Upkeep.SnapshotRemoved(id.FSID, member.Ref)
	}
	return &csi.DeleteVolumeGroupSnapshotResponse{}, nil
}

// GetVolumeGroupSnapshot says what a group snapshot is.
func (s *Server) GetVolumeGroupSnapshot(ctx context.Context, req *csi.GetVolumeGroupSnapshotRequest) (*csi.GetVolumeGroupSnapshotResponse, error) {
	if req.GetGroupSnapshotId() == "" {
		return nil, fault.Field(fault.Invalid, "group_snapshot_id", "is empty")
	}
	id, err := volumeid.ParseGroup(req.GetGroupSnapshotId())
	if err != nil {
		return nil, fault.Field(fault.NotFound, "group_snapshot_id", "%w", err)
	}
	var group *csi.VolumeGroupSnapshot
	err = s.Clusters.Do(ctx, id.FSID, func(cluster ceph.Block) error {
		step.Enter(ctx, "look at "+id.Group.String())
		info, err := cluster.Group(ctx, id.Group)
		if err != nil {
			return err
		}
		if err := listed(id.FSID, info.Members, req.GetSnapshotIds()); err != nil {
			return err
		}
		group, err = describeGroup(ctx, cluster, id, info)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &csi.GetVolumeGroupSnapshotResponse{GroupSnapshot: group}, nil
}

// listed refuses a list of snapshots that are not the group's members; none at
// all lists nothing. Of a group that was removed in part members may be missing.
func listed(fsid string, members []ceph.SnapshotInfo, given []string) error {
	var have []string
	for _, member := range members {
		code, err := volumeid.SnapshotID{FSID: fsid, Snapshot: member.Ref}.Encode()
		if err != nil {
			return err
		}
		have = append(have, code)
	}
	if len(given) == 0 {
		return nil
	}
	for _, code := range have {
		if !slices.Contains(given, code) {
			return fault.Field(fault.Invalid, "snapshot_ids", "snapshot %s of the group is not among those given", code)
		}
	}
	for _, code := range given {
		if id, err := volumeid.ParseSnapshot(code); err != nil || id.FSID != fsid {
			return fault.Field(fault.Invalid, "snapshot_ids", "%q is not of the group", code)
		}
	}
	return nil
}
