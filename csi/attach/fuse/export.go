package fuse

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Export is an image as one open file of the kernel.
type Export interface {
	// File is the open file. Who binds it to a device closes it then.
	File() *os.File
	// Done is closed when the kernel has let go of the file.
	Done() <-chan struct{}
}

// Exporter makes an image a file. What serves the file's requests is behind it.
type Exporter func(ctx context.Context, image ceph.Image, dir string, readOnly bool) (Export, error)

type export struct {
	file *os.File
	done chan struct{}
}

func (e *export) File() *os.File        { return e.file }
func (e *export) Done() <-chan struct{} { return e.done }

// maxBackground is how many requests the kernel may have in flight at once.
const maxBackground = 256

// Serve exports an image through go-fuse. The filesystem is mounted below dir
// only until its file is open: nothing but that file refers to it afterwards, so
// that it goes with the device, and nobody else can open it.
func Serve(_ context.Context, image ceph.Image, dir string, readOnly bool) (Export, error) {
	mountpoint := filepath.Join(dir, "mnt")
	if err := os.MkdirAll(mountpoint, 0o700); err != nil {
		return nil, fmt.Errorf("make the mount point of the image: %w", err)
	}
	name := fileName()
	server, err := gofuse.NewServer(newFilesystem(image, name, readOnly), mountpoint, &gofuse.MountOptions{
		Name: "cairn", FsName: "cairn",
		DirectMountStrict: true,
		DisableXAttrs:     true,
		DisableSplice:     true, // a pipe is too small for the largest reads
		ExtraCapabilities: gofuse.CAP_ASYNC_DIO,
		MaxWrite:          1 << 20,
		MaxBackground:     maxBackground,
	})
	if err != nil {
		return nil, fmt.Errorf("mount the image's file: %w", err)
	}
	e := &export{done: make(chan struct{})}
	go func() { server.Serve(); close(e.done) }()
	e.file, err = open(filepath.Join(mountpoint, name), readOnly)
	if unmounted := unix.Unmount(mountpoint, unix.MNT_DETACH); unmounted != nil {
		err = errors.Join(err, fmt.Errorf("detach the image's mount: %w", unmounted))
	}
	if err != nil {
		if e.file != nil {
			err = errors.Join(err, e.file.Close())
		}
		return nil, err
	}
	return e, nil
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
