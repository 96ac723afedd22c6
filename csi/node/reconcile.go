package node

import (
	"context"
	"errors"
	"slices"

	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/durable"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/node/journal"
)

// Reconcile compares the journal with what is attached and mounted, without the
// API server, when the plugin starts. It takes nothing down that a pod may use:
// it forgets what never came to be, and marks what was lost.
func (s *Server) Reconcile(ctx context.Context) error {
	records, err := s.Journal.All()
	if len(records) == 0 {
		return err
	}
	devices, listErr := s.attached(ctx, records)
	if listErr != nil {
		// Without the attach process nothing can be told of its devices.
		return errors.Join(err, listErr)
	}
	attached := map[string]attach.Device{}
	for _, d := range devices {
		attached[d.VolumeID] = d
	}
	errs := []error{err}
	for i := range records {
		d, ok := attached[records[i].VolumeID]
		errs = append(errs, s.reconcile(ctx, &records[i], d, ok))
		delete(attached, records[i].VolumeID)
	}
	for id, d := range attached {
		klog.FromContext(ctx).Info("A device is attached that nothing is recorded of: it is left alone", "volume", id, "device", d.Path)
	}
	return errors.Join(errs...)
}

// attached lists the devices of all who attached a recorded volume.
func (s *Server) attached(ctx context.Context, records []journal.Record) ([]attach.Device, error) {
	devices, err := s.Attacher.List(ctx)
	encrypted := func(r journal.Record) bool { return r.Encrypted }
	if err != nil || s.EncryptedAttacher == nil || !slices.ContainsFunc(records, encrypted) {
		return devices, err
	}
	more, err := s.EncryptedAttacher.List(ctx)
	return append(devices, more...), err
}

func (s *Server) reconcile(ctx context.Context, r *journal.Record, d attach.Device, isAttached bool) error {
	logger := klog.FromContext(ctx).WithValues("volume", r.VolumeID, "step", r.Step)
	mounted, err := s.Host.MountAt(r.StagingPath)
	if err != nil {
		return err
	}
	switch {
	case !isAttached && mounted == nil && r.Step != journal.Staged:
		logger.Info("Nothing is there of the recorded volume: forgotten")
		return s.Journal.Remove(r.VolumeID)
	case r.Step != journal.Staged:
		logger.Info("A volume is half staged: its next stage or unstage goes on from here")
		return nil
	}
	return s.judge(logger, r, d, isAttached)
}

// judge notes whether a staged volume's device is the recorded one still.
func (s *Server) judge(logger klog.Logger, r *journal.Record, d attach.Device, isAttached bool) error {
	reason := ""
	switch {
	case r.BootID != durable.BootID():
		reason = "the node restarted since it was staged"
	case !isAttached:
		reason = "its data path ended: the pod must be restarted"
	case number(d) != number(r.Device):
		reason = "it was attached anew as another device"
	case !r.Block:
		if err := s.verifyMount(r, r.StagingPath, "staging path"); err != nil {
			if fault.KindOf(err) != fault.Refused {
				return err
			}
			reason = err.Error()
		}
	}
	if reason == r.Unhealthy {
		return nil
	}
	if reason != "" {
		logger.Info("A staged volume is lost", "reason", reason)
	}
	r.Unhealthy = reason
	return s.Journal.Write(*r)
}
