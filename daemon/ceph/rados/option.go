package rados

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// UnsetConfig takes an option out of the mons' configuration database.
func (c *conn) UnsetConfig(ctx context.Context, who, option string) error {
	return c.tell(ctx, command{"prefix": "config rm", "who": who, "name": option})
}

// Config returns what is set in the mons' configuration database.
func (c *conn) Config(ctx context.Context) (set []ceph.Setting, err error) {
	var answer []struct{ Section, Name, Value, Mask string }
	if err := c.ask(ctx, command{"prefix": "config dump"}, &answer); err != nil {
		return nil, err
	}
	for _, s := range answer {
		if s.Mask == "" {
			set = append(set, ceph.Setting{Who: s.Section, Option: s.Name, Value: s.Value})
		}
	}
	return set, nil
}

// OptionNames returns the names of all options that the mons know.
func (c *conn) OptionNames(ctx context.Context) (names []string, err error) {
	return names, c.ask(ctx, command{"prefix": "config ls"}, &names)
}

// optionAnswer is the part of `config help` that Cairn reads. Bounds are numbers or
// strings, by the option's type.
type optionAnswer struct {
	Name, Type string
	Services   []string
	Min, Max   json.RawMessage
	Values     []string `json:"enum_values"`
	Runtime    bool     `json:"can_update_at_runtime"`
	Flags      []string
}

// Option describes an option as the mons that run know it.
func (c *conn) Option(ctx context.Context, name string) (*ceph.Option, error) {
	var answer optionAnswer
	if err := c.ask(ctx, command{"prefix": "config help", "key": name}, &answer); err != nil {
		return nil, err
	}
	option := &ceph.Option{Name: answer.Name, Type: answer.Type, Effect: ceph.EffectStart, Min: bound(answer.Min), Max: bound(answer.Max), Values: answer.Values}
	if !slices.Contains(answer.Services, "common") {
		option.Services = answer.Services
	}
	switch {
	case slices.Contains(answer.Flags, "create"), slices.Contains(answer.Flags, "cluster_create"):
		option.Effect = ceph.EffectCreation
	case answer.Runtime && !slices.Contains(answer.Flags, "no_mon_update"):
		option.Effect = ceph.EffectRuntime
	}
	return option, nil
}

func bound(text json.RawMessage) string { return strings.Trim(string(text), `"`) }
