package csidriver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
)

// Reconciler runs the CSI driver as soon as there is a StorageCluster. One
// driver serves all clusters.
type Reconciler struct {
	Client client.Client
	// Namespace of the workloads: the operator's own.
	Namespace string
	// Image is Cairn's own.
	Image string
}

// Reconcile writes what differs.
func (r *Reconciler) Reconcile(ctx context.Context, _ reconcile.Request) (ctrl.Result, error) {
	var clusters v1alpha1.StorageClusterList
	if err := r.Client.List(ctx, &clusters); err != nil {
		return ctrl.Result{}, fmt.Errorf("list StorageClusters: %w", err)
	}
	if len(clusters.Items) == 0 {
		return ctrl.Result{}, nil
	}
	var secrets corev1.SecretList
	if err := r.Client.List(ctx, &secrets, client.InNamespace(r.Namespace), client.MatchingLabels{kube.LabelComponent: Component}); err != nil {
		return ctrl.Result{}, fmt.Errorf("list the driver's Secrets: %w", err)
	}
	var failed []error
	for _, want := range r.desired(secrets.Items) {
		failed = append(failed, r.ensure(ctx, want))
	}
	return ctrl.Result{}, errors.Join(failed...)
}

func (r *Reconciler) desired(secrets []corev1.Secret) []client.Object {
	var controller, nodes []string
	for _, secret := range secrets {
		if strings.HasPrefix(secret.Name, ControllerSecret("")) {
			controller = append(controller, secret.Name)
		} else {
			nodes = append(nodes, secret.Name)
		}
	}
	return []client.Object{
		csiDriver(),
		r.role(ControllerName, controller), r.roleBinding(ControllerName),
		r.role(NodeName, nodes), r.roleBinding(NodeName),
		r.keeper(), r.attach(), r.node(), r.controller(),
	}
}

func (r *Reconciler) ensure(ctx context.Context, want client.Object) error {
	live, ok := want.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%T is not an object", want)
	}
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(want), live)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read %s: %w", want.GetName(), err)
	}
	if err != nil {
		live = nil
	}
	differs, err := kube.Differs(live, want)
	if err != nil || !differs {
		return err
	}
	return kube.Apply(ctx, r.Client, want)
}

// role lets a part of the driver read its own Secrets, by name.
func (r *Reconciler) role(name string, secrets []string) *rbacv1.Role {
	slices.Sort(secrets)
	role := &rbacv1.Role{ObjectMeta: r.meta(name + "-secrets")}
	if len(secrets) > 0 { // a rule without names would mean all of them
		role.Rules = []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"}, ResourceNames: secrets}}
	}
	return role
}

func (r *Reconciler) roleBinding(name string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: r.meta(name + "-secrets"),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name + "-secrets"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: r.Namespace}},
	}
}

// SetupWithManager registers the reconciler and what wakes it.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	one := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: r.Namespace, Name: BlockDriver}}}
	})
	mine := builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
		return o.GetLabels()[kube.LabelManagedBy] == kube.Manager && o.GetLabels()[kube.LabelComponent] == Component
	}))
	return ctrl.NewControllerManagedBy(mgr).Named("csidriver").
		Watches(&v1alpha1.StorageCluster{}, one, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Secret{}, one, mine).
		Watches(&appsv1.Deployment{}, one, mine, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&appsv1.DaemonSet{}, one, mine, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&storagev1.CSIDriver{}, one, mine).
		Complete(r)
}
