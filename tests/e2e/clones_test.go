package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
)

// small is a pool with a quota, for what needs a pool of its own.
const small = "small"

func makesSmallPool(t *testing.T) {
	ctx := bounded(t)
	_, err := kubectl.RunWith(ctx, blockPool{name: small, spec: "quota: 1Gi"}.String(), "apply", "-f", "-")
	require.NoError(t, err)
	require.NoError(t, story.UntilReady(ctx, "blockpool/"+small))
}

// clonesOutliveTheirSources clones a volume in use, deletes it and then what was
// made from it, in the order that is hardest, and looks into the pool for what is left.
func clonesOutliveTheirSources(t *testing.T) {
	apply(t, claim{name: "source", class: small}, pod{name: "source", filesystems: []string{"source"}, script: "echo first >/source/file; sync; touch /tmp/written"})
	running(t, "source")
	written(t, "source")
	apply(t, snapshot{name: "of-source", claim: "source"})
	ready(t, "volumesnapshot", "of-source")
	in(t, "source", "echo second >/source/file; sync")
	apply(t, claim{name: "clone", class: small, from: "PersistentVolumeClaim/source"}, pod{name: "clone", filesystems: []string{"clone"}})
	running(t, "clone")
	require.Equal(t, "second", in(t, "clone", "cat /clone/file"))

	volume := volumeOf(t, "source")
	drop(t, "pod/source", "pvc/source")
	gone(t, "persistentvolume/"+volume)
	in(t, "clone", "echo third >/clone/file; sync")
	require.Equal(t, "third", in(t, "clone", "cat /clone/file"))

	apply(t, claim{name: "late", class: small, from: "VolumeSnapshot/of-source"}, pod{name: "late", filesystems: []string{"late"}})
	running(t, "late")
	require.Equal(t, "first", in(t, "late", "cat /late/file"), "the snapshot outlives its volume")
	apply(t, claim{name: "grandchild", class: small, from: "PersistentVolumeClaim/clone"}, pod{name: "grandchild", filesystems: []string{"grandchild"}})
	running(t, "grandchild")
	drop(t, "volumesnapshot/of-source", "pod/clone", "pvc/clone")
	require.Equal(t, "third", in(t, "grandchild", "cat /grandchild/file"))
	require.Equal(t, "first", in(t, "late", "cat /late/file"))

	keepsItsBytesAtRest(t, "late", "first")
	require.NotEmpty(t, leftIn(t, small), "the check sees what is there")
	drop(t, "pod/late", "pod/grandchild", "pvc/late", "pvc/grandchild")
	nothingLeftIn(t, small)
}

// keepsItsBytesAtRest takes a volume from its pod, makes and removes all the
// snapshots that it has, and lets the pod look at it again.
func keepsItsBytesAtRest(t *testing.T, name, holds string) {
	drop(t, "pod/"+name)
	apply(t, snapshot{name: "at-rest", claim: name})
	ready(t, "volumesnapshot", "at-rest")
	content, err := kubectl.Get(bounded(t), namespace, "volumesnapshot/at-rest", "{.status.boundVolumeSnapshotContentName}")
	require.NoError(t, err)
	drop(t, "volumesnapshot/at-rest")
	gone(t, "volumesnapshotcontent/"+content)
	apply(t, pod{name: name, filesystems: []string{name}})
	running(t, name)
	require.Equal(t, holds, in(t, name, "cat /"+name+"/file"))
}

// written waits until a pod's script has come to its end.
func written(t *testing.T, pod string) {
	t.Helper()
	require.NoError(t, kubectl.Until(bounded(t), pod+" to have written", func() (bool, string) {
		_, err := tryIn(t, pod, "test -e /tmp/written")
		return err == nil, ""
	}))
}

// volumeOf is the PersistentVolume of a claim.
func volumeOf(t *testing.T, claim string) (name string) {
	t.Helper()
	require.NoError(t, kubectl.Until(bounded(t), claim+" to be bound", func() (bool, string) {
		var err error
		name, err = kubectl.Get(bounded(t), namespace, "pvc/"+claim, "{.spec.volumeName}")
		return err == nil && name != "", name
	}))
	return name
}

// gone waits until an object is no more.
func gone(t *testing.T, object string) {
	t.Helper()
	require.NoError(t, kubectl.Until(bounded(t), object+" to be gone", func() (bool, string) {
		left, err := kubectl.Run(bounded(t), "-n", namespace, "get", object, "--ignore-not-found", "-o", "name")
		return err == nil && left == "", left
	}))
}
