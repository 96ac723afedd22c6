package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/cairn-storage/cairn/csi/attach"
	fakeattach "github.com/cairn-storage/cairn/csi/attach/fake"
	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/node/host"
	fakehost "github.com/cairn-storage/cairn/csi/node/host/fake"
	"github.com/cairn-storage/cairn/csi/node/journal"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/model"
)

const (
	fsid   = "6f0c1d2e-3b4a-4c5d-8e6f-7a8b9c0d1e2f"
	writer = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
)

type bench struct {
	*Server
	t        *testing.T
	conn     ceph.Conn
	ref      ceph.ImageRef
	attacher *fakeattach.Attacher
	host     *fakehost.Host
	code     string
}

func fakeDevice(path string) *host.Number {
	n, err := strconv.ParseUint(strings.TrimPrefix(path, "/dev/fake"), 10, 32)
	if err != nil || !strings.HasPrefix(path, "/dev/fake") {
		return nil
	}
	return &host.Number{Major: 240, Minor: uint32(n)}
}

func newBench(t *testing.T) *bench {
	cluster := model.New(fsid)
	conn, err := cluster.Connect(t.Context(), ceph.Credentials{FSID: fsid}, ceph.ConnectOptions{})
	require.NoError(t, err)
	require.NoError(t, conn.EnsurePool(t.Context(), ceph.PoolSpec{Name: "p", Size: 1, Application: "rbd"}))
	pool, err := conn.PoolID(t.Context(), "p")
	require.NoError(t, err)
	ref := ceph.ImageRef{PoolID: pool, Name: "pvc-1"}
	require.NoError(t, conn.CreateImage(t.Context(), ref, ceph.ImageSpec{Size: 1 << 30}))
	code, err := volumeid.ID{FSID: fsid, Image: ref}.Encode()
	require.NoError(t, err)
	dir := t.TempDir()
	b := &bench{t: t, conn: conn, ref: ref, code: code, attacher: &fakeattach.Attacher{Connector: cluster}, host: fakehost.New(fakeDevice)}
	credentials := connections.Static{fsid: {FSID: fsid, Key: "secret"}}
	b.Server = &Server{ID: "node-1", KubeletDir: dir, Method: "fake", Attacher: b.attacher, Host: b.host,
		Journal: journal.Journal{Dir: filepath.Join(dir, "journal")}, Credentials: credentials,
		Clusters: connections.New(credentials, cluster, connections.Timeouts)}
	return b
}

func (b *bench) path(name string) string { return filepath.Join(b.KubeletDir, name) }

func mountCapability(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: "xfs"}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode}}
}

func blockCapability(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode}}
}

func (b *bench) stage(c *csi.VolumeCapability) error {
	_, err := b.NodeStageVolume(b.t.Context(), &csi.NodeStageVolumeRequest{VolumeId: b.code, StagingTargetPath: b.path("staging"), VolumeCapability: c})
	return err
}

func (b *bench) unstage() error {
	_, err := b.NodeUnstageVolume(b.t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: b.code, StagingTargetPath: b.path("staging")})
	return err
}

func (b *bench) publish(target string, c *csi.VolumeCapability) error {
	_, err := b.NodePublishVolume(b.t.Context(), &csi.NodePublishVolumeRequest{VolumeId: b.code, StagingTargetPath: b.path("staging"), TargetPath: b.path(target), VolumeCapability: c})
	return err
}

func (b *bench) unpublish(target string) error {
	_, err := b.NodeUnpublishVolume(b.t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: b.code, TargetPath: b.path(target)})
	return err
}

// leavesNothing checks that no device, mount or record is left.
func (b *bench) leavesNothing() {
	b.t.Helper()
	devices, err := b.attacher.List(b.t.Context())
	require.NoError(b.t, err)
	require.Empty(b.t, devices)
	mounts, err := b.host.List()
	require.NoError(b.t, err)
	require.Empty(b.t, mounts)
	records, err := b.Journal.All()
	require.NoError(b.t, err)
	require.Empty(b.t, records)
}

func TestLife(t *testing.T) {
	for name, c := range map[string]*csi.VolumeCapability{"mount": mountCapability(writer), "block": blockCapability(writer)} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			for range 2 {
				require.NoError(t, b.stage(c))
			}
			require.True(t, b.attacher.Volume(b.code).Exclusive)
			r, err := b.Journal.Read(b.code)
			require.NoError(t, err)
			require.NotEmpty(t, r.Device.ClientAddrs)
			for range 2 {
				require.NoError(t, b.publish("target", c))
			}
			stats, err := b.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: b.code, VolumePath: b.path("target")})
			require.NoError(t, err)
			require.NotZero(t, stats.GetUsage()[0].GetTotal())
			require.NoError(t, b.conn.GrowImage(t.Context(), b.ref, 2<<30))
			grown, err := b.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: b.code, VolumePath: b.path("target"),
				CapacityRange: &csi.CapacityRange{RequiredBytes: 2 << 30}})
			require.NoError(t, err)
			require.Equal(t, int64(2<<30), grown.GetCapacityBytes())
			require.Equal(t, name == "mount", len(b.host.Grown) == 1)
			for range 2 {
				require.NoError(t, b.unpublish("target"))
			}
			require.NoFileExists(t, b.path("target"))
			for range 2 {
				require.NoError(t, b.unstage())
			}
			b.leavesNothing()
		})
	}
}

