package fuse

import (
	"context"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// ownerKey is the key of an image's metadata that names its last exclusive
// attachment, on whatever node. Without it a process that goes on after a crash
// could not know that the volume was fenced and moved meanwhile, and would write
// an old log over newer data.
const ownerKey = "cairn.storage/attachment"

// own makes an attachment the image's last. Its lock is this process's.
func (a *Attacher) own(ctx context.Context, conn ceph.Conn, t *attached) error {
	if t.resumed {
		return a.owns(ctx, conn, t)
	}
	step.Enter(ctx, "note the attachment with "+t.volume.Image.String())
	return conn.SetImageMetadata(ctx, t.volume.Image, map[string]string{ownerKey: t.kept.File})
}

// owns checks that nobody attached the image since.
func (a *Attacher) owns(ctx context.Context, conn ceph.Conn, t *attached) error {
	step.Enter(ctx, "see whether "+t.volume.Image.String()+" was attached elsewhere")
	info, err := conn.ImageInfo(ctx, t.volume.Image)
	if err != nil {
		return err
	}
	if last := info.Metadata[ownerKey]; last != t.kept.File {
		return fault.Errorf(fault.Conflict, "%s was attached elsewhere since (%s)", t.volume.Image, last)
	}
	return nil
}
