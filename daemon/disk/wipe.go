package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
	"unsafe"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// WipeRequest says whose disks may be emptied: those of one cluster's OSDs.
type WipeRequest struct {
	FSID string
	// OSDs are UUIDs of the cluster's OSDs. The disk of one whose preparation has
	// not finished bears no cluster yet, and is told by its UUID alone.
	OSDs []string
	// Every also takes OSDs of the cluster that are not among them.
	Every bool
	// DBOnly empties the DB devices of the OSDs, and leaves the OSDs' own.
	DBOnly bool
	// Devices are stable paths on which those OSDs are expected: one that cannot be
	// read is an error, where any other disk is nobody's business.
	Devices []string
}

// Wiper empties disks of OSDs that are no more.
type Wiper struct {
	host     Host
	patience time.Duration
	feed     feeder
}

// NewWiper makes a wiper for the disks of a host.
func NewWiper(host Host) *Wiper { return &Wiper{host: host, patience: patience, feed: feed} }

// Wipe empties every disk of the node that bears an OSD of the request, and no
// other: the label is read again once the disk is held exclusively. It returns
// the stable names of what it emptied, goes on where one disk fails, and may be
// interrupted anywhere and repeated: the label at the begin is the last that goes,
// and that of a DB device, which does not name its cluster, before its OSD's.
func (w *Wiper) Wipe(ctx context.Context, request WipeRequest) (wiped []string, err error) {
	if err := request.check(); err != nil {
		return nil, err
	}
	blocks, err := listBlocks(w.host)
	if err != nil {
		return nil, err
	}
	expected := w.kernelNames(request.Devices)
	labels, errs := w.labels(ctx, blocks)
	request.learn(labels)
	slices.SortStableFunc(blocks, func(a, b block) int { return rank(labels[a.name]) - rank(labels[b.name]) })
	var failed []error
	left := request.damaged(labels) // OSDs that may have a database which is not emptied
	for _, b := range blocks {
		found, err := labels[b.name], errs[b.name]
		switch {
		case err != nil && slices.Contains(expected, b.name):
			failed = append(failed, fmt.Errorf("wipe device %s: it cannot be read, so nothing shows whose it is: %w", stablePath(b), err))
		case err != nil, found == nil:
		case found.damaged != "" && slices.Contains(request.OSDs, found.uuid) && (!request.DBOnly || found.description != mainDevice):
			failed = append(failed, fmt.Errorf("wipe device %s: its label names OSD %s, but is damaged (%s), so nothing shows whose it is", stablePath(b), found.uuid, found.damaged))
		case request.covers(found) && found.description == mainDevice && left[found.uuid]: // its failure is said, and it is found by this label
		case request.covers(found):
			if err := w.wipe(ctx, request, b); err != nil {
				left[found.uuid] = found.description == databaseOf
				failed = append(failed, fmt.Errorf("wipe device %s: %w", stablePath(b), err))
				continue
			}
			wiped = append(wiped, stablePath(b))
		}
	}
	return wiped, errors.Join(failed...)
}

func (r *WipeRequest) check() error {
	for _, text := range append([]string{r.FSID}, r.OSDs...) {
		if id, err := uuid.Parse(text); err != nil || id == uuid.Nil || id.String() != text {
			return fmt.Errorf("wipe: %q is not a UUID", text)
		}
	}
	return nil
}

// covers says that a label is of an OSD of the request.
func (r *WipeRequest) covers(l *label) bool {
	named := slices.Contains(r.OSDs, l.uuid)
	if l.description == databaseOf {
		return named && l.isDatabaseOf(l.uuid)
	}
	return !r.DBOnly && l.damaged == "" && l.description == mainDevice && (l.fsid == r.FSID && (named || r.Every) || l.fsid == "" && named)
}

// learn adds the OSDs that are covered without being named: their DB devices bear
// nothing but their UUIDs.
func (r *WipeRequest) learn(labels map[string]*label) {
	r.OSDs = slices.Clone(r.OSDs)
	for _, l := range labels {
		if l != nil && l.description == mainDevice && r.covers(l) {
			r.OSDs = append(r.OSDs, l.uuid)
		}
	}
}

// damaged are the OSDs of the request that a damaged label names: it may be that of a DB device.
func (r *WipeRequest) damaged(labels map[string]*label) map[string]bool {
	osds := map[string]bool{}
	for _, l := range labels {
		if l != nil && l.damaged != "" && slices.Contains(r.OSDs, l.uuid) {
			osds[l.uuid] = true
		}
	}
	return osds
}

// rank of a disk in the order in which they are emptied.
func rank(l *label) int {
	if l != nil && l.description == databaseOf {
		return 0
	}
	return 1
}

