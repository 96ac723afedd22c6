package rados

import (
	"errors"
	"strconv"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/luks"
)

// headerSize returns the bytes that encryption takes at an image's beginning.
func headerSize(metadata map[string]string) int64 {
	size, _ := strconv.ParseInt(metadata[encryptionKey], 10, 64)
	return size
}

// createEncrypted makes an encrypted image. Its metadata says that it is not
// formatted until it is: a create that was cut short is taken up again.
func (c *conn) createEncrypted(ioctx *rados.IOContext, name string, spec ceph.ImageSpec) error {
	exists := c.anew(ioctx, name, headless, func() error { return create(ioctx, name, spec, spec.Size+luks.DataOffset) })
	if exists != nil && !errors.Is(exists, rbd.ErrExist) {
		return exists
	}
	id, err := imageID(ioctx, name)
	if err != nil {
		return err
	}
	if exists != nil {
		begun, err := unfinished(ioctx, id)
		if errors.Is(err, rados.ErrNotFound) {
			return exists // it is being made, or was cut off
		}
		if err != nil {
			return err
		}
		if !begun {
			return exists
		}
	}
	if err := changeMetadata(ioctx, id, own(id, map[string]string{encryptionKey: unformatted}), nil); err != nil {
		return err
	}
	if err := format(ioctx, id, name, spec); err != nil {
		return err
	}
	metadata := own(id, spec.Metadata)
	metadata[encryptionKey] = strconv.FormatInt(luks.DataOffset, 10)
	return changeMetadata(ioctx, id, metadata, nil)
}

// unfinished says whether an image is one that was not formatted yet.
func unfinished(ioctx *rados.IOContext, id string) (bool, error) {
	now, err := readHeader(ioctx, id, noSnapshot)
	if err != nil {
		return false, err
	}
	if now.metadata[encryptionKey] == unformatted {
		return true, nil
	}
	if len(now.metadata) > 0 {
		return false, nil
	}
	image, err := rbd.OpenImageByIdReadOnly(ioctx, id, rbd.NoSnapshot)
	if err != nil {
		return false, err
	}
	empty := true
	err = image.DiffIterateByID(rbd.DiffIterateByIDConfig{Length: uint64(now.size), IncludeParent: rbd.IncludeParent,
		Callback: func(uint64, uint64, int, any) int { empty = false; return 0 }})
	return empty, errors.Join(err, image.Close())
}

// format makes an image as long as its data and its header are, and writes the
// header.
func format(ioctx *rados.IOContext, id, name string, spec ceph.ImageSpec) error {
	header, err := luks.Header([]byte(spec.Passphrase))
	if err != nil {
		return ceph.Errorf(ceph.Unexpected, "format image "+name, "%w", err)
	}
	image, err := rbd.OpenImageById(ioctx, id, rbd.NoSnapshot)
	if err != nil {
		return err
	}
	size, err := image.GetSize()
	if want := uint64(spec.Size + luks.DataOffset); err == nil && size != want {
		err = image.Resize(want)
	}
	if err == nil {
		_, err = image.WriteAt(header, 0)
	}
	return errors.Join(err, image.Close())
}

// unlock loads an image's encryption, or finds that it has none as its caller
// thinks.
func unlock(image *rbd.Image, passphrase ceph.Passphrase) error {
	const op = "unlock"
	header, err := image.GetMetadata(encryptionKey)
	if err != nil && !errors.Is(err, rbd.ErrNotFound) {
		return err
	}
	switch encrypted := err == nil; {
	case encrypted && header == unformatted:
		return ceph.Errorf(ceph.Invalid, op, "its encryption was never formatted")
	case encrypted != (passphrase != ""):
		return ceph.Errorf(ceph.Invalid, op, "an encrypted image needs a passphrase, a plain one has none")
	case !encrypted:
		return nil
	}
	return image.EncryptionLoad2([]rbd.EncryptionOptions{rbd.EncryptionOptionsLUKS2{Alg: rbd.EncryptionAlgorithmAES256, Passphrase: []byte(passphrase)}})
}