// Each wrong input is refused with a code and a message that names the field.
func TestRefuses(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	good := mountCapability(writer)
	stage := func(change func(*csi.NodeStageVolumeRequest)) error {
		r := &csi.NodeStageVolumeRequest{VolumeId: b.code, StagingTargetPath: b.path("staging"), VolumeCapability: mountCapability(writer)}
		change(r)
		_, err := b.NodeStageVolume(ctx, r)
		return err
	}
	publish := func(change func(*csi.NodePublishVolumeRequest)) error {
		r := &csi.NodePublishVolumeRequest{VolumeId: b.code, StagingTargetPath: b.path("staging"), TargetPath: b.path("target"), VolumeCapability: good}
		change(r)
		_, err := b.NodePublishVolume(ctx, r)
		return err
	}
	stats := func(volume, path string) error {
		_, err := b.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: volume, VolumePath: path})
		return err
	}
	expand := func(volume, path string) error {
		_, err := b.NodeExpandVolume(ctx, &csi.NodeExpandVolumeRequest{VolumeId: volume, VolumePath: path})
		return err
	}
	unstage := func(volume, path string) error {
		_, err := b.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: volume, StagingTargetPath: path})
		return err
	}
	unpublish := func(volume, path string) error {
		_, err := b.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: volume, TargetPath: path})
		return err
	}
	const invalid, notFound, refused = codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition
	for name, c := range map[string]struct {
		err   error
		code  codes.Code
		field string
	}{
		"stage no volume":         {stage(func(r *csi.NodeStageVolumeRequest) { r.VolumeId = "" }), invalid, "volume_id:"},
		"stage foreign volume":    {stage(func(r *csi.NodeStageVolumeRequest) { r.VolumeId = "../x" }), notFound, "volume_id:"},
		"stage nowhere":           {stage(func(r *csi.NodeStageVolumeRequest) { r.StagingTargetPath = "" }), invalid, "staging_target_path:"},
		"stage relative":          {stage(func(r *csi.NodeStageVolumeRequest) { r.StagingTargetPath = "a" }), invalid, "staging_target_path:"},
		"stage outside":           {stage(func(r *csi.NodeStageVolumeRequest) { r.StagingTargetPath = "/etc" }), invalid, "staging_target_path:"},
		"stage at kubelet's own":  {stage(func(r *csi.NodeStageVolumeRequest) { r.StagingTargetPath = b.KubeletDir }), invalid, "staging_target_path:"},
		"stage back up":           {stage(func(r *csi.NodeStageVolumeRequest) { r.StagingTargetPath = b.KubeletDir + "/../x" }), invalid, "staging_target_path:"},
		"stage no capability":     {stage(func(r *csi.NodeStageVolumeRequest) { r.VolumeCapability = nil }), invalid, "volume_capability:"},
		"stage btrfs":             {stage(func(r *csi.NodeStageVolumeRequest) { r.VolumeCapability.GetMount().FsType = "btrfs" }), invalid, "volume_capability.mount.fs_type:"},
		"stage with option":       {stage(func(r *csi.NodeStageVolumeRequest) { r.VolumeCapability.GetMount().MountFlags = []string{"remount"} }), invalid, "volume_capability.mount.mount_flags:"},
		"publish no volume":       {publish(func(r *csi.NodePublishVolumeRequest) { r.VolumeId = "" }), invalid, "volume_id:"},
		"publish nowhere":         {publish(func(r *csi.NodePublishVolumeRequest) { r.TargetPath = "" }), invalid, "target_path:"},
		"publish outside":         {publish(func(r *csi.NodePublishVolumeRequest) { r.TargetPath = "/root" }), invalid, "target_path:"},
		"publish no staging path": {publish(func(r *csi.NodePublishVolumeRequest) { r.StagingTargetPath = "" }), refused, "staging_target_path:"},
		"publish no capability":   {publish(func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability = nil }), invalid, "volume_capability:"},
		"publish unstaged":        {publish(func(*csi.NodePublishVolumeRequest) {}), refused, "volume_id:"},
		"unstage no volume":       {unstage("", b.path("staging")), invalid, "volume_id:"},
		"unstage nowhere":         {unstage(b.code, ""), invalid, "staging_target_path:"},
		"unpublish no volume":     {unpublish("", b.path("target")), invalid, "volume_id:"},
		"unpublish nowhere":       {unpublish(b.code, ""), invalid, "target_path:"},
		"stats no volume":         {stats("", b.path("target")), invalid, "volume_id:"},
		"stats nowhere":           {stats(b.code, ""), invalid, "volume_path:"},
		"stats unstaged":          {stats(b.code, b.path("target")), notFound, "volume_id:"},
		"expand no volume":        {expand("", b.path("target")), invalid, "volume_id:"},
		"expand nowhere":          {expand(b.code, ""), invalid, "volume_path:"},
		"expand unstaged":         {expand(b.code, b.path("target")), notFound, "volume_id:"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, c.err, c.field)
			require.Equal(t, c.code, server.Code(c.err))
		})
	}
	b.leavesNothing()
}

