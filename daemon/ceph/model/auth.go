package model

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// AddUser has Ceph know a user whose key was made elsewhere: one of those that a
// cluster begins with.
func (c *Cluster) AddUser(entity string, key ceph.Key, caps ceph.Caps) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users[entity] = user{key: key, caps: caps}
}

// Login reports whether Ceph lets a user in with a key: its own, or one that is pending.
func (c *Cluster) Login(entity string, key ceph.Key) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.login(entity, key)
}

func (c *Cluster) login(entity string, key ceph.Key) error {
	known, pending, ok := c.keyOf(entity)
	if !ok || key == "" || key != known && key != pending {
		return ceph.Errorf(ceph.Forbidden, "connect as "+entity, "permission denied")
	}
	return nil
}

// Key of a user that Ceph takes; one that is pending is not it.
func (c *Cluster) Key(entity string) ceph.Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	key, _, _ := c.keyOf(entity)
	return key
}

// keyOf a user, and the one that is pending; false when there is no such user.
func (c *Cluster) keyOf(entity string) (key, pending ceph.Key, ok bool) {
	if uuid := c.uuidOf(entity); uuid != "" {
		return c.keys[uuid], c.pending[entity], true
	}
	known, ok := c.users[entity]
	return known.key, c.pending[entity], ok
}

// uuidOf an OSD by its entity; empty when it is none.
func (c *Cluster) uuidOf(entity string) string {
	number, isOSD := strings.CutPrefix(entity, "osd.")
	id, err := strconv.Atoi(number)
	if !isOSD || err != nil {
		return ""
	}
	for _, osd := range c.osds {
		if osd.ID == id && !osd.Destroyed {
			return osd.UUID
		}
	}
	return ""
}

// SetKeys has Ceph know these users alone, with these keys and none that is pending: as
// mons do whose store was made anew.
func (c *Cluster) SetKeys(keys map[string]ceph.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.pending)
	clear(c.users)
	clear(c.keys)
	for entity, key := range keys {
		if uuid := c.uuidOf(entity); uuid != "" {
			c.keys[uuid] = key
		} else {
			c.users[entity] = user{key: key}
		}
	}
}

// PendingKey returns a user's next key.
func (c *Cluster) PendingKey(ctx context.Context, entity string) (ceph.Key, error) {
	if err := c.enter(ctx, "PendingKey"); err != nil {
		return "", err
	}
	defer c.mu.Unlock()
	key, pending, ok := c.keyOf(entity)
	switch {
	case !ok:
		return "", ceph.Errorf(ceph.NotFound, "auth get-or-create-pending "+entity, "no such user")
	case pending != "":
		return pending, nil
	}
	generate := ceph.NewKey
	if key.Legacy() {
		generate = ceph.NewLegacyKey
	}
	fresh, err := generate(time.Now())
	if err != nil {
		return "", err
	}
	c.pending[entity] = fresh
	return fresh, nil
}

// CommitKey makes a pending key the only one.
func (c *Cluster) CommitKey(ctx context.Context, entity string, key ceph.Key) error {
	if err := c.enter(ctx, "CommitKey"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	known, pending, ok := c.keyOf(entity)
	switch {
	case !ok:
		return ceph.Errorf(ceph.NotFound, "auth get "+entity, "no such user")
	case known == key:
		return nil
	case pending != key:
		return ceph.Errorf(ceph.Invalid, "auth commit-pending "+entity, "Ceph has another key of it")
	}
	delete(c.pending, entity)
	if uuid := c.uuidOf(entity); uuid != "" {
		c.keys[uuid] = key
		return nil
	}
	c.users[entity] = user{key: key, caps: c.users[entity].caps}
	return nil
}
