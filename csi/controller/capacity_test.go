package controller

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

func TestCapacity(t *testing.T) {
	s, cluster, conn := bench(t)
	params := map[string]string{"clusterID": fsid, "pool": "fast"}
	ask := func(change ...func(*csi.GetCapacityRequest)) *csi.GetCapacityResponse {
		s.usages = usages{}
		req := &csi.GetCapacityRequest{Parameters: params}
		for _, c := range change {
			c(req)
		}
		resp, err := s.GetCapacity(t.Context(), req)
		require.NoError(t, err)
		return resp
	}
	cluster.SetCapacity(1, 10<<30+5)
	got := ask()
	require.Equal(t, int64(10<<30), got.GetAvailableCapacity())
	require.Equal(t, int64(10<<30), got.GetMaximumVolumeSize().GetValue())
	require.Equal(t, int64(1<<20), got.GetMinimumVolumeSize().GetValue())
	require.Zero(t, ask(func(r *csi.GetCapacityRequest) { r.Parameters = nil }).GetAvailableCapacity())

	require.NoError(t, conn.EnsurePool(t.Context(), ceph.PoolSpec{Name: "fast", Size: 1, Application: "rbd", QuotaBytes: 3 << 30}))
	require.Equal(t, int64(3<<30), ask().GetAvailableCapacity())
	cluster.SetCapacity(1, 0)
	require.Zero(t, ask().GetAvailableCapacity())

	_, err := s.GetCapacity(t.Context(), &csi.GetCapacityRequest{Parameters: map[string]string{"clusterID": fsid, "pool": "none"}})
	is(t, err, codes.InvalidArgument, "parameters.pool:")
	_, err = s.GetCapacity(t.Context(), &csi.GetCapacityRequest{Parameters: params, VolumeCapabilities: []*csi.VolumeCapability{{}}})
	is(t, err, codes.InvalidArgument, "volume_capabilities[0]")
}

// A thousand claims do not ask the mons a thousand times.
func TestUsageIsAskedForOnceInAWhile(t *testing.T) {
	s, cluster, _ := bench(t)
	for _, name := range []string{"pvc-1", "pvc-2", "pvc-3"} {
		s.volume(t, name)
	}
	require.Equal(t, 1, cluster.Calls()["PoolUsage"])
}

func TestWhatThePoolHasNoRoomForIsRefused(t *testing.T) {
	s, cluster, conn := bench(t)
	require.NoError(t, conn.EnsurePool(t.Context(), ceph.PoolSpec{Name: "fast", Size: 1, Application: "rbd", QuotaBytes: 5 << 30}))
	cluster.SetCapacity(1, 2<<30)
	volume := s.volume(t, "pvc-1", ofSize(4<<30)) // thin: more than is free
	create := func(name string, size int64) error {
		_, err := s.CreateVolume(t.Context(), request(func(r *csi.CreateVolumeRequest) { r.Name = name; ofSize(size)(r) }))
		return err
	}
	is(t, create("pvc-2", 6<<30), codes.ResourceExhausted, "the quota of pool fast leaves: it stores 0 of 5368709120")
	_, err := s.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: volume.GetVolumeId(), CapacityRange: &csi.CapacityRange{RequiredBytes: 6 << 30}})
	is(t, err, codes.ResourceExhausted, "quota")
	cluster.SetCapacity(1, 0)
	s.usages = usages{}
	is(t, create("pvc-2", 1<<30), codes.ResourceExhausted, "pool fast is full")
	require.NoError(t, create("pvc-1", 4<<30), "what exists is there in a full pool too")
	require.Zero(t, cluster.Calls()["GrowImage"])
}

