package rados

import (
	"context"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Releases returns what the daemons run, and what the maps ask of them.
func (c *conn) Releases(ctx context.Context) (*ceph.Releases, error) {
	var (
		versions map[string]map[string]int
		mons     struct {
			Release string `json:"min_mon_release_name"`
		}
		osds struct {
			Release string `json:"require_osd_release"`
		}
	)
	for prefix, answer := range map[string]any{"versions": &versions, "mon dump": &mons, "osd dump": &osds} {
		if err := c.ask(ctx, command{"prefix": prefix}, answer); err != nil {
			return nil, err
		}
	}
	out := &ceph.Releases{Daemons: map[string]map[string]int{}, Mons: mons.Release, OSDs: osds.Release}
	for _, kind := range []string{"mon", "mgr", "osd"} {
		out.Daemons[kind] = map[string]int{}
		for version, count := range versions[kind] {
			out.Daemons[kind][shortVersion(version)] += count
		}
	}
	return out, nil
}

// RequireOSDRelease has Ceph look itself whether every OSD is of that release.
func (c *conn) RequireOSDRelease(ctx context.Context, release string) error {
	return c.tell(ctx, command{"prefix": "osd require-osd-release", "release": release})
}
