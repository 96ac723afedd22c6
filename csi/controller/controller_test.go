package controller

import (
	"context"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/csi/upkeep"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/model"
)

const fsid = "6f0c1d2e-3b4a-4c5d-8e6f-7a8b9c0d1e2f"

type someNodes struct{}

func (someNodes) Known(_ context.Context, id string) (bool, error) { return id == "node-1", nil }

func bench(t *testing.T) (*Server, *model.Cluster, ceph.Conn) {
	cluster := model.New(fsid)
	conn, err := cluster.Connect(t.Context(), ceph.Credentials{FSID: fsid}, ceph.ConnectOptions{})
	require.NoError(t, err)
	require.NoError(t, conn.EnsurePool(t.Context(), ceph.PoolSpec{Name: "fast", Size: 1, Application: "rbd"}))
	clusters := connections.New(connections.Static{fsid: {FSID: fsid}}, cluster, connections.Timeouts)
	return &Server{Clusters: clusters, Nodes: someNodes{}, Places: places.Static{{FSID: fsid}},
		Upkeep: upkeep.New(clusters, places.Static{{FSID: fsid}}, upkeep.Limits{SoftDepth: 2, HardDepth: 3, SoftSnapshots: 3, HardSnapshots: 4}, nil)}, cluster, conn
}

func mountCapability(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: "xfs"}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode}}
}

func blockCapability(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode}}
}

const writer = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER

func request(change func(*csi.CreateVolumeRequest)) *csi.CreateVolumeRequest {
	req := &csi.CreateVolumeRequest{
		Name:               "pvc-1",
		CapacityRange:      &csi.CapacityRange{RequiredBytes: 1 << 30},
		VolumeCapabilities: []*csi.VolumeCapability{mountCapability(writer)},
		Parameters:         map[string]string{"clusterID": fsid, "pool": "fast", "csi.storage.k8s.io/pvc/name": "data", "csi.storage.k8s.io/pvc/namespace": "db"},
	}
	change(req)
	return req
}

func plain(*csi.CreateVolumeRequest) {}

