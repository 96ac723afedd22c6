package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mon"
)

func TestAMonWithoutItsStoreBeginsAnewOnlyWhileOthersHaveAQuorum(t *testing.T) {
	s := running(t)
	require.Equal(t, []string{"a", "b", "c"}, s.members())
	lacks := func(name string) {
		for i := range s.Pods {
			if pod := &s.Pods[i]; pod.Labels[kube.LabelComponent] == mon.Component && pod.Labels[kube.LabelInstance] == name {
				ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: mon.NoStore + " " + name + " at /var/lib/cairn"}}
				pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: ended}}
			}
		}
	}
	s.Ceph.Status.Quorum = []string{"a", "b"}
	require.Equal(t, []string{"a", "b", "c"}, s.members(), "it is only out of quorum")
	lacks("c")
	require.Equal(t, []string{"a", "b"}, s.members(), "it learns from the others")
	s.Ceph = nil
	for _, name := range []string{"a", "b"} {
		lacks(name)
	}
	require.Equal(t, []string{"a", "b", "c"}, s.members(), "there is nobody to learn from")
}
