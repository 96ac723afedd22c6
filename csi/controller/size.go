package controller

import (
	"math"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/capability"
	"github.com/cairn-storage/cairn/csi/fault"
)

const (
	mebibyte = int64(1) << 20
	// defaultSize is that of a volume whose size nobody named.
	defaultSize = int64(1) << 30
	// leastXFS is the smallest xfs that mkfs.xfs makes.
	leastXFS = 300 * mebibyte
	// largest is the largest image that RBD has.
	largest = int64(1) << 60
)

// leastOf returns the smallest size that a volume can have for what it is wanted as.
func leastOf(wants []capability.Want) int64 {
	if slices.ContainsFunc(wants, func(w capability.Want) bool { return w.Filesystem == "xfs" }) {
		return leastXFS
	}
	return mebibyte
}

// sizeOf returns the size to make for a capacity range: the least multiple of
// 1 MiB that holds it, and not less than least.
func sizeOf(r *csi.CapacityRange, least int64) (int64, error) {
	required, limit := r.GetRequiredBytes(), r.GetLimitBytes()
	switch {
	case required < 0:
		return 0, fault.Field(fault.OutOfRange, "capacity_range.required_bytes", "%d is negative", required)
	case limit < 0:
		return 0, fault.Field(fault.OutOfRange, "capacity_range.limit_bytes", "%d is negative", limit)
	case limit > 0 && required > limit:
		return 0, fault.Field(fault.OutOfRange, "capacity_range", "required_bytes %d is more than limit_bytes %d", required, limit)
	case limit > 0 && limit < least:
		return 0, fault.Field(fault.OutOfRange, "capacity_range.limit_bytes", "%d is less than %d MiB: a volume has at least 1 MiB, one with an xfs %d MiB", limit, least/mebibyte, leastXFS/mebibyte)
	case required > largest:
		return 0, fault.Field(fault.OutOfRange, "capacity_range.required_bytes", "%d is more than the %d that an image can have", required, largest)
	}
	size := roundUp(required)
	if size == 0 {
		size = min(defaultSize, roundDown(limit))
	}
	if size = max(size, least); limit > 0 && size > limit {
		return 0, fault.Field(fault.OutOfRange, "capacity_range.limit_bytes", "%d does not leave room for a whole number of MiB from %d up", limit, max(required, mebibyte))
	}
	return size, nil
}

func roundUp(bytes int64) int64 { return (bytes + mebibyte - 1) / mebibyte * mebibyte }

func roundDown(limit int64) int64 {
	if limit == 0 {
		return math.MaxInt64
	}
	return limit / mebibyte * mebibyte
}

// within reports whether a size satisfies a range.
func within(size int64, r *csi.CapacityRange) bool {
	return size >= r.GetRequiredBytes() && (r.GetLimitBytes() == 0 || size <= r.GetLimitBytes())
}
