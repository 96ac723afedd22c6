package model

import (
	"context"
	"slices"
	"strings"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/option"
)

// balancer is an option of a mgr's module.
var balancer = &ceph.Option{Name: "mgr/balancer/mode", Type: "str", Effect: ceph.EffectRuntime, Values: []string{"crush-compat", "none", "read", "upmap", "upmap-read"}}

// describe returns an option of the shipped release, or of a mgr that is active.
func (c *Cluster) describe(name string) *ceph.Option {
	if name == balancer.Name && c.mgr != "" {
		return balancer
	}
	return option.Shipped(name)
}

// Option describes an option.
func (c *Cluster) Option(ctx context.Context, name string) (*ceph.Option, error) {
	if err := c.enter(ctx, "Option"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	if o := c.describe(name); o != nil {
		return o, nil
	}
	return nil, ceph.Errorf(ceph.NotFound, "config help", "configuration option %s not recognized", name)
}

// OptionNames returns the names of all options.
func (c *Cluster) OptionNames(ctx context.Context) ([]string, error) {
	if err := c.enter(ctx, "OptionNames"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	return append(option.Names(), balancer.Name), nil
}

// SetConfig sets an option in the configuration database, in Ceph's form of it.
func (c *Cluster) SetConfig(ctx context.Context, who, name, value string) error {
	if err := c.enter(ctx, "SetConfig"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	o := c.describe(name)
	if o == nil {
		return ceph.Errorf(ceph.Invalid, "config set", "unrecognized config option '%s'", name)
	}
	if err := option.Check(o, "global", value); err != nil {
		return ceph.Errorf(ceph.Invalid, "config set", "error parsing value: %w", err)
	}
	normal, err := option.Normal(o, value)
	if err != nil {
		return ceph.Errorf(ceph.Invalid, "config set", "error parsing value: %w", err)
	}
	c.config[ceph.Setting{Who: who, Option: name}] = normal
	return nil
}

// UnsetConfig takes an option out of the configuration database.
func (c *Cluster) UnsetConfig(ctx context.Context, who, name string) error {
	if err := c.enter(ctx, "UnsetConfig"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	delete(c.config, ceph.Setting{Who: who, Option: name})
	return nil
}

// Config returns what is set in the configuration database.
func (c *Cluster) Config(ctx context.Context) ([]ceph.Setting, error) {
	if err := c.enter(ctx, "Config"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	var set []ceph.Setting
	for key, value := range c.config {
		set = append(set, ceph.Setting{Who: key.Who, Option: key.Option, Value: value})
	}
	slices.SortFunc(set, func(a, b ceph.Setting) int { return strings.Compare(a.Who+" "+a.Option, b.Who+" "+b.Option) })
	return set, nil
}
