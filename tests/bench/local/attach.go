package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/tests/bench/result"
)

const attachments = 50

// attachTimes measures how long the data path needs to make an image a device.
func attachTimes(ctx context.Context, b *bed, report func(...result.Entry)) error {
	v := &mounted{bed: b}
	state := filepath.Join(b.dir, "state")
	v.server = v.nodeServer(state)
	if err := v.startAttach(ctx, state); err != nil {
		return errors.Join(err, v.end())
	}
	took, detached, err := v.attachAll(ctx)
	if err == nil {
		report(result.New("attach", "attach_ms_p50", "ms", result.Median(took),
			"%d images one after the other, all stay attached: the 99th percentile %.3g ms; detach %.3g ms", attachments, result.Quantile(took, .99), result.Median(detached)))
	}
	return errors.Join(err, v.end())
}

func (v *mounted) attachAll(ctx context.Context) (attached, detached []float64, err error) {
	credentials := v.cluster.Credentials()
	var ids []string
	defer func() {
		for _, id := range ids {
			began := time.Now()
			err = errors.Join(err, v.server.Attacher.Detach(context.WithoutCancel(ctx), id))
			detached = append(detached, float64(time.Since(began).Microseconds())/1000)
		}
	}()
	for i := range attachments {
		ref := ceph.ImageRef{PoolID: v.bed.pool, Name: volumeid.ImageName(fmt.Sprintf("attach-%d", i))}
		if err := v.conn.CreateImage(ctx, ref, ceph.ImageSpec{Size: imageSize}); err != nil {
			return nil, nil, err
		}
		id, err := volumeid.ID{FSID: credentials.FSID, Image: ref}.Encode()
		if err != nil {
			return nil, nil, err
		}
		began := time.Now()
		if _, err := v.server.Attacher.Attach(ctx, attach.Volume{ID: id, Image: ref, Pool: pool, Credentials: credentials, Exclusive: true}); err != nil {
			return nil, nil, err
		}
		ids, attached = append(ids, id), append(attached, float64(time.Since(began).Microseconds())/1000)
	}
	return attached, nil, nil
}
