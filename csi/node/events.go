package node

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/identity"
)

// Events tells of troubles as events of the claim that a volume is for.
type Events struct {
	Client kubernetes.Interface
	Node   string
}

// Tell makes an event. It has the same name for the same trouble of the same
// staging, so that a plugin that restarts does not tell twice.
func (e Events) Tell(ctx context.Context, volume string, t Trouble) error {
	pv, err := e.Client.CoreV1().PersistentVolumes().Get(ctx, volume, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && !isOf(pv, t) {
		return nil // nobody is there to be told
	}
	if err != nil {
		return fmt.Errorf("tell of volume %s: %w", volume, err)
	}
	claim := pv.Spec.ClaimRef
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: claim.Namespace,
			Name: claim.Name + "." + attach.Hash(e.Node + t.Record.VolumeID + t.Reason + t.Record.BootID + t.Record.Device.Path)[:16]},
		InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim",
			Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID},
		Type: corev1.EventTypeWarning, Reason: "Volume" + t.Reason, Message: "on node " + e.Node + ": " + t.Message,
		Source:         corev1.EventSource{Component: identity.DriverName, Host: e.Node},
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}
	_, err = e.Client.CoreV1().Events(claim.Namespace).Create(ctx, event, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("tell of volume %s: %w", volume, err)
	}
	return nil
}

// isOf checks that a PersistentVolume is what the trouble is of, and has a claim:
// its name was read from a path.
func isOf(pv *corev1.PersistentVolume, t Trouble) bool {
	source := pv.Spec.CSI
	return pv.Spec.ClaimRef != nil && source != nil && source.Driver == identity.DriverName && source.VolumeHandle == t.Record.VolumeID
}
