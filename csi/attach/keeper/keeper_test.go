package keeper

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/fault"
)

type state struct{ Text string }

// run runs a keeper behind a socket until the returned function is called.
func run(t *testing.T, socket string) (stop func()) {
	listener, err := Listen(socket)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- new(Server).Serve(ctx, listener) }()
	return func() {
		cancel()
		require.NoError(t, <-served)
	}
}

func file(t *testing.T, content string) *os.File {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	require.NoError(t, err)
	_, err = f.WriteString(content)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

// has checks an entry's state and what its descriptors lead to.
func has(t *testing.T, c *Client, name, text string, contents ...string) {
	t.Helper()
	var s state
	files, found, err := c.Get(t.Context(), name, &s)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, text, s.Text)
	require.Len(t, files, len(contents))
	for i, want := range contents {
		got := make([]byte, len(want))
		_, err := files[i].ReadAt(got, 0)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
		require.NoError(t, files[i].Close())
	}
}

func TestEntries(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "keeper.sock")
	defer run(t, socket)()
	info, err := os.Stat(socket)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	c, ctx := &Client{Socket: socket}, t.Context()
	one, two := file(t, "one"), file(t, "two")
	require.NoError(t, c.Put(ctx, "a", state{"first"}, one, two))
	has(t, c, "a", "first", "one", "two")
	require.NoError(t, c.Put(ctx, "a", state{"second"}, two))
	require.NoError(t, c.Put(ctx, "b", state{}))
	has(t, &Client{Socket: socket}, "a", "second", "two")
	names, err := c.List(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, names)
	for range 2 {
		require.NoError(t, c.Drop(ctx, "a"))
	}
	_, found, err := c.Get(ctx, "a", &state{})
	require.NoError(t, err)
	require.False(t, found)
	require.ErrorContains(t, c.Put(ctx, "c", state{strings.Repeat("x", maxMessage)}), "too large")
	_, _, err = c.call(ctx, request{Op: "burn"}, nil)
	require.Equal(t, fault.Refused, fault.KindOf(err))
}

// A keeper that comes after one that died gets what the client has put, and one
// that was not reached loses what was dropped meanwhile.
func TestFollow(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "keeper.sock")
	stop := run(t, socket)
	c, ctx := &Client{Socket: socket}, t.Context()
	one := file(t, "one")
	require.NoError(t, c.Put(ctx, "a", state{"kept"}, one))
	require.NoError(t, c.Put(ctx, "b", state{}))
	stop()
	require.Equal(t, fault.Unavailable, fault.KindOf(c.Drop(ctx, "b")))
	require.Equal(t, fault.Unavailable, fault.KindOf(c.Put(ctx, "c", state{})))
	require.Equal(t, fault.Unavailable, fault.KindOf(c.Holds(ctx)))

	defer run(t, socket)()
	require.NoError(t, (&Client{Socket: socket}).Put(ctx, "b", state{}))
	require.Error(t, c.Holds(ctx), "it has not got it yet")
	following, end := context.WithCancel(ctx)
	defer end()
	go c.Follow(following)
	require.Eventually(t, func() bool {
		names, err := c.List(ctx)
		return err == nil && len(names) == 1 && c.Holds(ctx) == nil
	}, 20*time.Second, time.Millisecond)
	has(t, c, "a", "kept", "one")
}

// A keeper that comes up gets the entries in the order of their names, and none after
// one that it could not be given: what an entry needs is there before it.
func TestFollowKeepsTheOrder(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "keeper.sock")
	stop := run(t, socket)
	c, want := &Client{Socket: socket}, []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	for _, name := range []string{"f", "a", "h", "c", "b", "g", "e", "d"} {
		require.NoError(t, c.Put(t.Context(), name, state{}))
	}
	stop()
	listener, err := Listen(socket)
	require.NoError(t, err)
	order := make(chan []string)
	go func() {
		var names []string
		for len(names) < len(want)-1 { // it dies before the last
			conn, err := listener.AcceptUnix()
			if err != nil {
				break
			}
			var in request
			if _, err = receive(conn, &in); err == nil && in.Op == opPut {
				names = append(names, in.Name)
				if in.Name == "g" {
					_ = conn.Close()
					continue
				}
			}
			_ = send(conn, response{}, nil)
			_ = conn.Close()
		}
		_ = listener.Close() // else who calls it once more would wait
		order <- names
	}()
	require.Error(t, c.sync(t.Context()))
	require.Equal(t, want[:7], <-order)
}

func TestClaim(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "keeper.sock")
	defer run(t, socket)()
	before, c := &Client{Socket: socket}, &Client{Socket: socket}
	require.NoError(t, before.Put(t.Context(), "a", state{"x"}))
	require.NoError(t, c.Claim("a", state{"x"}))
	require.NoError(t, c.sync(t.Context()))
	has(t, c, "a", "x")
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "lock")
	locked, err := Locked(path)
	require.NoError(t, err)
	require.False(t, locked)
	require.NoError(t, Lock(t.Context(), path))
	locked, err = Locked(path)
	require.NoError(t, err)
	require.True(t, locked)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, Lock(ctx, path), context.Canceled)
}
