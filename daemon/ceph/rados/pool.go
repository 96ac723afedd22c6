package rados

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

type poolsAnswer []struct {
	ID         int64  `json:"pool_id"`
	Name       string `json:"pool_name"`
	Type       int    `json:"type"`
	Profile    string `json:"erasure_code_profile"`
	Size       int    `json:"size"`
	PGs        int    `json:"pg_num"`
	CrushRule  int    `json:"crush_rule"`
	MinSize    int    `json:"min_size"`
	QuotaBytes int64  `json:"quota_max_bytes"`
	Options    struct {
		Compression string `json:"compression_mode"`
	} `json:"options"`
	Applications applications `json:"application_metadata"`
}

type dfAnswer struct {
	Pools []struct {
		Name  string `json:"name"`
		Stats struct {
			Stored   int64 `json:"stored"`
			MaxAvail int64 `json:"max_avail"`
		} `json:"stats"`
	} `json:"pools"`
}

type rulesAnswer []struct {
	ID    int    `json:"rule_id"`
	Name  string `json:"rule_name"`
	Steps []struct {
		Op       string `json:"op"`
		ItemName string `json:"item_name"`
		Type     string `json:"type"`
	} `json:"steps"`
}

// Pools returns every pool.
func (c *conn) Pools(ctx context.Context) ([]ceph.Pool, error) {
	var (
		pools poolsAnswer
		df    dfAnswer
		rules rulesAnswer
	)
	if err := c.ask(ctx, command{"prefix": "osd pool ls", "detail": "detail"}, &pools); err != nil {
		return nil, err
	}
	if err := c.ask(ctx, command{"prefix": "df"}, &df); err != nil {
		return nil, err
	}
	if err := c.ask(ctx, command{"prefix": "osd crush rule dump"}, &rules); err != nil {
		return nil, err
	}
	coded, err := c.codings(ctx, pools)
	if err != nil {
		return nil, err
	}
	return poolsOf(pools, &df, rules, coded), nil
}

func poolsOf(pools poolsAnswer, df *dfAnswer, rules rulesAnswer, coded map[string]coding) []ceph.Pool {
	out := make([]ceph.Pool, 0, len(pools))
	for _, p := range pools {
		pool := ceph.Pool{ID: p.ID, PGs: p.PGs, MinSize: p.MinSize, Spec: ceph.PoolSpec{Name: p.Name, Size: p.Size, QuotaBytes: p.QuotaBytes}}
		if p.Type == erasureCoded {
			pool.Spec.DataChunks, pool.Spec.CodingChunks = coded[p.Profile].data, coded[p.Profile].coding
		}
		pool.Spec.DataPool = p.Applications.dataPool()
		if p.Options.Compression != "none" {
			pool.Spec.Compression = p.Options.Compression
		}
		for application := range p.Applications {
			pool.Spec.Application = application
		}
		for _, rule := range rules {
			if rule.ID == p.CrushRule {
				pool.Spec.FailureDomain, pool.Spec.DeviceClass = placementOf(rule.Steps)
			}
		}
		for _, stats := range df.Pools {
			if stats.Name == p.Name {
				pool.BytesStored, pool.BytesAvailable = stats.Stats.Stored, stats.Stats.MaxAvail
			}
		}
		out = append(out, pool)
	}
	return out
}

// placementOf reads failure domain and device class from a rule's steps:
// take default~ssd, chooseleaf firstn type host.
func placementOf(steps []struct {
	Op       string `json:"op"`
	ItemName string `json:"item_name"`
	Type     string `json:"type"`
}) (domain, class string) {
	for _, step := range steps {
		if step.Type != "" {
			domain = step.Type
		}
		for i, r := range step.ItemName {
			if r == '~' {
				class = step.ItemName[i+1:]
			}
		}
	}
	return domain, class
}

// EnsurePool creates a pool or changes it to its spec.
func (c *conn) EnsurePool(ctx context.Context, want ceph.PoolSpec) error {
	defer c.stalePools.Store(true)
	now, err := c.findPool(ctx, want.Name)
	if err != nil {
		return err
	}
	if now != nil {
		if err := changeable(now.Spec, want); err != nil {
			return err
		}
	}
	rule := ruleName(want)
	var todo []command
	switch {
	case now == nil && want.DataChunks > 0:
		todo = createCoded(want)
	case now == nil:
		// The pool of the metadata of images alone stays small.
		todo = []command{createRule(rule, want), {"prefix": "osd pool create", "pool": want.Name, "pool_type": "replicated", "rule": rule, "size": want.Size,
			"pg_num": initialPGs, "autoscale_mode": "on", "bulk": want.DataPool == ""}}
	case now.Spec.FailureDomain != want.FailureDomain || now.Spec.DeviceClass != want.DeviceClass:
		todo = []command{createRule(rule, want)}
	}
	if now == nil {
		now = &ceph.Pool{Spec: ceph.PoolSpec{Name: want.Name, Size: want.Size, FailureDomain: want.FailureDomain, DeviceClass: want.DeviceClass}}
	}
	return c.tell(ctx, append(todo, changes(now.Spec, want, rule)...)...)
}

