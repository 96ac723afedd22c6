package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/connection"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mon"
)

// Observed is all that a decision about a cluster rests on.
type Observed struct {
	Now       time.Time
	Cluster   *v1alpha1.StorageCluster
	Nodes     []corev1.Node
	Inventory map[string]*v1alpha1.NodeStorage
	Pools     []v1alpha1.BlockPool
	// InUse says what keeps the cluster although it was deleted; else empty.
	InUse string

	// Keys is nil while the Secret with the keys does not exist.
	Keys *Keys
	// KeysError says what is wrong with a Secret that does.
	KeysError error
	// keptLastMon is the last name that a mon of an earlier StorageCluster was given.
	keptLastMon string
	// Mons as their Services record them.
	Mons []mon.Mon
	// OSDKeys by UUID.
	OSDKeys map[string]ceph.Key

	Services    map[string]*corev1.Service
	Secrets     map[string]*corev1.Secret
	ConfigMaps  map[string]*corev1.ConfigMap
	Deployments map[string]*appsv1.Deployment
	Pods        []corev1.Pod
	Budgets     map[string]*policyv1.PodDisruptionBudget
	// Claims that OSDs are on, and the Volumes of those whose place is not written down yet.
	Claims  map[string]*corev1.PersistentVolumeClaim
	Volumes map[string]*corev1.PersistentVolume
	// Jobs of a quorum's rebuilding, while one is under way, and those that empty DB devices.
	Jobs map[string]*batchv1.Job
	// dataPaths of volumes with sessions of mons that are no more.
	dataPaths []corev1.Pod

	// Ceph is nil while the cluster cannot be asked; CephError says why.
	Ceph      *CephState
	CephError error

	lookup lookup
	// begun are mons that a plan starts, where what it leads to is foreseen.
	begun map[string]bool
}

// CephState is what Ceph says of itself.
type CephState struct {
	Status *ceph.Status
	OSDs   []ceph.OSD
	// Needed says, of each OSD that leaves, why it cannot go yet; empty when it can.
	Needed map[int]string
	// Missed says, of each OSD whose lost device is replaced, what is not served without it.
	Missed map[int]string
	// Unreported says which PGs have not told how they are since their OSD started, while
	// Status counts all as clean.
	Unreported string
	// Stopping are OSDs of which Ceph was asked whether they may be down together,
	// NotOKToStop is its answer.
	Stopping    []int
	NotOKToStop string
	// Releases and MayStop are known while the image is changed.
	Releases *ceph.Releases
	MayStop  MayStop
	// Config is what is set in the configuration database (by setting without its value),
	// Options those that the spec names and the mons know; OptionNames are all names,
	// when one of the spec's is not among them.
	Config      map[ceph.Setting]string
	Options     map[string]*ceph.Option
	OptionNames []string
	// OldClients are known while encryption is to begin; OldClientsError says why they are not.
	OldClients      []ceph.Client
	OldClientsError error
	// ClientIDs that mons in quorum give, when that had to be asked; ClientIDsError says why
	// some are not known.
	ClientIDs      map[string]uint64
	ClientIDsError error
}

// observe reads everything and decides nothing.
func (r *Reconciler) observe(ctx context.Context, cluster *v1alpha1.StorageCluster) (*Observed, error) {
	o := &Observed{
		Now: r.now(), Cluster: cluster, Inventory: map[string]*v1alpha1.NodeStorage{}, OSDKeys: map[string]ceph.Key{},
		Services: map[string]*corev1.Service{}, Secrets: map[string]*corev1.Secret{},
		ConfigMaps: map[string]*corev1.ConfigMap{}, Deployments: map[string]*appsv1.Deployment{},
		Budgets: map[string]*policyv1.PodDisruptionBudget{}, Claims: map[string]*corev1.PersistentVolumeClaim{},
	}
	if err := errors.Join(r.observeNodes(ctx, o), r.observeObjects(ctx, o), r.observeKeys(ctx, o), r.observeRecord(ctx, o), r.observeRecovery(ctx, o), r.observeFreeing(ctx, o)); err != nil {
		return nil, err
	}
	if err := r.observeVolumes(ctx, o); err != nil {
		return nil, err
	}
	o.refuseOtherKeys()
	o.Mons = mon.Observed(monServices(o.Services), o.nodeAddress)
	r.observeCeph(ctx, o)
	return o, nil
}

func (r *Reconciler) observeNodes(ctx context.Context, o *Observed) error {
	var nodes corev1.NodeList
	if err := r.Client.List(ctx, &nodes); err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	o.Nodes = nodes.Items
	kube.Sort(o.Nodes)
	if err := r.observeInventory(ctx, o, r.Client); err != nil {
		return err
	}
	var pools v1alpha1.BlockPoolList
	if err := r.Client.List(ctx, &pools, client.InNamespace(o.Cluster.Namespace)); err != nil {
		return fmt.Errorf("list BlockPools: %w", err)
	}
	kube.Sort(pools.Items)
	for _, pool := range pools.Items {
		if pool.Spec.Cluster == o.Cluster.Name {
			o.Pools = append(o.Pools, pool)
		}
	}
	return nil
}

func (r *Reconciler) observeInventory(ctx context.Context, o *Observed, from client.Reader) error {
	var inventory v1alpha1.NodeStorageList
	if err := from.List(ctx, &inventory); err != nil {
		return fmt.Errorf("list NodeStorages: %w", err)
	}
	for i := range inventory.Items {
		o.Inventory[inventory.Items[i].Name] = &inventory.Items[i]
	}
	return nil
}

