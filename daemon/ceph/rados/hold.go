package rados

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ceph/go-ceph/rados"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// A hold lets a group snapshot be made of images that are in use. RBD makes one
// under the exclusive locks of all members, and a data path keeps its lock from
// everybody who asks. So it is told, by a key in the image's metadata: it answers
// all that it has begun, makes it stable, keeps what comes then, and gives the
// lock away. That the lock is free is its answer. The lock alone says who may
// write, at every moment: whatever ends a hold early makes the group snapshot
// fail, and nothing else. The kernel's client needs no such word: it gives its lock
// away by itself when somebody asks.

const (
	// holdFor is how long a data path lets itself be held.
	holdFor = 10 * time.Second
	// letGoWithin is how long a data path may take to let go.
	letGoWithin = 5 * time.Second
	holdPoll    = 10 * time.Millisecond
	lockName    = "rbd_lock"
)

// holdToken names one hold, and until when somebody may still begin it.
func holdToken(name string, now time.Time) string {
	return strconv.FormatInt(now.Add(holdFor).Unix(), 10) + " " + name
}

// holdExpired reports whether a hold was left behind by somebody who is gone.
// Clocks may differ by some minutes.
func holdExpired(token string, now time.Time) bool {
	until, _, _ := strings.Cut(token, " ")
	seconds, err := strconv.ParseInt(until, 10, 64)
	return err != nil || now.After(time.Unix(seconds, 0).Add(5*time.Minute))
}

// held is an image that is asked to be let go.
type held struct {
	ref ceph.ImageRef
	id  string
}

// hold has the images that are in use let go, all at once. The caller ends it
// by letGo, whatever hold returns.
func (g group) hold(ctx context.Context, images []ceph.ImageRef) (asked []held, err error) {
	token := holdToken(g.ref.Name, time.Now())
	for _, ref := range images {
		err := g.image(ref, func(ioctx *rados.IOContext) error {
			id, err := imageID(ioctx, ref.Name)
			if err != nil {
				return err
			}
			ours, err := attachedByUs(ioctx, id)
			if err != nil || !ours {
				return err
			}
			asked = append(asked, held{ref, id})
			return tellHolder(ioctx, id, map[string]string{holdKey: token}, nil)
		})
		if err != nil {
			return asked, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, letGoWithin)
	defer cancel()
	for _, image := range asked {
		if err := g.untilFree(ctx, image); err != nil {
			return asked, err
		}
	}
	return asked, nil
}

// attachedByUs reports whether Cairn's data path has an image's lock. Any other
// owner gives it away when it is asked for, or is not to be asked.
func attachedByUs(ioctx *rados.IOContext, id string) (bool, error) {
	owned, err := locked(ioctx, id)
	if err != nil || !owned {
		return false, err
	}
	now, err := readHeader(ioctx, id, noSnapshot)
	if err != nil {
		return false, err
	}
	return now.metadata[ceph.AttachmentKey] != "", nil
}

// untilFree waits until nobody has an image's exclusive lock.
func (g group) untilFree(ctx context.Context, image held) error {
	tick := time.NewTicker(holdPoll)
	defer tick.Stop()
	for {
		owned := false
		err := g.image(image.ref, func(ioctx *rados.IOContext) (err error) {
			owned, err = locked(ioctx, image.id)
			return err
		})
		if err != nil || !owned {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ceph.Errorf(ceph.Busy, g.op, "the client that has %s in use has not let go of it for a group snapshot within %s", image.ref, letGoWithin)
		}
	}
}

// letGo ends a hold.
func (g group) letGo(asked []held) error {
	var errs []error
	for _, image := range asked {
		errs = append(errs, g.image(image.ref, func(ioctx *rados.IOContext) error {
			return tellHolder(ioctx, image.id, nil, []string{holdKey})
		}))
	}
	return errors.Join(errs...)
}

func (g group) image(ref ceph.ImageRef, f func(*rados.IOContext) error) error {
	return g.conn.inPool(g.op, ref.PoolID, ref.Namespace, f)
}

// locked reports whether a client has an image's exclusive lock.
func locked(ioctx *rados.IOContext, id string) (bool, error) {
	info, err := ioctx.ListLockers(headerObject+id, lockName)
	if err != nil {
		return false, fmt.Errorf("look who has the image's lock: %w", err)
	}
	return info.NumLockers > 0, nil
}

// tellHolder has who has an image open see a change of its metadata. Who does not
// answer is seen by the lock that it keeps.
func tellHolder(ioctx *rados.IOContext, id string, set map[string]string, remove []string) error {
	err := announceMetadata(ioctx, id, set, remove, letGoWithin)
	if ceph.Is(wrap("", err), ceph.Timeout) {
		return nil
	}
	return err
}
