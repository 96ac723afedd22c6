package rados

import (
	"errors"
	"strconv"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// spareHeader is room for the header while an image is formatted; it is cut to
// what the header takes.
const spareHeader = 32 << 20

// headerSize returns the bytes that encryption takes at an image's beginning.
func headerSize(metadata map[string]string) int64 {
	size, _ := strconv.ParseInt(metadata[encryptionKey], 10, 64)
	return size
}

// createEncrypted makes an encrypted image. Its metadata says that it is not
// formatted until it is: a create that was cut short is taken up again.
func createEncrypted(ioctx *rados.IOContext, name string, spec ceph.ImageSpec) error {
	exists := create(ioctx, name, spec, spec.Size+spareHeader)
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
	header, err := format(ioctx, name, spec)
	if err != nil {
		return err
	}
	metadata := own(id, spec.Metadata)
	metadata[encryptionKey] = strconv.FormatInt(header, 10)
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
// returns the header's size.
func format(ioctx *rados.IOContext, name string, spec ceph.ImageSpec) (int64, error) {
	image, err := rbd.OpenImage(ioctx, name, rbd.NoSnapshot)
	if err != nil {
		return 0, err
	}
	header, err := formatImage(image, spec)
	return header, errors.Join(err, image.Close())
}

func formatImage(image *rbd.Image, spec ceph.ImageSpec) (int64, error) {
	raw, err := image.GetSize()
	if err != nil {
		return 0, err
	}
	passphrase := []byte(spec.Passphrase)
	if err := image.EncryptionFormat(rbd.EncryptionOptionsLUKS2{Alg: rbd.EncryptionAlgorithmAES256, Passphrase: passphrase}); err != nil {
		return 0, err
	}
	usable, err := image.GetSize()
	if err != nil {
		return 0, err
	}
	if usable != uint64(spec.Size) {
		err = image.Resize(uint64(spec.Size))
	}
	return int64(raw - usable), err
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
