package monstore

import (
	"encoding/binary"
	"math"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClientIDsOfAStoreOnlyGrow(t *testing.T) {
	b, osd := withOSD(t)
	ctx := t.Context()
	require.NoError(t, os.RemoveAll(b.store("a")))
	c := Collection{Dir: b.dir, Name: "collected-1", FSID: b.fsid, Mons: []string{"a"}}
	maps, err := c.Collect(ctx, []string{osd})
	require.NoError(t, err)
	require.NoError(t, c.Found(ctx, Founder{Name: "a", Endpoint: b.addresses["a"], Epoch: maps.Last, Keyring: b.keyring, MonKeyring: b.keyring}))
	store := b.store("a")
	ids := func() uint64 {
		last, err := number(ctx, store, authPrefix, "last_committed")
		require.NoError(t, err)
		id, err := clientIDs(ctx, store, last)
		require.NoError(t, err)
		return id
	}
	made, err := newestMap(ctx, store)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), made, time.Hour)
	for _, now := range []time.Time{time.Now(), time.Unix(0, 0), time.Now().Add(time.Hour)} { // the clock may be anything
		before := ids()
		require.NoError(t, raiseClientIDs(ctx, store, now))
		require.GreaterOrEqual(t, ids(), max(before, uint64(now.UnixNano()), uint64(made.UnixNano()))+apart)
	}
	begin := ids()
	stop := b.start("a")
	id := b.clientID()
	require.Greater(t, id, int64(begin))
	stop()
	require.Greater(t, ids(), uint64(id), "the mon goes on from there")
}

func TestChangesOfTheClientIDsAreRead(t *testing.T) {
	keys := append([]byte{2, 2, 9, 0, 0, 0}, 1, 0, 0, 0, 7, 7, 7, 7, 7)
	for name, c := range map[string]struct {
		raw []byte
		id  uint64
	}{
		"none":              {append([]byte{1}, keys...), 0},
		"one":               {append([]byte{1}, maxID(math.MaxUint64-1)...), math.MaxUint64 - 1},
		"the last counts":   {append(append(append([]byte{1}, maxID(9)...), keys...), maxID(8)...), 8},
		"of a newer layout": {append([]byte{1, 3, 2, 13, 0, 0, 0, 0, 0, 0, 0}, append(binary.LittleEndian.AppendUint64(nil, 5), 1)...), 5},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := maxIDOf(c.raw)
			require.NoError(t, err)
			require.Equal(t, c.id, id)
		})
	}
	for name, raw := range map[string][]byte{
		"empty": {}, "cut off": {1, 2, 2, 12, 0}, "longer than it is": append([]byte{1}, maxID(5)[:15]...),
		"without a kind": {1, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0}, "without an ID": {1, 2, 2, 4, 0, 0, 0, 0, 0, 0, 0},
		"of a size that no number has": {1, 2, 2, 255, 255, 255, 255, 0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := maxIDOf(raw)
			require.Error(t, err)
		})
	}
}
