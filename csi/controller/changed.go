package controller

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// metadataPage is how many extents a message has, unless fewer are asked for.
const metadataPage = 1024

// GetMetadataAllocated streams the extents of a snapshot that hold data.
func (s *Server) GetMetadataAllocated(req *csi.GetMetadataAllocatedRequest, stream csi.SnapshotMetadata_GetMetadataAllocatedServer) error {
	target, err := parseSnapshotID(req.GetSnapshotId(), "snapshot_id")
	if err != nil {
		return err
	}
	b := blocks{from: req.GetStartingOffset(), data: true, send: func(size int64, list []*csi.BlockMetadata) error {
		return stream.Send(&csi.GetMetadataAllocatedResponse{
			BlockMetadataType: csi.BlockMetadataType_VARIABLE_LENGTH, VolumeCapacityBytes: size, BlockMetadata: list})
	}}
	return s.stream(stream.Context(), &b, target, nil, req.GetMaxResults())
}

// GetMetadataDelta streams the extents that differ between two snapshots of one
// volume, those that were discarded too.
func (s *Server) GetMetadataDelta(req *csi.GetMetadataDeltaRequest, stream csi.SnapshotMetadata_GetMetadataDeltaServer) error {
	base, err := parseSnapshotID(req.GetBaseSnapshotId(), "base_snapshot_id")
	if err != nil {
		return err
	}
	target, err := parseSnapshotID(req.GetTargetSnapshotId(), "target_snapshot_id")
	if err != nil {
		return err
	}
	older, newer := base.Snapshot, target.Snapshot
	switch {
	case base.FSID != target.FSID || older.PoolID != newer.PoolID || older.Namespace != newer.Namespace || older.ImageID != newer.ImageID:
		return fault.Field(fault.Invalid, "base_snapshot_id", "is of another volume than target_snapshot_id")
	case older.SnapID > newer.SnapID:
		return fault.Field(fault.Invalid, "base_snapshot_id", "is younger than target_snapshot_id")
	}
	b := blocks{from: req.GetStartingOffset(), send: func(size int64, list []*csi.BlockMetadata) error {
		return stream.Send(&csi.GetMetadataDeltaResponse{
			BlockMetadataType: csi.BlockMetadataType_VARIABLE_LENGTH, VolumeCapacityBytes: size, BlockMetadata: list})
	}}
	return s.stream(stream.Context(), &b, target, &older, req.GetMaxResults())
}

func (s *Server) stream(ctx context.Context, b *blocks, target volumeid.SnapshotID, base *ceph.SnapshotRef, results int32) error {
	if results < 0 {
		return fault.Field(fault.Invalid, "max_results", "%d is negative", results)
	}
	b.page = metadataPage
	if results > 0 {
		b.page = min(int(results), metadataPage)
	}
	return s.Clusters.Do(ctx, target.FSID, func(cluster ceph.Block) error {
		step.Enter(ctx, "look at "+target.Snapshot.String())
		info, err := cluster.Snapshot(ctx, target.Snapshot)
		if err != nil {
			return err
		}
		if b.from < 0 || b.from > info.Size {
			return fault.Field(fault.OutOfRange, "starting_offset", "%d is not between 0 and the volume's %d bytes", b.from, info.Size)
		}
		if base != nil {
			if _, err := cluster.Snapshot(ctx, *base); err != nil {
				return err
			}
		}
		b.size = info.Size
		step.Enter(ctx, "stream what "+target.Snapshot.String()+" holds")
		if base != nil && base.SnapID == target.Snapshot.SnapID {
			return b.end() // nothing differs
		}
		if err := cluster.Diff(ctx, base, target.Snapshot, b.from, b.add); err != nil {
			return err
		}
		return b.end()
	})
}

// blocks gathers extents into messages: what touches is joined.
type blocks struct {
	send       func(size int64, list []*csi.BlockMetadata) error
	page       int
	size, from int64 // bytes
	// data: only what holds data counts, not what was discarded.
	data bool

	list []*csi.BlockMetadata
	sent bool
}

func (b *blocks) add(e ceph.Extent) error {
	begin, end := max(e.Offset, b.from), min(e.Offset+e.Length, b.size)
	if begin >= end || b.data && e.Zero {
		return nil
	}
	if n := len(b.list); n > 0 && b.list[n-1].ByteOffset+b.list[n-1].SizeBytes == begin {
		b.list[n-1].SizeBytes += end - begin
		return nil
	}
	if len(b.list) == b.page {
		if err := b.flush(); err != nil {
			return err
		}
	}
	b.list = append(b.list, &csi.BlockMetadata{ByteOffset: begin, SizeBytes: end - begin})
	return nil
}

func (b *blocks) flush() error {
	list := b.list
	b.list, b.sent = nil, true
	return b.send(b.size, list)
}

// end sends what is left: one message at least, which tells the volume's size.
func (b *blocks) end() error {
	if len(b.list) == 0 && b.sent {
		return nil
	}
	return b.flush()
}
