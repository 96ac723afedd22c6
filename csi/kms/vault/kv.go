package vault

import (
	"context"
	"errors"
	"net/http"
	"regexp"

	"github.com/google/uuid"

	"github.com/cairn-storage/cairn/csi/fault"
)

// KV keeps the passphrase itself in Vault, in the KV engine of version 2: what
// the image has is the name of an entry. To delete the entry is to shred the
// volume and every copy of it.
type KV struct {
	Client *Client
	// Mount of the engine, and the path in it below which entries are.
	Mount, Prefix string
}

// entryForm is the name of an entry: random, so that a volume that is made anew
// under an old name does not meet the entry of the old one.
var entryForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

type entry struct {
	Volume     string `json:"volume"`
	Passphrase string `json:"passphrase"`
}

// Wrap puts a passphrase into a new entry.
func (k KV) Wrap(ctx context.Context, volume string, passphrase []byte) (string, error) {
	name := uuid.NewString()
	body := map[string]any{
		"data":    entry{Volume: volume, Passphrase: string(passphrase)},
		"options": map[string]int{"cas": 0}, // only where nothing is
	}
	var answer struct {
		Data struct {
			Version int `json:"version"`
		} `json:"data"`
	}
	err := k.Client.do(ctx, call{method: http.MethodPost, path: k.path("data", name), body: body, secrets: []string{string(passphrase)}}, &answer)
	if err == nil && answer.Data.Version != 1 {
		err = fault.Errorf(fault.Unavailable, "Vault %s did not say that the key was written", k.Client.connection.Address)
	}
	if err != nil {
		return "", err
	}
	return name, nil
}

// Unwrap reads a passphrase.
func (k KV) Unwrap(ctx context.Context, volume, wrapped string) ([]byte, error) {
	if !entryForm.MatchString(wrapped) {
		return nil, fault.Errorf(fault.Refused, "%q is not the name of an entry", wrapped)
	}
	var answer struct {
		Data struct {
			Data entry `json:"data"`
		} `json:"data"`
	}
	err := k.Client.do(ctx, call{method: http.MethodGet, path: k.path("data", wrapped)}, &answer)
	if errors.Is(err, errNotFound) {
		return nil, fault.Errorf(fault.Refused, "the key was deleted from Vault: the volume's data cannot be read any more: %w", err)
	}
	if err != nil {
		return nil, err
	}
	if got := answer.Data.Data.Volume; got != volume {
		return nil, fault.Errorf(fault.Refused, "the entry is of volume %q", got)
	}
	return []byte(answer.Data.Data.Passphrase), nil
}

// Forget deletes an entry with all its versions and metadata.
func (k KV) Forget(ctx context.Context, _, wrapped string) error {
	if !entryForm.MatchString(wrapped) {
		return fault.Errorf(fault.Refused, "%q is not the name of an entry", wrapped)
	}
	err := k.Client.do(ctx, call{method: http.MethodDelete, path: k.path("metadata", wrapped)}, nil)
	if errors.Is(err, errNotFound) {
		return nil
	}
	return err
}

func (k KV) path(kind, name string) string {
	return k.Mount + "/" + kind + "/" + k.Prefix + "/" + name
}
