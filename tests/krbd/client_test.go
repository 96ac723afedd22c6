package krbd

import (
	"path/filepath"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// testExclusive does not stage a volume that another client has open, with the
// image's lock or without.
func testExclusive(b *bench) {
	v := b.volume(64*mib, block(writer))
	for _, exclusive := range []bool{true, false} {
		image, err := b.conn.OpenImage(b.Context(), v.ref(), ceph.OpenOptions{Exclusive: exclusive})
		require.NoError(b, err)
		err = v.stage()
		require.Equal(b, codes.FailedPrecondition, status.Code(err), "%v", err)
		require.ErrorContains(b, err, "another client has the image open")
		b.Log(err)
		require.Empty(b, b.run("ls", "/sys/bus/rbd/devices"), "it does not stay mapped")
		require.NoError(b, v.unstage())
		require.NoError(b, image.Close())
	}
	v.use()
	v.end()
}

// testSnapshot takes a snapshot of a volume while it is written to.
func testSnapshot(b *bench) {
	v := b.volume(64*mib, block(writer))
	v.use()
	v.verify(v.target, func() {
		resp, err := b.controller.CreateSnapshot(b.Context(), &csi.CreateSnapshotRequest{Name: "snapshot-1", SourceVolumeId: v.id})
		require.NoError(b, err)
		_, err = b.controller.DeleteSnapshot(b.Context(), &csi.DeleteSnapshotRequest{SnapshotId: resp.GetSnapshot().GetSnapshotId()})
		require.NoError(b, err)
	})
	v.end()
}

// mapAgain maps a volume's image by a second client of the guest's kernel.
func (b *bench) mapAgain(v *volume, options string) error {
	monHost := strings.TrimSuffix(strings.TrimPrefix(b.cluster.MonHost, "v2:"), "/0")
	return b.sysfs("add_single_major", monHost+" name="+b.user+",secret="+b.key+",noshare,ms_mode=prefer-crc,"+options+" "+pool+" "+v.ref().Name+" -")
}

// sysfs writes to a file of the kernel's RBD bus.
func (b *bench) sysfs(file, text string) error {
	_, err := b.machine.Feed(b.Context(), text, "dd", "of=/sys/bus/rbd/"+file, "bs=64k", "status=none")
	return err
}

// testReadOnly stages a volume read-only for many nodes.
func testReadOnly(b *bench) {
	v := b.volume(64*mib, filesystem("ext4", writer))
	v.use()
	b.run("sh", "-c", "echo kept >"+v.target+"/file; sync")
	require.NoError(b, v.unpublish())
	require.NoError(b, v.unstage())

	v.capability = filesystem("ext4", reader)
	v.use()
	require.Equal(b, "1", b.run("cat", "/sys/block/rbd0/ro"))
	require.Equal(b, "kept", b.run("cat", v.target+"/file"))
	_, err := b.machine.Run(b.Context(), "touch", v.target+"/other")
	require.ErrorContains(b, err, "Read-only")
	require.NoError(b, b.mapAgain(v, "ro"), "another node may read it too")
	require.NoError(b, b.sysfs("remove_single_major", "1"))
	b.kill("KILL")
	b.start()
	require.NoError(b, v.stage(), "a plugin that starts anew knows what it staged")
	v.end()
}

// testFirstToRead reads a snapshot of a filesystem that is mounted meanwhile: its log
// is replayed first, unless another client has the image open to write.
func testFirstToRead(b *bench, kind string) {
	v := b.volume(320*mib, filesystem(kind, writer))
	v.use()
	b.run("sh", "-c", "echo synced >"+v.target+"/file; sync "+v.target+"/file")
	r := v.toRead(640 * mib)
	image, err := b.conn.OpenImage(b.Context(), r.ref(), ceph.OpenOptions{})
	require.NoError(b, err)
	err = r.stage()
	require.Equal(b, codes.Aborted, status.Code(err), "%v", err)
	require.ErrorContains(b, err, "replays the log")
	b.Log(err)
	require.NoError(b, image.Close())

	r.use()
	require.Equal(b, "1", b.run("cat", "/sys/block/rbd1/ro"))
	require.Equal(b, "synced", b.run("cat", r.target+"/file"))
	require.NotContains(b, b.run("grep", r.target, "/proc/mounts"), "norecovery")
	require.Greater(b, r.total(), int64(500*mib))
	require.NoError(b, r.unpublish())
	require.NoError(b, r.unstage())
	_, err = b.controller.DeleteVolume(b.Context(), &csi.DeleteVolumeRequest{VolumeId: r.id})
	require.NoError(b, err)
	v.end()
}

// toRead makes a volume to read only, from a snapshot of another as it is now.
func (v *volume) toRead(size int64) *volume {
	v.Helper()
	name := filepath.Base(v.ref().Name)
	snapshot, err := v.controller.CreateSnapshot(v.Context(), &csi.CreateSnapshotRequest{Name: name + "-snapshot", SourceVolumeId: v.id})
	require.NoError(v, err)
	r := *v
	r.capability = filesystem(v.capability.GetMount().GetFsType(), reader)
	r.staging, r.target = filepath.Join(kubelet, "plugins", name+"-read", "globalmount"), filepath.Join(kubelet, "pods", name+"-read", "mount")
	resp, err := v.controller.CreateVolume(v.Context(), &csi.CreateVolumeRequest{
		Name: name + "-read", CapacityRange: &csi.CapacityRange{RequiredBytes: size}, VolumeCapabilities: []*csi.VolumeCapability{r.capability},
		Parameters: map[string]string{"clusterID": v.cluster.FSID, "pool": pool},
		VolumeContentSource: &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
			Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: snapshot.GetSnapshot().GetSnapshotId()}}}})
	require.NoError(v, err)
	r.id = resp.GetVolume().GetVolumeId()
	return &r
}

