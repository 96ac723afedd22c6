package contract

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// keys: a user's next key is let in beside its present one, and alone once it is committed.
func (s *suite) keys(t *testing.T) {
	const entity = "client.contract-keys"
	_, err := s.conn.PendingKey(s.ctx, entity)
	requireKind(t, ceph.NotFound, err)
	caps := ceph.Caps{"mon": "profile rbd", "osd": "profile rbd pool=x"}
	old, err := s.conn.EnsureUser(s.ctx, entity, caps)
	require.NoError(t, err)
	requireKind(t, ceph.Invalid, s.conn.CommitKey(s.ctx, entity, "another"))
	require.NoError(t, s.conn.CommitKey(s.ctx, entity, old))
	next, err := s.conn.PendingKey(s.ctx, entity)
	require.NoError(t, err)
	require.NotEqual(t, old.Reveal(), next.Reveal())
	again, err := s.conn.PendingKey(s.ctx, entity)
	require.NoError(t, err)
	require.Equal(t, next.Reveal(), again.Reveal(), "asked again it is the same")
	now, err := s.conn.EnsureUser(s.ctx, entity, caps)
	require.NoError(t, err)
	require.Equal(t, old.Reveal(), now.Reveal(), "it is not the key yet")
	require.NoError(t, s.enter(entity, old))
	for range 2 {
		require.NoError(t, s.conn.CommitKey(s.ctx, entity, next))
	}
	require.NoError(t, s.enter(entity, next))
	requireKind(t, ceph.Forbidden, s.enter(entity, old))
	requireKind(t, ceph.Invalid, s.conn.CommitKey(s.ctx, entity, old))
	now, err = s.conn.EnsureUser(s.ctx, entity, caps)
	require.NoError(t, err)
	require.Equal(t, next.Reveal(), now.Reveal())

	// Also before it is committed.
	third, err := s.conn.PendingKey(s.ctx, entity)
	require.NoError(t, err)
	require.NoError(t, s.enter(entity, third))
	require.NoError(t, s.conn.CommitKey(s.ctx, entity, third))
	require.NoError(t, s.conn.RemoveUser(s.ctx, entity))
	requireKind(t, ceph.Forbidden, s.enter(entity, third))
}

// enter connects as a user.
func (s *suite) enter(entity string, key ceph.Key) error {
	cred := s.cred
	cred.User, cred.Key = entity[len("client."):], key
	conn, err := s.connector.Connect(s.ctx, cred, ceph.ConnectOptions{MonTimeout: 20 * time.Second})
	if err != nil {
		return err
	}
	return conn.Close()
}
