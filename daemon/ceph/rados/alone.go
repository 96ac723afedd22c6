package rados

/*
#cgo LDFLAGS: -lrados
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <rados/librados.h>

// A watch that says it is there, and no more: who asks for the lock asks again.
struct alone {
	rados_ioctx_t io;
	char *object;
	uint64_t handle;
};

static void alone_notified(void *arg, uint64_t id, uint64_t handle, uint64_t from, void *data, size_t length) {
	struct alone *w = arg;
	(void)from, (void)data, (void)length;
	rados_notify_ack(w->io, w->object, id, handle, NULL, 0);
}

static void alone_failed(void *arg, uint64_t handle, int error) {
	(void)arg, (void)handle, (void)error;
}

static int alone_watch(rados_ioctx_t io, const char *object, struct alone **out) {
	struct alone *w = calloc(1, sizeof *w);
	if (w == NULL || (w->object = strdup(object)) == NULL) {
		free(w);
		return -ENOMEM;
	}
	w->io = io;
	int r = rados_watch2(io, w->object, &w->handle, alone_notified, alone_failed, w);
	if (r < 0) {
		rados_watch_flush(rados_ioctx_get_cluster(io));
		free(w->object);
		free(w);
		return r;
	}
	*out = w;
	return 0;
}

static int alone_unwatch(struct alone *w) {
	int r = rados_unwatch2(w->io, w->handle);
	rados_watch_flush(rados_ioctx_get_cluster(w->io));
	free(w->object);
	free(w);
	return r;
}
*/
import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// A snapshot of an image that nobody has open is made here, in a third of the
// operations that librbd takes to open the image for it. What is done, and in what
// state a client that comes meanwhile finds the image, is as with librbd
// (src/librbd/operation/SnapshotCreateRequest.cc): this is a client that watches
// the header and holds the exclusive lock for as long as it takes. Whatever is
// unusual is left to librbd.
const (
	objectMap    = "rbd_object_map." // + the image's ID, and the snapshot's
	lockTag      = "internal"        // of the clients that watch the header
	exclusive    = 1                 // the type of a lock
	needed       = rbd.FeatureExclusiveLock | rbd.FeatureObjectMap | rbd.FeatureFastDiff
	understood   = needed | rbd.FeatureLayering | rbd.FeatureDeepFlatten | rbd.FeatureOperations
	userSnapshot = 0 // the namespace of snapshots that somebody asked for
)

// alone makes snapshots of an image that nobody has open.
type alone struct {
	ioctx *rados.IOContext
	ref   ceph.ImageRef
	id    string // of the image
	*header
}

// snapshotAlone makes a snapshot, or finds the one that has the name. It returns nil
// when librbd is to do it: nothing was changed then.
func snapshotAlone(op string, ioctx *rados.IOContext, ref ceph.ImageRef, name string) (*ceph.SnapshotInfo, error) {
	id, err := imageID(ioctx, ref.Name)
	if err != nil {
		return nil, err
	}
	a := alone{ioctx: ioctx, ref: ref, id: id}
	snaps, plain, err := a.look()
	if err != nil {
		return nil, err
	}
	if info, err := a.named(name, snaps); info != nil || err != nil {
		return info, ignoreNotFound(err) // one of them was removed just now: librbd looks anew
	}
	if !plain {
		return nil, nil
	}
	if err := unwatched(op, ioctx, id); err != nil {
		if ceph.KindOf(err) == ceph.Busy {
			return nil, nil
		}
		return nil, err
	}
	return a.snapshot(op, name)
}

// look reads the header in one operation: the image's snapshots, and whether all
// about it is plain. What is left to librbd are other features, a lock that is
// held, and an object map that is not right.
func (a *alone) look() (snaps []uint64, plain bool, err error) {
	none := binary.LittleEndian.AppendUint64(nil, noSnapshot)
	op := rados.CreateReadOp()
	defer op.Release()
	steps := []*rados.ReadOpExecStep{
		op.Exec("rbd", "get_size", none),
		op.Exec("rbd", "get_features", append(slices.Clone(none), 1)),
		op.Exec("rbd", "get_flags", none),
		op.Exec("lock", "get_info", versioned(appendText(nil, lockName))),
		op.Exec("rbd", "get_snapcontext", nil),
		op.Exec("rbd", "metadata_list", binary.LittleEndian.AppendUint64(appendText(nil, ""), 0)),
	}
	if err := op.Operate(a.ioctx, headerObject+a.id, rados.OperationNoFlag); err != nil {
		return nil, false, err
	}
	raw := make([][]byte, len(steps))
	for i, least := range []int{9, 16, 8, 10, 12, 4} {
		if raw[i], err = steps[i].Bytes(); err != nil {
			return nil, false, err
		}
		if len(raw[i]) < least {
			return nil, false, errShort
		}
	}
	if len(raw[4]) != 12+8*int(binary.LittleEndian.Uint32(raw[4][8:])) {
		return nil, false, errShort
	}
	for list := raw[4][12:]; len(list) > 0; list = list[8:] {
		snaps = append(snaps, binary.LittleEndian.Uint64(list))
	}
	known, err := decodeMetadata(raw[5])
	a.header = &header{size: int64(binary.LittleEndian.Uint64(raw[0][1:])), object: 1 << (raw[0][0] & 63), metadata: known}
	has, wrong, locks := binary.LittleEndian.Uint64(raw[1]), binary.LittleEndian.Uint64(raw[2]), binary.LittleEndian.Uint32(raw[3][6:])
	return snaps, has&needed == needed && has&^understood == 0 && wrong == 0 && locks == 0, err
}

