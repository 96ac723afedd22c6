package model

import "github.com/cairn-storage/cairn/daemon/ceph"

// dataPool is the ID of the pool that holds the data of an image in a pool.
func (c *Cluster) dataPool(op string, poolID int64, name string) (int64, error) {
	if name == "" {
		return poolID, nil
	}
	id, ok := c.findPool(name)
	if !ok {
		return 0, ceph.Errorf(ceph.NotFound, op, "no such pool: %s", name)
	}
	return id, nil
}

// plainOnly refuses encrypted images whose data would be erasure-coded.
func plainOnly(op string, passphrase ceph.Passphrase, spec ceph.ImageSpec) error {
	if passphrase != "" && spec.DataPool != "" {
		return ceph.Errorf(ceph.Invalid, op, "an encrypted image cannot keep its data in an erasure-coded pool (%s)", spec.DataPool)
	}
	return nil
}

// changeable refuses what cannot be changed in a pool.
func changeable(now, want ceph.PoolSpec) error {
	switch {
	case now.DataChunks != want.DataChunks || now.CodingChunks != want.CodingChunks,
		want.DataChunks > 0 && (now.Size != want.Size || now.FailureDomain != want.FailureDomain || now.DeviceClass != want.DeviceClass):
		return ceph.Errorf(ceph.Invalid, "change pool "+want.Name, "%+v cannot become %+v", now, want)
	}
	return nil
}
