package disk

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Outcome is what Prepare did.
type Outcome string

const (
	// Created is a new OSD on a blank device.
	Created Outcome = "created"
	// Recreated is an OSD whose first preparation was interrupted.
	Recreated Outcome = "created again after an interruption"
	// Activated is an OSD that was there: only its directory was made.
	Activated Outcome = "activated"
)

// RefusedError says why a device is left as it is.
type RefusedError struct {
	Device  string
	Reason  string // one of the API's reasons, or OtherOSD or NotPrepared
	Message string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("device %s is refused: %s: %s", e.Device, e.Reason, e.Message)
}

// The reasons for a refusal that only Prepare has.
const (
	// OtherOSD is on the device in place of the one that was asked for.
	OtherOSD = "OtherOSD"
	// NotPrepared is a device without the OSD that must be there.
	NotPrepared = "NotPrepared"
)

// Preparer makes OSDs on devices.
type Preparer struct {
	host     Host
	run      func(ctx context.Context, name string, args ...string) error
	feed     feeder
	patience time.Duration
}

// NewPreparer makes a preparer for the devices of a host.
func NewPreparer(host Host) *Preparer {
	return &Preparer{host: host, run: run, feed: feed, patience: patience}
}

// Prepare brings the request's OSD to its directory: activates it when the
// device bears it, makes it when the device is blank, and else refuses and
// changes nothing. It may be interrupted anywhere and repeated.
func (p *Preparer) Prepare(ctx context.Context, request Request) (Outcome, error) {
	request, err := request.checked(p.host)
	if err != nil {
		return "", err
	}
	b, err := p.find(request.Device)
	if err != nil {
		return "", err
	}
	d, err := lockDevice(ctx, p.host, b, p.patience)
	if err != nil {
		return "", fmt.Errorf("prepare device %s: %w", request.Device, err)
	}
	defer func() { _ = d.Close() }()
	if b, err = p.release(ctx, request, b); err != nil {
		return "", err
	}
	outcome, err := p.decide(ctx, request, b, d)
	if err != nil {
		return "", err
	}
	if request.Key != "" {
		return outcome, p.encrypted(ctx, request, b, outcome)
	}
	db, err := p.database(ctx, request, b, outcome)
	if err != nil {
		return "", err
	}
	defer func() { _ = db.Close() }()
	if outcome != Activated {
		if err := p.create(ctx, request, d, db); err != nil {
			return "", err
		}
	}
	return outcome, p.activate(ctx, request, d, db)
}

// find resolves the stable name and reads what the kernel says of the device.
func (p *Preparer) find(device string) (block, error) {
	if device == p.host.node(filepath.Base(ClaimDevice)) {
		return readClaim(p.host, device)
	}
	path, err := filepath.EvalSymlinks(device)
	if err != nil {
		return block{}, fmt.Errorf("find device: %w", err)
	}
	b, err := findBlock(p.host, filepath.Base(path))
	if err != nil {
		return block{}, fmt.Errorf("find device %s: %w", device, err)
	}
	return b, nil
}

// ErrLocked is of a device that another program prepares, wipes or serves from.
var ErrLocked = errors.New("another program has kept it locked")

// lockRetry is how often a taken lock is tried for.
const lockRetry = 100 * time.Millisecond

// lockDevice waits until nobody else prepares, wipes or serves from the device, but not
// for longer than its patience: an error is seen, and the try is repeated. The lock lasts
// until the device is closed.
func lockDevice(ctx context.Context, host Host, b block, patience time.Duration) (*device, error) {
	d, err := openDevice(host, b)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%w for %s", ErrLocked, patience))
	defer cancel()
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	for {
		ok, err := d.lock(unix.LOCK_EX)
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		if ok {
			return d, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), d.Close())
		}
	}
}

// decide reads the device as it is now and says what is to be done.
func (p *Preparer) decide(ctx context.Context, request Request, b block, d *device) (Outcome, error) {
	found, err := d.label()
	if err != nil {
		return "", fmt.Errorf("prepare device %s: %w", request.Device, err)
	}
	uses, err := readUses(p.host)
	if err != nil {
		return "", err
	}
	if found != nil {
		return decideLabelled(request, *found, uses.of(b))
	}
	looker := newContents(p.host)
	looker.locked = true
	return decideUnlabelled(request, judge(ctx, looker, b, uses.of(b)))
}

func decideLabelled(request Request, l label, use string) (Outcome, error) {
	v := judgeLabel(l)
	ours := l.damaged == "" && l.description == mainDevice && l.uuid == request.UUID &&
		(l.fsid == request.FSID || l.fsid == "") && (l.id == request.ID || l.id == unfinished)
	switch {
	case !ours:
		return "", request.refused(OtherOSD, "it holds %s, not osd.%d (%s) of cluster %s", v.message, request.ID, request.UUID, request.FSID)
	case l.encrypted && request.Key == "":
		return "", request.refused(Encrypted, "%s is encrypted, and its Secret has no key. Restore the Secret that it was made with from a backup", v.message)
	case !l.encrypted && request.Key != "":
		return "", request.refused(NotEncrypted, "%s is not encrypted, though its Secret has a key", v.message)
	case l.complete():
		return Activated, nil
	case use != "":
		return "", request.refused(v.reason, "%s, and %s", v.message, use)
	case request.ActivateOnly:
		return "", request.refused(NotPrepared, "%s, though osd.%d has served data: it is not made anew", v.message, request.ID)
	}
	return Recreated, nil
}

func decideUnlabelled(request Request, v verdict) (Outcome, error) {
	switch {
	case !v.usable():
		return "", request.refused(v.reason, "%s", v.message)
	case request.ActivateOnly:
		return "", request.refused(NotPrepared, "it is blank, though osd.%d has served data: is it the right device? An OSD whose data is lost is to be removed from the cluster, not made anew", request.ID)
	}
	return Created, nil
}
