// Package crush says what data Ceph would move if OSDs or pools were changed. The
// arithmetic is Ceph's own: crushtool, run on a copy of the cluster's map. The
// cluster itself is neither asked nor told anything here.
package crush

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Change is one change of a cluster.
type Change struct {
	// Add are new OSDs.
	Add []NewOSD
	// In is the share that OSDs take from now on: 0 takes one out, 1 back in.
	In map[int]float64
	// Weights in the CRUSH map that OSDs get, in TiB.
	Weights map[int]float64
	// Pools are the pools that change, by name.
	Pools map[string]PoolChange
}

// NewOSD is an OSD that the CRUSH map does not have yet.
type NewOSD struct {
	ID int
	// Bytes of its device.
	Bytes int64
	// Weight that it is given, in TiB; zero is that of its size.
	Weight float64
	// Location as buckets and their names, from the root down: root=default, host=n1.
	Location []string
	// Class is its device class.
	Class string
}

// PoolChange is what a pool becomes.
type PoolChange struct {
	Size int
	// FailureDomain and DeviceClass of a new rule; no failure domain keeps the rule.
	FailureDomain, DeviceClass string
}

// Movement is what a change leads to.
type Movement struct {
	// Bytes that are copied to other OSDs, of so many in Total, all replicas counted.
	Bytes int64 `json:"bytes"`
	Total int64 `json:"total"`
	// PGs that change, of so many in AllPGs.
	PGs    int `json:"pgs"`
	AllPGs int `json:"allPGs"`
	// Unsure are PGs that are elsewhere now than CRUSH says, and those of erasure-coded pools.
	Unsure int `json:"unsure,omitempty"`
}

// Predict says what each of some changes, one after the other, makes Ceph move.
func Predict(ctx context.Context, now *ceph.Placement, changes ...Change) ([]Movement, error) {
	s := &state{crush: now.CRUSH, in: maps.Clone(now.In), up: maps.Clone(now.Up), pools: maps.Clone(now.Pools), rules: map[int64]bool{}}
	before, err := s.place(ctx, now.PGs)
	if err != nil {
		return nil, err
	}
	unsure := 0
	for i, pg := range now.PGs {
		if before[i] == nil || !same(before[i], pg.OSDs) {
			unsure++
		}
	}
	var all []Movement
	for _, change := range changes {
		if err := s.apply(ctx, change); err != nil {
			return nil, err
		}
		after, err := s.place(ctx, now.PGs)
		if err != nil {
			return nil, err
		}
		m := Movement{AllPGs: len(now.PGs), Unsure: unsure}
		for i, pg := range now.PGs {
			m.Total += pg.Bytes * int64(len(before[i]))
			if fresh := added(before[i], after[i]); fresh > 0 || len(before[i]) != len(after[i]) {
				m.PGs++
				m.Bytes += pg.Bytes * int64(fresh)
			}
		}
		all = append(all, m)
		before = after
	}
	return all, nil
}

// state is a cluster as it is after some changes.
type state struct {
	crush []byte
	in    map[int]float64
	up    map[int]bool
	pools map[int64]ceph.PlacedPool
	// rules are the pools whose rule changed: Ceph drops the exceptions made under another.
	rules map[int64]bool
}

func (s *state) apply(ctx context.Context, change Change) (err error) {
	maps.Copy(s.in, change.In)
	for _, osd := range change.Add {
		if err := s.add(ctx, osd); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(change.Weights)) {
		if err := s.weigh(ctx, id, change.Weights[id]); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.pools)) {
		pool := s.pools[id]
		wanted, ok := change.Pools[pool.Name]
		if !ok {
			continue
		}
		pool.Size = wanted.Size
		if wanted.FailureDomain != "" {
			if pool.Rule, err = s.rule(ctx, wanted); err != nil {
				return err
			}
			s.rules[id] = true
		}
		s.pools[id] = pool
	}
	return nil
}

// add puts an OSD into the map with the weight that it gives itself at its first start.
func (s *state) add(ctx context.Context, osd NewOSD) error {
	weight := cmp.Or(osd.Weight, math.Max(float64(osd.Bytes)/(1<<40), 0.00001))
	args := []string{"--add-item", strconv.Itoa(osd.ID), strconv.FormatFloat(weight, 'f', 4, 64), fmt.Sprintf("osd.%d", osd.ID)}
	for _, at := range osd.Location {
		bucket, name, _ := strings.Cut(at, "=")
		args = append(args, "--loc", bucket, name)
	}
	changed, _, err := tool(ctx, compiled, s.crush, args...)
	if err != nil {
		return err
	}
	s.crush, s.in[osd.ID], s.up[osd.ID] = changed, 1, true
	return s.classify(ctx, osd)
}