func TestStagedDifferently(t *testing.T) {
	b := newBench(t)
	require.NoError(t, b.stage(mountCapability(writer)))
	for field, c := range map[string]*csi.VolumeCapability{
		"volume_capability.access_type:": blockCapability(writer),
		"volume_capability.access_mode:": mountCapability(csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY),
		"volume_capability.mount.fs_type:": {AccessMode: mountCapability(writer).AccessMode,
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: "ext4"}}},
	} {
		err := b.stage(c)
		require.ErrorContains(t, err, field)
		require.Equal(t, codes.AlreadyExists, server.Code(err))
	}
}

func TestOnePodOnly(t *testing.T) {
	b := newBench(t)
	c := mountCapability(csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER)
	require.NoError(t, b.stage(c))
	require.NoError(t, b.publish("one", c))
	err := b.publish("two", c)
	require.ErrorContains(t, err, "target_path:")
	require.Equal(t, codes.FailedPrecondition, server.Code(err))
	require.NoError(t, b.unpublish("one"))
	require.NoError(t, b.publish("two", c))
}

func TestSharedBlockIsNotExclusive(t *testing.T) {
	b := newBench(t)
	require.NoError(t, b.stage(blockCapability(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER)))
	require.False(t, b.attacher.Volume(b.code).Exclusive)
	require.False(t, b.attacher.Volume(b.code).ReadOnly)
}

func TestReadOnly(t *testing.T) {
	b := newBench(t)
	c := mountCapability(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY)
	require.NoError(t, b.stage(c))
	require.True(t, b.attacher.Volume(b.code).ReadOnly)
	require.NoError(t, b.publish("target", c))
	m, err := b.host.MountAt(b.path("target"))
	require.NoError(t, err)
	require.True(t, m.ReadOnly)
}

// Publishing refuses when what is at the staging path is not the volume's device.
func TestNeverTheRootDisk(t *testing.T) {
	c := mountCapability(writer)
	for name, spoil := range map[string]func(*bench) error{
		"unmounted":    func(b *bench) error { return b.host.Unmount(t.Context(), b.path("staging")) },
		"other device": func(b *bench) error { return b.host.Mount(t.Context(), "/dev/fake99", b.path("staging"), "xfs", nil) },
		"detached":     func(b *bench) error { return b.attacher.Detach(t.Context(), b.code) },
		"attached anew": func(b *bench) error {
			b.attacher.Crash()
			_, err := b.attacher.Attach(t.Context(), attach.Volume{ID: b.code, Image: b.ref})
			return err
		},
		"other boot": func(b *bench) error {
			r, err := b.Journal.Read(b.code)
			r.BootID = "earlier"
			return errors.Join(err, b.Journal.Write(*r))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			require.NoError(t, b.stage(c))
			require.NoError(t, spoil(b))
			err := b.publish("target", c)
			require.Equal(t, codes.FailedPrecondition, server.Code(err))
			m, err := b.host.MountAt(b.path("target"))
			require.NoError(t, err)
			require.Nil(t, m)
			require.NoError(t, b.stage(c), "staging anew mends it")
			require.NoError(t, b.publish("target", c))
		})
	}
}

var errCrash = errors.New("the plugin died")

// crashing dies at one of the calls that staging makes, before or after it.
type crashing struct {
	attach.Attacher
	at, calls int
	after     bool
}

func (c *crashing) Attach(ctx context.Context, v attach.Volume) (attach.Device, error) {
	c.calls++
	if c.calls == c.at && !c.after {
		return attach.Device{}, errCrash
	}
	d, err := c.Attacher.Attach(ctx, v)
	if c.calls == c.at {
		return attach.Device{}, errCrash
	}
	return d, err
}

