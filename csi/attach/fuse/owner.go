package fuse

import (
	"context"
	"errors"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// own makes an attachment the image's last, on whatever node, once its lock is
// this process's. One that goes on must still be it, and is told so also when it
// did not get the lock: without that, a process that goes on after a crash could not
// know that the volume was fenced and moved meanwhile, and would write an old log
// over newer data.
func (a *Attacher) own(ctx context.Context, conn ceph.Conn, t *attached, image ceph.Image, opened error) (ceph.Image, error) {
	var err error
	switch {
	case t.resumed:
		err = a.owns(ctx, conn, t)
	case opened == nil:
		step.Enter(ctx, "note the attachment with "+t.volume.Image.String())
		err = conn.SetImageMetadata(ctx, t.volume.Image, map[string]string{ceph.AttachmentKey: t.kept.File})
	}
	if opened != nil {
		if fault.KindOf(err) == fault.Conflict {
			return nil, err
		}
		return nil, opened
	}
	if err != nil {
		return nil, errors.Join(err, image.Close())
	}
	return image, nil
}

// owns checks that nobody attached the image since.
func (a *Attacher) owns(ctx context.Context, conn ceph.Conn, t *attached) error {
	step.Enter(ctx, "see whether "+t.volume.Image.String()+" was attached elsewhere")
	info, err := conn.ImageInfo(ctx, t.volume.Image)
	if err != nil {
		return err
	}
	if last := info.Metadata[ceph.AttachmentKey]; last != t.kept.File {
		return fault.Errorf(fault.Conflict, "%s was attached elsewhere since (%s)", t.volume.Image, last)
	}
	return nil
}
