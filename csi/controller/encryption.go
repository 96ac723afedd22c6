package controller

import (
	"context"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/csi/kms"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Keys makes the keys of encrypted volumes (kms.Keys).
type Keys interface {
	New(ctx context.Context, volume string, use kms.Use) (ceph.Passphrase, string, error)
	Copy(ctx context.Context, record, volume string, use kms.Use) (ceph.Passphrase, string, error)
}

// EncryptedContext is the key in a volume's context that says that it is encrypted.
const EncryptedContext = "encrypted"

// encryption is how the volume that is made is encrypted.
type encryption struct {
	keys Keys
	use  kms.Use
	// record of the image's key; empty until it is made, and for a plain image.
	record string
}

func (p Parameters) checkEncryption() error {
	switch {
	case p.KMS == "":
		return nil
	case !p.Encrypted:
		return fault.Field(fault.Invalid, "parameters.encryptionKMS", "is given, but the volumes are not encrypted")
	}
	if err := kms.CheckID(p.KMS); err != nil {
		return fault.Field(fault.Invalid, "parameters.encryptionKMS", "%q %w", p.KMS, err)
	}
	return nil
}

// key makes the key of an encrypted image, or wraps its parent's anew: a clone
// opens with its parent's passphrase. No key is made for an image that is there.
func (c *creation) key(ctx context.Context, cluster ceph.Block, ref ceph.ImageRef, parent *ceph.ImageInfo) (passphrase ceph.Passphrase, there bool, err error) {
	if err := c.fitParent(parent); err != nil || !c.Encrypted {
		return "", false, err
	}
	if c.encryption.keys == nil {
		return "", false, fault.Field(fault.Refused, "parameters.encrypted", "this process makes no keys")
	}
	step.Enter(ctx, "look for "+ref.String())
	info, err := cluster.ImageInfo(ctx, ref)
	switch {
	case err == nil && info.Metadata[imagemeta.Name] == c.name:
		return "", true, nil
	case err != nil && !ceph.Is(err, ceph.NotFound):
		return "", false, err
	case parent != nil:
		passphrase, err = c.copyKey(ctx, ref, parent)
		return passphrase, false, err
	}
	volume, err := volumeid.ID{FSID: c.FSID, Image: ref}.Encode()
	if err != nil {
		return "", false, err
	}
	passphrase, c.encryption.record, err = c.encryption.keys.New(ctx, volume, c.encryption.use)
	return passphrase, false, err
}

// fitParent refuses a clone that is to be encrypted otherwise than its parent:
// they share their data.
func (c *creation) fitParent(parent *ceph.ImageInfo) error {
	switch {
	case parent == nil || parent.Encrypted == c.Encrypted:
		return nil
	case parent.Encrypted:
		return fault.Field(fault.Invalid, "parameters.encrypted", "the source is encrypted: use a StorageClass with encrypted: \"true\"")
	}
	return fault.Field(fault.Invalid, "parameters.encrypted", "the source is not encrypted, and a volume shares the data of its source")
}

// copyKey wraps the key in an image's metadata for another image.
func (c *creation) copyKey(ctx context.Context, ref ceph.ImageRef, from *ceph.ImageInfo) (passphrase ceph.Passphrase, err error) {
	volume, err := volumeid.ID{FSID: c.FSID, Image: ref}.Encode()
	if err != nil {
		return "", err
	}
	passphrase, c.encryption.record, err = c.encryption.keys.Copy(ctx, from.Metadata[kms.MetadataKey], volume, c.encryption.use)
	return passphrase, err
}

// keepKey makes sure that a clone which is completed has a key of its own: until
// then it has its parent's record.
func (c *creation) keepKey(ctx context.Context, ref ceph.ImageRef, info *ceph.ImageInfo) error {
	if err := c.fitParent(info); err != nil || !c.Encrypted || c.encryption.record != "" {
		return err
	}
	_, err := c.copyKey(ctx, ref, info)
	return err
}

// compareEncryption compares a volume that exists with what is asked for.
func (c *creation) compareEncryption(info *ceph.ImageInfo) error {
	if info.Encrypted != c.Encrypted {
		return fault.Field(fault.Conflict, "parameters.encrypted", "volume %q exists with encrypted: \"%t\"", c.name, info.Encrypted)
	}
	if !c.Encrypted {
		return nil
	}
	id, err := kms.IDOf(info.Metadata[kms.MetadataKey])
	if err != nil {
		return err
	}
	if id != c.KMS {
		return fault.Field(fault.Conflict, "parameters.encryptionKMS", "volume %q exists with %q, asked for is %q", c.name, id, c.KMS)
	}
	return nil
}

// publishContext is what a node needs of an image to attach it.
func publishContext(info *ceph.ImageInfo) map[string]string {
	if record := info.Metadata[kms.MetadataKey]; record != "" {
		return map[string]string{kms.MetadataKey: record}
	}
	return nil
}
