package kms

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/kms/secret"
	"github.com/cairn-storage/cairn/csi/kms/vault"
	"github.com/cairn-storage/cairn/csi/volumeid"
)

const recordVersion = 1

// maxRecord is the longest record that is read, in bytes.
const maxRecord = 8192

// record is what an image's metadata keeps of its passphrase. Each provider makes
// sure that what is wrapped belongs to the volume.
type record struct {
	Version int `json:"version"`
	// KMS is the ID of the provider's configuration, empty for a Secret.
	KMS      string `json:"kms,omitempty"`
	Provider string `json:"provider"`
	// Volume is the ID that the passphrase was wrapped for.
	Volume  string `json:"volume"`
	Wrapped string `json:"wrapped"`
}

func (r record) encode() (string, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode the key's record: %w", err)
	}
	return string(raw), nil
}

// parseRecord reads a record. It comes from the image, which others may have
// written to.
func parseRecord(text string) (record, error) {
	var r record
	if len(text) > maxRecord {
		return r, refused("is %d bytes long", len(text))
	}
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return r, refused("cannot be read: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return r, refused("has more than one record")
	}
	return r, r.check()
}

func (r record) check() error {
	if r.Version != recordVersion {
		return refused("is of version %d, which is not known", r.Version)
	}
	switch r.Provider {
	case secret.Name:
		if r.KMS != "" {
			return refused("names a KMS that provider %s does not use", r.Provider)
		}
	case vault.TransitName, vault.KVName:
		if err := CheckID(r.KMS); err != nil {
			return refused("names KMS %q, which %w", r.KMS, err)
		}
	default:
		return refused("names provider %q, which is not known", r.Provider)
	}
	if _, err := volumeid.Parse(r.Volume); err != nil {
		return refused("is of no volume: %w", err)
	}
	if r.Wrapped == "" {
		return refused("is empty")
	}
	return nil
}

func refused(format string, args ...any) error {
	return fault.Errorf(fault.Refused, "the key in the image's metadata ("+MetadataKey+") "+format, args...)
}