// Each wrong input is refused with a code and a message that names the field.
func TestCreateRefuses(t *testing.T) {
	param := func(key, value string) func(*csi.CreateVolumeRequest) {
		return func(r *csi.CreateVolumeRequest) { r.Parameters[key] = value }
	}
	size := func(required, limit int64) func(*csi.CreateVolumeRequest) {
		return func(r *csi.CreateVolumeRequest) {
			r.CapacityRange = &csi.CapacityRange{RequiredBytes: required, LimitBytes: limit}
		}
	}
	caps := func(c ...*csi.VolumeCapability) func(*csi.CreateVolumeRequest) {
		return func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = c }
	}
	withMount := func(change func(*csi.VolumeCapability_MountVolume)) func(*csi.CreateVolumeRequest) {
		return func(r *csi.CreateVolumeRequest) { change(r.VolumeCapabilities[0].GetMount()) }
	}
	const invalid, outOfRange = codes.InvalidArgument, codes.OutOfRange
	for name, c := range map[string]struct {
		change func(*csi.CreateVolumeRequest)
		code   codes.Code
		field  string
	}{
		"no name":            {func(r *csi.CreateVolumeRequest) { r.Name = "" }, invalid, "name:"},
		"long name":          {func(r *csi.CreateVolumeRequest) { r.Name = strings.Repeat("x", 129) }, invalid, "name:"},
		"no capability":      {caps(), invalid, "volume_capabilities:"},
		"nil capability":     {caps(nil), invalid, "volume_capabilities[0]:"},
		"no access type":     {caps(&csi.VolumeCapability{}), invalid, "volume_capabilities[0].access_type:"},
		"no access mode":     {caps(&csi.VolumeCapability{AccessType: mountCapability(writer).AccessType}), invalid, "volume_capabilities[0].access_mode:"},
		"second capability":  {caps(mountCapability(writer), mountCapability(0)), invalid, "volume_capabilities[1].access_mode:"},
		"shared filesystem":  {caps(mountCapability(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER)), invalid, "volume_capabilities[0].access_mode: MULTI_NODE_MULTI_WRITER"},
		"one writer of many": {caps(blockCapability(csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER)), invalid, "access_mode: MULTI_NODE_SINGLE_WRITER"},
		"filesystem":         {withMount(func(m *csi.VolumeCapability_MountVolume) { m.FsType = "ntfs" }), invalid, "mount.fs_type:"},
		"mount option bind":  {withMount(func(m *csi.VolumeCapability_MountVolume) { m.MountFlags = []string{"bind"} }), invalid, "mount.mount_flags:"},
		"two options in one": {withMount(func(m *csi.VolumeCapability_MountVolume) { m.MountFlags = []string{"ro,suid"} }), invalid, "mount.mount_flags:"},
		"mount group":        {withMount(func(m *csi.VolumeCapability_MountVolume) { m.VolumeMountGroup = "5" }), invalid, "mount.volume_mount_group:"},
		"negative size":      {size(-1, 0), outOfRange, "capacity_range.required_bytes:"},
		"negative limit":     {size(0, -1), outOfRange, "capacity_range.limit_bytes:"},
		"size over limit":    {size(2<<30, 1<<30), outOfRange, "capacity_range:"},
		"no whole MiB":       {size(1, 1000), outOfRange, "capacity_range.limit_bytes:"},
		"small xfs":          {size(1<<20, 300<<20-1), outOfRange, "capacity_range.limit_bytes: 314572799 is less than 300 MiB"},
		"no whole MiB xfs":   {size(300<<20+1, 300<<20+2), outOfRange, "capacity_range.limit_bytes:"},
		"too large":          {size(1<<62, 0), outOfRange, "capacity_range.required_bytes:"},
		"no cluster":         {func(r *csi.CreateVolumeRequest) { delete(r.Parameters, "clusterID") }, invalid, "parameters.clusterID:"},
		"cluster no fsid":    {param("clusterID", "main"), invalid, "parameters.clusterID:"},
		"no pool":            {func(r *csi.CreateVolumeRequest) { delete(r.Parameters, "pool") }, invalid, "parameters.pool:"},
		"pool with slash":    {param("pool", "a/b"), invalid, "parameters.pool:"},
		"pool not there":     {param("pool", "slow"), invalid, `parameters.pool: there is no pool "slow"`},
		"namespace":          {param("radosNamespace", "a/b"), invalid, "parameters.radosNamespace:"},
		"feature":            {param("imageFeatures", "layering,turbo"), invalid, `parameters.imageFeatures: "turbo"`},
		"feature alone":      {param("imageFeatures", "exclusive-lock,fast-diff"), invalid, "parameters.imageFeatures: fast-diff needs object-map"},
		"near":               {param("readAffinity", "yes"), invalid, `parameters.readAffinity: "yes" is neither`},
		"no exclusive lock":  {param("imageFeatures", "layering"), invalid, "parameters.imageFeatures: exclusive-lock is missing"},
		"unknown parameter":  {param("thickProvision", "true"), invalid, "parameters.thickProvision:"},
		"content source":     {func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = &csi.VolumeContentSource{} }, invalid, "volume_content_source:"},
		"mutable parameters": {func(r *csi.CreateVolumeRequest) { r.MutableParameters = map[string]string{"speed": "1"} }, invalid, "mutable_parameters.speed:"},
		"no quantity":        {func(r *csi.CreateVolumeRequest) { r.MutableParameters = map[string]string{"iops": "fast"} }, invalid, "mutable_parameters.iops:"},
		"topology key":       {param("topology", "rack=r1"), invalid, "parameters.topology:"},
		"topology value":     {param("topology", "zone=a b"), invalid, "parameters.topology:"},
		"cluster not known":  {param("clusterID", "00000000-3b4a-4c5d-8e6f-7a8b9c0d1e2f"), codes.NotFound, "cluster 00000000-"},
	} {
		t.Run(name, func(t *testing.T) {
			s, cluster, _ := bench(t)
			_, err := s.CreateVolume(t.Context(), request(c.change))
			require.ErrorContains(t, err, c.field)
			require.Equal(t, c.code, server.Code(err))
			require.Zero(t, cluster.Calls()["CreateImage"])
		})
	}
}

