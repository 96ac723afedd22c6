package disruption_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/disruption"
)

// OSDs that may run elsewhere leave a cordoned node one after the other, before the others.
func TestPortableOSDsLeaveFirstAndOneByOne(t *testing.T) {
	v := cluster()
	at(v, "0").Portable, at(v, "1").Portable = true, true
	require.Equal(t, [2]int{15, 14}, storage(decide(v, "")), "at rest")

	cordon(v, "a1")
	d := decide(v, "")
	require.Equal(t, "osd.0", disruption.List(d.Opened))
	require.Equal(t, [2]int{14, 14}, storage(d))
	require.Equal(t, "osd.0 runs on another node", d.Waits)
	require.Equal(t, [2]int{15, 15}, storage(decide(v, "8 PGs would be offline")), "Ceph is asked")

	stop(v, "0")
	at(v, "0").Node = "" // its pod has no node yet
	d = decide(v, "")
	require.Empty(t, d.Opened)
	require.Equal(t, [2]int{15, 15}, storage(d))
	require.Equal(t, "osd.0 is back, and all PGs are clean", d.Waits)
	require.Empty(t, disruption.Lost(v))
	require.Empty(t, disruption.Emptied(v))
	require.Empty(t, disruption.Drained(v))

	*at(v, "0") = disruption.Daemon{Kind: "osd", Name: "0", Node: "b1", Up: true, In: true, Portable: true, Pod: pod()}
	v.Unclean = ""
	require.Equal(t, "osd.1", disruption.List(decide(v, "").Opened))
	at(v, "1").Node = "b2"
	require.Equal(t, [2]int{15, 14}, storage(decide(v, "")), "what is left may stop now")
}

func TestAMonThatStoppedDoesNotHoldPortableOSDs(t *testing.T) {
	v := cluster()
	at(v, "0").Portable, at(v, "1").Portable = true, true
	cordon(v, "a1")
	stop(v, "a")
	require.Equal(t, "osd.0", disruption.List(decide(v, "").Opened))
}

// Ceph is told to wait for the OSDs of a drained node, not for those that come back elsewhere.
func TestNoOutIsNotForPortableOSDs(t *testing.T) {
	v := cluster()
	at(v, "0").Portable = true
	cordon(v, "a1")
	stop(v, "0")
	require.Empty(t, disruption.Drained(v))
	stop(v, "1")
	v.Cluster.Status.Drained = disruption.Drained(v)
	require.Len(t, v.Cluster.Status.Drained, 1)
	at(v, "1").Up, at(v, "1").Pod = true, pod()
	require.Equal(t, []v1alpha1.DrainedNode(nil), disruption.Drained(v))
}