// A plugin that dies at any step is followed by one that ends where it should:
// by staging again, or by taking all down.
func TestCrashAtEachStep(t *testing.T) {
	c := mountCapability(writer)
	for name, crash := range map[string]func(*bench){
		"before attach": func(b *bench) { b.Attacher = &crashing{Attacher: b.attacher, at: 1} },
		"after attach":  func(b *bench) { b.Attacher = &crashing{Attacher: b.attacher, at: 1, after: true} },
		"at the mount": func(b *bench) {
			b.host.FailWith(func(call string) error {
				if call == "Mount" {
					return errCrash
				}
				return nil
			})
		},
		"staged": func(*bench) {},
	} {
		for _, next := range []string{"stage", "unstage"} {
			t.Run(name+", then "+next, func(t *testing.T) {
				b := newBench(t)
				crash(b)
				if err := b.stage(c); name != "staged" {
					require.ErrorIs(t, err, errCrash)
				}
				b.Attacher = b.attacher
				b.host.FailWith(nil)
				require.NoError(t, b.Reconcile(t.Context()))
				if next == "stage" {
					require.NoError(t, b.stage(c))
					require.NoError(t, b.publish("target", c))
					require.NoError(t, b.unpublish("target"))
				}
				require.NoError(t, b.unstage())
				b.leavesNothing()
			})
		}
	}
}

// The kubelet does not unstage what it was told cannot be staged.
func TestFailedStageLeavesNothing(t *testing.T) {
	failed := errors.New("the filesystem cannot be made")
	b := newBench(t)
	b.host.FailWith(func(call string) error {
		if call == "Mount" {
			return failed
		}
		return nil
	})
	require.ErrorIs(t, b.stage(mountCapability(writer)), failed)
	b.leavesNothing()

	b.host.FailWith(nil)
	b.Attacher = &crashing{Attacher: b.attacher, at: 1}
	require.ErrorIs(t, b.stage(mountCapability(writer)), errCrash)
	b.leavesNothing()

	b.attacher.FailWith(failed)
	require.Equal(t, codes.Unavailable, server.Code(b.stage(mountCapability(writer))), "what cannot be taken down is asked for again")
	b.attacher.FailWith(nil)
	require.NoError(t, b.unstage())
	b.leavesNothing()
}

func TestReconcile(t *testing.T) {
	c := mountCapability(writer)
	t.Run("all is well", func(t *testing.T) {
		b := newBench(t)
		require.NoError(t, b.stage(c))
		require.NoError(t, b.Reconcile(t.Context()))
		require.NoError(t, b.publish("target", c))
	})
	t.Run("the data path ended", func(t *testing.T) {
		b := newBench(t)
		require.NoError(t, b.stage(c))
		b.attacher.Crash()
		require.NoError(t, b.Reconcile(t.Context()))
		require.ErrorContains(t, b.publish("target", c), "data path ended")
		require.NoError(t, b.unstage())
		b.leavesNothing()
	})
	t.Run("the node restarted", func(t *testing.T) {
		b := newBench(t)
		require.NoError(t, b.stage(c))
		r, err := b.Journal.Read(b.code)
		require.NoError(t, err)
		r.BootID = "earlier"
		require.NoError(t, b.Journal.Write(*r))
		b.attacher.Crash()
		require.NoError(t, b.host.Unmount(t.Context(), b.path("staging")))
		require.NoError(t, b.Reconcile(t.Context()))
		require.NoError(t, b.stage(c))
		require.NoError(t, b.publish("target", c))
	})
	t.Run("a record cannot be read", func(t *testing.T) {
		b := newBench(t)
		require.NoError(t, b.stage(c))
		require.NoError(t, os.WriteFile(filepath.Join(b.Journal.Dir, "x.json"), []byte("{"), 0o600))
		require.ErrorContains(t, b.Reconcile(t.Context()), "x.json")
		require.NoError(t, b.publish("target", c), "the others are served")
	})
	t.Run("nobody attaches", func(t *testing.T) {
		b := newBench(t)
		require.NoError(t, b.stage(c))
		b.attacher.FailWith(errCrash)
		require.ErrorIs(t, b.Reconcile(t.Context()), errCrash)
		b.attacher.FailWith(nil)
		require.NoError(t, b.publish("target", c))
	})
}

func TestUnstageOfABusyVolumeKeepsIt(t *testing.T) {
	b := newBench(t)
	c := mountCapability(writer)
	require.NoError(t, b.stage(c))
	b.host.FailWith(func(call string) error {
		if call == "Unmount" {
			return errCrash
		}
		return nil
	})
	require.ErrorIs(t, b.unstage(), errCrash)
	b.host.FailWith(nil)
	require.NoError(t, b.unstage())
	b.leavesNothing()
}

func TestInfo(t *testing.T) {
	b := newBench(t)
	info, err := b.NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
	require.NoError(t, err)
	require.Equal(t, "node-1", info.GetNodeId())
	caps, err := b.NodeGetCapabilities(t.Context(), &csi.NodeGetCapabilitiesRequest{})
	require.NoError(t, err)
	require.Len(t, caps.GetCapabilities(), 6)
}
