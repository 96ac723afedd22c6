package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/node/journal"
)

// again is how long after a volume was found in use it is looked at again.
const again = 500 * time.Millisecond

// ShutDown unmounts and detaches every volume of this node as its pods end, while the node is shut
// down without having been drained: its filesystems are then whole on the next start, and no
// unmount waits for a cluster that is out of reach, because network and data path end after it.
// No volume waits for another. It returns when none is left or the context ends.
func (s *Server) ShutDown(ctx context.Context) error {
	records, err := s.Journal.All()
	var group errgroup.Group
	for _, r := range records {
		group.Go(func() error { return s.free(ctx, r) })
	}
	return errors.Join(err, group.Wait())
}

// free unpublishes and unstages a volume, as often as it takes.
func (s *Server) free(ctx context.Context, r journal.Record) error {
	logger := klog.FromContext(ctx).WithValues("volume", r.VolumeID)
	for said := ""; ; {
		err := s.unpublishAndUnstage(ctx, r)
		if err == nil {
			logger.Info("Shutting down: unmounted and detached")
			return nil
		}
		if said != err.Error() {
			logger.Info("Shutting down: the volume is in use", "reason", err.Error())
			said = err.Error()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("volume %s is still in use: %w", r.VolumeID, err)
		case <-time.After(again):
		}
	}
}

func (s *Server) unpublishAndUnstage(ctx context.Context, r journal.Record) error {
	for _, target := range r.Targets {
		if _, err := s.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: r.VolumeID, TargetPath: target}); err != nil {
			return err
		}
	}
	_, err := s.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: r.VolumeID, StagingTargetPath: r.StagingPath})
	return err
}
