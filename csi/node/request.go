package node

import (
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/capability"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/kms"
	"github.com/cairn-storage/cairn/csi/volumeid"
)

// volume reads the volume_id of a request.
func volume(code string) (volumeid.ID, error) {
	if code == "" {
		return volumeid.ID{}, fault.Field(fault.Invalid, "volume_id", "is empty")
	}
	id, err := volumeid.Parse(code)
	if err != nil {
		return volumeid.ID{}, fault.Field(fault.NotFound, "volume_id", "%w", err)
	}
	return id, nil
}

// path checks a path of a request: the driver mounts below kubelet's directory
// and nowhere else.
func (s *Server) path(path, field string) (string, error) {
	switch {
	case path == "":
		return "", fault.Field(fault.Invalid, field, "is empty")
	case !filepath.IsAbs(path):
		return "", fault.Field(fault.Invalid, field, "%q is not an absolute path", path)
	case strings.Contains(path+"/", "/../"):
		return "", fault.Field(fault.Invalid, field, "%q goes back up", path)
	}
	clean := filepath.Clean(path)
	if !strings.HasPrefix(clean, filepath.Clean(s.KubeletDir)+"/") {
		return "", fault.Field(fault.Invalid, field, "%q is not below %s", path, s.KubeletDir)
	}
	return clean, nil
}

// provisionedContext is what Kubernetes' provisioner adds to the context of each
// volume that it has made.
const provisionedContext = "storage.kubernetes.io/csiProvisionerIdentity"

// staging is a NodeStageVolume that was read and found sound.
type staging struct {
	code string
	id   volumeid.ID
	path string
	pool string
	want capability.Want
	// foreign: the image was not made by this driver.
	foreign bool
	// near: reads are to come from the nearest replica.
	near bool
	// encrypted, and the record of the key.
	encrypted bool
	key       string
	secrets   map[string]string
}

func (s *Server) parseStage(req *csi.NodeStageVolumeRequest) (g staging, err error) {
	if req.GetVolumeId() == "" {
		return g, fault.Field(fault.Invalid, "volume_id", "is empty")
	}
	g.code, g.pool = req.GetVolumeId(), req.GetVolumeContext()["pool"]
	g.foreign = req.GetVolumeContext()[provisionedContext] == ""
	g.encrypted, g.key = req.GetVolumeContext()[EncryptedContext] == "true", req.GetPublishContext()[kms.MetadataKey]
	g.near = req.GetVolumeContext()[NearContext] == "true"
	g.secrets = req.GetSecrets()
	if g.path, err = s.path(req.GetStagingTargetPath(), "staging_target_path"); err != nil {
		return g, err
	}
	if g.want, err = capability.Parse(req.GetVolumeCapability(), "volume_capability"); err != nil {
		return g, err
	}
	if !g.want.Block && !g.want.ReadOnly && !s.Host.CanFormat(g.want.Filesystem) {
		return g, fault.Field(fault.Invalid, "volume_capability.mount.fs_type", "%s cannot be made on this node: there is no mkfs.%s", g.want.Filesystem, g.want.Filesystem)
	}
	g.id, err = volume(g.code)
	return g, err
}

// publishing is a NodePublishVolume that was read and found sound.
type publishing struct {
	code, staging, target string
	want                  capability.Want
	readOnly              bool
}

func (s *Server) parsePublish(req *csi.NodePublishVolumeRequest) (p publishing, err error) {
	if req.GetVolumeId() == "" {
		return p, fault.Field(fault.Invalid, "volume_id", "is empty")
	}
	p.code = req.GetVolumeId()
	if p.target, err = s.path(req.GetTargetPath(), "target_path"); err != nil {
		return p, err
	}
	if p.want, err = capability.Parse(req.GetVolumeCapability(), "volume_capability"); err != nil {
		return p, err
	}
	if req.GetStagingTargetPath() == "" {
		return p, fault.Field(fault.Refused, "staging_target_path", "is empty: the volume must be staged first")
	}
	if p.staging, err = s.path(req.GetStagingTargetPath(), "staging_target_path"); err != nil {
		return p, err
	}
	p.readOnly = req.GetReadonly() || p.want.ReadOnly
	_, err = volume(p.code)
	return p, err
}
