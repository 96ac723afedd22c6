package fuse

import (
	"errors"
	"io"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// filesystem has one directory with one file in it: the image.
type filesystem struct {
	gofuse.RawFileSystem
	image    ceph.Image
	name     string
	readOnly bool
}

const (
	fileInode = 2
	// zeroChunk is the largest range that one call to librbd zeroes.
	zeroChunk = 1 << 30
)

func newFilesystem(image ceph.Image, name string, readOnly bool) *filesystem {
	return &filesystem{RawFileSystem: gofuse.NewDefaultRawFileSystem(), image: image, name: name, readOnly: readOnly}
}

// Lookup finds the one file.
func (f *filesystem) Lookup(_ <-chan struct{}, header *gofuse.InHeader, name string, out *gofuse.EntryOut) gofuse.Status {
	if header.NodeId != gofuse.FUSE_ROOT_ID || name != f.name {
		return gofuse.ENOENT
	}
	out.NodeId = fileInode
	return f.attr(fileInode, &out.Attr)
}

// GetAttr is not cached (its timeout is zero): the image may grow.
func (f *filesystem) GetAttr(_ <-chan struct{}, in *gofuse.GetAttrIn, out *gofuse.AttrOut) gofuse.Status {
	return f.attr(in.NodeId, &out.Attr)
}

func (f *filesystem) attr(inode uint64, attr *gofuse.Attr) gofuse.Status {
	attr.Ino, attr.Nlink, attr.Blksize = inode, 1, 4096
	if inode == gofuse.FUSE_ROOT_ID {
		attr.Mode = unix.S_IFDIR | 0o500
		return gofuse.OK
	}
	size, err := f.image.Size()
	if err != nil {
		return status("size", err)
	}
	attr.Mode, attr.Size, attr.Blocks = unix.S_IFREG|0o600, uint64(size), uint64(size)/512
	return gofuse.OK
}

// SetAttr changes nothing: the image alone has its size.
func (f *filesystem) SetAttr(_ <-chan struct{}, in *gofuse.SetAttrIn, out *gofuse.AttrOut) gofuse.Status {
	if in.Valid&gofuse.FATTR_SIZE != 0 {
		return gofuse.EPERM
	}
	return f.attr(in.NodeId, &out.Attr)
}

// Open lets requests past the page cache, and writes beside each other.
func (f *filesystem) Open(_ <-chan struct{}, in *gofuse.OpenIn, out *gofuse.OpenOut) gofuse.Status {
	if f.readOnly && in.Flags&unix.O_ACCMODE != unix.O_RDONLY {
		return gofuse.EROFS
	}
	out.OpenFlags = gofuse.FOPEN_DIRECT_IO | gofuse.FOPEN_PARALLEL_DIRECT_WRITES
	return gofuse.OK
}

func (f *filesystem) Read(_ <-chan struct{}, in *gofuse.ReadIn, buf []byte) (gofuse.ReadResult, gofuse.Status) {
	n, err := f.image.ReadAt(buf, int64(in.Offset))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, status("read", err)
	}
	return gofuse.ReadResultData(buf[:n]), gofuse.OK
}

func (f *filesystem) Write(_ <-chan struct{}, in *gofuse.WriteIn, data []byte) (uint32, gofuse.Status) {
	n, err := f.image.WriteAt(data, int64(in.Offset))
	if err != nil {
		return uint32(n), status("write", err)
	}
	return uint32(n), gofuse.OK
}

// Fsync is what makes acknowledged writes durable.
func (f *filesystem) Fsync(_ <-chan struct{}, _ *gofuse.FsyncIn) gofuse.Status {
	return status("flush", f.image.Flush())
}

// Flush is called when a descriptor is closed, and promises nothing.
func (f *filesystem) Flush(<-chan struct{}, *gofuse.FlushIn) gofuse.Status { return gofuse.OK }

func (f *filesystem) Release(<-chan struct{}, *gofuse.ReleaseIn) {}

// Fallocate frees or zeroes a range. A hole must read as zeroes: the loop driver
// punches one to write zeroes too, and Ceph's discard may leave the edges of a
// range as they were. Its zeroing frees what it can.
func (f *filesystem) Fallocate(_ <-chan struct{}, in *gofuse.FallocateIn) gofuse.Status {
	switch in.Mode &^ unix.FALLOC_FL_KEEP_SIZE {
	case unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE:
		return status("zero", f.zero(int64(in.Offset), int64(in.Length)))
	}
	return gofuse.Status(syscall.EOPNOTSUPP)
}

func (f *filesystem) zero(offset, length int64) error {
	for length > 0 {
		n := min(length, zeroChunk)
		if err := f.image.WriteZeroes(offset, n); err != nil {
			return err
		}
		offset, length = offset+n, length-n
	}
	return nil
}

func (f *filesystem) StatFs(_ <-chan struct{}, _ *gofuse.InHeader, out *gofuse.StatfsOut) gofuse.Status {
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, 255
	return gofuse.OK
}

// status gives an error of the image the errno that the block layer sees.
func status(op string, err error) gofuse.Status {
	if err == nil {
		return gofuse.OK
	}
	klog.ErrorS(err, "I/O failed", "operation", op)
	switch ceph.KindOf(err) {
	case ceph.Fenced:
		return gofuse.Status(syscall.ESHUTDOWN)
	case ceph.Full:
		return gofuse.Status(syscall.ENOSPC)
	case ceph.Busy:
		return gofuse.EROFS
	}
	return gofuse.EIO
}
