// Package upgrade holds the rules by which a cluster goes from one version of
// Ceph to another: which it may go to, what shows that it goes well, and the pod
// that asks an image which version it is.
package upgrade

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Version is a version of Ceph: 20.2.4 is the release 20, stable, its fourth correction.
type Version struct{ Release, Stage, Patch int }

var number = regexp.MustCompile(`^(?:ceph version )?(\d+)\.(\d+)\.(\d+)\b`)

// Parse reads "20.2.4", or what Ceph's programs say of themselves: "ceph version 20.2.4-1 (…) tentacle (stable)".
func Parse(text string) (Version, error) {
	found := number.FindStringSubmatch(strings.TrimSpace(text))
	if found == nil {
		return Version{}, fmt.Errorf("%q is not a version of Ceph", text)
	}
	var v Version
	for i, to := range []*int{&v.Release, &v.Stage, &v.Patch} {
		n, err := strconv.Atoi(found[i+1])
		if err != nil {
			return Version{}, fmt.Errorf("%q is not a version of Ceph: %w", text, err)
		}
		*to = n
	}
	return v, nil
}

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Release, v.Stage, v.Patch) }

// older reports whether v is of an earlier release than other, or of an earlier
// stage of it: development, candidate, stable. Corrections of a stable release can
// be exchanged for each other.
func (v Version) older(other Version) bool {
	return v.Release < other.Release || v.Release == other.Release && v.Stage < other.Stage
}

// furthest is how many releases an upgrade may go at once.
const furthest = 2

// Refuse says why daemons that run what they run must not get the target; empty
// when they may. Those that keep data on disk count: mons and OSDs.
func Refuse(target Version, now *ceph.Releases) string {
	for _, kind := range []string{"mon", "osd"} {
		for _, text := range slices.Sorted(maps.Keys(now.Daemons[kind])) {
			count := now.Daemons[kind][text]
			running, err := Parse(text)
			if err != nil {
				return fmt.Sprintf("the version of %d %ss is not known: %v", count, kind, err)
			}
			if why := refuse(target, running, kind, count); why != "" {
				return why
			}
		}
	}
	for _, of := range []struct{ what, release string }{{"monmap", now.Mons}, {"OSD map", now.OSDs}} {
		if release := ceph.ReleaseNumber(of.release); release > 0 && target.Release-release > furthest {
			return fmt.Sprintf("the %s still lets daemons of %s (%d) take part, and %s is more than %d releases later. Finish the upgrade to a release between them first",
				of.what, of.release, release, target, furthest)
		}
	}
	return ""
}

func refuse(target, running Version, kind string, count int) string {
	switch {
	case target.older(running):
		return fmt.Sprintf("%s %s, and Ceph cannot go back from there to %s: what they keep on disk may be in a later form. Set spec.ceph.image to %s or later",
			run(kind, count), running, target, running)
	case target.Release-running.Release > furthest:
		return fmt.Sprintf("%s %s, and Ceph can be upgraded by at most %d releases at once. Upgrade to release %d first, then to %s",
			run(kind, count), running, furthest, running.Release+furthest, target)
	}
	return ""
}

// run is "1 mon runs", or "3 mons run".
func run(kind string, count int) string {
	if count == 1 {
		return "1 " + kind + " runs"
	}
	return fmt.Sprintf("%d %ss run", count, kind)
}

// Lowest is the lowest version that daemons of a kind run; false when none is known.
func Lowest(now *ceph.Releases, kind string) (lowest Version, known bool) {
	for text := range now.Daemons[kind] {
		v, err := Parse(text)
		if err != nil {
			return Version{}, false
		}
		if !known || v.less(lowest) {
			lowest, known = v, true
		}
	}
	return lowest, known
}

func (v Version) less(other Version) bool {
	return v.older(other) || v.Release == other.Release && v.Stage == other.Stage && v.Patch < other.Patch
}
