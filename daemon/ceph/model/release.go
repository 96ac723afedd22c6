package model

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Version that daemons run of which nothing else was said.
const Version = "20.2.4"

// releases are what daemons run and what is asked of them.
type releases struct {
	versions   map[string]string // "osd.3" → version
	mons, osds string
}

// SetVersion has a daemon, "mgr.a", run a version.
func (c *Cluster) SetVersion(daemon, version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.releases.versions[daemon] = version
}

// SetReleases changes the oldest releases that the maps let take part.
func (c *Cluster) SetReleases(mons, osds string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.releases.mons, c.releases.osds = mons, osds
}

// Releases returns what the daemons run, and what the maps ask of them.
func (c *Cluster) Releases(ctx context.Context) (*ceph.Releases, error) {
	if err := c.enter(ctx, "Releases"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	return &ceph.Releases{Daemons: c.running(), Mons: c.releases.mons, OSDs: c.releases.osds}, nil
}

// running are the versions by kind, with how many run each.
func (c *Cluster) running() map[string]map[string]int {
	mgrs := slices.Clone(c.releases.mgrs(c.mgr, c.standbys))
	out := map[string]map[string]int{"mon": {}, "mgr": {}, "osd": {}}
	for _, name := range c.mons {
		out["mon"][c.version("mon."+name)]++
	}
	for _, name := range mgrs {
		out["mgr"][c.version("mgr."+name)]++
	}
	for i := range c.osds {
		if c.osds[i].Weight > 0 { // it has been up
			out["osd"][c.version(fmt.Sprintf("osd.%d", c.osds[i].ID))]++
		}
	}
	return out
}

// mgrs are the active one and those that stand by, which have the names a and b.
func (releases) mgrs(active string, standbys int) (names []string) {
	if active == "" {
		return nil
	}
	others := slices.DeleteFunc([]string{"a", "b"}, func(name string) bool { return name == active })
	return append([]string{active}, others[:min(standbys, len(others))]...)
}

func (c *Cluster) version(daemon string) string {
	if version := c.releases.versions[daemon]; version != "" {
		return version
	}
	return Version
}

// overall are the versions of all daemons, with how many run each.
func (c *Cluster) overall() map[string]int {
	out := map[string]int{}
	for _, versions := range c.running() {
		for version := range maps.Keys(versions) {
			out[version] += versions[version]
		}
	}
	return out
}

// RequireOSDRelease lets only OSDs of a release or a later one take part.
func (c *Cluster) RequireOSDRelease(ctx context.Context, release string) error {
	if err := c.enter(ctx, "RequireOSDRelease"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if ceph.ReleaseNumber(release) < ceph.ReleaseNumber(c.releases.osds) {
		return ceph.Errorf(ceph.Forbidden, "osd require-osd-release", "require_osd_release cannot be lowered once it has been set")
	}
	c.releases.osds = release
	return nil
}
