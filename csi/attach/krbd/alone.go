package krbd

import (
	"context"
	"strings"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Clusters run calls against a cluster (connections.Manager).
type Clusters interface {
	Do(ctx context.Context, fsid string, f func(ceph.Block) error) error
}

// alone checks that nobody else has an image open that is attached for one writer.
//
// The kernel's option "exclusive" would keep others out too, but it keeps out all:
// an image that is mapped so can neither grow nor be snapshotted, for the kernel
// does neither for others and does not let go of the lock. So the lock is left to
// change hands, and who attaches looks around: the mapping is a watcher of the
// image before it looks, so of two that attach at once at least one sees the other.
func (a Attacher) alone(ctx context.Context, v attach.Volume, id volumeid.ID, m *mapping) error {
	if !v.Exclusive || v.ReadOnly {
		return nil
	}
	step.Enter(ctx, "look who else has "+v.Image.String()+" open")
	var watchers []string
	err := a.Clusters.Do(ctx, id.FSID, func(cluster ceph.Block) error {
		info, err := cluster.ImageInfo(ctx, v.Image)
		if err == nil {
			watchers = info.Watchers
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, watcher := range watchers {
		if plainAddr(watcher) != plainAddr(m.client) {
			// What is in use already stays: the unmapping is refused then.
			_ = a.remove(ctx, m)
			return ceph.Errorf(ceph.Busy, "map "+v.Image.String()+" by the kernel", "another client has the image open: %s", watcher)
		}
	}
	return nil
}

// plainAddr is an address without its protocol.
func plainAddr(addr string) string {
	for _, protocol := range []string{"v1:", "v2:", "any:"} {
		addr = strings.TrimPrefix(addr, protocol)
	}
	return addr
}