func TestOtherCallsRefuse(t *testing.T) {
	s, _, _ := bench(t)
	created, err := s.CreateVolume(t.Context(), request(plain))
	require.NoError(t, err)
	id := created.GetVolume().GetVolumeId()
	absent := strings.Replace(id, "pvc-1", "pvc-2", 1)
	ctx := t.Context()
	publish := func(volume, node string, c *csi.VolumeCapability, readOnly bool) error {
		_, err := s.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: volume, NodeId: node, VolumeCapability: c, Readonly: readOnly})
		return err
	}
	expand := func(volume string, r *csi.CapacityRange) error {
		_, err := s.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: volume, CapacityRange: r})
		return err
	}
	unpublish := func(volume, node string) error {
		_, err := s.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: volume, NodeId: node})
		return err
	}
	validate := func(volume string, c ...*csi.VolumeCapability) error {
		_, err := s.ValidateVolumeCapabilities(ctx, &csi.ValidateVolumeCapabilitiesRequest{VolumeId: volume, VolumeCapabilities: c})
		return err
	}
	good, twoGiB := mountCapability(writer), &csi.CapacityRange{RequiredBytes: 2 << 30}
	for name, c := range map[string]struct {
		err   error
		code  codes.Code
		field string
	}{
		"delete nothing":           {func() error { _, err := s.DeleteVolume(ctx, &csi.DeleteVolumeRequest{}); return err }(), codes.InvalidArgument, "volume_id:"},
		"publish no volume":        {publish("", "node-1", good, false), codes.InvalidArgument, "volume_id:"},
		"publish no node":          {publish(id, "", good, false), codes.InvalidArgument, "node_id:"},
		"publish no capability":    {publish(id, "node-1", nil, false), codes.InvalidArgument, "volume_capability:"},
		"publish read-only":        {publish(id, "node-1", good, true), codes.InvalidArgument, "readonly:"},
		"publish foreign ID":       {publish("0001-rook", "node-1", good, false), codes.NotFound, "volume_id:"},
		"publish absent volume":    {publish(absent, "node-1", good, false), codes.NotFound, "pvc-2"},
		"publish to no node":       {publish(id, "Not A Node", good, false), codes.NotFound, "node_id:"},
		"publish to unknown node":  {publish(id, "node-2", good, false), codes.NotFound, "node_id:"},
		"unpublish no volume":      {unpublish("", "node-1"), codes.InvalidArgument, "volume_id:"},
		"unpublish strange node":   {unpublish(id, "a/b"), codes.InvalidArgument, "node_id:"},
		"expand no volume":         {expand("", twoGiB), codes.InvalidArgument, "volume_id:"},
		"expand no range":          {expand(id, nil), codes.InvalidArgument, "capacity_range:"},
		"expand absent volume":     {expand(absent, twoGiB), codes.NotFound, "pvc-2"},
		"shrink":                   {expand(id, &csi.CapacityRange{LimitBytes: 1 << 20}), codes.OutOfRange, "capacity_range.limit_bytes:"},
		"validate no volume":       {validate("", good), codes.InvalidArgument, "volume_id:"},
		"validate no capabilities": {validate(id), codes.InvalidArgument, "volume_capabilities:"},
		"validate absent":          {validate(absent, good), codes.NotFound, "pvc-2"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, c.err, c.field)
			require.Equal(t, c.code, server.Code(c.err))
		})
	}
}

