// Package e2e runs Cairn's main job and its faults on the lab: a real
// Kubernetes, a real Ceph, real volumes with real bytes checked afterwards.
package e2e

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
	"github.com/cairn-storage/cairn/tests/lab"
)

// limit of each test: a wait that is not over by then says what it waits for.
const limit = 10 * time.Minute

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// Test brings up a fresh lab, and runs everything on it in order: later parts
// use the cluster that earlier parts made. CAIRN_E2E_KEEP=1 takes the lab that is
// there and leaves it, for work on one part: -run 'Test/a_part'.
func Test(t *testing.T) {
	keep := os.Getenv("CAIRN_E2E_KEEP") != ""
	if !keep {
		require.NoError(t, lab.Down(bounded(t)))
	}
	t.Cleanup(func() {
		if t.Failed() {
			describe(t)
		}
		if !keep {
			require.NoError(t, lab.Down(context.WithoutCancel(t.Context())), "the lab leaves nothing")
		}
	})
	for _, part := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"the lab and Cairn start", theStory("three-node Kubernetes", "install Cairn (one manifest)")},
		{"devices that hold data are refused, with the reason", refusesDevices},
		{"a device that does not exist is named, with its node and what to do", namesTheMissingDevice},
		{"the main job", theStory("StorageCluster: 3 mons, 2 mgrs, 3 OSDs", "BlockPool and its StorageClass",
			"PostgreSQL on a claim, with data", "pod moves to another node, data intact", "one OSD is killed, writes go on",
			"a disk is added by editing the resource", "the claim is expanded online")},
		{"the main job again changes nothing", theStory("install Cairn (one manifest)", "StorageCluster: 3 mons, 2 mgrs, 3 OSDs", "BlockPool and its StorageClass")},
		{"kubectl get reads well", readsWell},
		{"filesystems and raw block volumes of every kind", everyVolumeKind},
		{"snapshots are installed", installsSnapshots},
		{"a snapshot of a database under load is how its ledger began", snapshotIsAPrefix},
		{"group snapshots of a database and its log are consistent", groupsAreConsistent},
		{"a backup learns which blocks changed", tellsChangedBlocks},
		{"a pool with a quota", makesSmallPool},
		{"clones and snapshots outlive their sources, and leave nothing", clonesOutliveTheirSources},
		{"capacity is told to the scheduler and in refusals", capacityIsTold},
		{"a pool's volumes are used in its zone only", staysInItsZone},
		{"limits change running pods", limitsChangeRunningPods},
		{"two nodes read one volume", readsFromTwoNodes},
		{"two nodes write to one raw volume", writesFromTwoNodes},
		{"a volume for one pod", onePodOnly},
		{"read-only mounts, groups and mount options", mountsAsAsked},
		{"ephemeral volumes go with their pod", ephemeralVolumesGoWithTheirPod},
		{"an image that was there before becomes a volume", existingImagesCanBeUsed},
		{"encrypted volumes", encryptedVolumes},
		{"killed processes of the driver lose nothing under I/O", killsUnderIO},
		{"an update of the driver loses nothing under I/O", updateUnderIO},
		{"options of Ceph are checked, and restart only what must restart", setsOptions},
		{"keys are made anew, and the old ones refused", makesKeysAnew},
		{"connections are encrypted, and not any more, under I/O", encryptsConnections},
		{"the plan of an edit is shown before it is made", showsThePlan},
		{"an OSD gets half its weight, and that of its size again", weighsAnOSD},
		{"a disk grows, and its OSD takes its share of the data", growsADisk},
		{"a disk taken out of the resource leaves once its data is elsewhere", takesADiskOut},
		{"a dead disk is named, and a new one takes its OSD's ID and place", replacesADisk},
		{"a disk that is moved to another node takes its OSD along", movesADisk},
		{"a disk with its database on another device joins and leaves", givesAnOSDADatabase},
		{"mons are taken away and added", changesTheMons},
		{"a quorum lost for ever is rebuilt from one mon", rebuildsTheQuorum},
		{"a quorum of which no store is left is rebuilt from the OSDs", rebuildsFromOSDs},
		{"a node is drained, and a second one only after it", drainsANode},
		{"a node is shut down without a drain, and has on its next start what was written meanwhile", restartsANode},
		{"a node that falls silent is named, and another gets its mon", noticesASilentNode},
		{"a node that is cut off, keys that are gone and a mon that is killed", namesTroubles},
		{"a pool is changed", changesAPool},
		{"an OSD on a claim moves to another node, and takes its data along", movesAnOSDOnAClaim},
		{"an erasure-coded pool loses nothing when OSDs die under I/O", erasureCodedPool},
		{"an upgrade of Ceph loses nothing under I/O", upgradesCeph},
		{"deleting what is in use is refused, with what uses it", deletionIsRefused},
		{"the destruction of all data has to be confirmed", confirmsDestruction},
		{"claims that are deleted leave nothing", deletedClaimsLeaveNothing},
		{"a destroyed cluster leaves nothing, and a new one takes its disks", destroysACluster},
		{"a cluster that was deleted with Retain comes back with its data", adoptsACluster},
	} {
		if !t.Run(part.name, part.run) && !keep {
			return
		}
	}
}

