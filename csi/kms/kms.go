// Package kms keeps the passphrases of encrypted volumes. Each volume has a
// random one of its own, with which librbd encrypts the image (LUKS2). A provider
// wraps it, and the image's metadata keeps what comes out: who reads the image
// alone reads nothing.
package kms

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/kms/secret"
	"github.com/cairn-storage/cairn/csi/kms/vault"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// MetadataKey is where an image's metadata keeps its record.
const MetadataKey = "cairn.storage/key"

// Provider wraps passphrases. What it wraps for one volume it does not unwrap for
// another.
type Provider interface {
	// Wrap makes of a passphrase what may be kept beside the data.
	Wrap(ctx context.Context, volume string, passphrase []byte) (string, error)
	// Unwrap undoes Wrap.
	Unwrap(ctx context.Context, volume, wrapped string) ([]byte, error)
	// Forget ends what the provider itself keeps of a passphrase; nothing is fine.
	Forget(ctx context.Context, volume, wrapped string) error
}

// Use says how a volume is to be encrypted.
type Use struct {
	// KMS is the ID of a configuration; empty is the Secret provider.
	KMS string
	// Secrets of the CSI request.
	Secrets map[string]string
}

// Keys makes and opens the passphrases of volumes.
type Keys struct {
	// Source of configurations; nil has none, so that only Secrets wrap.
	Source Source

	clients vault.Clients
}

// New makes a volume's passphrase, and its record for the image's metadata.
func (k *Keys) New(ctx context.Context, volume string, use Use) (ceph.Passphrase, string, error) {
	var random [32]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", "", fmt.Errorf("make a passphrase: %w", err)
	}
	passphrase := ceph.Passphrase(hex.EncodeToString(random[:]))
	record, err := k.wrap(ctx, volume, use, passphrase)
	return passphrase, record, err
}

func (k *Keys) wrap(ctx context.Context, volume string, use Use, passphrase ceph.Passphrase) (string, error) {
	name, provider, err := k.provider(ctx, use)
	if err != nil {
		return "", err
	}
	step.Enter(ctx, "wrap the volume's key with "+describe(name, use.KMS))
	wrapped, err := provider.Wrap(ctx, volume, []byte(passphrase))
	if err != nil {
		return "", fmt.Errorf("wrap the key of volume %s with %s: %w", volume, describe(name, use.KMS), err)
	}
	return record{Version: recordVersion, KMS: use.KMS, Provider: name, Volume: volume, Wrapped: wrapped}.encode()
}

// Open returns the passphrase that a volume's record has.
func (k *Keys) Open(ctx context.Context, volume, text string, secrets map[string]string) (ceph.Passphrase, error) {
	r, err := parseRecord(text)
	if err != nil {
		return "", err
	}
	if r.Volume != volume {
		return "", fault.Errorf(fault.Refused, "the key in the image's metadata is that of volume %s, not of %s", r.Volume, volume)
	}
	return k.unwrap(ctx, r, secrets)
}

func (k *Keys) unwrap(ctx context.Context, r record, secrets map[string]string) (ceph.Passphrase, error) {
	provider, err := k.providerOf(ctx, r, secrets)
	if err != nil {
		return "", err
	}
	step.Enter(ctx, "unwrap the volume's key with "+describe(r.Provider, r.KMS))
	passphrase, err := provider.Unwrap(ctx, r.Volume, r.Wrapped)
	if err != nil {
		return "", fmt.Errorf("unwrap the key of volume %s with %s: %w", r.Volume, describe(r.Provider, r.KMS), err)
	}
	if len(passphrase) == 0 {
		return "", fault.Errorf(fault.Refused, "the key of volume %s is empty", r.Volume)
	}
	return ceph.Passphrase(passphrase), nil
}

// Copy wraps the passphrase of a record anew for another volume: a clone has its
// parent's passphrase, and must not lose it when the parent's is forgotten.
func (k *Keys) Copy(ctx context.Context, text, volume string, use Use) (ceph.Passphrase, string, error) {
	r, err := parseRecord(text)
	if err != nil {
		return "", "", err
	}
	passphrase, err := k.unwrap(ctx, r, use.Secrets)
	if err != nil {
		return "", "", err
	}
	record, err := k.wrap(ctx, volume, use, passphrase)
	return passphrase, record, err
}

// IDOf returns the ID of the KMS that a record was made with, empty for a Secret.
func IDOf(text string) (string, error) {
	r, err := parseRecord(text)
	return r.KMS, err
}

// Forget ends what a provider keeps for a record, when its image is removed: the
// volume's data is unreadable from then on, wherever a copy of it is.
func (k *Keys) Forget(ctx context.Context, text string) error {
	r, err := parseRecord(text)
	if err != nil {
		return err
	}
	if r.KMS == "" {
		return nil // it is in the image's metadata, and goes with it
	}
	provider, err := k.providerOf(ctx, r, nil)
	if err != nil {
		return err
	}
	step.Enter(ctx, "forget the volume's key in "+describe(r.Provider, r.KMS))
	if err := provider.Forget(ctx, r.Volume, r.Wrapped); err != nil {
		return fmt.Errorf("forget the key of volume %s in %s: %w", r.Volume, describe(r.Provider, r.KMS), err)
	}
	return nil
}

// providerOf returns the provider that a record was made with.
func (k *Keys) providerOf(ctx context.Context, r record, secrets map[string]string) (Provider, error) {
	name, provider, err := k.provider(ctx, Use{KMS: r.KMS, Secrets: secrets})
	if err != nil {
		return nil, err
	}
	if name != r.Provider {
		return nil, fault.Errorf(fault.Refused, "the key of volume %s was wrapped with %s, but %q is configured as %s now", r.Volume, r.Provider, r.KMS, name)
	}
	return provider, nil
}

func (k *Keys) provider(ctx context.Context, use Use) (string, Provider, error) {
	if use.KMS == "" {
		p, err := secret.New(use.Secrets)
		return secret.Name, p, err
	}
	if k.Source == nil {
		return "", nil, fault.Errorf(fault.Refused, "there is no configuration of KMS %q", use.KMS)
	}
	step.Enter(ctx, "read the configuration of KMS "+use.KMS)
	config, err := k.Source.Config(ctx, use.KMS)
	if err != nil {
		return "", nil, err
	}
	client, err := k.clients.For(config.Connection)
	if err != nil {
		return "", nil, err
	}
	if config.Provider == vault.TransitName {
		return config.Provider, vault.Transit{Client: client, Mount: config.Mount, Key: config.Key}, nil
	}
	return config.Provider, vault.KV{Client: client, Mount: config.Mount, Prefix: config.Prefix}, nil
}

func describe(provider, id string) string {
	if id == "" {
		return provider
	}
	return provider + " of KMS " + id
}
