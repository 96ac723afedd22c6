package cluster

import (
	"context"
	"fmt"
	"math"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

// Ceph gives an OSD a weight at its first start: the size of its devices. When they have
// grown the weight stays. An OSD's Secret says for which size its weight was looked at: by
// that a weight that was right before is told from one that a person chose, which stays.

// SetWeight gives an OSD another weight in the CRUSH map, in TiB.
type SetWeight struct {
	ID       int
	UUID     string
	From, To float64
}

const tib = 1 << 40

// near says that a weight is that of a size, as exactly as Ceph writes it at a first start.
func near(weight, size float64) bool {
	const part, rounding = 0.01, 1e-4
	return math.Abs(weight-size) <= size*part+rounding
}

// weighedFor is the size, in bytes, for which the weight of an OSD was looked at; zero is never.
func weighedFor(secret *corev1.Secret) int64 {
	if secret == nil {
		return 0
	}
	size, err := strconv.ParseInt(secret.Annotations[kube.AnnotationWeighed], 10, 64)
	if err != nil {
		return 0
	}
	return size
}

// grown is the change of weight that an OSD whose devices have grown is due; nil is none.
func (o *Observed) grown(known *ceph.OSD) *SetWeight {
	before := weighedFor(o.Secrets[osd.SecretName(o.Cluster, known.UUID)])
	was, is := float64(before)/tib, float64(known.BytesTotal)/tib
	if before == 0 || !known.Up || !known.In || is <= was || near(known.Weight, is) || !near(known.Weight, was) {
		return nil
	}
	return &SetWeight{ID: known.ID, UUID: known.UUID, From: known.Weight, To: is}
}

// noteWeight has the Secret of an OSD say for which size its weight was looked at: that
// which it has, unless a change is due.
func (o *Observed) noteWeight(secret *corev1.Secret, known *ceph.OSD) {
	before := weighedFor(o.Secrets[secret.Name])
	if known.Up && known.In && known.BytesTotal > before && o.grown(known) == nil {
		before = known.BytesTotal
	}
	if before > 0 {
		secret.Annotations[kube.AnnotationWeighed] = strconv.FormatInt(before, 10)
	}
}

// setWeight changes a weight that is still as it was seen.
func setWeight(ctx context.Context, conn ceph.Conn, set SetWeight) error {
	osds, err := conn.OSDs(ctx)
	if err != nil {
		return err
	}
	for i := range osds {
		if osds[i].ID == set.ID && osds[i].UUID == set.UUID && near(osds[i].Weight, set.From) {
			return conn.SetOSDWeight(ctx, set.ID, set.To)
		}
	}
	return fmt.Errorf("osd.%d has another weight, or is another OSD, than a moment ago", set.ID)
}

// weigh has an OSD have its new weight.
func (c *movement) weigh(set SetWeight) {
	if c.Weights == nil {
		c.Weights = map[int]float64{}
	}
	c.Weights[set.ID] = set.To
}
