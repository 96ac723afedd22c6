package mon

import (
	"cmp"
	"fmt"
	"path"
	"strconv"
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
	if m.Joined {
		service.Annotations[kube.AnnotationJoined] = "true"
	}
	if m.Apart.Run != "" {
		service.Annotations[kube.AnnotationApart] = fmt.Sprintf("%d@%s", m.Apart.ID, m.Apart.Run)
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

// run makes the mon's store from a map of the founders, and becomes the mon. ceph-mon
// leaves a store that is there as it is. A mon that was in quorum does not begin anew:
// two that do, while the third is away, would be a majority that knows nothing. Nor does
// it go on with the store of another cluster of this name: the mons' own key never changes,
// and one with another is left out of the quorum without a word.
const run = `if [ ! -e "$DATA/store.db" ]; then case " $(cat /run/bootstrap/joined) " in *" $NAME "*)
	echo "no store of mon $NAME at $DATA on this node, though it was in quorum: bring back the disk that had it, or wait until another mon takes its place" >&2; exit 1;;
esac; fi
if [ -e "$DATA/keyring" ]; then
	while read -r word is value; do if [ "$word" = key ]; then key="$value"; fi; done <"$DATA/keyring"
	case "$(cat /run/bootstrap/keyring)" in *"$key"*) ;; *)
		echo "the store at $DATA on this node is another cluster's: its mons have another key. When that cluster is gone for ever, move the directory away; else restore the Secrets and Services of that cluster, which has its data here" >&2; exit 1;;
	esac
fi
monmaptool --create --clobber --fsid "$FSID" --set-min-mon-release "$RELEASE" --enable-all-features $ADDV /run/cairn/monmap
ceph-mon --mkfs -i "$NAME" --mon-data "$DATA" --monmap /run/cairn/monmap --keyring /run/bootstrap/keyring
exec ceph-mon -f -i "$NAME" --mon-data "$DATA" --mon-globalid-prealloc "$CLIENT_IDS" --public-addr "$ADDRESS" --public-bind-addr `

// script becomes the mon; one whose connections are encrypted is served by version 2 of
// the messenger alone.
func script(m Mon, encrypted bool) string {
	bind := `"$POD_IP"`
	switch {
	case encrypted && strings.Contains(m.Address, ":"):
		bind = fmt.Sprintf(`"[$POD_IP]:%d"`, PortV2)
	case encrypted:
		bind = fmt.Sprintf(`"$POD_IP:%d"`, PortV2)
	}
	return run + bind
}

// Deployment runs one mon on its node. live is nil for a new one: the map that a
// mon begins with is never changed, so that it is not restarted when others go.
func Deployment(cluster *v1alpha1.StorageCluster, fsid string, m Mon, mons []Mon, live *appsv1.Deployment, encrypted bool) *appsv1.Deployment {
	data := path.Join(cluster.Spec.DataPath, cluster.Namespace, cluster.Name, "mon-"+m.Name)
	pod := daemonpod.New(cluster, Component, m.Name)
	// The OSDs of a node that is drained say goodbye to any mon. What they tell one that ends with them
	// is lost, and Ceph finds out that they are gone only after osd_heartbeat_grace.
	pod.ServesOn(5)
	pod.OnNode(m.Node)
	pod.HostPath("data", data, data, corev1.HostPathDirectoryOrCreate)
	pod.Secret("bootstrap", BootstrapName(cluster), "/run/bootstrap", KeyKeyring, KeyJoined)
	pod.EmptyDir("run", "/run/cairn")
	pod.Run([]string{"sh", "-ec", script(m, encrypted)}, cluster.Spec.Resources.Mon,
		corev1.EnvVar{Name: "FSID", Value: fsid},
		corev1.EnvVar{Name: "RELEASE", Value: "reef"},
		corev1.EnvVar{Name: "NAME", Value: m.Name},
		corev1.EnvVar{Name: "DATA", Value: data},
		corev1.EnvVar{Name: "ADDRESS", Value: m.Address},
		corev1.EnvVar{Name: clientIDsName, Value: strconv.Itoa(ClientIDRange)},
		corev1.EnvVar{Name: addvName, Value: firstMap(live, addv(m, mons))})
	pod.Port("msgr2", PortV2)
	pod.Port("msgr1", PortV1)
	return pod.Deployment(ObjectName(cluster, m.Name))
}

// ClientIDRange is how many client IDs the mons set aside each time that one of them has
// started, or has used up half of them (mon_globalid_prealloc). No mon gives as many while
// it runs, so that those which start one after the other never give the same.
const ClientIDRange = 1 << 28

const clientIDsName = "CLIENT_IDS"

// HasRange reports whether the mon of a Deployment sets aside that many.
func HasRange(d *appsv1.Deployment) bool {
	return variable(d, clientIDsName) == strconv.Itoa(ClientIDRange)
}

// variable of a mon's Deployment; empty for none.
func variable(d *appsv1.Deployment, name string) string {
	for _, container := range d.Spec.Template.Spec.Containers {
		for _, env := range container.Env {
			if env.Name == name && env.Value != "" {
				return env.Value
			}
		}
	}
	return ""
}

// addvName is the variable with the map that a mon's store is made with.
const addvName = "ADDV"

func firstMap(live *appsv1.Deployment, otherwise string) string {
	if live == nil {
		return otherwise
	}
	return cmp.Or(variable(live, addvName), otherwise)
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

// What the Secret BootstrapName has: the keyring that mons are made with, and the names
// of those that were in quorum. A pod reads it when its container starts.
const (
	KeyKeyring = "keyring"
	KeyJoined  = "joined"
)

// BootstrapName of the Secret that mons are made with.
func BootstrapName(cluster *v1alpha1.StorageCluster) string { return cluster.Name + "-bootstrap" }

// Bootstrap is the Secret that mons are made with.
func Bootstrap(cluster *v1alpha1.StorageCluster, keyring []byte, mons []Mon) *corev1.Secret {
	var joined []string
	for _, m := range mons {
		if m.Joined {
			joined = append(joined, m.Name)
		}
	}
	return &corev1.Secret{
		ObjectMeta: kube.Meta(cluster, BootstrapName(cluster), Component, ""), Type: "cairn.storage/keyring",
		Data: map[string][]byte{KeyKeyring: keyring, KeyJoined: []byte(strings.Join(joined, " "))},
	}
}
