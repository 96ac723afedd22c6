package krbd

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// explain gives the errno of the kernel's answer its kind.
func explain(op string, err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return &ceph.Error{Kind: ceph.KindOfErrno(int(errno)), Op: op, Err: errno}
	}
	return fmt.Errorf("%s: %w", op, err)
}

// explainMap says why the kernel did not map an image, in any of the ways there were.
func explainMap(v attach.Volume, ways int, err error) error {
	op := "map " + v.Image.String() + " by the kernel"
	switch {
	case keyType(v.Credentials.Key) == aes256k && keyRefused(err):
		return fault.Errorf(fault.Refused, "%s: this node's kernel does not know CephX keys of type aes256k (Linux 7.0 does): "+
			"give client.%s a key of type aes, or attach by --attach-method=fuse: %w", op, v.Credentials.User, err)
	case errors.Is(err, unix.EINVAL) && ways == 1:
		return fault.Errorf(fault.Refused, "%s: this node's kernel refuses it. The cluster is reached by version 2 of the messenger alone, as with spec.network.encryption, "+
			"and Linux knows that from 5.11 on: attach by --attach-method=fuse on an older one: %w", op, err)
	case errors.Is(err, unix.EROFS):
		return ceph.Errorf(ceph.Busy, op, "another client has the image open, and keeps its exclusive lock: %w", err)
	case errors.Is(err, unix.ENXIO):
		return fault.Errorf(fault.Refused, "%s: this node's kernel does not know all of the image's features: %w", op, err)
	}
	return explain(op, err)
}

// explainUnmap says why the kernel did not unmap an image.
func explainUnmap(path string, err error) error {
	if errors.Is(err, unix.EBUSY) {
		return fault.Errorf(fault.Refused, "unmap %s: a process or a mount of this node still uses it: %w", path, err)
	}
	return explain("unmap "+path, err)
}

// aes256k is the type of Tentacle's CephX keys.
const aes256k = 2

// keyType reads the type of a key: its first two bytes.
func keyType(key ceph.Key) uint16 {
	raw, err := base64.StdEncoding.DecodeString(key.Reveal())
	if err != nil || len(raw) < 2 {
		return 0
	}
	return binary.LittleEndian.Uint16(raw)
}

// enotsupp is the kernel's own errno for what it does not support.
const enotsupp = unix.Errno(524)

// keyRefused reports whether an answer may be to a key of a type that the kernel
// does not know.
func keyRefused(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOMEM) || errors.Is(err, enotsupp)
}
