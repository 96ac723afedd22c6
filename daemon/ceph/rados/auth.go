package rados

import (
	"context"
	"maps"
	"slices"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

type authAnswer []struct {
	Entity  string            `json:"entity"`
	Key     string            `json:"key"`
	Pending string            `json:"pending_key"`
	Caps    map[string]string `json:"caps"`
}

// EnsureUser creates or changes a CephX user and returns its key.
func (c *conn) EnsureUser(ctx context.Context, entity string, caps ceph.Caps) (ceph.Key, error) {
	var found authAnswer
	err := c.ask(ctx, command{"prefix": "auth get", "entity": entity}, &found)
	switch {
	case ceph.Is(err, ceph.NotFound):
		return c.createUser(ctx, entity, caps)
	case err != nil:
		return "", err
	case len(found) != 1:
		return "", ceph.Errorf(ceph.Unexpected, "auth get "+entity, "%d users in the answer", len(found))
	}
	if !maps.Equal(found[0].Caps, caps) {
		if err := c.tell(ctx, command{"prefix": "auth caps", "entity": entity, "caps": flat(caps)}); err != nil {
			return "", err
		}
	}
	return ceph.Key(found[0].Key), nil
}

func (c *conn) createUser(ctx context.Context, entity string, caps ceph.Caps) (ceph.Key, error) {
	var made authAnswer
	cmd := command{"prefix": "auth get-or-create", "entity": entity, "caps": flat(caps)}
	if err := c.ask(ctx, cmd, &made); err != nil {
		return "", err
	}
	if len(made) != 1 || made[0].Key == "" {
		return "", ceph.Errorf(ceph.Unexpected, "auth get-or-create "+entity, "no key in the answer")
	}
	return ceph.Key(made[0].Key), nil
}

// flat turns caps into the list that mon commands take: type, caps, type, caps.
func flat(caps ceph.Caps) []string {
	var list []string
	for _, daemon := range slices.Sorted(maps.Keys(caps)) {
		list = append(list, daemon, caps[daemon])
	}
	return list
}

// RemoveUser deletes a CephX user; none is fine.
func (c *conn) RemoveUser(ctx context.Context, entity string) error {
	err := c.tell(ctx, command{"prefix": "auth rm", "entity": entity})
	if ceph.Is(err, ceph.NotFound) {
		return nil
	}
	return err
}

// PendingKey returns a user's next key.
func (c *conn) PendingKey(ctx context.Context, entity string) (ceph.Key, error) {
	var made authAnswer
	if err := c.ask(ctx, command{"prefix": "auth get-or-create-pending", "entity": entity}, &made); err != nil {
		return "", err
	}
	if len(made) != 1 || made[0].Pending == "" {
		return "", ceph.Errorf(ceph.Unexpected, "auth get-or-create-pending "+entity, "no pending key in the answer")
	}
	return ceph.Key(made[0].Pending), nil
}

// CommitKey makes a pending key the only one.
func (c *conn) CommitKey(ctx context.Context, entity string, key ceph.Key) error {
	var found authAnswer
	if err := c.ask(ctx, command{"prefix": "auth get", "entity": entity}, &found); err != nil {
		return err
	}
	switch {
	case len(found) != 1 || ceph.Key(found[0].Key) != key && ceph.Key(found[0].Pending) != key:
		return ceph.Errorf(ceph.Invalid, "auth commit-pending "+entity, "Ceph has another key of it, and none or another that is pending")
	case ceph.Key(found[0].Key) == key:
		return nil
	}
	return c.tell(ctx, command{"prefix": "auth commit-pending", "entity": entity})
}
