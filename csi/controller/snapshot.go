package controller

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/timestamppb"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// CreateSnapshot makes an RBD snapshot of the volume's image.
func (s *Server) CreateSnapshot(ctx context.Context, req *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if err := checkName(req.GetName()); err != nil {
		return nil, err
	}
	id, err := parseVolumeID(req.GetSourceVolumeId(), "source_volume_id")
	if err != nil {
		return nil, err
	}
	if err := checkSnapshotParameters(req.GetParameters(), id.FSID); err != nil {
		return nil, err
	}
	if err := s.nameIsFree(ctx, req.GetName(), id); err != nil {
		return nil, err
	}
	if count, hard := s.Upkeep.Snapshots(id.FSID, id.Image), s.Upkeep.Limits().HardSnapshots; count >= hard {
		return nil, fault.Field(fault.Exhausted, "source_volume_id", "the volume has %d snapshots, and %d are the limit: delete some", count, hard)
	}
	var made *ceph.SnapshotInfo
	err = s.Clusters.Do(ctx, id.FSID, func(cluster ceph.Block) error {
		step.Enter(ctx, "snapshot "+id.Image.String())
		made, err = cluster.CreateSnapshot(ctx, id.Image, volumeid.ImageName(req.GetName()))
		return err
	})
	if err != nil {
		return nil, err
	}
	s.Upkeep.Snapshotted(id.FSID, id.Image)
	snapshot, err := describe(id.FSID, made, req.GetSourceVolumeId())
	if err != nil {
		return nil, err
	}
	return &csi.CreateSnapshotResponse{Snapshot: snapshot}, nil
}

// checkSnapshotParameters reads those of a VolumeSnapshotClass. A snapshot is in
// its volume's pool, whatever pool the class is of.
func checkSnapshotParameters(given map[string]string, fsid string) error {
	for _, key := range slices.Sorted(maps.Keys(given)) {
		switch {
		case key == "clusterID" && given[key] != fsid:
			return fault.Field(fault.Invalid, "parameters.clusterID", "is %q, the volume is in cluster %s", given[key], fsid)
		case key != "clusterID" && key != "pool" && !strings.HasPrefix(key, kubernetesPrefix):
			return fault.Field(fault.Invalid, "parameters."+key, "is not a parameter of snapshots: the driver knows clusterID")
		}
	}
	return nil
}

// describe says what a snapshot is in CSI's terms.
func describe(fsid string, info *ceph.SnapshotInfo, sourceID string) (*csi.Snapshot, error) {
	code, err := volumeid.SnapshotID{FSID: fsid, Snapshot: info.Ref}.Encode()
	if err != nil {
		return nil, err
	}
	snapshot := &csi.Snapshot{
		SnapshotId: code, SourceVolumeId: sourceID, SizeBytes: info.Size,
		CreationTime: timestamppb.New(info.Created), ReadyToUse: true,
	}
	if info.Group != nil {
		snapshot.GroupSnapshotId, err = volumeid.GroupID{FSID: fsid, Group: *info.Group}.Encode()
	}
	return snapshot, err
}

// sourceOf returns the ID of the volume that a snapshot is of. An image that is
// hidden says in its metadata what it was called.
func sourceOf(ctx context.Context, cluster ceph.Block, fsid string, info *ceph.SnapshotInfo) (string, error) {
	image := imageOf(info)
	if imagemeta.Hidden(image.Name) {
		step.Enter(ctx, "look at "+image.String())
		hidden, err := cluster.ImageInfo(ctx, image)
		if err != nil {
			return "", err
		}
		image.Name = imagemeta.VolumeName(image.Name, hidden)
	}
	return volumeid.ID{FSID: fsid, Image: image}.Encode()
}

// DeleteSnapshot removes a snapshot; that it is gone already is fine, and volumes
// made from it live on.
func (s *Server) DeleteSnapshot(ctx context.Context, req *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	if req.GetSnapshotId() == "" {
		return nil, fault.Field(fault.Invalid, "snapshot_id", "is empty")
	}
	id, err := volumeid.ParseSnapshot(req.GetSnapshotId())
	if err != nil {
		// The specification wants a snapshot that cannot exist to count as deleted.
		klog.FromContext(ctx).Info("Nothing to delete", "reason", err.Error())
		return &csi.DeleteSnapshotResponse{}, nil
	}
	err = s.Clusters.Do(ctx, id.FSID, func(cluster ceph.Block) error {
		step.Enter(ctx, "remove "+id.Snapshot.String())
		return cluster.RemoveSnapshot(ctx, id.Snapshot)
	})
	switch {
	case fault.KindOf(err) == "" && ceph.Is(err, ceph.NotFound):
		return &csi.DeleteSnapshotResponse{}, nil
	case fault.KindOf(err) == fault.NotFound:
		// The cluster is not known: the snapshot may well be there.
		return nil, fault.Errorf(fault.Refused, "snapshot %s cannot be deleted: %w", req.GetSnapshotId(), err)
	case ceph.Is(err, ceph.Invalid):
		return nil, fault.Field(fault.Invalid, "snapshot_id", "is of a group snapshot, and is deleted with that: %w", err)
	case err != nil:
		return nil, err
	}
	s.Upkeep.SnapshotRemoved(id.FSID, id.Snapshot)
	return &csi.DeleteSnapshotResponse{}, nil
}

// GetSnapshot says what a snapshot is.
func (s *Server) GetSnapshot(ctx context.Context, req *csi.GetSnapshotRequest) (*csi.GetSnapshotResponse, error) {
	id, err := parseSnapshotID(req.GetSnapshotId(), "snapshot_id")
	if err != nil {
		return nil, err
	}
	snapshot, err := s.snapshot(ctx, id)
	if err != nil {
		return nil, err
	}
	return &csi.GetSnapshotResponse{Snapshot: snapshot}, nil
}

func (s *Server) snapshot(ctx context.Context, id volumeid.SnapshotID) (snapshot *csi.Snapshot, err error) {
	err = s.Clusters.Do(ctx, id.FSID, func(cluster ceph.Block) error {
		step.Enter(ctx, "look at "+id.Snapshot.String())
		info, err := cluster.Snapshot(ctx, id.Snapshot)
		if err != nil {
			return err
		}
		source, err := sourceOf(ctx, cluster, id.FSID, info)
		if err != nil {
			return err
		}
		snapshot, err = describe(id.FSID, info, source)
		return err
	})
	return snapshot, err
}