// weigh gives an OSD another weight.
func (s *state) weigh(ctx context.Context, id int, weight float64) (err error) {
	s.crush, _, err = tool(ctx, compiled, s.crush, "--reweight-item", fmt.Sprintf("osd.%d", id), strconv.FormatFloat(weight, 'f', 5, 64))
	return err
}

// ofClass is a rule that takes OSDs of one class.
var ofClass = regexp.MustCompile(`(?m)^\s*step take \S+ class `)

// classify gives a new OSD its class, where a rule asks for one. The map has a tree
// for each class; crushtool makes those when it compiles a map from text.
func (s *state) classify(ctx context.Context, osd NewOSD) error {
	text, _, err := tool(ctx, decompile, s.crush)
	if err != nil || osd.Class == "" || !ofClass.Match(text) {
		return err
	}
	device := fmt.Sprintf("device %d osd.%d", osd.ID, osd.ID)
	s.crush, _, err = tool(ctx, compile, []byte(strings.Replace(string(text), device+"\n", device+" class "+osd.Class+"\n", 1)))
	return err
}

// rule adds a rule as Ceph makes one for a pool, and returns its number.
func (s *state) rule(ctx context.Context, pool PoolChange) (int, error) {
	name := fmt.Sprintf("foreseen_%s_%s", pool.FailureDomain, pool.DeviceClass)
	args := []string{"--create-replicated-rule", name, "default", pool.FailureDomain}
	if pool.DeviceClass != "" {
		args = append(args, "--device-class", pool.DeviceClass)
	}
	changed, _, err := tool(ctx, compiled, s.crush, args...)
	if err != nil {
		return 0, err
	}
	text, _, err := tool(ctx, decompile, changed)
	if err != nil {
		return 0, err
	}
	found := regexp.MustCompile(`rule ` + regexp.QuoteMeta(name) + ` \{\s*id (\d+)`).FindSubmatch(text)
	if found == nil {
		return 0, fmt.Errorf("crushtool made no rule %s", name)
	}
	s.crush = changed
	return strconv.Atoi(string(found[1]))
}

// place says which OSDs hold each PG; nil where that is not known.
func (s *state) place(ctx context.Context, pgs []ceph.PG) ([][]int, error) {
	places := map[int64]map[int][]int{}
	for _, id := range slices.Sorted(maps.Keys(s.pools)) {
		pool := s.pools[id]
		if !pool.Replicated {
			continue
		}
		args := []string{"--test", "--show-mappings", "--rule", strconv.Itoa(pool.Rule), "--num-rep", strconv.Itoa(pool.Size),
			"--min-x", "0", "--max-x", strconv.Itoa(pool.Targets - 1), "--pool-id", strconv.FormatInt(id, 10)}
		for _, osd := range slices.Sorted(maps.Keys(s.in)) {
			if share := s.in[osd]; share != 1 {
				args = append(args, "--weight", strconv.Itoa(osd), strconv.FormatFloat(share, 'f', -1, 64))
			}
		}
		_, said, err := tool(ctx, compiled, s.crush, args...)
		if err != nil {
			return nil, err
		}
		if places[id], err = mappings(said); err != nil {
			return nil, err
		}
	}
	out := make([][]int, len(pgs))
	for i, pg := range pgs {
		if raw, ok := places[pg.Pool][spread(pg.Seed, s.pools[pg.Pool].Targets)]; ok {
			out[i] = s.running(s.upmapped(pg, raw))
		}
	}
	return out, nil
}

// spread tells of which place a PG is: Ceph's ceph_stable_mod.
func spread(seed, targets int) int {
	mask := 1<<bits.Len(uint(max(targets-1, 0))) - 1
	if seed&mask < targets {
		return seed & mask
	}
	return seed & (mask >> 1)
}

// upmapped applies the exceptions of a PG as Ceph does (OSDMap::_apply_upmap).
func (s *state) upmapped(pg ceph.PG, raw []int) []int {
	if s.rules[pg.Pool] {
		return raw
	}
	osds := slices.Clone(raw)
	for _, upmap := range pg.Upmaps {
		from, to := upmap[0], upmap[1]
		if at := slices.Index(osds, from); at >= 0 && !slices.Contains(osds, to) && s.in[to] > 0 {
			osds[at] = to
		}
	}
	return osds
}

// running leaves out the OSDs that are down.
func (s *state) running(osds []int) []int {
	return slices.DeleteFunc(slices.Clone(osds), func(id int) bool { return !s.up[id] })
}

func same(a, b []int) bool { return len(a) == len(b) && added(a, b) == 0 }

// added counts the OSDs that hold a PG afterwards and did not before.
func added(before, after []int) (n int) {
	for _, osd := range after {
		if !slices.Contains(before, osd) {
			n++
		}
	}
	return n
}
