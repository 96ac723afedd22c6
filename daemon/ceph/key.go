package ceph

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"
)

// Key is a CephX secret in the base64 form of a keyring. It prints as "***".
type Key string

func (Key) String() string { return "***" }

// GoString keeps the secret out of %#v.
func (Key) GoString() string { return "***" }

// MarshalLog keeps the secret out of structured logs.
func (Key) MarshalLog() any { return "***" }

// Reveal returns the secret itself, for a keyring or a Secret's data.
func (k Key) Reveal() string { return string(k) }

// The key types of CephX (src/include/ceph_fs.h: CEPH_CRYPTO_*).
const (
	keyTypeAES     = 1
	keyTypeAES256K = 2
	legacyKeySize  = 16
	keySize        = 32
)

// NewKey makes a CephX key of type aes256k, the type of Tentacle.
func NewKey(now time.Time) (Key, error) { return newKey(now, keyTypeAES256K, keySize) }

// NewLegacyKey makes a CephX key of type aes, which releases before Tentacle know.
func NewLegacyKey(now time.Time) (Key, error) { return newKey(now, keyTypeAES, legacyKeySize) }

// Legacy reports whether a key is of the type that releases before Tentacle know.
func (k Key) Legacy() bool {
	raw, err := base64.StdEncoding.DecodeString(string(k))
	return err == nil && len(raw) > 2 && binary.LittleEndian.Uint16(raw) == keyTypeAES
}

// newKey makes a key: type, creation time in seconds and nanoseconds, length,
// secret; little endian.
func newKey(now time.Time, keyType, size uint16) (Key, error) {
	raw := make([]byte, 12+size)
	binary.LittleEndian.PutUint16(raw[0:], keyType)
	binary.LittleEndian.PutUint32(raw[2:], uint32(now.Unix()))
	binary.LittleEndian.PutUint32(raw[6:], uint32(now.Nanosecond()))
	binary.LittleEndian.PutUint16(raw[10:], size)
	if _, err := rand.Read(raw[12:]); err != nil {
		return "", fmt.Errorf("make a CephX key: %w", err)
	}
	return Key(base64.StdEncoding.EncodeToString(raw)), nil
}
