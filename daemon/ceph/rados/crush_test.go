package rados_test

import (
	"context"
	"fmt"
	"math"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/crush"
	"github.com/cairn-storage/cairn/tests/localceph"
)

// placed returns where a cluster keeps its data once it has come to rest: all PGs
// are clean, their reports tell of so many bytes, and they are where CRUSH says.
func placed(t *testing.T, conn ceph.Conn, bytes int64) *ceph.Placement {
	var p *ceph.Placement
	require.Eventually(t, func() bool {
		status, err := conn.Status(t.Context())
		require.NoError(t, err)
		for state := range status.PGs {
			if state != "active+clean" {
				return false
			}
		}
		p, err = conn.Placement(t.Context())
		require.NoError(t, err)
		var told int64
		for _, pg := range p.PGs {
			told += pg.Bytes
		}
		now, err := crush.Predict(t.Context(), p, crush.Change{})
		require.NoError(t, err)
		return len(p.PGs) > 0 && told >= bytes && now[0].Unsure == 0
	}, 2*time.Minute, 200*time.Millisecond, "the PGs come to rest")
	return p
}

// moved is what a cluster has copied to other OSDs between two moments.
func moved(before, after *ceph.Placement) (bytes int64) {
	was := map[string]ceph.PG{}
	for _, pg := range before.PGs {
		was[fmt.Sprint(pg.Pool, ".", pg.Seed)] = pg
	}
	for _, pg := range after.PGs {
		for _, osd := range pg.OSDs {
			if !slices.Contains(was[fmt.Sprint(pg.Pool, ".", pg.Seed)].OSDs, osd) {
				bytes += pg.Bytes
			}
		}
	}
	return bytes
}

// The data of a bed.
const objects, object = 600, 64 << 10

// bed is a cluster with some data in a pool, on OSDs of three hosts, and one OSD in none.
type bed struct {
	t       *testing.T
	cluster *localceph.Cluster
	conn    ceph.Conn
}

func newBed(t *testing.T) *bed {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster, err := localceph.Start(ctx, t.TempDir(), localceph.Options{OSDs: 5})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Stop()) })
	b := &bed{t: t, cluster: cluster}
	for osd, host := range []string{"h0", "h0", "h1", "", "h2"} {
		b.run("ceph", "osd", "crush", "rm", fmt.Sprintf("osd.%d", osd))
		if host != "" {
			b.run("ceph", "osd", "crush", "add", fmt.Sprintf("osd.%d", osd), "0.0039", "root=default", "host="+host)
			b.run("ceph", "osd", "crush", "set-device-class", "hdd", fmt.Sprintf("osd.%d", osd))
		}
	}
	b.conn, _ = connect(t, cluster)
	b.run("ceph", "balancer", "off")
	b.run("ceph", "osd", "pool", "set", "test", "pg_autoscale_mode", "off")
	placed(t, b.conn, 0)
	b.run("rados", "-p", "test", "bench", "20", "--max-objects", fmt.Sprint(objects), "write", "-b", fmt.Sprint(object), "-t", "8", "--no-cleanup")
	return b
}

func (b *bed) run(program string, args ...string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, append([]string{"-c", b.cluster.ConfFile()}, args...)...).CombinedOutput()
	require.NoError(b.t, err, "%s", out)
}

// The arithmetic is checked against what Ceph then does, step by step on one cluster.
func TestWhatCephMovesIsPredicted(t *testing.T) {
	b := newBed(t)
	pool := func(change crush.PoolChange) crush.Change {
		return crush.Change{Pools: map[string]crush.PoolChange{"test": change}}
	}
	spec := ceph.PoolSpec{Name: "test", Size: 2, FailureDomain: "osd", Application: "rbd"}
	ensure := func(change func()) func() {
		return func() {
			change()
			require.NoError(t, b.conn.EnsurePool(t.Context(), spec))
		}
	}
	for _, c := range []struct {
		name   string
		change crush.Change
		do     func()
	}{
		{"an OSD is taken out", crush.Change{In: map[int]float64{2: 0}}, func() { require.NoError(t, b.conn.SetOSDOut(t.Context(), 2, true)) }},
		{"and back in", crush.Change{In: map[int]float64{2: 1}}, func() { require.NoError(t, b.conn.SetOSDOut(t.Context(), 2, false)) }},
		{"an OSD gets the double weight", crush.Change{Weights: map[int]float64{4: 0.0078}}, func() { require.NoError(t, b.conn.SetOSDWeight(t.Context(), 4, 0.0078)) }},
		{"and its old one", crush.Change{Weights: map[int]float64{4: 0.0039}}, func() { require.NoError(t, b.conn.SetOSDWeight(t.Context(), 4, 0.0039)) }},
		{"replicas on different hosts", pool(crush.PoolChange{Size: 2, FailureDomain: "host"}), ensure(func() { spec.FailureDomain = "host" })},
		{"three replicas instead of two", pool(crush.PoolChange{Size: 3}), ensure(func() { spec.Size = 3 })},
		{"an OSD is added on a host", crush.Change{Add: []crush.NewOSD{{ID: 3, Bytes: 4 << 30, Location: []string{"root=default", "host=h1"}, Class: "hdd"}}},
			func() { b.run("ceph", "osd", "crush", "add", "osd.3", "0.0039", "root=default", "host=h1") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := placed(t, b.conn, objects*object)
			foreseen, err := crush.Predict(t.Context(), before, c.change)
			require.NoError(t, err)
			c.do()
			var did int64
			require.Eventually(t, func() bool { did = moved(before, placed(t, b.conn, objects*object)); return did > 0 }, time.Minute, 200*time.Millisecond, "data moves")
			// The benchmark of plans reads this line.
			t.Logf("%s: foreseen %d bytes of %d (%d of %d PGs), moved %d", c.name, foreseen[0].Bytes, foreseen[0].Total, foreseen[0].PGs, foreseen[0].AllPGs, did)
			require.LessOrEqual(t, math.Abs(float64(foreseen[0].Bytes-did)), 0.1*float64(did))
		})
	}
}
