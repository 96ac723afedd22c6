package rados

import (
	"context"
	"time"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

func missing(op string) error { return ceph.Errorf(ceph.Unexpected, op, "not served yet") }

// ImagePools is not served yet.
func (c *conn) ImagePools(context.Context) ([]ceph.PoolName, error) { return nil, missing("ImagePools") }

// PoolUsage is not served yet.
func (c *conn) PoolUsage(context.Context, int64) (*ceph.PoolUsage, error) {
	return nil, missing("PoolUsage")
}

// CloneImage is not served yet.
func (c *conn) CloneImage(context.Context, ceph.SnapshotRef, ceph.ImageRef, ceph.ImageSpec) error {
	return missing("CloneImage")
}

// ListImages is not served yet.
func (c *conn) ListImages(context.Context, int64, string, string, int) ([]string, error) {
	return nil, missing("ListImages")
}

// LimitImage is not served yet.
func (c *conn) LimitImage(context.Context, ceph.ImageRef, ceph.Limits) error {
	return missing("LimitImage")
}

// FlattenImage is not served yet.
func (c *conn) FlattenImage(context.Context, ceph.ImageRef, func(done, total uint64)) error {
	return missing("FlattenImage")
}

// HideImage is not served yet.
func (c *conn) HideImage(context.Context, ceph.ImageRef) error { return missing("HideImage") }

// CreateSnapshot is not served yet.
func (c *conn) CreateSnapshot(context.Context, ceph.ImageRef, string) (*ceph.SnapshotInfo, error) {
	return nil, missing("CreateSnapshot")
}

// Snapshot is not served yet.
func (c *conn) Snapshot(context.Context, ceph.SnapshotRef) (*ceph.SnapshotInfo, error) {
	return nil, missing("Snapshot")
}

// ListSnapshots is not served yet.
func (c *conn) ListSnapshots(context.Context, ceph.ImageRef) ([]ceph.SnapshotInfo, error) {
	return nil, missing("ListSnapshots")
}

// RemoveSnapshot is not served yet.
func (c *conn) RemoveSnapshot(context.Context, ceph.SnapshotRef) error {
	return missing("RemoveSnapshot")
}

// Diff is not served yet.
func (c *conn) Diff(context.Context, *ceph.SnapshotRef, ceph.SnapshotRef, int64, func(ceph.Extent) error) error {
	return missing("Diff")
}

// SnapshotGroup is not served yet.
func (c *conn) SnapshotGroup(context.Context, ceph.GroupRef, []ceph.ImageRef) (*ceph.GroupInfo, error) {
	return nil, missing("SnapshotGroup")
}

// Group is not served yet.
func (c *conn) Group(context.Context, ceph.GroupRef) (*ceph.GroupInfo, error) {
	return nil, missing("Group")
}

// RemoveGroup is not served yet.
func (c *conn) RemoveGroup(context.Context, ceph.GroupRef) error { return missing("RemoveGroup") }

// Blocklist is not served yet.
func (c *conn) Blocklist(context.Context, string, time.Duration) error { return missing("Blocklist") }
