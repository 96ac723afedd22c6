package osd

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path"

	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/daemonpod"
)

// keyEncryption of an OSD's Secret is the key of its device. It is made with the Secret, before
// the device is touched, and never changes: without it the OSD's data are lost.
const keyEncryption = "encryption-key"

// EncryptionKey of an OSD's device; empty for one that is not encrypted.
func EncryptionKey(secret *corev1.Secret) []byte {
	if secret == nil {
		return nil
	}
	return secret.Data[keyEncryption]
}

// EncryptionVolume of a pod has the key of an OSD's device, and nothing else of its Secret.
func EncryptionVolume(cluster *v1alpha1.StorageCluster, uuid, name string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: daemonpod.SecretVolume(SecretName(cluster, uuid), keyEncryption)}
}

// EncryptionFile is the file with the key in a directory where such a volume is.
func EncryptionFile(dir string) string { return path.Join(dir, keyEncryption) }

// WithEncryptionKey gives an OSD's Secret the key of its device, if there is one.
func WithEncryptionKey(secret *corev1.Secret, key []byte) *corev1.Secret {
	if len(key) > 0 {
		secret.Data[keyEncryption] = key
	}
	return secret
}

// NewEncryptionKey makes a key that nobody guesses: 256 random bits, in hex.
func NewEncryptionKey() ([]byte, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make an encryption key: %w", err)
	}
	return hex.AppendEncode(nil, key), nil
}

// CannotEncrypt says why a node cannot have encrypted OSDs; empty when it can.
func CannotEncrypt(seen *v1alpha1.NodeStorage) string {
	switch {
	case seen == nil || seen.Status.Encryption == nil:
		return "its agent has not reported whether the kernel has dm-crypt"
	case seen.Status.Encryption.Available:
		return ""
	}
	return seen.Status.Encryption.Message
}

// HasEncrypted reports whether a node shows the device of a target, with its OSD, encrypted. One
// that was only begun holds nothing yet.
func HasEncrypted(seen *v1alpha1.NodeStorage, t Target) bool {
	found := encryptedOn(seen, t)
	return found != nil && found.ID >= 0
}

// HasBegunEncrypted reports whether a node shows the device of a target as one on which its OSD
// was begun, encrypted. It can be made anew with another key, and not without one.
func HasBegunEncrypted(seen *v1alpha1.NodeStorage, t Target) bool {
	found := encryptedOn(seen, t)
	return found != nil && found.ID < 0
}

func encryptedOn(seen *v1alpha1.NodeStorage, t Target) *v1alpha1.DeviceOSD {
	device := Find(seen, t.Device)
	if device == nil || device.OSD == nil || device.OSD.UUID != t.UUID || !device.OSD.Encrypted {
		return nil
	}
	return device.OSD
}
