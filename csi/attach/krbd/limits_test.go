package krbd

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

func TestLimitLine(t *testing.T) {
	for want, limits := range map[string]ceph.Limits{
		"252:16 rbps=max wbps=max riops=max wiops=max":      {},
		"252:16 rbps=max wbps=max riops=100 wiops=100":      {IOPS: 100},
		"252:16 rbps=max wbps=max riops=20 wiops=100":       {IOPS: 100, ReadIOPS: 20, WriteIOPS: 500},
		"252:16 rbps=4096 wbps=1048576 riops=max wiops=max": {Bandwidth: 1 << 20, ReadBandwidth: 4096},
	} {
		require.Equal(t, want, limitLine(252, 16, limits))
	}
}

// limited is a cluster whose images have these limits.
type limited ceph.Limits

func (l limited) Do(_ context.Context, _ string, f func(ceph.Block) error) error {
	return f(limitedBlock{limits: ceph.Limits(l)})
}

type limitedBlock struct {
	ceph.Block
	limits ceph.Limits
}

func (b limitedBlock) ImageInfo(context.Context, ceph.ImageRef) (*ceph.ImageInfo, error) {
	return &ceph.ImageInfo{Watchers: []string{"10.0.0.9:0/42"}, Limits: b.limits}, nil
}

// Limits hold from the start, and end with the image that has them.
func TestLimitsOfTheCgroup(t *testing.T) {
	a := fakeSys(t)
	a.fakeMap(t, "4", nil)
	a.Cgroups = t.TempDir()
	a.Clusters = limited{WriteIOPS: 7}
	found, err := a.find(volumeid.ID{FSID: fsid, Image: volume().Image})
	require.NoError(t, err)
	err = a.limit(t.Context(), found)
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.ErrorContains(t, err, "no cgroup v2")
	_, err = a.Attach(t.Context(), volume())
	require.NoError(t, err, "a node without cgroup v2 serves the volume all the same")

	file := func(parts ...string) string { return filepath.Join(append([]string{a.Cgroups}, parts...)...) }
	require.NoError(t, os.WriteFile(file("cgroup.controllers"), []byte("io"), 0o600))
	require.ErrorContains(t, a.limit(t.Context(), found), "not where it is looked for")
	require.NoError(t, os.MkdirAll(file("kubelet", "kubepods"), 0o700))
	for _, control := range []string{file("cgroup.subtree_control"), file("kubelet", "cgroup.subtree_control")} {
		require.NoError(t, os.WriteFile(control, nil, 0o600))
	}
	require.Error(t, a.limit(t.Context(), found), "the kernel makes io.max, not this")
	for _, control := range []string{file("cgroup.subtree_control"), file("kubelet", "cgroup.subtree_control")} {
		require.Equal(t, "+io", text(t, control))
	}
	limit := file("kubelet", "kubepods", "io.max")
	require.NoError(t, os.WriteFile(limit, nil, 0o600))
	_, err = a.Attach(t.Context(), volume())
	require.NoError(t, err)
	require.Equal(t, "252:16 rbps=max wbps=max riops=max wiops=7", text(t, limit))
	require.NoError(t, os.Truncate(limit, 0))
	a.Clusters = limited{}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, a.KeepLimits(ended, 1))
	require.Equal(t, "252:16 rbps=max wbps=max riops=max wiops=max", text(t, limit))
}

func text(t *testing.T, path string) string {
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(raw)
}
