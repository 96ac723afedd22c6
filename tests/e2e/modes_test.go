package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
)

// readsFromTwoNodes has two nodes read, at once, a volume made from a snapshot of a
// filesystem that is mounted meanwhile.
func readsFromTwoNodes(t *testing.T) {
	for _, filesystem := range []string{"ext4", "xfs"} {
		t.Run(filesystem, func(t *testing.T) { readsWhatWasSynced(t, filesystem) })
	}
}

func readsWhatWasSynced(t *testing.T, filesystem string) {
	origin, rox := "origin-"+filesystem, "rox-"+filesystem
	apply(t, class{name: rox, fsid: fsid(t), filesystem: filesystem}, claim{name: origin, class: rox},
		pod{name: origin, filesystems: []string{origin}, script: fmt.Sprintf("echo published >/%[1]s/file; sync /%[1]s/file; touch /tmp/written", origin)})
	running(t, origin)
	written(t, origin)
	apply(t, snapshot{name: rox, claim: origin})
	ready(t, "volumesnapshot", rox)
	pods := []string{rox + "-1", rox + "-2"}
	apply(t, claim{name: rox, class: rox, size: "1Gi", access: "ReadOnlyMany", from: "VolumeSnapshot/" + rox},
		pod{name: pods[0], node: "node1", filesystems: []string{rox}, readOnly: true}, pod{name: pods[1], node: "node2", filesystems: []string{rox}, readOnly: true})
	running(t, pods...)
	for _, pod := range pods {
		require.Equal(t, "published", in(t, pod, "cat /"+rox+"/file"))
		require.NotContains(t, in(t, pod, "grep ' /"+rox+" ' /proc/mounts"), "norecovery")
		size, err := strconv.ParseInt(in(t, pod, "df --output=size -B1 /"+rox+" | tail -1 | tr -d ' '"), 10, 64)
		require.NoError(t, err)
		require.Greater(t, size, int64(800<<20), "the filesystem fills the volume, which is larger than the snapshot")
		refusesWrites(t, pod, "/"+rox+"/file")
	}
}

// detached waits until no node has a claim's volume.
func detached(t *testing.T, claim string) {
	t.Helper()
	attachment := fmt.Sprintf(`{.items[?(@.spec.source.persistentVolumeName=="%s")].metadata.name}`, volumeOf(t, claim))
	require.NoError(t, kubectl.UntilField(bounded(t), "", "volumeattachments", attachment, ""))
}

func refusesWrites(t *testing.T, pod, file string) {
	t.Helper()
	_, err := tryIn(t, pod, "echo x >>"+file)
	require.ErrorContains(t, err, "Read-only file system")
}

// writesFromTwoNodes has two nodes write to a raw volume in turn, and each read
// what the other wrote.
func writesFromTwoNodes(t *testing.T) {
	apply(t, claim{name: "rwx", access: "ReadWriteMany", block: true},
		pod{name: "rwx1", node: "node1", devices: []string{"rwx"}}, pod{name: "rwx2", node: "node2", devices: []string{"rwx"}})
	running(t, "rwx1", "rwx2")
	for i, turn := range [][2]string{{"rwx1", "rwx2"}, {"rwx2", "rwx1"}, {"rwx1", "rwx2"}} {
		text := fmt.Sprintf("turn %d of %s", i, turn[0])
		in(t, turn[0], "printf '%-4096s' '"+text+"' | dd of=/dev/rwx oflag=direct,sync conv=notrunc bs=4096 count=1 iflag=fullblock status=none")
		require.Equal(t, text, strings.TrimSpace(in(t, turn[1], "dd if=/dev/rwx iflag=direct bs=4096 count=1 status=none")))
	}
}

// onePodOnly sees a second pod wait for a volume that is for one pod.
func onePodOnly(t *testing.T) {
	apply(t, claim{name: "rwop", access: "ReadWriteOncePod"}, pod{name: "rwop1", filesystems: []string{"rwop"}})
	running(t, "rwop1")
	apply(t, pod{name: "rwop2", filesystems: []string{"rwop"}})
	t.Log(event(t, "Pod/rwop2", "FailedScheduling", "ReadWriteOncePod"))
	drop(t, "pod/rwop1")
	running(t, "rwop2")
}

// mountsAsAsked sees read-only mounts, groups and mount options in the pod.
func mountsAsAsked(t *testing.T) {
	apply(t, class{name: "noatime", fsid: fsid(t), filesystem: "ext4", options: "noatime, errors=remount-ro"},
		claim{name: "grouped"}, pod{name: "grouped", filesystems: []string{"grouped"}, security: "runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000"},
		claim{name: "options", class: "noatime"}, pod{name: "options", filesystems: []string{"options"}, script: "echo here >/options/file; sync; touch /tmp/written"})
	running(t, "grouped", "options")
	in(t, "grouped", "echo x >/grouped/file")
	require.Equal(t, "2000 2000", in(t, "grouped", "stat -c %g /grouped /grouped/file | xargs"))
	mount := in(t, "options", "grep ' /options ' /proc/mounts")
	require.Contains(t, mount, " ext4 ")
	require.Contains(t, mount, "noatime")
	require.Contains(t, mount, "errors=remount-ro")
	written(t, "options")
	drop(t, "pod/options")
	apply(t, pod{name: "reader", filesystems: []string{"options"}, readOnly: true})
	running(t, "reader")
	require.Equal(t, "here", in(t, "reader", "cat /options/file"))
	refusesWrites(t, "reader", "/options/file")
}

// ephemeralVolumesGoWithTheirPod makes a volume for one pod.
func ephemeralVolumesGoWithTheirPod(t *testing.T) {
	apply(t, pod{name: "ephemeral", filesystems: []string{"scratch"}, volumes: fmt.Sprintf(
		"{name: scratch, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], storageClassName: %s, resources: {requests: {storage: 512Mi}}}}}}", story.Pool)})
	running(t, "ephemeral")
	in(t, "ephemeral", "echo x >/scratch/file; sync")
	volume := volumeOf(t, "ephemeral-scratch")
	drop(t, "pod/ephemeral")
	gone(t, "pvc/ephemeral-scratch")
	gone(t, "pv/"+volume)
}

// existingImagesCanBeUsed gives a pod an image that the driver did not make, and
// leaves it where it is.
func existingImagesCanBeUsed(t *testing.T) {
	inCeph(t, "rbd create "+story.Pool+"/legacy --size 64M")
	pool, err := kubectl.Get(bounded(t), kubectl.Namespace, "blockpool/"+story.Pool, "{.status.poolID}")
	require.NoError(t, err)
	applyText(t, fmt.Sprintf(`
apiVersion: v1
kind: PersistentVolume
metadata: {name: legacy}
spec:
  capacity: {storage: 64Mi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: ""
  claimRef: {namespace: %s, name: legacy}
  csi:
    driver: block.csi.cairn.storage
    volumeHandle: 1.%s.%s..legacy
    volumeAttributes: {pool: %s}
    fsType: ext4
`, namespace, strings.ReplaceAll(fsid(t), "-", ""), pool, story.Pool))
	apply(t, claim{name: "legacy", class: `""`, size: "64Mi", more: "  volumeName: legacy\n"}, pod{name: "legacy", filesystems: []string{"legacy"}})
	running(t, "legacy")
	in(t, "legacy", "echo x >/legacy/file; sync")
	drop(t, "pod/legacy", "pvc/legacy", "pv/legacy")
	inCeph(t, "rbd info "+story.Pool+"/legacy && rbd rm --no-progress "+story.Pool+"/legacy")
}