func TestTopology(t *testing.T) {
	s, _, _ := bench(t)
	place := func(zone, host string) *csi.Topology {
		return &csi.Topology{Segments: map[string]string{identity.TopologyPrefix + "zone": zone, identity.TopologyPrefix + "host": host}}
	}
	bound := func(value string, want ...*csi.Topology) func(*csi.CreateVolumeRequest) {
		return func(r *csi.CreateVolumeRequest) {
			r.Parameters["topology"] = value
			r.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: want}
		}
	}
	volume := s.volume(t, "pvc-1", bound(identity.TopologyPrefix+"zone=z1", place("z2", "a"), place("z1", "b")))
	require.Len(t, volume.GetAccessibleTopology(), 1)
	require.Equal(t, map[string]string{identity.TopologyPrefix + "zone": "z1"}, volume.GetAccessibleTopology()[0].GetSegments())
	require.Len(t, s.volume(t, "pvc-2", bound("zone=z1, host=b", place("z1", "b"))).GetAccessibleTopology()[0].GetSegments(), 2)
	require.Len(t, s.volume(t, "pvc-3", bound("zone=z1")).GetAccessibleTopology(), 1)
	require.Empty(t, s.volume(t, "pvc-4", bound("", place("z1", "b"))).GetAccessibleTopology())
	_, err := s.CreateVolume(t.Context(), request(func(r *csi.CreateVolumeRequest) { r.Name = "pvc-5"; bound("zone=z1", place("z2", "a"))(r) }))
	is(t, err, codes.ResourceExhausted, "accessibility_requirements:")

	at := func(zone string) int64 {
		resp, err := s.GetCapacity(t.Context(), &csi.GetCapacityRequest{
			Parameters: map[string]string{"clusterID": fsid, "pool": "fast", "topology": "zone=z1"}, AccessibleTopology: place(zone, "a")})
		require.NoError(t, err)
		return resp.GetAvailableCapacity()
	}
	require.NotZero(t, at("z1"))
	require.Zero(t, at("z2"))
}

func TestModify(t *testing.T) {
	s, _, conn := bench(t)
	volume := s.volume(t, "pvc-1", func(r *csi.CreateVolumeRequest) {
		r.MutableParameters = map[string]string{"iops": "1k", "bandwidth": "10Mi"}
	})
	limits := func() ceph.Limits {
		info, err := conn.ImageInfo(t.Context(), imageRef(t, volume))
		require.NoError(t, err)
		return info.Limits
	}
	modify := func(id string, p map[string]string) error {
		_, err := s.ControllerModifyVolume(t.Context(), &csi.ControllerModifyVolumeRequest{VolumeId: id, MutableParameters: p})
		return err
	}
	require.Equal(t, ceph.Limits{IOPS: 1000, Bandwidth: 10 << 20}, limits())
	want := ceph.Limits{ReadIOPS: 1, WriteIOPS: 2, ReadBandwidth: 3 << 30, WriteBandwidth: 4000}
	for range 2 {
		require.NoError(t, modify(volume.GetVolumeId(), map[string]string{"readIOPS": "1", "writeIOPS": "2", "readBandwidth": "3Gi", "writeBandwidth": "4k"}))
		require.Equal(t, want, limits())
	}
	// A late repeat of the create does not undo it.
	s.volume(t, "pvc-1", func(r *csi.CreateVolumeRequest) {
		r.MutableParameters = map[string]string{"iops": "1k", "bandwidth": "10Mi"}
	})
	require.Equal(t, want, limits())
	for key, value := range map[string]string{"IOPS": "1", "iops": "0", "readIOPS": "-1", "writeIOPS": "1.5", "bandwidth": "", "readBandwidth": "9e30", "writeBandwidth": "5 MB"} {
		is(t, modify(volume.GetVolumeId(), map[string]string{key: value}), codes.InvalidArgument, "mutable_parameters."+key+":")
	}
	require.Equal(t, want, limits())
	is(t, modify(volume.GetVolumeId()+"0", nil), codes.NotFound, "pvc-10")
	is(t, modify("", nil), codes.InvalidArgument, "volume_id:")
	require.NoError(t, modify(volume.GetVolumeId(), nil))
	require.Equal(t, ceph.Limits{}, limits())
}

// Whatever the parameters are, none names another place than its form allows, and
// nothing panics.
func FuzzParameters(f *testing.F) {
	f.Add(fsid, "fast", "tenant", "layering,exclusive-lock", "zone=z1", "iops", "100")
	f.Add("..", "../x", "a/b", ",,", "=", "bandwidth", "1e9999")
	f.Add(fsid, "a@b", "\x00", "data-pool", "host=..,zone=", "writeIOPS", "-0")
	f.Fuzz(func(t *testing.T, cluster, pool, namespace, features, where, key, value string) {
		p, err := parseParameters(map[string]string{"clusterID": cluster, "pool": pool, "radosNamespace": namespace, "imageFeatures": features, "topology": where})
		if err == nil {
			for _, s := range []string{p.Pool, p.Namespace, p.FSID} {
				for _, c := range s {
					if c == '/' || c == '@' || c <= ' ' {
						t.Fatalf("%q was taken", s)
					}
				}
			}
		}
		if q, err := parseQoS(map[string]string{key: value}); err == nil {
			for _, field := range limitKeys {
				if v := *field(&q.Limits); v < 0 || v > maxLimit {
					t.Fatalf("%s=%q is %d", key, value, v)
				}
			}
		}
	})
}