func TestCreateCostsOneLookUpAndOneCreate(t *testing.T) {
	s, cluster, conn := bench(t)
	resp, err := s.CreateVolume(t.Context(), request(plain))
	require.NoError(t, err)
	calls := cluster.Calls()
	delete(calls, "EnsurePool")
	require.Equal(t, map[string]int{"PoolID": 1, "PoolUsage": 1, "CreateImage": 1}, calls)
	id, err := volumeid.Parse(resp.GetVolume().GetVolumeId())
	require.NoError(t, err)
	require.Equal(t, "pvc-1", id.Image.Name)
	require.Equal(t, map[string]string{"pool": "fast"}, resp.GetVolume().GetVolumeContext())
	info, err := conn.ImageInfo(t.Context(), id.Image)
	require.NoError(t, err)
	require.Equal(t, map[string]string{imagemeta.Name: "pvc-1", imagemeta.Features: "", imagemeta.Claim: "db/data"}, info.Metadata)
}

func TestSizes(t *testing.T) {
	for _, c := range []struct{ required, limit, least, want int64 }{
		{0, 0, 1 << 20, 1 << 30},
		{1, 0, 1 << 20, 1 << 20},
		{1 << 20, 0, 1 << 20, 1 << 20},
		{1<<20 + 1, 0, 1 << 20, 2 << 20},
		{0, 5 << 20, 1 << 20, 5 << 20},
		{0, 5<<20 + 7, 1 << 20, 5 << 20},
		{1<<20 + 1, 2 << 20, 1 << 20, 2 << 20},
		{1 << 20, 0, 300 << 20, 300 << 20},
		{1 << 20, 300 << 20, 300 << 20, 300 << 20},
		{0, 400 << 20, 300 << 20, 400 << 20},
		{301 << 20, 0, 300 << 20, 301 << 20},
	} {
		got, err := sizeOf(&csi.CapacityRange{RequiredBytes: c.required, LimitBytes: c.limit}, c.least)
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%+v", c)
	}
}

func TestRepeats(t *testing.T) {
	for name, c := range map[string]struct {
		second func(*csi.CreateVolumeRequest)
		field  string
	}{
		"the same":           {plain, ""},
		"smaller fits":       {func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = 1 << 20 }, ""},
		"larger":             {func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = 2 << 30 }, "capacity_range:"},
		"limit below":        {func(r *csi.CreateVolumeRequest) { r.CapacityRange = &csi.CapacityRange{LimitBytes: 500 << 20} }, "capacity_range:"},
		"other features":     {func(r *csi.CreateVolumeRequest) { r.Parameters["imageFeatures"] = "layering,exclusive-lock" }, "parameters.imageFeatures:"},
		"features reordered": {func(r *csi.CreateVolumeRequest) { r.Parameters["imageFeatures"] = " " }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, _ := bench(t)
			first, err := s.CreateVolume(t.Context(), request(plain))
			require.NoError(t, err)
			second, err := s.CreateVolume(t.Context(), request(c.second))
			if c.field != "" {
				require.ErrorContains(t, err, c.field)
				require.Equal(t, codes.AlreadyExists, server.Code(err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, first.GetVolume().GetVolumeId(), second.GetVolume().GetVolumeId())
			require.Equal(t, int64(1<<30), second.GetVolume().GetCapacityBytes())
		})
	}
}

