package mon

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/daemonpod"
	"github.com/cairn-storage/cairn/operator/kube"
)

// Service gives a mon its stable address and records where it runs. It stays when
// the cluster is deleted, as the mon's store does: the address is in the monmap.
func Service(cluster *v1alpha1.StorageCluster, fsid string, m Mon) *corev1.Service {
	service := &corev1.Service{
		ObjectMeta: kube.Kept(cluster, ObjectName(cluster, m.Name), Component, m.Name),
		Spec: corev1.ServiceSpec{
			Selector: kube.Labels(cluster, Component, m.Name),
			// A mon must be reached before it is ready: that is how it becomes so.
			PublishNotReadyAddresses: true,
			Ports: []corev1.ServicePort{
				{Name: "msgr2", Port: PortV2, TargetPort: intstr.FromInt32(PortV2), Protocol: corev1.ProtocolTCP},
				{Name: "msgr1", Port: PortV1, TargetPort: intstr.FromInt32(PortV1), Protocol: corev1.ProtocolTCP},
			},
		},
	}
	service.Annotations[kube.AnnotationNode] = m.Node
	service.Annotations[kube.AnnotationFSID] = fsid
	service.Annotations[kube.AnnotationMembers] = strings.Join(m.Founders, ",")
	if !m.MissingSince.IsZero() {
		service.Annotations[kube.AnnotationMissing] = m.MissingSince.UTC().Format(time.RFC3339)
	}
	if OnHost(cluster) {
		service.Spec.ClusterIP = corev1.ClusterIPNone
		if m.Address != "" {
			service.Annotations[kube.AnnotationAddress] = m.Address
		}
	}
	return service
}

// OnHost reports whether mons have their nodes' addresses.
func OnHost(cluster *v1alpha1.StorageCluster) bool { return cluster.Spec.Network.Provider == "host" }

// run makes the mon's store from a map of the founders, and becomes the mon.
// ceph-mon leaves a store that is there as it is.
const run = `monmaptool --create --clobber --fsid "$FSID" --set-min-mon-release "$RELEASE" --enable-all-features $ADDV /run/cairn/monmap
ceph-mon --mkfs -i "$NAME" --mon-data "$DATA" --monmap /run/cairn/monmap --keyring /run/bootstrap/keyring
exec ceph-mon -f -i "$NAME" --mon-data "$DATA" --public-addr "$ADDRESS" --public-bind-addr `

// kept comes before what becomes the mon of a store that must be there: without one the
// mon would begin anew, and with others like it forget all that the cluster knows.
const kept = `[ -e "$DATA/store.db" ] || { echo "no store of mon $NAME at $DATA on this node, though the cluster has data: bring back the disk that had it" >&2; exit 1; }
`

// Run says how a mon is run.
type Run struct {
	// Kept: only when its store is there.
	Kept bool
	// Encrypted: it is served by version 2 of the messenger alone.
	Encrypted bool
}

func (r Run) script(m Mon) string {
	bind := `"$POD_IP"`
	switch {
	case r.Encrypted && strings.Contains(m.Address, ":"):
		bind = fmt.Sprintf(`"[$POD_IP]:%d"`, PortV2)
	case r.Encrypted:
		bind = fmt.Sprintf(`"$POD_IP:%d"`, PortV2)
	}
	if r.Kept {
		return kept + run + bind
	}
	return run + bind
}

// Deployment runs one mon on its node. live is nil for a new one: the map that a
// mon begins with is never changed, so that it is not restarted when others go.
func Deployment(cluster *v1alpha1.StorageCluster, fsid string, m Mon, mons []Mon, live *appsv1.Deployment, how Run) *appsv1.Deployment {
	data := path.Join(cluster.Spec.DataPath, cluster.Namespace, cluster.Name, "mon-"+m.Name)
	pod := daemonpod.New(cluster, Component, m.Name)
	pod.OnNode(m.Node)
	pod.HostPath("data", data, data, corev1.HostPathDirectoryOrCreate)
	pod.Secret("bootstrap", BootstrapName(cluster), "/run/bootstrap", "keyring")
	pod.EmptyDir("run", "/run/cairn")
	pod.Run([]string{"sh", "-ec", how.script(m)}, cluster.Spec.Resources.Mon,
		corev1.EnvVar{Name: "FSID", Value: fsid},
		corev1.EnvVar{Name: "RELEASE", Value: "reef"},
		corev1.EnvVar{Name: "NAME", Value: m.Name},
		corev1.EnvVar{Name: "DATA", Value: data},
		corev1.EnvVar{Name: "ADDRESS", Value: m.Address},
		corev1.EnvVar{Name: addvName, Value: firstMap(live, addv(m, mons))})
	pod.Port("msgr2", PortV2)
	pod.Port("msgr1", PortV1)
	return pod.Deployment(ObjectName(cluster, m.Name))
}

// Kept reports whether a mon runs only when its store is there.
func Kept(live *appsv1.Deployment) bool {
	return live != nil && slices.ContainsFunc(live.Spec.Template.Spec.Containers, func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Command, func(part string) bool { return strings.HasPrefix(part, kept) })
	})
}

// addvName is the variable with the map that a mon's store is made with.
const addvName = "ADDV"

func firstMap(live *appsv1.Deployment, otherwise string) string {
	if live != nil {
		for _, container := range live.Spec.Template.Spec.Containers {
			for _, env := range container.Env {
				if env.Name == addvName && env.Value != "" {
					return env.Value
				}
			}
		}
	}
	return otherwise
}

// addv are the founders as monmaptool takes them.
func addv(m Mon, mons []Mon) string {
	var args []string
	for _, founder := range m.Founders {
		for _, other := range mons {
			if other.Name == founder {
				args = append(args, fmt.Sprintf("--addv %s %s", other.Name, other.Endpoint()))
			}
		}
	}
	return strings.Join(args, " ")
}

// BootstrapName of the Secret with the keyring that mons are made with.
func BootstrapName(cluster *v1alpha1.StorageCluster) string { return cluster.Name + "-bootstrap" }
