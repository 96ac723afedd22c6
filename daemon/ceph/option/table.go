// Package option knows the options of the Ceph that Cairn ships, and says what
// is wrong with a value that one is to have.
package option

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// shipped is what the mons of the shipped release say of their options, but those
// of the mgr's modules. A test in daemon/ceph/rados compares it with them, and
// writes it anew with CAIRN_UPDATE=1.
//
//go:embed shipped.tsv
var shipped string

// table of the shipped release by name.
var table = sync.OnceValue(func() map[string]*ceph.Option {
	options := map[string]*ceph.Option{}
	for line := range strings.Lines(shipped) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		options[f[0]] = &ceph.Option{Name: f[0], Type: f[1], Effect: f[2], Services: list(f[3]), Min: f[4], Max: f[5], Values: list(f[6])}
	}
	return options
})

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// Encode writes options as the table has them.
func Encode(options []*ceph.Option) string {
	var text strings.Builder
	for _, o := range options {
		fmt.Fprintf(&text, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", o.Name, o.Type, o.Effect, strings.Join(o.Services, ","), o.Min, o.Max, strings.Join(o.Values, ","))
	}
	return text.String()
}

// Shipped returns an option of the shipped release, or nil.
func Shipped(name string) *ceph.Option { return table()[name] }

// Names of the shipped release's options.
func Names() []string { return slices.Sorted(maps.Keys(table())) }
