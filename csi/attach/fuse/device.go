package fuse

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// descriptors are what a volume's data path is made of, beside the image: what
// the keeper has of it.
type descriptors struct {
	// device is /dev/fuse, the server's end of the image's file.
	device *os.File
	// log is memory: what was acknowledged and is not yet stable.
	log *os.File
	// secrets is memory: what the image is opened with.
	secrets *os.File
}

func (d descriptors) files() []*os.File { return []*os.File{d.device, d.log, d.secrets} }

func (d descriptors) close() error {
	var errs []error
	for _, file := range d.files() {
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	return errors.Join(errs...)
}

// secrets are what of a volume must not be written anywhere but into memory.
type secrets struct {
	Credentials ceph.Credentials `json:"credentials"`
	Passphrase  ceph.Passphrase  `json:"passphrase,omitempty"`
}

func newDescriptors(v attach.Volume) (d descriptors, err error) {
	if d.device, err = openDevice(); err != nil {
		return d, err
	}
	if d.log, err = memory("cairn-log", nil); err == nil {
		d.secrets, err = keep(secrets{v.Credentials, v.Passphrase})
	}
	if err != nil {
		return d, errors.Join(err, d.close())
	}
	return d, nil
}

func openDevice() (*os.File, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/fuse: %w", err)
	}
	return os.NewFile(uintptr(fd), "/dev/fuse"), nil
}

// keep puts secrets into a file in memory that cannot be changed.
func keep(s secrets) (*os.File, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode what opens the image: %w", err)
	}
	file, err := memory("cairn-secrets", raw)
	if err != nil {
		return nil, err
	}
	const sealed = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, sealed); err != nil {
		return nil, errors.Join(fmt.Errorf("seal what opens the image: %w", err), file.Close())
	}
	return file, nil
}

func readSecrets(file *os.File) (s secrets, err error) {
	info, err := file.Stat()
	if err != nil {
		return s, fmt.Errorf("read what opens the image: %w", err)
	}
	raw := make([]byte, info.Size())
	if _, err := file.ReadAt(raw, 0); err != nil {
		return s, fmt.Errorf("read what opens the image: %w", err)
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, errors.New("what opens the image cannot be read") // the cause would show it
	}
	return s, nil
}

// memory makes a file that is in memory alone and has no name.
func memory(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	file := os.NewFile(uintptr(fd), name)
	if _, err := file.WriteAt(content, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("write a file in memory: %w", err), file.Close())
	}
	return file, nil
}

// expose mounts the image's filesystem below dir only until its file is open:
// nothing but that file refers to it afterwards, so that it goes with the block
// device, and nobody else can open it. Meanwhile serve begins to answer.
func expose(device *os.File, dir, name string, readOnly bool, serve func() error) (file *os.File, err error) {
	mountpoint := filepath.Join(dir, "mnt")
	if err := os.MkdirAll(mountpoint, 0o700); err != nil {
		return nil, fmt.Errorf("make the mount point of the image: %w", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", device.Fd())
	if err := unix.SetNonblock(int(device.Fd()), true); err != nil { // Fd made it blocking
		return nil, fmt.Errorf("prepare the FUSE device: %w", err)
	}
	if err := unix.Mount("cairn", mountpoint, "fuse.cairn", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOATIME, options); err != nil {
		return nil, fmt.Errorf("mount the image's file: %w", err)
	}
	if err = serve(); err == nil {
		file, err = open(filepath.Join(mountpoint, name), readOnly)
	}
	if unmounted := unix.Unmount(mountpoint, unix.MNT_DETACH); unmounted != nil {
		err = errors.Join(err, fmt.Errorf("detach the image's mount: %w", unmounted))
	}
	if err != nil && file != nil {
		err = errors.Join(err, file.Close())
	}
	return file, err
}

// open opens the file without Go's poller, which must not wait on a filesystem
// that this process serves.
func open(path string, readOnly bool) (*os.File, error) {
	flags := unix.O_RDWR
	if readOnly {
		flags = unix.O_RDONLY
	}
	fd, err := unix.Open(path, flags|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the image's file: %w", err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// fileName makes a name for the file that no other attachment has, on no node:
// a loop device is known to be this process's by it.
func fileName() string { return "cairn-" + uuid.NewString() }
