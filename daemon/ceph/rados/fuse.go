package rados

/*
#cgo CFLAGS: -O2 -D_FILE_OFFSET_BITS=64
#cgo LDFLAGS: -lrbd -lpthread
#include <stdlib.h>
#include "fuse.h"
*/
import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"github.com/ceph/go-ceph/rbd"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

var _ ceph.FUSEServer = (*image)(nil)

// session is an image served by fuse.c.
type session struct {
	op   string
	hold *holder // nil where nobody has to be let in
	done chan struct{}

	mu     sync.Mutex
	served *C.struct_cairn_fuse // nil after Stop
}

// ServeFUSE serves the image through FUSE, in threads of its own.
func (i *image) ServeFUSE(o ceph.FUSEOptions) (ceph.FUSESession, error) {
	op := "serve " + i.op
	var events [2]int
	if err := unix.Pipe2(events[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, &ceph.Error{Kind: ceph.Unexpected, Op: op, Err: err}
	}
	told := os.NewFile(uintptr(events[0]), "events of "+i.op)
	served, err := newSession(handle(i.rbd), o, events[1])
	if err != nil {
		_, _ = told.Close(), unix.Close(events[1])
		return nil, wrap(op, err)
	}
	s := &session{served: served, op: i.op, done: make(chan struct{})}
	if s.hold, err = newHolder(i.rbd, served, i.op); err == nil {
		err = s.start(o)
	}
	if err != nil {
		_ = s.hold.close()
		C.cairn_fuse_free(served)
		_ = told.Close()
		return nil, wrap(op, err)
	}
	go s.listen(told)
	return s, nil
}

func newSession(image C.rbd_image_t, o ceph.FUSEOptions, events int) (*C.struct_cairn_fuse, error) {
	name := C.CString(o.File)
	defer C.free(unsafe.Pointer(name))
	options := C.struct_cairn_fuse_options{
		device: C.int(o.Device.Fd()), log: C.int(o.Log.Fd()), events: C.int(events),
		read_only: C.bool(o.ReadOnly), write_back: C.bool(o.WriteBack && !o.ReadOnly), name: name,
	}
	// Fd made the device blocking.
	if err := unix.SetNonblock(int(options.device), true); err != nil {
		return nil, fmt.Errorf("prepare the FUSE device: %w", err)
	}
	var served *C.struct_cairn_fuse
	err := failed(C.cairn_fuse_new(image, &options, &served))
	runtime.KeepAlive(o)
	return served, err
}

func (s *session) start(o ceph.FUSEOptions) error {
	if o.Resume {
		if err := failed(C.cairn_fuse_replay(s.served)); err != nil {
			return fmt.Errorf("replay what was acknowledged: %w", err)
		}
	}
	return failed(C.cairn_fuse_start(s.served, C.bool(o.Resend)))
}

// listen logs what failed, until nothing is served any more.
func (s *session) listen(told *os.File) {
	defer close(s.done)
	defer func() { _ = told.Close() }()
	var event [C.sizeof_struct_cairn_fuse_event]byte
	for {
		if _, err := told.Read(event[:]); err != nil {
			return
		}
		opcode, errno := binary.NativeEndian.Uint32(event[:]), int32(binary.NativeEndian.Uint32(event[4:]))
		klog.ErrorS(syscall.Errno(-errno), "I/O failed", "image", s.op, "opcode", opcode)
	}
}

func (s *session) Done() <-chan struct{} { return s.done }

func (s *session) Resends() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served != nil && bool(C.cairn_fuse_resends(s.served))
}

func (s *session) Stop() error {
	C.cairn_fuse_stop(s.served)
	err := errors.Join(s.hold.close(), failed(C.cairn_fuse_flush(s.served)))
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	C.cairn_fuse_free(s.served)
	s.served = nil
	return wrap("flush "+s.op, err)
}

func (s *session) Counters() ceph.FUSECounters {
	s.mu.Lock()
	defer s.mu.Unlock()
	var c C.struct_cairn_fuse_counters
	if s.served != nil {
		C.cairn_fuse_count(s.served, &c)
	}
	return ceph.FUSECounters{Reads: uint64(c.reads), Writes: uint64(c.writes), Flushes: uint64(c.flushes),
		Zeroes: uint64(c.zeroes), Failed: uint64(c.failed), Replayed: uint64(c.replayed)}
}

// handle returns librbd's handle of an image, which go-ceph keeps to itself.
func handle(image *rbd.Image) C.rbd_image_t {
	return C.rbd_image_t(reflect.ValueOf(image).Elem().FieldByName("image").UnsafePointer())
}

// code is an errno as librbd's own errors have it.
type code int

func (c code) Error() string  { return syscall.Errno(-c).Error() }
func (c code) ErrorCode() int { return int(c) }

func failed(result C.int) error {
	if result < 0 {
		return code(result)
	}
	return nil
}
