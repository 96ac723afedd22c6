package pool

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/osd"
)

// allowed says why a pool cannot become what is wanted, or not yet: where its PGs
// could never be complete, where there is no room, and while other data is on its
// way. Quota and compression move nothing and need none of this.
func allowed(ctx context.Context, o *Observed, want ceph.PoolSpec) error {
	var moves []string
	if o.InCeph != nil {
		if moves = movesOf(o.InCeph.Spec, want); len(moves) == 0 {
			return nil
		}
	}
	all, err := o.Conn.OSDs(ctx)
	if err != nil {
		return err
	}
	osds := slices.DeleteFunc(all, func(known ceph.OSD) bool {
		return !known.In || want.DeviceClass != "" && known.Class != want.DeviceClass
	})
	if err := enoughDomains(o, want, osds); err != nil || o.InCeph == nil {
		return err
	}
	if err := enoughRoom(o.InCeph, want, osds); err != nil {
		return err
	}
	if len(moves) == 1 && want.Size < o.InCeph.Spec.Size {
		return nil // fewer replicas move nothing, and may be what lets Ceph recover
	}
	status, err := o.Conn.Status(ctx)
	if err != nil {
		return err
	}
	if busy := restless(status); busy != "" {
		return &stop{v1alpha1.ReasonNotSafeToChange, fmt.Sprintf("%s: waits until the data that is on its way has arrived (%s)", strings.Join(moves, ", "), busy), lookAgainPlacing}
	}
	return nil
}

// movesOf names the changes that have Ceph place data elsewhere.
func movesOf(now, want ceph.PoolSpec) (moves []string) {
	if now.Size != want.Size {
		moves = append(moves, fmt.Sprintf("spec.replicas: %d to %d", now.Size, want.Size))
	}
	if now.FailureDomain != want.FailureDomain {
		moves = append(moves, fmt.Sprintf("spec.failureDomain: %s to %s", now.FailureDomain, want.FailureDomain))
	}
	if now.DeviceClass != want.DeviceClass {
		moves = append(moves, fmt.Sprintf("spec.deviceClass: %q to %q", now.DeviceClass, want.DeviceClass))
	}
	return moves
}

func enoughDomains(o *Observed, want ceph.PoolSpec, osds []ceph.OSD) error {
	found := osd.Domains(osds, want.FailureDomain, want.DeviceClass, append(slices.Clone(o.Nodes), o.ClaimHosts...))
	if found >= want.Size {
		return nil
	}
	class := ""
	if want.DeviceClass != "" {
		class = fmt.Sprintf(" of device class %q", want.DeviceClass)
	}
	if want.DataChunks > 0 {
		return &stop{v1alpha1.ReasonTooFewDomains, fmt.Sprintf("spec.erasureCoded: %d data and %d coding chunks need OSDs%s in %d different %ss; there are %d. Add OSDs, or make a pool with fewer chunks",
			want.DataChunks, want.CodingChunks, class, want.Size, want.FailureDomain, found), lookAgain}
	}
	return &stop{v1alpha1.ReasonTooFewDomains, fmt.Sprintf("spec.replicas: %d replicas need OSDs%s in %d different %ss; there are %d. Add OSDs, or ask for fewer replicas",
		want.Size, class, want.Size, want.FailureDomain, found), lookAgain}
}

// full is the part of the capacity that Ceph lets be used before it warns.
const full = 0.85

// enoughRoom compares what the pool stores with the OSDs that are to hold it. Those
// that take over a pool may hold a part of it already, so only what they could never
// hold is refused.
func enoughRoom(now *ceph.Pool, want ceph.PoolSpec, osds []ceph.OSD) error {
	var total, used int64
	for i := range osds {
		total, used = total+osds[i].BytesTotal, used+osds[i].BytesUsed
	}
	room, need := int64(float64(total)*full), now.BytesStored*int64(want.Size)
	if now.Spec.FailureDomain == want.FailureDomain && now.Spec.DeviceClass == want.DeviceClass {
		room, need = room-used, now.BytesStored*int64(want.Size-now.Spec.Size)
	}
	if total == 0 || need <= 0 || need <= room {
		return nil
	}
	const gib = 1 << 30
	return &stop{v1alpha1.ReasonNoRoom, fmt.Sprintf("%s: %.1f GiB are stored, which takes %.1f GiB of the OSDs in question, and they have room for %.1f GiB. Add OSDs, or delete volumes",
		strings.Join(movesOf(now.Spec, want), ", "), float64(now.BytesStored)/gib, float64(need)/gib, float64(max(0, room))/gib), lookAgain}
}

// restless says which PGs are on their way or not there, in one order. Data that is
// merely short of replicas does not count: the change may be what gives it a place.
func restless(status *ceph.Status) string {
	for _, state := range slices.Sorted(maps.Keys(status.PGs)) {
		for _, word := range []string{"recover", "backfill", "peering", "activating", "down", "incomplete", "stale", "unknown", "creating"} {
			if strings.Contains(state, word) {
				return fmt.Sprintf("%d PGs are %s", status.PGs[state], state)
			}
		}
	}
	return ""
}

// placing says what data is on its way; nothing when Ceph cannot be asked.
func placing(ctx context.Context, o *Observed) string {
	status, err := o.Conn.Status(ctx)
	if err != nil {
		return ""
	}
	return restless(status)
}
