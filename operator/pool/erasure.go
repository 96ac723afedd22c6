package pool

import (
	"fmt"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// dataSuffix ends the name of the pool of an erasure-coded BlockPool's data; no BlockPool
// has a dot in its name. RBD keeps an image's metadata in a replicated pool, that of the
// BlockPool's own name, which names the other.
const dataSuffix = ".data"

// dataName is the name of the pool that holds the data of a BlockPool's volumes.
func dataName(pool *v1alpha1.BlockPool) string {
	if pool.Spec.ErasureCoded == nil {
		return pool.Name
	}
	return pool.Name + dataSuffix
}

// imagesSpec is the pool of the images of an erasure-coded BlockPool as Ceph is asked for
// it. It survives what the data does, and takes writes when that does.
func imagesSpec(pool *v1alpha1.BlockPool) ceph.PoolSpec {
	return ceph.PoolSpec{
		Name: pool.Name, Size: max(v1alpha1.DefaultReplicas, int(pool.Spec.ErasureCoded.CodingChunks)+1), DataPool: dataName(pool),
		FailureDomain: pool.Spec.FailureDomain, DeviceClass: string(pool.Spec.DeviceClass), Application: "rbd",
	}
}

// wanted are the pools in Ceph that a BlockPool is. That of its name is made last: while it
// is not there, the other holds nothing.
func wanted(pool *v1alpha1.BlockPool) []ceph.PoolSpec {
	if pool.Spec.ErasureCoded == nil {
		return []ceph.PoolSpec{spec(pool)}
	}
	return []ceph.PoolSpec{spec(pool), imagesSpec(pool)}
}

// foreign says that a pool in Ceph is another than the BlockPool can be; empty when none is.
func (o *Observed) foreign() string {
	coded, images, data := o.Pool.Spec.ErasureCoded, o.Images, o.InCeph
	switch {
	case coded == nil && images != nil && (images.Spec.DataPool != "" || images.Spec.DataChunks > 0):
		return fmt.Sprintf("a pool %q that keeps its data erasure-coded exists in Ceph, and spec.erasureCoded is not set", images.Spec.Name)
	case coded != nil && data != nil && (data.Spec.DataChunks != int(coded.DataChunks) || data.Spec.CodingChunks != int(coded.CodingChunks)):
		return fmt.Sprintf("a pool %q exists in Ceph, and its chunks are %d+%d, not those of spec.erasureCoded", data.Spec.Name, data.Spec.DataChunks, data.Spec.CodingChunks)
	case coded != nil && data == nil && images != nil && images.Spec.DataPool != dataName(o.Pool):
		return fmt.Sprintf("a pool %q that is not erasure-coded exists in Ceph", images.Spec.Name)
	}
	return ""
}

// sound refuses to go on with pools in Ceph that are not what the BlockPool made.
func (o *Observed) sound() error {
	if is := o.foreign(); is != "" {
		return &stop{v1alpha1.ReasonNameTaken, "metadata.name: " + is + ". Choose another name", lookAgain}
	}
	if o.Images != nil && o.InCeph == nil {
		return &stop{v1alpha1.ReasonDataLost, fmt.Sprintf("the pool %q, which holds the data of the volumes, is gone from Ceph", dataName(o.Pool)), lookAgain}
	}
	return nil
}
