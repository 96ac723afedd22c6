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
	keyTypeAES256K = 2
	keySize        = 32
)

// NewKey makes a CephX key of type aes256k, the type of Tentacle: type, creation
// time in seconds and nanoseconds, length, secret; little endian.
func NewKey(now time.Time) (Key, error) {
	raw := make([]byte, 12+keySize)
	binary.LittleEndian.PutUint16(raw[0:], keyTypeAES256K)
	binary.LittleEndian.PutUint32(raw[2:], uint32(now.Unix()))
	binary.LittleEndian.PutUint32(raw[6:], uint32(now.Nanosecond()))
	binary.LittleEndian.PutUint16(raw[10:], keySize)
	if _, err := rand.Read(raw[12:]); err != nil {
		return "", fmt.Errorf("make a CephX key: %w", err)
	}
	return Key(base64.StdEncoding.EncodeToString(raw)), nil
}