// versioned is a structure as Ceph encodes it: version, compatible version, length.
func versioned(body []byte) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte{1, 1}, uint32(len(body))), body...)
}

func (a *alone) snapshot(op, name string) (info *ceph.SnapshotInfo, err error) {
	snap, err := a.allocate()
	if err != nil {
		return nil, err
	}
	watching, err := a.watch()
	if err != nil {
		return nil, err
	}
	// What holds a lock and does not watch counts as dead: the lock goes first.
	defer func() { err = errors.Join(err, watching.end()) }()
	cookie := watching.cookie()
	if err := a.lock(cookie); err != nil {
		if unknown(op, err) {
			return nil, errors.Join(err, a.unlock(cookie))
		}
		return nil, nil
	}
	info, err = a.whileLocked(op, name, cookie, snap)
	return info, errors.Join(err, a.unlock(cookie))
}

// watcher watches an image's header.
type watcher struct{ c *C.struct_alone }

func (a *alone) watch() (watcher, error) {
	object := C.CString(headerObject + a.id)
	defer C.free(unsafe.Pointer(object))
	var w watcher
	if err := failed(C.alone_watch(C.rados_ioctx_t(a.ioctx.Pointer()), object, &w.c)); err != nil {
		return w, fmt.Errorf("watch image %s: %w", a.id, err)
	}
	return w, nil
}

// cookie is what a lock of this client has: it leads to the watch.
func (w watcher) cookie() string { return "auto " + strconv.FormatUint(uint64(w.c.handle), 10) }

func (w watcher) end() error { return failed(C.alone_unwatch(w.c)) }

// unknown says whether a change that failed may have been made all the same.
func unknown(op string, err error) bool {
	kind := ceph.KindOf(wrap(op, err))
	return kind == ceph.Timeout || kind == ceph.Fenced || kind == ceph.Unreached
}

// allocate has the mons give out the ID of a snapshot. One that is not used is
// not given back: no data can refer to it.
func (a *alone) allocate() (uint64, error) {
	var snap C.rados_snap_t
	err := failed(C.rados_ioctx_selfmanaged_snap_create(C.rados_ioctx_t(a.ioctx.Pointer()), &snap))
	return uint64(snap), err
}

func (a *alone) change(object string, steps ...func(*rados.WriteOp)) error {
	op := rados.CreateWriteOp()
	defer op.Release()
	for _, step := range steps {
		step(op)
	}
	return op.Operate(a.ioctx, object, rados.OperationNoFlag)
}

// lockOf encodes what names the lock.
func lockOf(cookie string) []byte {
	return appendText(appendText(append(appendText(nil, lockName), exclusive), cookie), lockTag)
}

func (a *alone) lock(cookie string) error {
	// no description, no end (seconds and nanoseconds), no flags
	body := append(appendText(lockOf(cookie), ""), make([]byte, 9)...)
	return a.change(headerObject+a.id, func(op *rados.WriteOp) { op.AssertExists(); op.Exec("lock", "lock", versioned(body)) })
}

// unlock tries twice: whoever finds the lock of a client that does not watch any
// more cuts that client off.
func (a *alone) unlock(cookie string) (err error) {
	for range 2 {
		if _, err = a.ioctx.Unlock(headerObject+a.id, lockName, cookie); err == nil {
			return nil
		}
	}
	return err
}

// whileLocked does what changes the image, in librbd's order: an object map that is
// made first would be left by who is cut off, as an object that nothing leads to.
// Cut off after the snapshot is there, a later difference to it shows more than was
// changed.
func (a *alone) whileLocked(op, name, cookie string, snap uint64) (*ceph.SnapshotInfo, error) {
	if err := a.add(name, cookie, snap); err != nil {
		if unknown(op, err) {
			return nil, err
		}
		return nil, nil
	}
	version, err := a.copyMap(snap)
	if err != nil {
		return nil, err
	}
	if err := a.beginAnew(version); err != nil {
		return nil, err
	}
	info, err := a.named(name, []uint64{snap})
	if err != nil {
		return nil, err
	}
	// Who opened the image meanwhile is to know of the snapshot before it can write.
	_, _, err = a.ioctx.NotifyWithTimeout(headerObject+a.id, headerUpdate(), answerTime)
	if ceph.KindOf(wrap(op, err)) == ceph.Timeout {
		err = nil // as with librbd: a client that does not answer is no reason to fail
	}
	return info, err
}

