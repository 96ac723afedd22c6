package krbd

import (
	"encoding/json"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/tests/verifier"
)

const (
	mib    = 1 << 20
	writer = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	reader = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
)

func filesystem(kind string, mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: kind}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
	}
}

func block(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
	}
}

// volume is a volume on its way through the plugin.
type volume struct {
	*bench
	id              string
	context         map[string]string
	capability      *csi.VolumeCapability
	staging, target string
}

// volume makes a volume that is not staged yet.
func (b *bench) volume(size int64, c *csi.VolumeCapability) *volume {
	name := "pvc-" + strings.ToLower(strings.ReplaceAll(filepath.Base(b.Name()), "_", "-"))
	resp, err := b.controller.CreateVolume(b.Context(), &csi.CreateVolumeRequest{
		Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: size}, VolumeCapabilities: []*csi.VolumeCapability{c},
		Parameters: map[string]string{"clusterID": b.cluster.FSID, "pool": pool},
	})
	require.NoError(b, err)
	v := &volume{
		bench: b, id: resp.GetVolume().GetVolumeId(), context: resp.GetVolume().GetVolumeContext(), capability: c,
		staging: filepath.Join(kubelet, "plugins", name, "globalmount"), target: filepath.Join(kubelet, "pods", name, "mount"),
	}
	b.Cleanup(func() {
		if b.Failed() {
			b.Log(b.log())
		}
	})
	return v
}

// ref names the volume's image.
func (v *volume) ref() ceph.ImageRef {
	id, err := volumeid.Parse(v.id)
	require.NoError(v, err)
	return id.Image
}

func (v *volume) stage() error {
	_, err := v.plugin.NodeStageVolume(v.Context(), &csi.NodeStageVolumeRequest{
		VolumeId: v.id, VolumeContext: v.context, StagingTargetPath: v.staging, VolumeCapability: v.capability})
	return err
}

func (v *volume) publish() error {
	// kubelet makes the directory that a target is in.
	if _, err := v.machine.Run(v.Context(), "mkdir", "-p", filepath.Dir(v.target)); err != nil {
		return err
	}
	_, err := v.plugin.NodePublishVolume(v.Context(), &csi.NodePublishVolumeRequest{
		VolumeId: v.id, VolumeContext: v.context, StagingTargetPath: v.staging, TargetPath: v.target, VolumeCapability: v.capability})
	return err
}

func (v *volume) unpublish() error {
	_, err := v.plugin.NodeUnpublishVolume(v.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: v.id, TargetPath: v.target})
	return err
}

func (v *volume) unstage() error {
	_, err := v.plugin.NodeUnstageVolume(v.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: v.id, StagingTargetPath: v.staging})
	return err
}

// use stages and publishes, each twice.
func (v *volume) use() {
	v.Helper()
	for range 2 {
		require.NoError(v, v.stage())
	}
	for range 2 {
		require.NoError(v, v.publish())
	}
}

// end takes everything down, each step twice, and deletes the volume.
func (v *volume) end() {
	v.Helper()
	for range 2 {
		require.NoError(v, v.unpublish())
	}
	for range 2 {
		require.NoError(v, v.unstage())
	}
	_, err := v.controller.DeleteVolume(v.Context(), &csi.DeleteVolumeRequest{VolumeId: v.id})
	require.NoError(v, err)
	v.leavesNothing()
}

// leavesNothing checks that no device, mount or record is left in the guest.
func (b *bench) leavesNothing() {
	b.Helper()
	require.Empty(b, b.run("ls", "/sys/bus/rbd/devices"), "mapped devices")
	require.NotContains(b, b.run("cat", "/proc/mounts"), "/dev/rbd", "mounts")
	require.Empty(b, b.run("ls", state+"/node"), "records")
}

// grow makes the volume larger while it is in use, and returns the plugin's answer.
func (v *volume) grow(size int64) int64 {
	v.Helper()
	limit := &csi.CapacityRange{RequiredBytes: size}
	_, err := v.controller.ControllerExpandVolume(v.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: v.id, CapacityRange: limit, VolumeCapability: v.capability})
	require.NoError(v, err)
	for range 2 {
		resp, err := v.plugin.NodeExpandVolume(v.Context(), &csi.NodeExpandVolumeRequest{
			VolumeId: v.id, VolumePath: v.target, StagingTargetPath: v.staging, CapacityRange: limit, VolumeCapability: v.capability})
		require.NoError(v, err)
		require.Equal(v, size, resp.GetCapacityBytes())
	}
	return v.total()
}

// total is the volume's size as its statistics say.
func (v *volume) total() int64 {
	v.Helper()
	resp, err := v.plugin.NodeGetVolumeStats(v.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: v.id, VolumePath: v.target})
	require.NoError(v, err)
	return resp.GetUsage()[0].GetTotal()
}

// run runs a program in the guest.
func (b *bench) run(program string, args ...string) string {
	b.Helper()
	out, err := b.machine.Run(b.Context(), program, args...)
	require.NoError(b, err)
	return strings.TrimSpace(out)
}

// verify writes to a path of the guest for a while, and checks meanwhile what is
// given; every write that was acknowledged must be read back.
func (v *volume) verify(path string, meanwhile func()) {
	v.Helper()
	type answer struct {
		out string
		err error
	}
	done := make(chan answer, 1)
	go func() {
		out, err := v.machine.Run(v.Context(), "/share/verifier", "-path", path, "-size", "8388608", "-depth", "4", "-duration", "3s")
		done <- answer{out, err}
	}()
	meanwhile()
	a := <-done
	require.NoError(v, a.err)
	var result verifier.Result
	require.NoError(v, json.Unmarshal([]byte(a.out), &result))
	require.True(v, result.Sound(), a.out)
	v.Log(strings.TrimSpace(a.out))
}