// labels of disks, and why some cannot be read, by kernel name.
func (w *Wiper) labels(ctx context.Context, blocks []block) (labels map[string]*label, errs map[string]error) {
	labels, errs = map[string]*label{}, map[string]error{}
	for _, b := range blocks {
		if found, err := w.label(ctx, b); err != nil {
			errs[b.name] = err
		} else {
			labels[b.name] = found
		}
	}
	return labels, errs
}

// kernelNames of stable paths; what is not plugged in has none.
func (w *Wiper) kernelNames(paths []string) (names []string) {
	for _, path := range paths {
		if target, err := filepath.EvalSymlinks(path); err == nil {
			names = append(names, filepath.Base(target))
		}
	}
	return names
}

// label reads a disk's label, or gives up on a disk that does not answer.
func (w *Wiper) label(ctx context.Context, b block) (*label, error) {
	type answer struct {
		found *label
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		found, err := newContents(w.host).label(b)
		answers <- answer{found, err}
	}()
	ctx, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	select {
	case a := <-answers:
		return a.found, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("no answer within %s: %w", w.patience, ctx.Err())
	}
}

// wipe empties one disk, unless it turns out to be in use or another's.
func (w *Wiper) wipe(ctx context.Context, request WipeRequest, b block) error {
	lock, err := lockDevice(ctx, w.host, b, w.patience)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if b, err = w.unmapped(ctx, request, b, lock); err != nil {
		return err
	}
	d, err := openDeviceFor(w.host, b, os.O_RDWR|unix.O_EXCL)
	if errors.Is(err, unix.EBUSY) {
		return errors.New("another program has opened the device for itself: does its OSD still run?")
	}
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	uses, err := readUses(w.host)
	if err != nil {
		return err
	}
	if use := uses.of(b); use != "" {
		return errors.New(use)
	}
	found, err := d.label()
	if err != nil {
		return err
	}
	if found == nil || !request.covers(found) {
		return errors.New("it bears another label than a moment ago: nothing was written")
	}
	if err := d.erase(ctx); err != nil {
		return err
	}
	return d.verifyBlank()
}

// unmapped ends the mapping of an encrypted disk that an OSD left behind.
func (w *Wiper) unmapped(ctx context.Context, request WipeRequest, b block, lock *device) (block, error) {
	found, err := lock.label()
	if err != nil || found == nil || !found.encrypted || !request.covers(found) {
		return b, err
	}
	if err := unmap(ctx, w.host, w.feed, found.uuid); err != nil {
		return b, err
	}
	return findBlock(w.host, b.name)
}

// erased is how much is overwritten at the begin and the end of a disk, and
// where copies of its label are.
const erased = 4 << 20

// erase gives the disk's space back where it can, and overwrites all by which
// anybody knows an OSD. What still tells whose the disk is goes last.
func (d *device) erase(ctx context.Context) error {
	if err := errors.Join(d.zero(max(erased, d.size-erased), erased), d.zero(labelSize, erased-labelSize)); err != nil {
		return err
	}
	if err := d.discard(ctx, erased, d.size-erased); err != nil {
		return err
	}
	for _, position := range labelPositions[1:] {
		if err := d.zero(position, erased); err != nil {
			return err
		}
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := errors.Join(d.zero(0, labelSize), d.Sync()); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// zero overwrites a range, as far as the disk has it.
func (d *device) zero(offset, length int64) error {
	for end := min(offset+length, d.size); offset < end; {
		n, err := d.WriteAt(zeros[:min(int64(len(zeros)), end-offset)], offset)
		if err != nil {
			return fmt.Errorf("write at offset %d: %w", offset, err)
		}
		offset += int64(n)
	}
	return nil
}

// discard gives a range back to the disk, piece by piece. Not every disk can, and
// nothing depends on it.
func (d *device) discard(ctx context.Context, from, to int64) error {
	const piece = 1 << 30
	for ; from < to; from += piece {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("interrupted: %w", err)
		}
		extent := [2]uint64{uint64(from), uint64(min(piece, to-from))}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), unix.BLKDISCARD, uintptr(unsafe.Pointer(&extent))); errno != 0 {
			return nil
		}
	}
	return nil
}

func (d *device) verifyBlank() error {
	found, err := d.label()
	if err != nil {
		return err
	}
	head, err := d.read(0, headSize)
	if err != nil {
		return err
	}
	tail, err := d.read(max(0, d.size-tailSize), tailSize)
	if err != nil {
		return err
	}
	if found != nil || !isZero(head) || !isZero(tail) {
		return errors.New("it was overwritten, but reads as if it was not")
	}
	return nil
}
