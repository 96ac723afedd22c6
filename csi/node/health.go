package node

import (
	"context"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/durable"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/node/journal"
)

// What may be wrong with a staged volume.
const (
	// Lost: what was staged is gone, or is something else.
	Lost = "Lost"
	// ReadOnlyFilesystem: the kernel made the filesystem read-only after an error.
	ReadOnlyFilesystem = "ReadOnlyFilesystem"
	// FilesystemDown: the filesystem answers with errors.
	FilesystemDown = "FilesystemDown"
	// LogNotReplayed: what is in the filesystem's log alone is not seen.
	LogNotReplayed = "LogNotReplayed"
	// AttachUnreachable: the process that holds the volumes does not answer.
	AttachUnreachable = "AttachUnreachable"
)

// Trouble is what is wrong with a staged volume.
type Trouble struct {
	Record          journal.Record
	Reason, Message string
}

// troubles looks at a staged volume, and changes nothing.
func (s *Server) troubles(r *journal.Record, device *attach.Device) []Trouble {
	var found []Trouble
	add := func(reason, format string, args ...any) {
		found = append(found, Trouble{Record: *r, Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
	if lost := s.lost(r, device); lost != "" {
		add(Lost, "%s", lost)
		return found
	}
	if r.Block {
		return nil
	}
	m, err := s.Host.MountAt(r.StagingPath)
	if err != nil {
		return nil // it cannot be seen now
	}
	if m != nil && m.FilesystemReadOnly && !r.ReadOnly {
		add(ReadOnlyFilesystem, "the filesystem met an error and is read-only now: delete the pods that use it, so that it is checked and mounted anew")
	}
	if m != nil && m.WithoutLog && !r.LogReplayed {
		add(LogNotReplayed, "the filesystem was not unmounted, and is read without what is in its log: files may be missing or older. "+
			"It is not for the driver to write to this volume while it is read only: mount it to write (ReadWriteOnce) once")
	}
	if err := s.Host.Alive(r.StagingPath); err != nil {
		add(FilesystemDown, "the filesystem answers with an error: delete the pods that use it, so that it is mounted anew: %v", err)
	}
	return found
}

// lost says why a staged volume is not there any more, empty when it is.
func (s *Server) lost(r *journal.Record, device *attach.Device) string {
	switch {
	case r.Unhealthy != "":
		return r.Unhealthy
	case r.BootID != durable.BootID():
		return "the node restarted since it was staged"
	case device == nil:
		return "its device is gone: delete the pods that use it, so that it is attached anew"
	case number(*device) != number(r.Device):
		return "it was attached anew as another device"
	}
	err := s.verifyNode(r, r.Device.Path)
	if err == nil && !r.Block {
		err = s.verifyMount(r, r.StagingPath, "staging path")
	}
	if fault.KindOf(err) == fault.Refused {
		return err.Error()
	}
	return ""
}

// Troubles looks at all staged volumes, and returns how many they are.
func (s *Server) Troubles(ctx context.Context) (staged int, troubles []Trouble, err error) {
	records, err := s.Journal.All()
	if err != nil {
		return 0, nil, err
	}
	for i := range records {
		r := &records[i]
		if r.Step != journal.Staged {
			continue
		}
		device, err := attach.Find(ctx, s.attacher(r), r.VolumeID)
		if err != nil {
			return 0, nil, err
		}
		staged++
		troubles = append(troubles, s.troubles(r, device)...)
	}
	return staged, troubles, nil
}

// NodeGetVolumeHealth says what is wrong with a volume on this node.
func (s *Server) NodeGetVolumeHealth(ctx context.Context, req *csi.NodeGetVolumeHealthRequest) (*csi.NodeGetVolumeHealthResponse, error) {
	r, err := s.healthSubject(req)
	if err != nil {
		return nil, err
	}
	health := &csi.VolumeHealth{VolumeId: req.GetVolumeId()}
	device, err := attach.Find(ctx, s.attacher(r), r.VolumeID)
	if err != nil {
		return nil, err
	}
	for _, t := range s.troubles(r, device) {
		status := csi.VolumeHealthErrorType_INACCESSIBLE
		if t.Reason == LogNotReplayed {
			status = csi.VolumeHealthErrorType_DEGRADED
		}
		health.HealthStatuses = append(health.HealthStatuses, &csi.VolumeHealth_VolumeHealthEntry{
			Status: status, Reason: t.Reason, Message: t.Message})
	}
	return &csi.NodeGetVolumeHealthResponse{VolumeHealth: health}, nil
}

// healthSubject returns the record of the volume whose health is asked for, at
// the paths that are named.
func (s *Server) healthSubject(req *csi.NodeGetVolumeHealthRequest) (*journal.Record, error) {
	if _, err := volume(req.GetVolumeId()); err != nil {
		return nil, err
	}
	r, err := s.Journal.Read(req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if r == nil || r.Step != journal.Staged {
		return nil, fault.Field(fault.NotFound, "volume_id", "volume %s is not staged on this node", req.GetVolumeId())
	}
	if path := req.GetStagingTargetPath(); path != "" && path != r.StagingPath {
		return nil, fault.Field(fault.NotFound, "staging_target_path", "the volume is staged at %s", r.StagingPath)
	}
	return r, nil
}

// NodeGetStorageHealth says whether volumes can be attached here.
func (s *Server) NodeGetStorageHealth(ctx context.Context, _ *csi.NodeGetStorageHealthRequest) (*csi.NodeGetStorageHealthResponse, error) {
	resp := &csi.NodeGetStorageHealthResponse{}
	if _, err := s.Attacher.List(ctx); err != nil {
		resp.BackendHealth = append(resp.BackendHealth, &csi.NodeGetStorageHealthResponse_StorageBackendHealth{
			Status: csi.StorageHealthErrorType_STORAGE_UNREACHABLE, Reason: AttachUnreachable, Message: err.Error()})
	}
	return resp, nil
}