// A create that was cut off before the metadata was written is completed.
func TestCutOffCreateIsCompleted(t *testing.T) {
	s, _, conn := bench(t)
	pool, err := conn.PoolID(t.Context(), "fast")
	require.NoError(t, err)
	ref := ceph.ImageRef{PoolID: pool, Name: "pvc-1"}
	require.NoError(t, conn.CreateImage(t.Context(), ref, ceph.ImageSpec{Size: 1 << 30}))
	_, err = s.CreateVolume(t.Context(), request(plain))
	require.NoError(t, err)
	info, err := conn.ImageInfo(t.Context(), ref)
	require.NoError(t, err)
	require.Equal(t, "pvc-1", info.Metadata[imagemeta.Name])

	foreign := ceph.ImageRef{PoolID: pool, Name: "pvc-2"}
	require.NoError(t, conn.CreateImage(t.Context(), foreign, ceph.ImageSpec{Size: 3 << 30}))
	_, err = s.CreateVolume(t.Context(), request(func(r *csi.CreateVolumeRequest) { r.Name = "pvc-2" }))
	require.Equal(t, codes.AlreadyExists, server.Code(err))
	require.ErrorContains(t, err, "not made by this driver")
}

func TestFullAndOtherTroubles(t *testing.T) {
	for kind, code := range map[ceph.Kind]codes.Code{
		ceph.Full: codes.ResourceExhausted, ceph.Timeout: codes.DeadlineExceeded, ceph.Fenced: codes.Unavailable, ceph.Forbidden: codes.PermissionDenied,
	} {
		s, cluster, _ := bench(t)
		cluster.FailWith(func(op string) error {
			if op == "CreateImage" {
				return ceph.Errorf(kind, "create image", "planted")
			}
			return nil
		})
		_, err := s.CreateVolume(t.Context(), request(plain))
		require.Equal(t, code, server.Code(err))
		cluster.FailWith(nil)
		_, err = s.CreateVolume(t.Context(), request(plain))
		require.NoError(t, err)
	}
}

func TestDelete(t *testing.T) {
	s, _, conn := bench(t)
	created, err := s.CreateVolume(t.Context(), request(plain))
	require.NoError(t, err)
	id := created.GetVolume().GetVolumeId()
	parsed, err := volumeid.Parse(id)
	require.NoError(t, err)
	image, err := conn.OpenImage(t.Context(), parsed.Image, ceph.OpenOptions{})
	require.NoError(t, err)
	_, err = s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
	require.Equal(t, codes.FailedPrecondition, server.Code(err))
	require.ErrorContains(t, err, "in use")
	require.NoError(t, image.Close())
	for range 2 {
		_, err = s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
		require.NoError(t, err)
	}
	_, err = s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: "0001-rook"})
	require.NoError(t, err)
	// A volume of a cluster that is not known is not deleted, and not said to be.
	elsewhere := strings.Replace(id, id[2:10], "00000000", 1)
	_, err = s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: elsewhere})
	require.Equal(t, codes.FailedPrecondition, server.Code(err))
}

func TestExpand(t *testing.T) {
	s, _, _ := bench(t)
	created, err := s.CreateVolume(t.Context(), request(plain))
	require.NoError(t, err)
	for range 2 {
		resp, err := s.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{
			VolumeId: created.GetVolume().GetVolumeId(), CapacityRange: &csi.CapacityRange{RequiredBytes: 3<<30 + 5}})
		require.NoError(t, err)
		require.Equal(t, int64(3<<30+1<<20), resp.GetCapacityBytes())
		require.True(t, resp.GetNodeExpansionRequired())
	}
}

func TestValidate(t *testing.T) {
	s, _, _ := bench(t)
	created, err := s.CreateVolume(t.Context(), request(plain))
	require.NoError(t, err)
	for mode, confirmed := range map[*csi.VolumeCapability]bool{
		mountCapability(writer): true,
		blockCapability(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER): true,
		mountCapability(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY):  true,
		mountCapability(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER): false,
	} {
		resp, err := s.ValidateVolumeCapabilities(t.Context(), &csi.ValidateVolumeCapabilitiesRequest{
			VolumeId: created.GetVolume().GetVolumeId(), VolumeCapabilities: []*csi.VolumeCapability{mode}})
		require.NoError(t, err)
		require.Equal(t, confirmed, resp.GetConfirmed() != nil)
		require.Equal(t, confirmed, resp.GetMessage() == "")
	}
}
