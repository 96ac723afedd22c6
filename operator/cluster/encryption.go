package cluster

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/osd"
)

// An OSD is encrypted when it is made, or never. Its Secret has the key from the beginning, and
// says by that what it is; what the spec says later changes nothing for it.

// encrypted says of the targets which are encrypted. A new one that cannot be, and one whose key
// is lost, are left out.
func (d *Desired) encrypted(o *Observed, targets []osd.Target) (settled []osd.Target) {
	for _, target := range targets {
		secret := o.Secrets[osd.SecretName(o.Cluster, target.UUID)]
		target.Encrypted = len(osd.EncryptionKey(secret)) > 0
		if o.lostEncryptionKey(target) {
			d.Problems = append(d.Problems, o.encryptionKeyMissing(target))
			continue
		}
		fresh := secret == nil && o.osd(target.UUID) == nil
		if fresh {
			target.Encrypted = o.Cluster.Spec.Storage.Encrypted || osd.HasBegunEncrypted(o.Inventory[target.Node], target)
		}
		why := osd.CannotEncrypt(o.Inventory[target.Node])
		if target.Encrypted && why != "" && (fresh || o.Inventory[target.Node] != nil && o.Inventory[target.Node].Status.Encryption != nil) {
			d.Problems = append(d.Problems, o.encryptionUnavailable(target, fresh, why))
			if fresh {
				continue
			}
		}
		settled = append(settled, target)
	}
	return settled
}

func (o *Observed) encryptionUnavailable(target osd.Target, fresh bool, why string) osd.Problem {
	message := fmt.Sprintf("node %s cannot encrypt devices: %s. ", target.Node, why)
	switch {
	case fresh && !o.Cluster.Spec.Storage.Encrypted:
		message += fmt.Sprintf("An encrypted OSD was begun on device %q there, and is not made without. Boot a kernel with dm-crypt, or wipe the device, or take it out of spec.storage", target.Device)
	case fresh:
		message += fmt.Sprintf("spec.storage.encrypted is true, so no OSD is made of device %q there. Boot a kernel with dm-crypt, or take the device out of spec.storage", target.Device)
	default:
		message += fmt.Sprintf("The OSD of device %q there is encrypted, and cannot start again. Boot a kernel with dm-crypt, or move the disk to a node that has it", target.Device)
	}
	return osd.Problem{Reason: v1alpha1.ReasonEncryptionUnavailable, Message: message}
}

// lostEncryptionKey reports whether an OSD is encrypted, by its device or by how it runs, and
// its Secret does not have the key. One that was begun, and that Ceph does not know, needs none
// of before: it is made anew.
func (o *Observed) lostEncryptionKey(t osd.Target) bool {
	if len(osd.EncryptionKey(o.Secrets[osd.SecretName(o.Cluster, t.UUID)])) > 0 {
		return false
	}
	live, seen := o.osdDeployment(t.UUID), o.Inventory[t.Node]
	return osd.HasEncrypted(seen, t) || osd.HasBegunEncrypted(seen, t) && o.osd(t.UUID) != nil || live != nil && osd.TargetOf(live).Encrypted
}

func (o *Observed) encryptionKeyMissing(t osd.Target) osd.Problem {
	name, known := osd.SecretName(o.Cluster, t.UUID), o.osd(t.UUID)
	message := fmt.Sprintf("device %q on node %s is encrypted, and its key is gone: Secret %s is not there, or has no encryption-key. Without it the data on the device cannot be read any more. Restore the Secret from a backup",
		t.Device, t.Node, name)
	switch {
	case known != nil && known.Up:
		message += fmt.Sprintf(". osd.%d still runs, and does not start again: its pod has the key in /run/encryption/encryption-key as long as it is there. Do not restart it before the Secret is back", known.ID)
	case known == nil:
		message += ", or wipe the device when its data is not needed"
	default:
		message += fmt.Sprintf(", or put another device in the place of osd.%d", known.ID)
	}
	return osd.Problem{Reason: v1alpha1.ReasonEncryptionKeyMissing, Message: message}
}

// keptEncrypted says of OSDs that run, and that the inventory does not show, which are encrypted.
func (d *Desired) keptEncrypted(o *Observed, kept []osd.Target) []osd.Target {
	for i := range kept {
		if o.lostEncryptionKey(kept[i]) && !slices.Contains(d.Problems, o.encryptionKeyMissing(kept[i])) {
			d.Problems = append(d.Problems, o.encryptionKeyMissing(kept[i]))
		}
	}
	return kept
}

// encryptionKeyLost reports OSDs whose keys are gone before all that follows from it.
func encryptionKeyLost(_ *Observed, d *Desired, _ []Step) *v1alpha1.Blocker {
	var messages []string
	for _, problem := range d.Problems {
		if problem.Reason == v1alpha1.ReasonEncryptionKeyMissing {
			messages = append(messages, problem.Message)
		}
	}
	if len(messages) == 0 {
		return nil
	}
	return blocker(v1alpha1.ReasonEncryptionKeyMissing, "%s", strings.Join(messages, "; "))
}

// encrypt has a new OSD have its key.
func (w *imagined) encrypt(target osd.Target) {
	if name := osd.SecretName(w.Cluster, target.UUID); target.Encrypted && w.Secrets[name] == nil {
		w.Secrets[name] = osd.WithEncryptionKey(osd.Secret(w.Cluster, target, w.OSDKeys[target.UUID], -1, false), []byte("a key"))
	}
}

// encryptedCondition names the OSDs that are not encrypted though all are to be. There is none
// while nobody asks for encryption.
func encryptedCondition(o *Observed, d *Desired) *metav1.Condition {
	var plain []string
	some := false
	for _, target := range d.Targets {
		known := o.osd(target.UUID)
		if known == nil {
			continue
		}
		if target.Encrypted || o.lostEncryptionKey(target) {
			some = true
		} else {
			plain = append(plain, called(known.ID, target))
		}
	}
	if !some && !o.Cluster.Spec.Storage.Encrypted {
		return nil
	}
	c := condition(v1alpha1.ConditionEncrypted, true, v1alpha1.ReasonAllEncrypted, "every OSD is encrypted")
	if len(plain) > 0 {
		c = condition(v1alpha1.ConditionEncrypted, false, v1alpha1.ReasonNotAllEncrypted, fmt.Sprintf(
			"%d OSDs are not encrypted: %s. An OSD is encrypted when it is made: with spec.storage.encrypted, replace their devices one by one",
			len(plain), strings.Join(bounding(plain), ", ")))
	}
	return &c
}

// setEncrypted writes the condition, or takes it away.
func setEncrypted(s *v1alpha1.StorageClusterStatus, o *Observed, d *Desired) {
	c := encryptedCondition(o, d)
	if c == nil {
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionEncrypted)
		return
	}
	c.ObservedGeneration, c.Message = o.Cluster.Generation, bounded(c.Message)
	meta.SetStatusCondition(&s.Conditions, *c)
}
