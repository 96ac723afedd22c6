package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/model"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/operator/connection"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

// world is a Kubernetes of many nodes with ten disks each, on which pods run as
// soon as they are wanted, and a Ceph whose daemons are well as soon as their
// pods run.
type world struct {
	client      client.Client
	connections *connection.Manager
	nodes       int

	mu   sync.Mutex // the operator connects in the background
	ceph *model.Cluster
}

const (
	simNamespace   = "cairn-system"
	simCluster     = "main"
	simImage       = "cairn:sim"
	disksOfANode   = 10
	callersAtOnce  = 16
	simConvergence = 200 // looks, far more than any growth needs
)

func newWorld(ctx context.Context, config *rest.Config) (*world, error) {
	scheme := kruntime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	c, err := client.New(unlimited(config), client.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	w := &world{client: c}
	w.connections = connection.NewManager(w)
	return w, c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: simNamespace}})
}

// Connect is the operator's way to Ceph.
func (w *world) Connect(ctx context.Context, cred ceph.Credentials, options ceph.ConnectOptions) (ceph.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ceph == nil {
		w.ceph = model.New(cred.FSID, "a", "b", "c")
		w.ceph.SetMgr("a", 1)
	}
	return w.ceph.Connect(ctx, cred, options)
}

// founded is the Ceph, or nil before the operator has connected to it.
func (w *world) founded() *model.Cluster {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ceph
}

// grow adds nodes until there are so many, names their disks in the
// StorageCluster, and looks until it is as specified.
func (w *world) grow(ctx context.Context, nodes int) error {
	group, limited := errgroup.WithContext(ctx)
	group.SetLimit(callersAtOnce)
	for n := w.nodes; n < nodes; n++ {
		group.Go(func() error { return w.addNode(limited, nodeName(n)) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("add nodes: %w", err)
	}
	w.nodes = nodes
	c := &v1alpha1.StorageCluster{ObjectMeta: metav1.ObjectMeta{Namespace: simNamespace, Name: simCluster}}
	if err := w.client.Get(ctx, client.ObjectKeyFromObject(c), c); client.IgnoreNotFound(err) != nil {
		return err
	}
	c.Spec.Storage.Nodes = nil
	for n := range nodes {
		node := v1alpha1.StorageNode{Name: nodeName(n)}
		for d := range disksOfANode {
			node.Devices = append(node.Devices, v1alpha1.StorageDevice{Name: diskName(n, d)})
		}
		c.Spec.Storage.Nodes = append(c.Spec.Storage.Nodes, node)
	}
	write := func() error { return w.client.Update(ctx, c) }
	if c.UID == "" {
		write = func() error { return w.client.Create(ctx, c) }
	}
	if err := write(); err != nil {
		return err
	}
	return w.converge(ctx, nodes*disksOfANode)
}

func (w *world) converge(ctx context.Context, osds int) error {
	for range simConvergence {
		c := &v1alpha1.StorageCluster{}
		if err := w.client.Get(ctx, client.ObjectKey{Namespace: simNamespace, Name: simCluster}, c); err != nil {
			return err
		}
		ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
		if ready != nil && ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == c.Generation && int(c.Status.OSDs.Ready) == osds {
			return nil
		}
		r := &cluster.Reconciler{Client: w.client, Live: w.client, Connections: w.connections, Namespace: simNamespace, Image: simImage}
		if _, err := r.Reconcile(ctx, c); err != nil {
			return err
		}
		if err := w.runPods(ctx); err != nil {
			return fmt.Errorf("run the pods: %w", err)
		}
		if w.founded() != nil { // the connection is opened in the background
			if err := w.connected(ctx, c); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("no cluster of %d OSDs after %d looks", osds, simConvergence)
}

// connected waits for the connection that the operator is opening.
func (w *world) connected(ctx context.Context, c *v1alpha1.StorageCluster) error {
	cred, err := cluster.Credentials(ctx, w.client, c)
	if err != nil {
		return err
	}
	for {
		if _, err := w.connections.Get(c, cred); err == nil {
			return nil
		}
		select {
		case <-w.connections.Wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *world) addNode(ctx context.Context, name string) error {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	if err := w.client.Create(ctx, node); err != nil {
		return err
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if err := w.client.Status().Update(ctx, node); err != nil {
		return err
	}
	node.Spec.Taints = nil // a new node is tainted until its controller has seen it
	if err := w.client.Update(ctx, node); err != nil {
		return err
	}
	seen := &v1alpha1.NodeStorage{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := w.client.Create(ctx, seen); err != nil {
		return err
	}
	number, _ := strconv.Atoi(name[len("node"):])
	for d := range disksOfANode {
		id := diskName(number, d)
		seen.Status.Devices = append(seen.Status.Devices, v1alpha1.Device{Name: fmt.Sprintf("nvme%dn1", d), ID: id, Size: resource.MustParse("4Ti"),
			Links: []string{"/dev/disk/by-id/" + id, fmt.Sprintf("/dev/disk/by-path/pci-0000:0%d:00.0-nvme-1", d)}, Usable: true})
	}
	return w.client.Status().Update(ctx, seen)
}

// runPods does what the Deployment controller and the kubelets do, and the daemons.
func (w *world) runPods(ctx context.Context) error {
	var deployments appsv1.DeploymentList
	if err := w.client.List(ctx, &deployments, client.InNamespace(simNamespace)); err != nil {
		return err
	}
	group, limited := errgroup.WithContext(ctx)
	group.SetLimit(callersAtOnce)
	for i := range deployments.Items {
		deployment := &deployments.Items[i]
		if deployment.Status.ObservedGeneration == deployment.Generation {
			continue
		}
		group.Go(func() error { return w.runPod(limited, deployment) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	running := w.founded()
	for i := range deployments.Items {
		if d := &deployments.Items[i]; d.Labels[kube.LabelComponent] == osd.Component && running != nil {
			id, err := strconv.Atoi(d.Labels[kube.LabelInstance])
			if err != nil {
				return err
			}
			running.Boot(id, osd.TargetOf(d).Node, 4<<40)
		}
	}
	return nil
}

func (w *world) runPod(ctx context.Context, d *appsv1.Deployment) error {
	pod := &corev1.Pod{ObjectMeta: *d.Spec.Template.ObjectMeta.DeepCopy(), Spec: *d.Spec.Template.Spec.DeepCopy()}
	pod.Namespace, pod.Name = d.Namespace, d.Name+"-0"
	pod.Spec.NodeName, pod.Spec.PriorityClassName = pod.Spec.NodeSelector[corev1.LabelHostname], ""
	if err := w.client.Create(ctx, pod); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	pod.Status.Phase = corev1.PodRunning
	for _, c := range pod.Spec.Containers {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, Image: c.Image, Ready: true,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}})
	}
	if err := w.client.Status().Update(ctx, pod); err != nil {
		return err
	}
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
	return w.client.Status().Update(ctx, d)
}

func nodeName(n int) string { return fmt.Sprintf("node%d", n) }

func diskName(n, d int) string {
	return fmt.Sprintf("nvme-SAMSUNG_MZQL23T8HCLS-00A07_S64HNE0T%04d%02d", n, d)
}