// initialPGs of a new pool: Ceph's own default. Marked as bulk, the pool is then
// given its full share of PGs by the autoscaler, before data would have to move.
const initialPGs = 32

func createRule(rule string, want ceph.PoolSpec) command {
	create := command{"prefix": "osd crush rule create-replicated", "name": rule, "root": "default", "type": want.FailureDomain}
	if want.DeviceClass != "" {
		create["class"] = want.DeviceClass
	}
	return create
}

// changes are the commands that lead from one spec of a pool to another.
func changes(now, want ceph.PoolSpec, rule string) (todo []command) {
	set := func(variable, value string) {
		todo = append(todo, command{"prefix": "osd pool set", "pool": want.Name, "var": variable, "val": value})
	}
	if now.FailureDomain != want.FailureDomain || now.DeviceClass != want.DeviceClass {
		set("crush_rule", rule)
	}
	if now.Size != want.Size {
		set("size", strconv.Itoa(want.Size))
	}
	if now.Compression != want.Compression {
		set("compression_mode", cmp.Or(want.Compression, "none"))
	}
	if now.QuotaBytes != want.QuotaBytes {
		todo = append(todo, command{"prefix": "osd pool set-quota", "pool": want.Name, "field": "max_bytes", "val": strconv.FormatInt(want.QuotaBytes, 10)})
	}
	if now.Application != want.Application {
		if want.DataChunks > 0 { // before its application is set the pool is not complete
			set("allow_ec_overwrites", "true")
		}
		todo = append(todo, command{"prefix": "osd pool application enable", "pool": want.Name, "app": want.Application, "yes_i_really_mean_it": true})
	}
	if now.DataPool != want.DataPool {
		todo = append(todo, command{"prefix": "osd pool application set", "pool": want.Name, "app": want.Application, "key": dataPoolKey, "value": want.DataPool})
	}
	return todo
}

// ruleName is the CRUSH rule of all pools that are placed alike.
func ruleName(spec ceph.PoolSpec) string {
	if spec.DeviceClass == "" {
		return fmt.Sprintf("cairn_%s", spec.FailureDomain)
	}
	return fmt.Sprintf("cairn_%s_%s", spec.FailureDomain, spec.DeviceClass)
}

func (c *conn) findPool(ctx context.Context, name string) (*ceph.Pool, error) {
	pools, err := c.Pools(ctx)
	if err != nil {
		return nil, err
	}
	for i := range pools {
		if pools[i].Spec.Name == name {
			return &pools[i], nil
		}
	}
	return nil, nil
}

// restoreTimeout is how long the mons may take to take back an option.
const restoreTimeout = 10 * time.Second

// RemovePool deletes a pool and all its data. The mons refuse this unless their
// option mon_allow_pool_delete is set, which is done for this one command only. Two removals
// at once would take it from each other.
func (c *conn) RemovePool(ctx context.Context, name string) error {
	defer c.stalePools.Store(true)
	found, err := c.findPool(ctx, name)
	if err != nil {
		return err
	}
	if found == nil { // who removed it may have got no further
		if err := errors.Join(c.refusePoolDeletion(ctx), c.tell(ctx, removeCoding(name)...)); err != nil {
			return err
		}
		return ceph.Errorf(ceph.NotFound, "remove pool "+name, "no such pool")
	}
	if err = c.SetConfig(ctx, "mon", "mon_allow_pool_delete", "true"); err == nil {
		err = c.tell(ctx, command{"prefix": "osd pool delete", "pool": name, "pool2": name, "yes_i_really_really_mean_it": true})
	}
	err = errors.Join(err, c.refusePoolDeletion(ctx))
	if err != nil || found.Spec.DataChunks == 0 {
		return err
	}
	return c.tell(ctx, removeCoding(name)...)
}

// refusePoolDeletion has the mons refuse to delete pools, also where ctx has ended.
func (c *conn) refusePoolDeletion(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreTimeout)
	defer cancel()
	return c.UnsetConfig(ctx, "mon", "mon_allow_pool_delete")
}
