package controller

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// qos are limits of a volume's I/O as a VolumeAttributesClass names them.
type qos struct {
	ceph.Limits
	// text is what was asked for, in one form; empty for nothing.
	text string
}

// limitKeys are the mutable parameters, and what each sets.
var limitKeys = map[string]func(*ceph.Limits) *int64{
	"iops":           func(l *ceph.Limits) *int64 { return &l.IOPS },
	"readIOPS":       func(l *ceph.Limits) *int64 { return &l.ReadIOPS },
	"writeIOPS":      func(l *ceph.Limits) *int64 { return &l.WriteIOPS },
	"bandwidth":      func(l *ceph.Limits) *int64 { return &l.Bandwidth },
	"readBandwidth":  func(l *ceph.Limits) *int64 { return &l.ReadBandwidth },
	"writeBandwidth": func(l *ceph.Limits) *int64 { return &l.WriteBandwidth },
}

// maxLimit is more than any limit that means something: 1 EiB a second.
const maxLimit = int64(1) << 60

// parseQoS reads mutable parameters: quantities of operations or bytes a second.
func parseQoS(given map[string]string) (qos, error) {
	var q qos
	var text []string
	for _, key := range slices.Sorted(maps.Keys(given)) {
		set, ok := limitKeys[key]
		if !ok {
			return qos{}, fault.Field(fault.Invalid, "mutable_parameters."+key, "is not known: the driver knows %s", strings.Join(slices.Sorted(maps.Keys(limitKeys)), ", "))
		}
		quantity, err := resource.ParseQuantity(given[key])
		if err != nil {
			return qos{}, fault.Field(fault.Invalid, "mutable_parameters."+key, "%q is not a quantity such as 5k or 100Mi", given[key])
		}
		value, whole := quantity.AsInt64()
		if !whole || value < 1 || value > maxLimit {
			return qos{}, fault.Field(fault.Invalid, "mutable_parameters."+key, "%q is not a whole number from 1 to %d; leave the key out for no limit", given[key], maxLimit)
		}
		*set(&q.Limits) = value
		text = append(text, key+"="+quantity.String())
	}
	q.text = strings.Join(text, ",")
	return q, nil
}