// beginAnew has the image's object map tell what is written from now on. Nobody else
// changes or locks the map while the image's lock is held.
func (a *alone) beginAnew(version uint64) error {
	return a.change(objectMap+a.id, func(op *rados.WriteOp) {
		op.AssertVersion(version)
		op.Exec("rbd", "object_map_snap_add", nil)
	})
}

func (a *alone) mapOf(snap uint64) string { return fmt.Sprintf("%s%s.%016x", objectMap, a.id, snap) }

// copyMap writes a snapshot's object map, and returns the version of the image's.
func (a *alone) copyMap(snap uint64) (uint64, error) {
	objects, version, err := a.readMap()
	if err != nil {
		return 0, err
	}
	return version, a.ioctx.WriteFull(a.mapOf(snap), objects)
}

// readMap returns the object map of the image as it is, and the version of it.
func (a *alone) readMap() ([]byte, uint64, error) {
	// Two bits an object, four bytes of checksum for each 4 KiB of them, and a header.
	size := (a.size/a.object+1)/4 + 64
	data := make([]byte, size+size/512+4096)
	n, err := a.ioctx.Read(objectMap+a.id, data, 0)
	if err != nil {
		return nil, 0, err
	}
	if n == len(data) {
		return nil, 0, ceph.Errorf(ceph.Unexpected, "read the object map of image "+a.id, "it is longer than %d bytes", n-1)
	}
	version, err := a.ioctx.GetLastVersion()
	return data[:n], version, err
}

// add makes the snapshot known, which is the moment that it is of.
func (a *alone) add(name, cookie string, snap uint64) error {
	body := binary.LittleEndian.AppendUint64(appendText(nil, name), snap)
	body = append(body, versioned(binary.LittleEndian.AppendUint32(nil, userSnapshot))...)
	return a.change(headerObject+a.id, func(op *rados.WriteOp) {
		op.Exec("lock", "assert_locked", versioned(lockOf(cookie)))
		op.Exec("rbd", "snapshot_add", body)
	})
}

// named returns the snapshot, of those with the given IDs, that has a name and that
// somebody asked for, or nil.
func (a *alone) named(name string, snaps []uint64) (*ceph.SnapshotInfo, error) {
	if len(snaps) == 0 {
		return nil, nil
	}
	op := rados.CreateReadOp()
	defer op.Release()
	var steps []*rados.ReadOpExecStep
	for _, snap := range snaps {
		steps = append(steps, op.Exec("rbd", "snapshot_get", binary.LittleEndian.AppendUint64(nil, snap)))
	}
	if err := op.Operate(a.ioctx, headerObject+a.id, rados.OperationNoFlag); err != nil {
		return nil, err
	}
	for i, snap := range snaps {
		raw, err := steps[i].Bytes()
		if err != nil {
			return nil, err
		}
		info, err := a.decode(raw, snap)
		if err != nil {
			return nil, err
		}
		if info != nil && info.Name == name {
			return info, nil
		}
	}
	return nil, nil
}

// decode reads what the header says of a snapshot; nil for one that nobody asked for.
func (a *alone) decode(raw []byte, snap uint64) (*ceph.SnapshotInfo, error) {
	const space = 6 + 8 // a head and the ID, then the namespace: a head and a type at least
	if len(raw) < space+6+4 {
		return nil, errShort
	}
	kind := binary.LittleEndian.Uint32(raw[space+6:])
	length := uint64(binary.LittleEndian.Uint32(raw[space+2:]))
	if kind != userSnapshot {
		return nil, nil
	}
	if space+6+length > uint64(len(raw)) {
		return nil, errShort
	}
	name, rest, err := takeText(raw[space+6+length:])
	if err != nil || len(rest) < 8+4+4 { // size, seconds, nanoseconds
		return nil, errShort
	}
	return &ceph.SnapshotInfo{
		Ref:   ceph.SnapshotRef{PoolID: a.ref.PoolID, Namespace: a.ref.Namespace, ImageID: a.id, SnapID: snap},
		Image: a.ref.Name, Name: name, Size: int64(binary.LittleEndian.Uint64(rest)) - headerSize(a.metadata),
		Created: time.Unix(int64(binary.LittleEndian.Uint32(rest[8:])), int64(binary.LittleEndian.Uint32(rest[12:]))),
	}, nil
}
