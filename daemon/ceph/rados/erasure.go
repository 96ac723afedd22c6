package rados

import (
	"context"
	"fmt"
	"strconv"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// erasureCoded is the type of such a pool (osd_types.h: pg_pool_t::TYPE_ERASURE).
const erasureCoded = 3

// dataPoolKey is the key of a pool's application metadata that names the pool of its images' data.
const dataPoolKey = "data_pool"

// applications of a pool, and the metadata of each.
type applications map[string]map[string]string

// dataPool of the images in a pool; empty for the pool itself.
func (a applications) dataPool() string { return a["rbd"][dataPoolKey] }

// coding is how a pool is erasure-coded, as its profile says.
type coding struct{ data, coding int }

// codings returns what the profiles of pools say, by name.
func (c *conn) codings(ctx context.Context, pools poolsAnswer) (map[string]coding, error) {
	coded := map[string]coding{}
	for _, pool := range pools {
		if _, known := coded[pool.Profile]; known || pool.Type != erasureCoded {
			continue
		}
		var profile struct {
			K string `json:"k"`
			M string `json:"m"`
		}
		if err := c.ask(ctx, command{"prefix": "osd erasure-code-profile get", "name": pool.Profile}, &profile); err != nil {
			return nil, err
		}
		data, err := strconv.Atoi(profile.K)
		if err != nil {
			return nil, ceph.Errorf(ceph.Unexpected, "read erasure-code profile "+pool.Profile, "its k is %q", profile.K)
		}
		more, err := strconv.Atoi(profile.M)
		if err != nil {
			return nil, ceph.Errorf(ceph.Unexpected, "read erasure-code profile "+pool.Profile, "its m is %q", profile.M)
		}
		coded[pool.Profile] = coding{data, more}
	}
	return coded, nil
}

// changeable refuses what Ceph cannot change in a pool, and what Cairn does not.
func changeable(now, want ceph.PoolSpec) error {
	switch {
	case now.DataChunks != want.DataChunks || now.CodingChunks != want.CodingChunks:
		return ceph.Errorf(ceph.Invalid, "change pool "+want.Name, "it is %s, and cannot become %s", redundancy(now), redundancy(want))
	case want.DataChunks > 0 && (now.Size != want.Size || now.FailureDomain != want.FailureDomain || now.DeviceClass != want.DeviceClass):
		return ceph.Errorf(ceph.Invalid, "change pool "+want.Name, "the size, failure domain and device class of an erasure-coded pool stay")
	}
	return nil
}

func redundancy(spec ceph.PoolSpec) string {
	if spec.DataChunks == 0 {
		return "replicated"
	}
	return fmt.Sprintf("erasure-coded with %d data and %d coding chunks", spec.DataChunks, spec.CodingChunks)
}

// plainOnly refuses encrypted images whose data would be erasure-coded: an OSD of such a
// pool does not say which parts of an object were never written, and librbd would decrypt
// their zeroes to noise.
func plainOnly(op string, encrypted bool, spec ceph.ImageSpec) error {
	if encrypted && spec.DataPool != "" {
		return ceph.Errorf(ceph.Invalid, op, "an encrypted image cannot keep its data in an erasure-coded pool (%s)", spec.DataPool)
	}
	return nil
}

// codingName is that of a pool's erasure-code profile and CRUSH rule, which are its own.
func codingName(pool string) string { return "cairn_" + pool }

// createCoded are the commands that make an erasure-coded pool. A profile or a rule that is
// there already is what a removal that was cut short left.
func createCoded(want ceph.PoolSpec) []command {
	name := codingName(want.Name)
	profile := []string{fmt.Sprintf("k=%d", want.DataChunks), fmt.Sprintf("m=%d", want.CodingChunks), "crush-failure-domain=" + want.FailureDomain}
	if want.DeviceClass != "" {
		profile = append(profile, "crush-device-class="+want.DeviceClass)
	}
	return append(removeCoding(want.Name),
		command{"prefix": "osd erasure-code-profile set", "name": name, "profile": profile},
		command{"prefix": "osd crush rule create-erasure", "name": name, "profile": name},
		command{"prefix": "osd pool create", "pool": want.Name, "pool_type": "erasure", "erasure_code_profile": name, "rule": name,
			"pg_num": initialPGs, "autoscale_mode": "on", "bulk": true})
}

// removeCoding are the commands that remove profile and rule of a pool that is gone; there
// may be none.
func removeCoding(pool string) []command {
	name := codingName(pool)
	return []command{{"prefix": "osd crush rule rm", "name": name}, {"prefix": "osd erasure-code-profile rm", "name": name}}
}