func (r *Reconciler) observeObjects(ctx context.Context, o *Observed) error {
	owned := []client.ListOption{client.InNamespace(o.Cluster.Namespace), client.MatchingLabels{kube.LabelCluster: o.Cluster.Name}}
	var (
		services    corev1.ServiceList
		secrets     corev1.SecretList
		configMaps  corev1.ConfigMapList
		deployments appsv1.DeploymentList
		pods        corev1.PodList
		budgets     policyv1.PodDisruptionBudgetList
		claims      corev1.PersistentVolumeClaimList
	)
	for _, list := range []client.ObjectList{&secrets, &configMaps, &deployments, &pods, &budgets, &claims} {
		if err := r.Client.List(ctx, list, owned...); err != nil {
			return fmt.Errorf("list %T: %w", list, err)
		}
	}
	// Who the mons are, and since when one is missing, is never taken from an old list.
	if err := r.Live.List(ctx, &services, owned...); err != nil {
		return fmt.Errorf("list Services: %w", err)
	}
	index(o.Services, services.Items)
	index(o.Secrets, secrets.Items)
	index(o.ConfigMaps, configMaps.Items)
	index(o.Deployments, deployments.Items)
	o.Pods = pods.Items
	kube.Sort(o.Pods)
	index(o.Budgets, budgets.Items)
	index(o.Claims, claims.Items)
	for _, secret := range o.Secrets {
		if uuid := secret.Annotations[kube.AnnotationUUID]; uuid != "" {
			o.OSDKeys[uuid] = ceph.Key(secret.Data["key"])
		}
	}
	return nil
}

func index[T any, P interface {
	*T
	client.Object
}](to map[string]P, items []T) {
	for i := range items {
		object := P(&items[i])
		to[object.GetName()] = object
	}
}

// observeKeys reads the keys from the server itself: a cache that lags must not
// make a cluster look as if it had none.
func (r *Reconciler) observeKeys(ctx context.Context, o *Observed) error {
	var secret corev1.Secret
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: o.Cluster.Namespace, Name: KeysName(o.Cluster)}, &secret)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("read the keys: %w", err)
	}
	o.Keys, o.KeysError = readKeys(&secret)
	o.keptLastMon = secret.Annotations[kube.AnnotationLastMon]
	return nil
}

func (r *Reconciler) observeCeph(ctx context.Context, o *Observed) {
	if o.Keys == nil || !anyRunning(o.Pods, mon.Component) {
		o.CephError = ceph.Errorf(ceph.Unreached, "connect", "no mon is running")
		return
	}
	conn, err := r.Connections.Get(o.Cluster, o.credentials())
	if err != nil {
		o.CephError = err
		return
	}
	ctx, cancel := context.WithTimeout(ctx, connection.Timeout)
	defer cancel()
	if o.Ceph, err = askCeph(ctx, conn, o); err == nil {
		err = o.askReported(ctx, conn)
	}
	if err == nil {
		err = o.askToStop(ctx, conn)
	}
	if err == nil {
		err = o.askReleases(ctx, conn)
	}
	if err == nil {
		err = o.askOptions(ctx, conn, &r.stored)
	}
	if err == nil && o.encryptionChanges() && o.Cluster.Spec.Network.Encryption {
		o.Ceph.OldClients, o.Ceph.OldClientsError = conn.OldClients(ctx)
	}
	if err == nil {
		r.apart.ask(ctx, o, conn)
	}
	if err != nil {
		o.Ceph, o.CephError = nil, err
		r.Connections.Failed(o.Cluster, conn, err)
	}
}

// askCeph asks Ceph for all that decisions rest on, and of those that leave
// whether they are still needed.
func askCeph(ctx context.Context, conn ceph.Conn, o *Observed) (*CephState, error) {
	state := &CephState{Needed: map[int]string{}, Missed: map[int]string{}}
	var err error
	if state.Status, err = conn.Status(ctx); err != nil {
		return nil, err
	}
	if state.OSDs, err = conn.OSDs(ctx); err != nil {
		return nil, err
	}
	for _, known := range state.OSDs {
		switch {
		case !o.marked(known.UUID) && !known.Destroyed:
		case !known.Destroyed && o.lostAndReplaced(&known):
			state.Missed[known.ID], err = conn.StillMissed(ctx, known.ID)
		case !known.In:
			state.Needed[known.ID], err = conn.StillNeeded(ctx, known.ID)
		}
		if err != nil {
			return nil, err
		}
	}
	return state, nil
}

func monServices(services map[string]*corev1.Service) (out []corev1.Service) {
	for _, service := range services {
		if service.Labels[kube.LabelComponent] == mon.Component {
			out = append(out, *service)
		}
	}
	return out
}

func anyRunning(pods []corev1.Pod, component string) bool {
	for _, pod := range pods {
		if pod.Labels[kube.LabelComponent] == component && pod.Status.Phase == corev1.PodRunning {
			return true
		}
	}
	return false
}

// nodeAddress is a node's internal address.
func (o *Observed) nodeAddress(name string) string {
	if addresses := o.nodeAddresses(name); len(addresses) > 0 {
		return addresses[0]
	}
	return ""
}

// nodeAddresses are all of a node's internal addresses.
func (o *Observed) nodeAddresses(name string) (addresses []string) {
	node := o.node(name)
	if node == nil {
		return nil
	}
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			addresses = append(addresses, address.Address)
		}
	}
	return addresses
}

// stateOf is what Ceph says of itself; nil while it cannot be asked.
func stateOf(o *Observed) *ceph.Status {
	if o.Ceph == nil {
		return nil
	}
	return o.Ceph.Status
}
