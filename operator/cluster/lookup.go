package cluster

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

// lookup finds what a decision asks for again and again: a cluster may have
// thousands of OSDs. Each part is made when it is first asked for, and whatever
// decides begins with an empty one.
type lookup struct {
	nodes          map[string]*corev1.Node
	osdDeployments map[string]*appsv1.Deployment // by UUID
	osds           map[string]*ceph.OSD          // by UUID
	state          *CephState                    // that osds are of
	running        map[daemon]*corev1.Pod
	claims         map[string]bool // that the spec asks for
}

// node of a name, or nil.
func (o *Observed) node(name string) *corev1.Node {
	if o.lookup.nodes == nil {
		o.lookup.nodes = make(map[string]*corev1.Node, len(o.Nodes))
		for i := range o.Nodes {
			o.lookup.nodes[o.Nodes[i].Name] = &o.Nodes[i]
		}
	}
	return o.lookup.nodes[name]
}

// osd returns what Ceph says of the OSD with a UUID; nil when it says nothing.
func (o *Observed) osd(uuid string) *ceph.OSD {
	if o.Ceph == nil {
		return nil
	}
	if o.lookup.state != o.Ceph {
		o.lookup.state, o.lookup.osds = o.Ceph, make(map[string]*ceph.OSD, len(o.Ceph.OSDs))
		for i := range o.Ceph.OSDs {
			o.lookup.osds[o.Ceph.OSDs[i].UUID] = &o.Ceph.OSDs[i]
		}
	}
	return o.lookup.osds[uuid]
}

// daemon is one that a pod runs.
type daemon struct{ kind, name string }

// podOf is the pod that runs a daemon: nil when none does, or it is ending.
func (o *Observed) podOf(kind, name string) *corev1.Pod {
	if o.lookup.running == nil {
		o.lookup.running = make(map[daemon]*corev1.Pod, len(o.Pods))
		for i := range o.Pods {
			pod := &o.Pods[i]
			it := daemon{pod.Labels[kube.LabelComponent], pod.Labels[kube.LabelInstance]}
			if o.lookup.running[it] == nil && pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning {
				o.lookup.running[it] = pod
			}
		}
	}
	return o.lookup.running[daemon{kind, name}]
}

// wantsClaim reports whether the spec asks for a claim.
func (o *Observed) wantsClaim(name string) bool {
	if o.lookup.claims == nil {
		o.lookup.claims = map[string]bool{}
		for _, want := range osd.WantedClaims(o.Cluster) {
			o.lookup.claims[want.Name] = true
		}
	}
	return o.lookup.claims[name]
}

// osdDeployment returns the Deployment of the OSD with a UUID, or nil.
func (o *Observed) osdDeployment(uuid string) *appsv1.Deployment {
	if o.lookup.osdDeployments == nil {
		o.lookup.osdDeployments = make(map[string]*appsv1.Deployment, len(o.Deployments))
		for _, deployment := range o.Deployments {
			if deployment.Labels[kube.LabelComponent] == osd.Component {
				o.lookup.osdDeployments[deployment.Annotations[kube.AnnotationUUID]] = deployment
			}
		}
	}
	return o.lookup.osdDeployments[uuid]
}

// uuids of targets.
func uuids(targets []osd.Target) map[string]bool {
	out := make(map[string]bool, len(targets))
	for _, target := range targets {
		out[target.UUID] = true
	}
	return out
}
