// Command sim is the operator for the benchmarks: its own code with a Ceph in
// memory, whose OSDs are those that have Deployments, all up and in. `sim
// measure` takes looks at a converged cluster and prints what they cost as
// JSON; `sim run` runs the whole operator until it is ended.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/model"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
	"github.com/cairn-storage/cairn/operator/process"
)

// image of Cairn: that with which the cluster was made.
const image = "cairn:sim"

func main() {
	ctrl.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func run(ctx context.Context) error {
	key := client.ObjectKey{}
	flag.StringVar(&key.Namespace, "namespace", "cairn-system", "of the cluster and the operator")
	flag.StringVar(&key.Name, "cluster", "main", "the StorageCluster")
	flag.Parse()
	config, err := ctrl.GetConfig() // -kubeconfig is its flag
	if err != nil {
		return err
	}
	options := process.Options{Metrics: "0", Health: "0", Image: image, Namespace: key.Namespace}
	mode := flag.Arg(0)
	if mode == "measure" {
		return measure(ctx, config, options, key)
	}
	if mode == "run" {
		modelled, err := ofCluster(ctx, config, options, key)
		if err != nil {
			return err
		}
		return process.Run(ctx, config, options, modelled)
	}
	return fmt.Errorf("no mode %q: there are measure and run", mode)
}

// ofCluster is a Ceph in which all that the cluster's Deployments run is well.
func ofCluster(ctx context.Context, config *rest.Config, options process.Options, key client.ObjectKey) (*model.Cluster, error) {
	mgr, err := process.NewManager(config, options)
	if err != nil {
		return nil, err
	}
	var keys corev1.Secret
	if err := mgr.GetAPIReader().Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: key.Name + "-keys"}, &keys); err != nil {
		return nil, err
	}
	modelled := model.New(string(keys.Data["fsid"]), "a", "b", "c")
	modelled.SetMgr("a", 1)
	conn, err := modelled.Connect(ctx, ceph.Credentials{}, ceph.ConnectOptions{})
	if err != nil {
		return nil, err
	}
	var secrets corev1.SecretList
	if err := mgr.GetAPIReader().List(ctx, &secrets, client.InNamespace(key.Namespace)); err != nil {
		return nil, err
	}
	keyOf := map[string]ceph.Key{}
	for _, secret := range secrets.Items {
		keyOf[secret.Annotations[kube.AnnotationUUID]] = ceph.Key(secret.Data["key"])
	}
	osds, err := osdDeployments(ctx, mgr.GetAPIReader(), key.Namespace)
	if err != nil {
		return nil, err
	}
	for id, deployment := range osds {
		target := osd.TargetOf(&deployment)
		got, err := conn.NewOSD(ctx, target.UUID, keyOf[target.UUID], "")
		if err != nil || strconv.Itoa(got) != deployment.Labels[kube.LabelInstance] {
			return nil, fmt.Errorf("the OSDs of the cluster do not have the IDs 0 to %d: %s is the %dth: %w", len(osds)-1, deployment.Name, id, err)
		}
		modelled.Boot(got, target.Node, 1<<40)
	}
	return modelled, nil
}

// osdDeployments in the order of their IDs.
func osdDeployments(ctx context.Context, reader client.Reader, namespace string) ([]appsv1.Deployment, error) {
	var all appsv1.DeploymentList
	if err := reader.List(ctx, &all, client.InNamespace(namespace), client.MatchingLabels{kube.LabelComponent: osd.Component}); err != nil {
		return nil, err
	}
	slices.SortFunc(all.Items, func(a, b appsv1.Deployment) int { return idOf(a) - idOf(b) })
	return all.Items, nil
}

func idOf(deployment appsv1.Deployment) int {
	id, _ := strconv.Atoi(deployment.Labels[kube.LabelInstance])
	return id
}

// measured is what looks at a converged cluster cost.
type measured struct {
	// Looks are milliseconds of whole reconciles, and CPU of all threads during one.
	Looks []float64 `json:"looks"`
	CPU   float64   `json:"cpu"`
	// Writes to the API server and to Ceph in all of them.
	Writes []string `json:"writes"`
	// Plans are milliseconds of Plan when every pod's template changes.
	Plans []float64 `json:"plans"`
	Steps int       `json:"steps"`
}

const looks = 20

func measure(ctx context.Context, config *rest.Config, options process.Options, key client.ObjectKey) (err error) {
	modelled, err := ofCluster(ctx, config, options, key)
	if err != nil {
		return err
	}
	mgr, err := process.NewManager(config, options)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	defer func() { cancel(); err = errors.Join(err, <-ended) }()
	select {
	case <-mgr.Elected(): // its caches have started
	case err := <-ended:
		ended <- err
		return err
	}
	m := &measured{Writes: []string{}}
	operator := newOperator(mgr, modelled, options, m)
	if err := operator.settle(ctx, key); err != nil {
		return err
	}
	if err := operator.looks(ctx, key); err != nil {
		return err
	}
	if err := operator.plans(ctx, key); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(m)
}

// plans times Plan where a new image changes every daemon.
func (o *operator) plans(ctx context.Context, key client.ObjectKey) error {
	var c v1alpha1.StorageCluster
	if err := o.reconciler.Client.Get(ctx, key, &c); err != nil {
		return err
	}
	c.Spec.Ceph.Image = "cairn.storage/ceph:next"
	observed, desired, err := o.reconciler.Look(ctx, &c)
	if err != nil {
		return err
	}
	for range looks {
		began := time.Now()
		steps, err := cluster.Plan(observed, desired)
		if err != nil {
			return err
		}
		o.into.Plans, o.into.Steps = append(o.into.Plans, milliseconds(time.Since(began))), len(steps)
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