// testDiscard gives space back to the cluster.
func testDiscard(b *bench) {
	v := b.volume(128*mib, filesystem("ext4", writer))
	v.use()
	b.run("dd", "if=/dev/urandom", "of="+v.target+"/file", "bs=1M", "count=32", "conv=fsync", "status=none")
	full := v.used()
	require.Greater(b, full, int64(32*mib))
	// What was removed is free when the journal says so.
	b.run("rm", v.target+"/file")
	b.run("sync")
	b.run("fstrim", v.target)
	require.Less(b, v.used(), full-30*mib)
	v.end()
}

// used is how many bytes of the image there are.
func (v *volume) used() int64 {
	v.Helper()
	return bytesUsed(v.bench, v.ref().Name)
}

// testLimits holds the pods of a running volume to limits that are given, changed and
// taken away meanwhile.
func testLimits(b *bench) {
	const pods = "/sys/fs/cgroup/kubepods.slice"
	b.run("sh", "-c", "mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup; mkdir -p "+pods+"/pod")
	v := b.volume(64*mib, block(writer))
	limit := func(parameters map[string]string) {
		_, err := b.controller.ControllerModifyVolume(b.Context(), &csi.ControllerModifyVolumeRequest{VolumeId: v.id, MutableParameters: parameters})
		require.NoError(b, err)
	}
	limit(map[string]string{"iops": "50", "writeBandwidth": "1Mi"})
	v.use()
	number := b.run("cat", "/sys/block/rbd0/dev")
	require.Equal(b, number+" rbps=max wbps=1048576 riops=50 wiops=50", b.run("cat", pods+"/io.max"))
	write := func() string {
		return b.run("sh", "-c", "echo $$ >"+pods+"/pod/cgroup.procs; exec dd if=/dev/zero of="+v.target+" bs=4k count=100 oflag=direct 2>&1 | tail -1")
	}
	b.Logf("at 50 writes a second: %s", write())
	// The kernel leaves out a device without limits.
	for _, to := range []struct {
		parameters map[string]string
		want       string
	}{
		{map[string]string{"writeIOPS": "20"}, number + " rbps=max wbps=max riops=max wiops=20"},
		{nil, ""},
	} {
		limit(to.parameters)
		require.Eventually(b, func() bool { return b.run("cat", pods+"/io.max") == to.want }, 2*time.Minute, time.Second, "%v: %s", to, b.log())
	}
	b.Logf("without limits: %s", write())
	v.end()
}

// testBusy cannot unstage a device that is in use, says so, and can when it is not.
func testBusy(b *bench) {
	v := b.volume(64*mib, block(writer))
	v.use()
	require.NoError(b, v.unpublish())
	holder := b.run("sh", "-c", "sleep 1000 </dev/rbd0 >/dev/null 2>&1 & echo $!")
	err := v.unstage()
	require.Equal(b, codes.FailedPrecondition, status.Code(err), "%v", err)
	require.ErrorContains(b, err, "/dev/rbd0")
	b.Log(err)
	b.end(holder, "KILL")
	v.end()
}

// testKeys meets a key that this kernel does not know.
func testKeys(b *bench) {
	v := b.volume(64*mib, block(writer))
	b.credentials("aes256k")
	err := v.stage()
	require.Equal(b, codes.FailedPrecondition, status.Code(err), "%v", err)
	require.ErrorContains(b, err, "aes256k")
	b.Log(err)
	b.credentials("aes")
	v.use()
	v.end()
}

// testUnknown asks for what is not there, or is not allowed.
func testUnknown(b *bench) {
	v := b.volume(64*mib, block(writer))
	_, err := b.controller.DeleteVolume(b.Context(), &csi.DeleteVolumeRequest{VolumeId: v.id})
	require.NoError(b, err)
	err = v.stage()
	require.Equal(b, codes.NotFound, status.Code(err), "%v", err)
	b.Log(err)
	require.NoError(b, v.unstage())
	b.leavesNothing()
}
