package monstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"time"
)

// What mons keep in a store of whom they give which ID, under this prefix: a list of
// changes in each version, and all of them up to one in a full version.
const (
	authPrefix  = "auth"
	maxIDChange = 0 // AuthMonitor::GLOBAL_ID
)

// apart is by how much IDs are at least greater than those that a store knows of: it may
// have missed that others were given a range of them, of operator/mon's ClientIDRange.
const apart = 1 << 30

// raiseClientIDs has mons that begin with a store give clients IDs that were never given
// before, however much the store has missed. OSDs remember the requests that they have
// served by the client's ID and a number: of a client with the ID of an earlier one they
// would take new writes for those, and acknowledge what they do not write.
//
// IDs begin at the count of nanoseconds since 1970, or later. Those of earlier mons began
// so too, or at 4096, and each start of a mon takes a range of a quarter of a second.
// It is written past Paxos, which mons that begin alone do not ask about it: other mons
// must take over the whole store when they join.
func raiseClientIDs(ctx context.Context, store string, now time.Time) error {
	last, id, err := nextClientID(ctx, store, now)
	if err != nil {
		return err
	}
	// A version of one change. It counts once the last version is it.
	if err := set(ctx, store, authPrefix, strconv.FormatUint(last+1, 10), append([]byte{1}, maxID(id)...)); err != nil {
		return err
	}
	return setNumber(ctx, store, authPrefix, "last_committed", last+1)
}

// nextClientID is the ID that a store is to be raised to, and the last version of what it
// keeps of them now. Where the clock is behind, the newest OSD map says what time it was.
func nextClientID(ctx context.Context, store string, now time.Time) (last, id uint64, err error) {
	newest, err := newestMap(ctx, store)
	if err != nil {
		return 0, 0, err
	}
	if now.Before(newest) {
		now = newest
	}
	if last, err = number(ctx, store, authPrefix, "last_committed"); err != nil {
		return 0, 0, err
	}
	given, err := clientIDs(ctx, store, last)
	if err != nil {
		return 0, 0, err
	}
	return last, max(uint64(now.UnixNano()), given) + apart, nil
}

// maxID is the change that IDs up to this one are given.
func maxID(id uint64) []byte {
	body := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(nil, maxIDChange), id)
	return append(binary.LittleEndian.AppendUint32([]byte{2, 2}, uint32(len(body))), body...)
}

// clientIDs is up to which ID a store's mons may have given some.
func clientIDs(ctx context.Context, store string, last uint64) (id uint64, err error) {
	full, err := number(ctx, store, authPrefix, "full_latest")
	switch {
	case errors.Is(err, errNoKey): // there is none yet: all changes are there
		if full, err = number(ctx, store, authPrefix, "first_committed"); err != nil {
			return 0, err
		}
		full--
	case err != nil:
		return 0, err
	default:
		raw, err := value(ctx, store, authPrefix, "full_"+strconv.FormatUint(full, 10))
		if err != nil {
			return 0, err
		}
		if len(raw) < 9 {
			return 0, fmt.Errorf("the users' keys in %s have %d bytes", store, len(raw))
		}
		id = binary.LittleEndian.Uint64(raw[1:])
	}
	for version := full + 1; version <= last; version++ {
		raw, err := value(ctx, store, authPrefix, strconv.FormatUint(version, 10))
		if err != nil {
			return 0, err
		}
		changed, err := maxIDOf(raw)
		if err != nil {
			return 0, fmt.Errorf("version %d of the users' keys in %s: %w", version, store, err)
		}
		if changed > 0 {
			id = changed
		}
	}
	return id, nil
}

// maxIDOf is the last maximum that a version sets; 0 for none.
func maxIDOf(raw []byte) (id uint64, err error) {
	if len(raw) == 0 {
		return 0, errors.New("it is empty")
	}
	for rest := raw[1:]; len(rest) > 0; {
		if len(rest) < 10 {
			return 0, fmt.Errorf("it ends in the middle of a change, with %d bytes", len(rest))
		}
		size := int(binary.LittleEndian.Uint32(rest[2:]))
		if size < 4 || size > len(rest)-6 {
			return 0, fmt.Errorf("a change in it has %d bytes, of %d", size, len(rest)-6)
		}
		body := rest[6 : 6+size]
		if rest = rest[6+size:]; binary.LittleEndian.Uint32(body) != maxIDChange {
			continue
		}
		if size < 12 {
			return 0, fmt.Errorf("a change of the IDs in it has %d bytes", size)
		}
		id = binary.LittleEndian.Uint64(body[4:])
	}
	return id, nil
}

var modifiedLine = regexp.MustCompile(`(?m)^modified (\S+)$`)

// newestMap is when the newest OSD map of a store was made.
func newestMap(ctx context.Context, store string) (time.Time, error) {
	last, err := number(ctx, store, "osdmap", "full_latest")
	if err != nil {
		return time.Time{}, err
	}
	raw, err := value(ctx, store, "osdmap", "full_"+strconv.FormatUint(last, 10))
	if err != nil {
		return time.Time{}, err
	}
	var text string
	err = withFile(func(path string) error {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			return err
		}
		text, err = run(ctx, "osdmaptool", "--print", path)
		return err
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("read OSD map %d of %s: %w", last, store, err)
	}
	found := modifiedLine.FindStringSubmatch(text)
	if found == nil {
		return time.Time{}, fmt.Errorf("OSD map %d of %s does not say when it was made", last, store)
	}
	made, err := time.Parse("2006-01-02T15:04:05.999999-0700", found[1])
	if err != nil {
		return time.Time{}, fmt.Errorf("when OSD map %d of %s was made: %w", last, store, err)
	}
	return made, nil
}
