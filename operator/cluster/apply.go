package cluster

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/connection"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mon"
	"github.com/cairn-storage/cairn/operator/osd"
)

// apply does every step that nothing holds up, and reports whether it did any.
// A step that failed says so itself, for the status.
func (r *Reconciler) apply(ctx context.Context, o *Observed, steps []Step) (worked bool, err error) {
	var failed []error
	for _, batch := range batches(steps) {
		worked = true
		r.doTogether(ctx, o, steps, batch)
		for _, i := range batch {
			if err := steps[i].Failed; err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", steps[i].What, err))
			}
		}
	}
	return worked, errors.Join(failed...)
}

func (r *Reconciler) do(ctx context.Context, o *Observed, s Step) error {
	switch {
	case s.MakeKeys:
		return r.makeKeys(ctx, o)
	case s.NewOSD != nil:
		return r.newOSD(ctx, o, *s.NewOSD, s.Renew)
	case s.MakeClaim != nil:
		return r.makeClaim(ctx, o, s.MakeClaim)
	case s.DropClaim != nil:
		return r.drop(ctx, o, s.DropClaim)
	case s.SetOut != nil:
		return r.inCeph(ctx, o, func(ctx context.Context, conn ceph.Conn) error { return conn.SetOSDOut(ctx, s.SetOut.ID, s.SetOut.Out) })
	case s.SetWeight != nil:
		return r.inCeph(ctx, o, func(ctx context.Context, conn ceph.Conn) error { return setWeight(ctx, conn, *s.SetWeight) })
	case s.RemoveMon != "":
		return r.inCeph(ctx, o, func(ctx context.Context, conn ceph.Conn) error { return conn.RemoveMon(ctx, s.RemoveMon) })
	case s.EndOSD != nil:
		return r.inCeph(ctx, o, func(ctx context.Context, conn ceph.Conn) error {
			return conn.DestroyOSD(ctx, s.EndOSD.ID, s.EndOSD.UUID, s.EndOSD.Lost)
		})
	case s.NoOut != nil:
		return r.inCeph(ctx, o, func(ctx context.Context, conn ceph.Conn) error {
			return conn.SetNoOut(ctx, ceph.Bucket(s.NoOut.Node), s.NoOut.On)
		})
	case s.Recheck:
		return r.loosen(ctx, o, s)
	case s.Afresh:
		return r.afresh(ctx, o, s)
	case s.Require != "":
		return r.inCeph(ctx, o, func(ctx context.Context, conn ceph.Conn) error { return conn.RequireOSDRelease(ctx, s.Require) })
	case s.NextKey != nil:
		return r.nextKey(ctx, o, s)
	case s.NewUser != nil:
		return r.newUser(ctx, o, *s.NewUser)
	case s.OldUser != nil:
		return r.removeUser(ctx, o, *s.OldUser)
	case s.SetOption != nil:
		return r.setOption(ctx, o, *s.SetOption)
	case s.Purge != nil:
		return r.inCeph(ctx, o, func(ctx context.Context, conn ceph.Conn) error { return conn.PurgeOSD(ctx, *s.Purge) })
	case s.Recovery != "":
		return r.recover(ctx, o, s.Recovery)
	case s.Destroy:
		return r.beginDestruction(ctx, o)
	}
	if s.MonOn != "" {
		if err := r.fitForMon(ctx, o, s.MonOn); err != nil {
			return err
		}
	}
	if s.RestartMon != "" {
		if err := r.mayRestart(ctx, o, s.RestartMon); err != nil {
			return err
		}
	}
	if s.CommitKey != nil {
		if taken, err := r.commitKey(ctx, o, *s.CommitKey); err != nil || !taken {
			return err
		}
	}
	for _, object := range s.Stop {
		if err := r.delete(ctx, object, client.PropagationPolicy(metav1.DeletePropagationForeground)); err != nil {
			return err
		}
	}
	if err := r.deleteAll(ctx, o, s); err != nil {
		return err
	}
	for _, object := range s.Create {
		if err := ignoreExists(r.Client.Create(ctx, object, client.FieldOwner(kube.Manager))); err != nil {
			return fmt.Errorf("create %s: %w", describe(object), err)
		}
	}
	for _, object := range s.Apply {
		seen := o.osdSecretSeen(object)
		err := kube.ApplyOver(ctx, r.Client, seen, object)
		if seen != nil && apierrors.IsConflict(err) {
			continue // it is not as it was seen: the next look sees it
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fitForMon fails when a node, as the server knows it now, cannot have a mon. A list of
// nodes that is old would put the mon where the lost one was, until it is lost as well.
func (r *Reconciler) fitForMon(ctx context.Context, o *Observed, name string) error {
	node, err := r.nodeNow(ctx, name)
	if err == nil && len(monNodes(&Observed{Cluster: o.Cluster, Nodes: []corev1.Node{*node}})) == 0 {
		err = fmt.Errorf("node %s is not ready, or not for mons any more", name)
	}
	return err
}

// mayRestart fails when a mon's pod that is deleted would not be made anew, or not run on
// its node, as the server knows the node and what it admits now.
func (r *Reconciler) mayRestart(ctx context.Context, o *Observed, name string) error {
	live := o.Deployments[mon.ObjectName(o.Cluster, name)]
	if live == nil {
		return fmt.Errorf("mon %s has no Deployment that would start it again", name)
	}
	m := o.mon(name)
	node, err := r.nodeNow(ctx, m.Node)
	if err != nil {
		return err
	}
	if !takesPods(node, o.Cluster) {
		return fmt.Errorf("node %s takes no pods now", m.Node)
	}
	template := live.Spec.Template
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: live.Name + "-", Namespace: live.Namespace, Labels: template.Labels, Annotations: template.Annotations}, Spec: template.Spec}
	// A quota that is used up refuses it as well, though the pod gives its part back: somebody
	// else may be the first to take that.
	if err := r.Client.Create(ctx, pod, client.DryRunAll); err != nil {
		return fmt.Errorf("the pod of mon %s would not be made anew: %w", name, err)
	}
	return nil
}

// nodeNow is a node as the server knows it.
func (r *Reconciler) nodeNow(ctx context.Context, name string) (*corev1.Node, error) {
	var node corev1.Node
	if err := r.Live.Get(ctx, client.ObjectKey{Name: name}, &node); err != nil {
		return nil, fmt.Errorf("read node %s: %w", name, err)
	}
	return &node, nil
}

// deleteAll deletes what a step deletes, in order.
func (r *Reconciler) deleteAll(ctx context.Context, o *Observed, s Step) error {
	if s.EndsMon {
		if err := r.keepLastMon(ctx, o); err != nil {
			return err
		}
	}
	for _, object := range s.Delete {
		err := r.delete(ctx, object)
		if o.osdSecretSeen(object) != nil && apierrors.IsConflict(err) {
			continue // it is not as it was seen: the next look sees it
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// delete deletes an object that was seen, and no other of its name. An OSD's Secret that has
// changed since is not deleted either: its key may be in use again.
func (r *Reconciler) delete(ctx context.Context, object client.Object, options ...client.DeleteOption) error {
	uid, version := object.GetUID(), object.GetResourceVersion()
	seen := client.Preconditions{UID: &uid}
	if _, is := object.(*corev1.Secret); is && object.GetAnnotations()[kube.AnnotationUUID] != "" {
		seen.ResourceVersion = &version
	}
	if err := r.Client.Delete(ctx, object, append(options, seen)...); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete %s: %w", describe(object), err)
	}
	return nil
}

// makeKeys creates the Secret that the cluster begins with. It never writes
// over one that exists.
func (r *Reconciler) makeKeys(ctx context.Context, o *Observed) error {
	keys, err := newKeys(o.newKey)
	if err != nil {
		return err
	}
	keys.begin(o.Cluster.Spec.Security.CephX.Daemons.KeyGeneration)
	return ignoreExists(r.Client.Create(ctx, keys.secret(o.Cluster), client.FieldOwner(kube.Manager)))
}

// newOSD writes down an OSD's key before Ceph learns it, so that a crash
// between the two ends in the same OSD.
func (r *Reconciler) newOSD(ctx context.Context, o *Observed, target osd.Target, renew *int) error {
	key, err := r.osdKey(ctx, o, target)
	if err != nil {
		return err
	}
	return r.inCeph(ctx, o, func(ctx context.Context, conn ceph.Conn) error {
		if renew != nil {
			return conn.RenewOSD(ctx, *renew, target.UUID, key)
		}
		_, err := conn.NewOSD(ctx, target.UUID, key, target.Class)
		return err
	})
}

// inCeph does one thing in the cluster.
func (r *Reconciler) inCeph(ctx context.Context, o *Observed, do func(context.Context, ceph.Conn) error) error {
	conn, err := r.Connections.Get(o.Cluster, o.credentials())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, connection.Timeout)
	defer cancel()
	return do(ctx, conn)
}

// osdKey returns the key in an OSD's Secret, and makes it for an OSD that Ceph
// does not know: no other key would fit one that it does.
func (r *Reconciler) osdKey(ctx context.Context, o *Observed, target osd.Target) (ceph.Key, error) {
	fresh, err := o.newKey()
	if err != nil {
		return "", err
	}
	secret := withKeys(osd.Secret(o.Cluster, target, fresh, -1, false), -1, generationed{Generation: o.Cluster.Spec.Security.CephX.Daemons.KeyGeneration})
	if o.osd(target.UUID) == nil {
		if target.Encrypted {
			key, err := osd.NewEncryptionKey()
			if err != nil {
				return "", err
			}
			osd.WithEncryptionKey(secret, key)
		}
		if err := ignoreExists(r.Client.Create(ctx, secret, client.FieldOwner(kube.Manager))); err != nil {
			return "", err
		}
	}
	var live corev1.Secret
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(secret), &live); err != nil {
		return "", fmt.Errorf("read the key of %s: %w", target.Name(), err)
	}
	if o.osd(target.UUID) == nil && live.Annotations[kube.AnnotationLeaving] != "" {
		return "", fmt.Errorf("the OSD that was on %s before is being forgotten still", target.Where())
	}
	return ceph.Key(live.Data["key"]), nil
}

func ignoreExists(err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
