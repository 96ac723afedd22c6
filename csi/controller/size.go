package controller

import (
	"math"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/fault"
)

const (
	mebibyte = int64(1) << 20
	// defaultSize is that of a volume whose size nobody named.
	defaultSize = int64(1) << 30
	// largest is the largest image that RBD has.
	largest = int64(1) << 60
)

// sizeOf returns the size to make for a capacity range: the least multiple of
// 1 MiB that holds it.
func sizeOf(r *csi.CapacityRange) (int64, error) {
	required, limit := r.GetRequiredBytes(), r.GetLimitBytes()
	switch {
	case required < 0:
		return 0, fault.Field(fault.OutOfRange, "capacity_range.required_bytes", "%d is negative", required)
	case limit < 0:
		return 0, fault.Field(fault.OutOfRange, "capacity_range.limit_bytes", "%d is negative", limit)
	case limit > 0 && required > limit:
		return 0, fault.Field(fault.OutOfRange, "capacity_range", "required_bytes %d is more than limit_bytes %d", required, limit)
	case required > largest:
		return 0, fault.Field(fault.OutOfRange, "capacity_range.required_bytes", "%d is more than the %d that an image can have", required, largest)
	}
	size := roundUp(required)
	if size == 0 {
		size = min(defaultSize, roundDown(limit))
	}
	if limit > 0 && (size > limit || size == 0) {
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
