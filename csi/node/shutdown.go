package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/durable"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/node/journal"
)

// again is how long after a volume was found in use it is looked at again.
const again = 500 * time.Millisecond

// ShutDown unmounts and detaches the volumes with filesystems of this node as their pods end, while the node
// is shut down without having been drained: the filesystems are then whole on the next start. What has no
// filesystem has nothing to unmount; the data path knows when nobody has it open. No volume waits for
// another. It returns when none is left or the context ends.
func (s *Server) ShutDown(ctx context.Context) error {
	records, err := s.Journal.All()
	var group errgroup.Group
	for _, r := range records {
		if !r.Block && r.BootID == durable.BootID() {
			group.Go(func() error { return s.free(ctx, &r) })
		}
	}
	return errors.Join(err, group.Wait())
}

// free unmounts and detaches a volume, as often as it takes.
func (s *Server) free(ctx context.Context, r *journal.Record) error {
	logger := klog.FromContext(ctx).WithValues("volume", r.VolumeID)
	for said := ""; ; {
		err := s.unmountAndDetach(ctx, r)
		if err == nil {
			logger.Info("Shutting down: unmounted")
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

// unmountAndDetach takes off all that is mounted of a volume, also what kubelet has mounted: it binds
// a subPath itself, and is not there any more to take it off.
func (s *Server) unmountAndDetach(ctx context.Context, r *journal.Record) error {
	paths, err := s.Host.MountsOf(number(r.Device))
	if err != nil {
		return err
	}
	for _, path := range slices.Backward(paths) {
		if !strings.HasPrefix(path, s.KubeletDir+"/") {
			continue
		}
		if err := s.Host.Unmount(ctx, path); err != nil {
			return err
		}
	}
	if err := s.takeDown(ctx, r); fault.KindOf(err) != fault.Unavailable {
		return err
	}
	return nil // the data path has ended, as it does once nothing is in use
}
