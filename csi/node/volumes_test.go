package node

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	fakeattach "github.com/cairn-storage/cairn/csi/attach/fake"
	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/csi/kms"
	"github.com/cairn-storage/cairn/csi/kms/secret"
	"github.com/cairn-storage/cairn/csi/server"
)

const encryptionKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

// stageWith stages with a request that was changed.
func (b *bench) stageWith(change func(*csi.NodeStageVolumeRequest)) error {
	r := &csi.NodeStageVolumeRequest{VolumeId: b.code, StagingTargetPath: b.path("staging"), VolumeCapability: mountCapability(writer),
		VolumeContext: map[string]string{}, PublishContext: map[string]string{}, Secrets: map[string]string{secret.Field: encryptionKey}}
	change(r)
	_, err := b.NodeStageVolume(b.t.Context(), r)
	return err
}

// An encrypted volume is attached with its passphrase, by who can.
func TestEncrypted(t *testing.T) {
	b := newBench(t)
	userspace := &fakeattach.Attacher{Connector: b.attacher.Connector}
	keys := &kms.Keys{}
	b.Keys, b.EncryptedAttacher = keys, userspace
	passphrase, record, err := keys.New(t.Context(), b.code, kms.Use{Secrets: map[string]string{secret.Field: encryptionKey}})
	require.NoError(t, err)
	encrypted := func(r *csi.NodeStageVolumeRequest) {
		r.PublishContext[kms.MetadataKey], r.VolumeContext[EncryptedContext] = record, "true"
	}
	for range 2 {
		require.NoError(t, b.stageWith(encrypted))
	}
	require.Equal(t, passphrase, userspace.Volume(b.code).Passphrase)
	plain, err := b.attacher.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, plain)
	require.NoError(t, b.publish("target", mountCapability(writer)))
	require.NoError(t, b.Reconcile(t.Context()))
	require.Empty(t, b.health())
	_, err = b.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: b.code, VolumePath: b.path("target")})
	require.NoError(t, err)
	require.NoError(t, b.unpublish("target"))
	require.NoError(t, b.unstage())
	left, err := userspace.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, left)
	b.leavesNothing()

	// Without its record a volume is taken down all the same.
	require.NoError(t, b.stageWith(encrypted))
	require.NoError(t, b.Journal.Remove(b.code))
	require.NoError(t, b.unstage())
	left, err = userspace.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, left)
}

// An encrypted volume is never attached as a plain one, nor with another's key.
func TestEncryptedIsNotAttachedWithoutItsKey(t *testing.T) {
	keys := &kms.Keys{}
	secrets := map[string]string{secret.Field: encryptionKey}
	for name, change := range map[string]func(*bench, *csi.NodeStageVolumeRequest){
		"no key":       func(_ *bench, r *csi.NodeStageVolumeRequest) { delete(r.PublishContext, kms.MetadataKey) },
		"no opener":    func(b *bench, _ *csi.NodeStageVolumeRequest) { b.Keys = nil },
		"other secret": func(_ *bench, r *csi.NodeStageVolumeRequest) { r.Secrets[secret.Field] = "another passphrase" },
		"other volume": func(b *bench, r *csi.NodeStageVolumeRequest) {
			_, r.PublishContext[kms.MetadataKey], _ = keys.New(b.t.Context(), b.code+"x", kms.Use{Secrets: secrets})
		},
		"nonsense": func(_ *bench, r *csi.NodeStageVolumeRequest) { r.PublishContext[kms.MetadataKey] = "{" },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.Keys = keys
			_, record, err := keys.New(t.Context(), b.code, kms.Use{Secrets: secrets})
			require.NoError(t, err)
			err = b.stageWith(func(r *csi.NodeStageVolumeRequest) {
				r.PublishContext[kms.MetadataKey], r.VolumeContext[EncryptedContext] = record, "true"
				change(b, r)
			})
			require.Equal(t, codes.FailedPrecondition, server.Code(err))
			require.NotContains(t, err.Error(), encryptionKey)
			b.leavesNothing()
		})
	}
}

// An image that the driver did not make, and that holds something, is not formatted.
func TestForeignImageIsNotFormatted(t *testing.T) {
	b := newBench(t)
	b.host.Foreign = map[string]bool{"/dev/fake1": true, "/dev/fake2": true}
	err := b.stageWith(func(*csi.NodeStageVolumeRequest) {})
	require.Equal(t, codes.FailedPrecondition, server.Code(err))
	require.NoError(t, b.unstage())
	b.leavesNothing()
	require.NoError(t, b.stageWith(func(r *csi.NodeStageVolumeRequest) { r.VolumeContext[provisionedContext] = "provisioner" }))
}