// theStory runs steps of the demo.
func theStory(names ...string) func(t *testing.T) {
	return func(t *testing.T) {
		for _, name := range names {
			step := find(t, name)
			t.Run(name, func(t *testing.T) {
				saw, err := step.Do(bounded(t))
				require.NoError(t, err)
				t.Log(saw)
			})
		}
	}
}

func find(t *testing.T, name string) story.Step {
	for _, step := range story.Steps() {
		if step.Name == name {
			return step
		}
	}
	t.Fatalf("the story has no step %q", name)
	return story.Step{}
}

// describe prints what a person would look at first: little of it, because what is
// printed last is what is read.
func describe(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	for _, args := range [][]string{
		{"-n", kubectl.Namespace, "logs", "deployment/cairn-operator", "--tail=15", "--all-pods"},
		{"get", "pvc,pv,volumeattachment", "-A"},
		{"get", "events", "-A", "--sort-by=.lastTimestamp", "--field-selector=type=Warning,reason!=MissingClusterDNS"},
		{"get", "pods", "-A", "-o", "wide"},
		{"get", "storagecluster,blockpool,nodestorage", "-A"},
	} {
		out, err := kubectl.Run(ctx, args...)
		lines := slices.DeleteFunc(strings.Split(out, "\n"), func(line string) bool { return atRest.MatchString(line) })
		t.Logf("kubectl %v: %v\n%s", args, err, last(strings.Join(lines, "\n"), 3000))
	}
	operators, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "get", "pods", "-l", "app.kubernetes.io/name=cairn-operator", "-o", "name")
	assert.NoError(t, err)
	for _, pod := range strings.Fields(operators) {
		metrics, err := kubectl.Run(ctx, "get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:8080/proxy/metrics", kubectl.Namespace, strings.TrimPrefix(pod, "pod/")))
		t.Logf("%s, reconciles under way: %v %v", pod, err, underWay.FindAllString(metrics, -1))
	}
	nodes, err := lab.Nodes()
	assert.NoError(t, err)
	for _, node := range nodes {
		out, err := node.Exec(ctx, "ps", "-eo", "pid,ppid,etimes,stat,wchan:32,args")
		lines := slices.DeleteFunc(strings.Split(out, "\n"), func(line string) bool { return !works.MatchString(line) })
		t.Logf("%s, processes that may hang: %v\n%s", node.Name, err, last(strings.Join(lines, "\n"), 1500))
	}
}

var (
	// underWay tells for how many seconds a reconcile runs.
	underWay = regexp.MustCompile(`workqueue_longest_running_processor_seconds\{controller="\w+".*`)
	// atRest is a pod that runs or has ended, of which nothing needs to be known.
	atRest = regexp.MustCompile(`\s((1/1|2/2|3/3|4/4|5/5|6/6|7/7)\s+Running|0/1\s+Completed)\s`)
	// works is a process of a Job on stores and disks, or one that waits for a device.
	works = regexp.MustCompile(`ceph-(objectstore|monstore|kvstore|bluestore)-?tool|cairn-daemon (mon|osd)|\sD\S*\s`)
)

func last(text string, n int) string { return text[max(0, len(text)-n):] }
