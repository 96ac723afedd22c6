package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// DBMissing is a DB device that is not there, or without the database of its OSD.
const DBMissing = "DBMissing"

// databaseOf is how BlueStore describes a DB device in its label.
const databaseOf = "bluefs db"

// isDatabaseOf says that a label is of the DB device of an OSD.
func (l *label) isDatabaseOf(uuid string) bool {
	return l != nil && l.damaged == "" && l.description == databaseOf && l.uuid == uuid
}

// database locks the DB device of a request, if there is one, and makes sure that it
// has the OSD's database, or may get it.
func (p *Preparer) database(ctx context.Context, request Request, data block, outcome Outcome) (*device, error) {
	if request.DB == "" {
		return nil, nil
	}
	b, err := p.find(request.DB)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, request.refusedDB(DBMissing, "the node does not have it, and osd.%d does not start without it", request.ID)
	}
	if err != nil {
		return nil, err
	}
	if b.name == data.name {
		return nil, request.refusedDB(OtherOSD, "it is the device of osd.%d itself", request.ID)
	}
	d, err := lockDevice(ctx, p.host, b, p.patience)
	if err != nil {
		return nil, fmt.Errorf("prepare DB device %s: %w", request.DB, err)
	}
	if err := p.decideDB(ctx, request, outcome, b, d); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (p *Preparer) decideDB(ctx context.Context, request Request, outcome Outcome, b block, d *device) error {
	found, err := d.label()
	if err != nil {
		return fmt.Errorf("prepare DB device %s: %w", request.DB, err)
	}
	uses, err := readUses(p.host)
	if err != nil {
		return err
	}
	use := uses.of(b)
	if found.isDatabaseOf(request.UUID) {
		if outcome != Activated && use != "" {
			return request.refusedDB(judgeLabel(*found).reason, "the database of osd.%d, and %s", request.ID, use)
		}
		return nil
	}
	looker := newContents(p.host)
	looker.locked = true
	v := judge(ctx, looker, b, use)
	switch {
	case outcome == Activated && v.usable():
		return request.refusedDB(DBMissing, "it is blank, though osd.%d has its database there: is it the right device? Without its database an OSD is lost, and is to be replaced", request.ID)
	case outcome == Activated:
		return request.refusedDB(DBMissing, "it does not have the database of osd.%d (%s), but: %s", request.ID, request.UUID, v.message)
	case !v.usable():
		return request.refusedDB(v.reason, "%s", v.message)
	}
	return nil
}

func (r Request) refusedDB(reason, format string, args ...any) error {
	return &RefusedError{Device: r.DB, Reason: reason, Message: "as DB device: " + fmt.Sprintf(format, args...)}
}

// verifyDB makes sure that mkfs put the database where it was to be.
func (r Request) verifyDB(db *device) error {
	if db == nil {
		return nil
	}
	found, err := db.label()
	if err != nil {
		return fmt.Errorf("verify the database of osd.%d on %s: %w", r.ID, r.DB, err)
	}
	if !found.isDatabaseOf(r.UUID) {
		return fmt.Errorf("verify the database of osd.%d on %s: ceph-osd --mkfs ended well, but the device does not bear its label", r.ID, r.DB)
	}
	return nil
}

// grown says that a device has more than BlueStore uses of it.
func (d *device) grown() (bool, error) {
	if d == nil {
		return false, nil
	}
	found, err := d.label()
	if err != nil || found == nil {
		return false, err
	}
	return found.size > 0 && found.size < d.size, nil
}

// Close ends the locks on a device; one that is not there has none.
func (d *device) Close() error {
	if d == nil {
		return nil
	}
	return d.File.Close()
}