// A filesystem is made to fill its device each time that it is staged to write,
// also when the plugin died right before that.
func TestStagedFilesystemFillsItsDevice(t *testing.T) {
	b := newBench(t)
	fills := 0
	b.host.FailWith(func(call string) error {
		if call != "Fill" {
			return nil
		}
		if fills++; fills == 1 {
			return errCrash
		}
		return nil
	})
	require.ErrorIs(t, b.stage(mountCapability(writer)), errCrash)
	require.NoError(t, b.stage(mountCapability(writer)))
	require.Equal(t, 2, fills)
	require.NoError(t, b.unstage())
	require.NoError(t, b.stage(mountCapability(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY)))
	require.NoError(t, b.unstage())
	require.NoError(t, b.stage(blockCapability(writer)))
	require.Equal(t, 2, fills)
}

// Volumes beyond 16 TiB are counted right.
func TestLargeVolume(t *testing.T) {
	b := newBench(t)
	const size = 40 << 40
	require.NoError(t, b.conn.GrowImage(t.Context(), b.ref, size))
	b.host.Sizes = func(string) int64 { return size }
	require.NoError(t, b.stage(blockCapability(writer)))
	require.NoError(t, b.publish("target", blockCapability(writer)))
	stats, err := b.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: b.code, VolumePath: b.path("target")})
	require.NoError(t, err)
	require.Equal(t, int64(size), stats.GetUsage()[0].GetTotal())
	require.NoError(t, b.conn.GrowImage(t.Context(), b.ref, 2*size))
	grown, err := b.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: b.code, VolumePath: b.path("target"),
		CapacityRange: &csi.CapacityRange{RequiredBytes: 2 * size}})
	require.NoError(t, err)
	require.Equal(t, int64(2*size), grown.GetCapacityBytes())
}

// Two nodes read one volume at once, and neither takes its lock.
func TestReadOnlyOnTwoNodes(t *testing.T) {
	b := newBench(t)
	other := newBench(t)
	other.Attacher, other.code = &fakeattach.Attacher{Connector: b.attacher.Connector}, b.code
	c := mountCapability(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY)
	require.NoError(t, b.stage(c))
	require.NoError(t, other.stage(c))
	require.NoError(t, b.publish("target", c))
	require.NoError(t, other.publish("target", c))
}

func TestTopology(t *testing.T) {
	b := newBench(t)
	ask := func() (map[string]string, error) {
		info, err := b.NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
		return info.GetAccessibleTopology().GetSegments(), err
	}
	segments, err := ask()
	require.NoError(t, err)
	require.Equal(t, map[string]string{identity.TopologyPrefix + "host": "node-1"}, segments)

	b.Labels = func(ctx context.Context) (map[string]string, error) {
		_, bounded := ctx.Deadline()
		require.True(t, bounded)
		return map[string]string{"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r", "kubernetes.io/hostname": "h", "other": "o"}, nil
	}
	segments, err = ask()
	require.NoError(t, err)
	require.Equal(t, map[string]string{identity.TopologyPrefix + "host": "h", identity.TopologyPrefix + "zone": "z", identity.TopologyPrefix + "region": "r"}, segments)

	b.Labels = func(context.Context) (map[string]string, error) { return nil, errors.New("no API server") }
	_, err = ask()
	require.Equal(t, codes.Unavailable, server.Code(err))
}

// A volume that asks for it is read from the nearest replica; that nobody can tell
// which that is does not keep it from its pod.
func TestReadAffinity(t *testing.T) {
	c := mountCapability(csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER)
	labels := map[string]string{"topology.kubernetes.io/zone": "z.1", "topology.cairn.storage/rack": "r", "other": "o"}
	for near, test := range map[string]struct {
		asks   string
		failed error
	}{
		"zone=z-1 rack=r host=node-1": {asks: "true"},
		"":                            {asks: "false"},
		" ":                           {asks: "true", failed: errors.New("no API server")},
	} {
		b := newBench(t)
		b.Labels = func(context.Context) (map[string]string, error) { return labels, test.failed }
		_, err := b.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{VolumeId: b.code, StagingTargetPath: b.path("staging"), VolumeCapability: c,
			VolumeContext: map[string]string{NearContext: test.asks}})
		require.NoError(t, err)
		require.Equal(t, strings.TrimSpace(near), b.attacher.Volume(b.code).Near)
	}
}

// Kubelet gives the label of an SELinux volume as an option of the mount, quoted.
func TestSELinuxLabelReachesTheMount(t *testing.T) {
	b := newBench(t)
	c := mountCapability(csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER)
	const label = `context="system_u:object_r:container_file_t:s0:c1,c2"`
	c.GetMount().MountFlags = []string{"noatime", label}
	require.NoError(t, b.stage(c))
	require.NoError(t, b.publish("target", c))
	mounts, err := b.host.List()
	require.NoError(t, err)
	require.Len(t, mounts, 2)
	require.Equal(t, []string{"noatime", label}, mounts[0].Opts)
	require.Equal(t, []string{"bind"}, mounts[1].Opts, "which has the label of what it is bound to")

	c.GetMount().MountFlags = []string{label[:len(label)-1] + `",dev`}
	require.Equal(t, codes.InvalidArgument, server.Code(b.stage(c)))
}
