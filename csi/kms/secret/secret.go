// Package secret wraps the keys of volumes with a key from a Kubernetes Secret
// that comes with the CSI request.
package secret

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/cairn-storage/cairn/csi/fault"
)

// Name of the provider.
const Name = "secret"

// Field of the Secret that has the key.
const Field = "encryptionKey"

// minLength of a passphrase, in bytes. 32 random bytes are better.
const minLength = 12

const (
	keySize  = 32
	saltSize = 16
	domain   = "cairn.storage/kms/secret/1"
)

// Provider wraps with one key, by AES-256-GCM. Wrapped is the base64 of salt,
// nonce and what GCM makes, bound to the volume.
type Provider struct {
	// key of 32 bytes, or else a passphrase.
	key, passphrase []byte
}

// New takes the key from the secrets of a CSI request.
func New(secrets map[string]string) (*Provider, error) {
	text := strings.TrimSpace(secrets[Field])
	if text == "" {
		return nil, fault.Field(fault.Invalid, "secrets."+Field, "is missing: name a Secret that has it in the StorageClass, see csi.storage.k8s.io/provisioner-secret-name and csi.storage.k8s.io/node-stage-secret-name")
	}
	if key := random(text); key != nil {
		return &Provider{key: key}, nil
	}
	if len(text) < minLength {
		return nil, fault.Field(fault.Invalid, "secrets."+Field, "is too short: want 32 random bytes in hex or base64, or a passphrase of at least %d bytes", minLength)
	}
	return &Provider{passphrase: []byte(text)}, nil
}

// random returns the 32 bytes that a text is the hex or base64 of, nil when it is not.
func random(text string) []byte {
	for _, decode := range []func(string) ([]byte, error){hex.DecodeString, base64.StdEncoding.DecodeString} {
		if key, err := decode(text); err == nil && len(key) == keySize {
			return key
		}
	}
	return nil
}

// Wrap seals a passphrase for a volume.
func (p *Provider) Wrap(ctx context.Context, volume string, passphrase []byte) (string, error) {
	salt := make([]byte, saltSize)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("make a salt: %w", err)
	}
	gcm, err := p.cipher(ctx, salt)
	if err != nil {
		return "", err
	}
	nonce := make([]byte, gcm.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return "", fmt.Errorf("make a nonce: %w", err)
	}
	sealed := gcm.Seal(append(salt, nonce...), nonce, passphrase, bound(volume))
	return base64.StdEncoding.EncodeToString(sealed), nil
}

// Unwrap opens what Wrap sealed.
func (p *Provider) Unwrap(ctx context.Context, volume, wrapped string) ([]byte, error) {
	sealed, err := base64.StdEncoding.DecodeString(wrapped)
	if err != nil {
		return nil, fault.Errorf(fault.Refused, "the wrapped key is not base64: %w", err)
	}
	if len(sealed) < saltSize {
		return nil, fault.Errorf(fault.Refused, "the wrapped key is cut off")
	}
	gcm, err := p.cipher(ctx, sealed[:saltSize])
	if err != nil {
		return nil, err
	}
	sealed = sealed[saltSize:]
	if len(sealed) < gcm.NonceSize() {
		return nil, fault.Errorf(fault.Refused, "the wrapped key is cut off")
	}
	passphrase, err := gcm.Open(nil, sealed[:gcm.NonceSize()], sealed[gcm.NonceSize():], bound(volume))
	if err != nil {
		return nil, fault.Field(fault.Refused, "secrets."+Field, "does not open the volume's key: another %s was used when the volume was made, or the volume's metadata was changed", Field)
	}
	return passphrase, nil
}

// Forget has nothing to do: the wrapped key goes with the image.
func (p *Provider) Forget(context.Context, string, string) error { return nil }

func bound(volume string) []byte { return []byte(domain + "\x00" + volume) }

func (p *Provider) cipher(ctx context.Context, salt []byte) (cipher.AEAD, error) {
	key, err := p.derive(ctx, salt)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("set up AES: %w", err)
	}
	return cipher.NewGCM(block)
}

// one derivation from a passphrase at a time: each takes 64 MiB.
var one = make(chan struct{}, 1)

// derive makes a key of its own for each salt: from a random key by HKDF, from a
// passphrase by Argon2id with the parameters that RFC 9106 recommends second.
func (p *Provider) derive(ctx context.Context, salt []byte) ([]byte, error) {
	if p.key != nil {
		return hkdf.Key(sha256.New, p.key, salt, domain, keySize)
	}
	select {
	case one <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("derive the key: %w", ctx.Err())
	}
	defer func() { <-one }()
	return argon2.IDKey(p.passphrase, salt, 3, 64<<10, 4, keySize), nil
}
