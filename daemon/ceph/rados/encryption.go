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
func createEncrypted(ioctx *rados.IOContext, name string, spec ceph.ImageSpec) error {
	exists := create(ioctx, name, spec, spec.Size+luks.DataOffset)
	if exists != nil && !errors.Is(exists, rbd.ErrExist) {
		return exists
	}
	id, err := imageID(ioctx, name)
	if err != nil {
		return err
	}
	if exists != nil {
		begun, err := unfinished(ioctx, id)
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

// format writes the LUKS2 header, makes the image spec.Size long beside it, and
// returns the header's size: what the image is longer than asked for.
func format(ioctx *rados.IOContext, id, name string, spec ceph.ImageSpec) (int64, error) {
	if err := resize(ioctx, name, spec.Size+spareHeader); err != nil {
		return 0, err
	}
	image, err := rbd.OpenImage(ioctx, name, rbd.NoSnapshot)
	if err != nil {
		return 0, err
	}
	err = image.EncryptionFormat(rbd.EncryptionOptionsLUKS2{Alg: rbd.EncryptionAlgorithmAES256, Passphrase: []byte(spec.Passphrase)})
	if err == nil {
		err = image.Resize(uint64(spec.Size))
	}
	if err := errors.Join(err, image.Close()); err != nil {
		return 0, err
	}
	now, err := readHeader(ioctx, id, noSnapshot)
	if err != nil {
		return 0, err
	}
	if now.size <= spec.Size {
		return 0, ceph.Errorf(ceph.Unexpected, "format", "%d bytes have no room for the header", now.size)
	}
	return now.size - spec.Size, nil
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
