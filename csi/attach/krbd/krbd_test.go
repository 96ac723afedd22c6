package krbd

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

const fsid = "6f0c1d2e-3b4a-4c5d-8e6f-7a8b9c0d1e2f"

func TestMonAddrs(t *testing.T) {
	v1 := func(addrs ...string) monList { return monList{addrs: addrs} }
	v2 := func(addrs ...string) monList { return monList{addrs: addrs, v2: true} }
	for in, want := range map[string][]monList{
		"10.0.0.1":      {v2("10.0.0.1:3300"), v1("10.0.0.1:6789")},
		"10.0.0.1:6789": {v1("10.0.0.1:6789")},
		"10.0.0.1:3300": {v2("10.0.0.1:3300")},
		"[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0],[v2:10.0.0.2:3300/0,v1:10.0.0.2:6789/0]": {v2("10.0.0.1:3300", "10.0.0.2:3300"), v1("10.0.0.1:6789", "10.0.0.2:6789")},
		"[v2:10.0.0.1:3300/0],[v2:10.0.0.2:3300/0]":                                       {v2("10.0.0.1:3300", "10.0.0.2:3300")},
		"v2:10.0.0.1:3300,v2:10.0.0.2:3300":                                               {v2("10.0.0.1:3300", "10.0.0.2:3300")},
		"v2:10.0.0.1:3300,[v2:10.0.0.2:3300,v1:10.0.0.2:6789]":                            {v2("10.0.0.1:3300", "10.0.0.2:3300")},
		"v2:10.0.0.1:3300,v1:10.0.0.2:6789":                                               {v2("10.0.0.1:3300"), v1("10.0.0.2:6789")},
		"[v2:[fd00::1]:3300/0,v1:[fd00::1]:6789/0]":                                       {v2("[fd00::1]:3300"), v1("[fd00::1]:6789")},
		"[v2:[fd00::1]:3300/0],[v2:[fd00::2]:3300/0]":                                     {v2("[fd00::1]:3300", "[fd00::2]:3300")},
	} {
		lists, err := monAddrs(in)
		require.NoError(t, err, in)
		require.Equal(t, want, lists, in)
	}
	_, err := monAddrs(" ")
	require.Error(t, err)
}

func volume() attach.Volume {
	id := volumeid.ID{FSID: fsid, Image: ceph.ImageRef{PoolID: 3, Name: "pvc-1"}}
	code, _ := id.Encode()
	return attach.Volume{ID: code, Image: id.Image, Pool: "fast", Exclusive: true,
		Credentials: ceph.Credentials{FSID: fsid, MonHost: "10.0.0.1:6789", User: "csi-node-a", Key: "QUJD"}}
}

func TestAddLine(t *testing.T) {
	for want, change := range map[string]func(*attach.Volume){
		"10.0.0.1:6789 name=csi-node-a,secret=QUJD,rw fast pvc-1 -":                                                         func(*attach.Volume) {},
		"10.0.0.1:6789 name=csi-node-a,secret=QUJD,ro fast pvc-1 -":                                                         func(v *attach.Volume) { v.ReadOnly = true },
		"10.0.0.1:6789 name=csi-node-a,secret=QUJD,rw,_pool_ns=a fast pvc-1 -":                                              func(v *attach.Volume) { v.Image.Namespace = "a" },
		"10.0.0.1:6789 name=csi-node-a,secret=QUJD,rw,read_from_replica=localize,crush_location=zone:z|host:a fast pvc-1 -": func(v *attach.Volume) { v.Near = "zone=z host=a" },
		"10.0.0.1:3300 name=csi-node-a,secret=QUJD,rw,ms_mode=prefer-crc fast pvc-1 -":                                      func(v *attach.Volume) { v.Credentials.MonHost = "v2:10.0.0.1:3300" },
		"10.0.0.1:3300 name=csi-node-a,secret=QUJD,rw,ms_mode=prefer-crc fast pvc-1 - | 10.0.0.1:6789 name=csi-node-a,secret=QUJD,rw fast pvc-1 -": func(v *attach.Volume) {
			v.Credentials.MonHost = "[v2:10.0.0.1:3300,v1:10.0.0.1:6789]"
		},
	} {
		v := volume()
		change(&v)
		lines, err := addLines(v)
		require.NoError(t, err)
		require.Equal(t, want, strings.Join(lines, " | "))
	}
	for name, change := range map[string]func(*attach.Volume){
		"pool":      func(v *attach.Volume) { v.Pool = "" },
		"mon":       func(v *attach.Volume) { v.Credentials.MonHost = "" },
		"user":      func(v *attach.Volume) { v.Credentials.User = "a,key=b" },
		"key":       func(v *attach.Volume) { v.Credentials.Key = "QUJD\n" },
		"encrypted": func(v *attach.Volume) { v.Passphrase = "x" },
		"snapshot":  func(v *attach.Volume) { v.Snapshot = 4 },
		"pool ":     func(v *attach.Volume) { v.Pool = "a b" },
	} {
		v := volume()
		change(&v)
		_, err := addLines(v)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "QUJD")
	}
}

// fakeSys is the RBD bus of a kernel that maps nothing by itself.
func fakeSys(t *testing.T) Attacher {
	a := Attacher{Sys: t.TempDir(), Dev: "/dev", Clusters: watched{"10.0.0.9:0/42"}}
	require.NoError(t, os.MkdirAll(a.sys("devices"), 0o755))
	for _, f := range []string{"add_single_major", "remove_single_major"} {
		require.NoError(t, os.WriteFile(a.sys(f), nil, 0o600))
	}
	return a
}

func (a Attacher) fakeMap(t *testing.T, id string, change map[string]string) {
	t.Helper()
	attrs := map[string]string{"major": "252", "minor": "16", "size": "1073741824", "client_addr": "10.0.0.9:0/42", "cluster_fsid": fsid,
		"pool_id": "3", "pool_ns": "", "name": "pvc-1", "current_snap": "-", "refresh": "",
		"config_info": "10.0.0.1:6789 name=csi-node-a,key=client.csi-node-a,rw fast pvc-1 -"}
	for k, v := range change {
		attrs[k] = v
	}
	require.NoError(t, os.MkdirAll(a.sys("devices", id), 0o755))
	for k, v := range attrs {
		require.NoError(t, os.WriteFile(a.sys("devices", id, k), []byte(v+"\n"), 0o600))
	}
}

func TestFindsWhatIsMapped(t *testing.T) {
	a := fakeSys(t)
	a.fakeMap(t, "0", map[string]string{"cluster_fsid": "00000000-3b4a-4c5d-8e6f-7a8b9c0d1e2f"})
	a.fakeMap(t, "1", map[string]string{"pool_id": "4"})
	a.fakeMap(t, "2", map[string]string{"current_snap": "s"})
	a.fakeMap(t, "3", map[string]string{"pool_ns": "other"})
	a.fakeMap(t, "4", nil)
	got, err := a.Attach(t.Context(), volume())
	require.NoError(t, err)
	require.Equal(t, attach.Device{VolumeID: volume().ID, Path: "/dev/rbd4", Major: 252, Minor: 16, Size: 1 << 30, ClientAddrs: "10.0.0.9:0/42"}, got)
	raw, err := os.ReadFile(a.sys("add_single_major"))
	require.NoError(t, err)
	require.Empty(t, raw, "nothing was mapped twice")
	devices, err := a.List(t.Context())
	require.NoError(t, err)
	require.Len(t, devices, 4, "the snapshot is nobody's volume")
}

// watched is a cluster whose images have these watchers.
type watched []string

func (w watched) Do(_ context.Context, _ string, f func(ceph.Block) error) error {
	return f(watchedBlock{watchers: w})
}

type watchedBlock struct {
	ceph.Block
	watchers []string
}

func (b watchedBlock) ImageInfo(context.Context, ceph.ImageRef) (*ceph.ImageInfo, error) {
	return &ceph.ImageInfo{Watchers: b.watchers}, nil
}

func TestOneWriterIsAlone(t *testing.T) {
	a := fakeSys(t)
	a.fakeMap(t, "4", nil)
	a.Clusters = watched{"v1:10.0.0.9:0/42", "10.0.0.8:0/7"}
	_, err := a.Attach(t.Context(), volume())
	require.True(t, ceph.Is(err, ceph.Busy), "%v", err)
	require.ErrorContains(t, err, "10.0.0.8:0/7")
	raw, err := os.ReadFile(a.sys("remove_single_major"))
	require.NoError(t, err)
	require.Equal(t, "4", string(raw), "it is not kept")
	shared := volume()
	shared.Exclusive = false
	_, err = a.Attach(t.Context(), shared)
	require.NoError(t, err)
}

func TestExplains(t *testing.T) {
	old, fresh := volume(), volume()
	fresh.Credentials.Key, _ = ceph.NewKey(time.Now())
	for name, c := range map[string]struct {
		err  error
		says string
		kind fault.Kind
	}{
		"key":      {explainMap(fresh, 2, unix.EINVAL), "aes256k", fault.Refused},
		"other":    {explainMap(old, 2, unix.EINVAL), "invalid", ""},
		"too old":  {explainMap(old, 1, unix.EINVAL), "Linux knows that from 5.11 on", fault.Refused},
		"locked":   {explainMap(old, 2, unix.EROFS), "another client", ""},
		"features": {explainMap(old, 2, unix.ENXIO), "features", fault.Refused},
		"busy":     {explainUnmap("/dev/rbd0", unix.EBUSY), "/dev/rbd0", fault.Refused},
	} {
		require.ErrorContains(t, c.err, c.says, name)
		require.Equal(t, c.kind, fault.KindOf(c.err), name)
		require.NotContains(t, c.err.Error(), fresh.Credentials.Key.Reveal())
	}
}

func TestMapsAndChecksThePool(t *testing.T) {
	a := fakeSys(t)
	_, err := a.Attach(t.Context(), volume())
	require.Equal(t, fault.Refused, fault.KindOf(err), "nothing of the pool's ID appeared")
	raw, err := os.ReadFile(a.sys("add_single_major"))
	require.NoError(t, err)
	require.Contains(t, string(raw), " fast pvc-1 -")
}

func TestReaderIsNotGivenAWritersMapping(t *testing.T) {
	a := fakeSys(t)
	a.fakeMap(t, "4", nil)
	v := volume()
	v.ReadOnly = true
	_, err := a.Attach(t.Context(), v)
	require.ErrorContains(t, err, "mapped to write")
}

func TestReadOnlyMappingIsNotWritable(t *testing.T) {
	a := fakeSys(t)
	a.fakeMap(t, "4", map[string]string{"config_info": "10.0.0.1:6789 name=x,ro fast pvc-1 -"})
	_, err := a.Attach(t.Context(), volume())
	require.ErrorContains(t, err, "read-only")
}

func TestDetachAndResize(t *testing.T) {
	a := fakeSys(t)
	require.NoError(t, a.Detach(t.Context(), volume().ID), "none is fine")
	_, err := a.Resize(t.Context(), volume().ID)
	require.Equal(t, fault.NotFound, fault.KindOf(err))
	a.fakeMap(t, "7", map[string]string{"size": "2147483648"})
	device, err := a.Resize(t.Context(), volume().ID)
	require.NoError(t, err)
	require.Equal(t, int64(2)<<30, device.Size)
	require.NoError(t, a.Detach(t.Context(), volume().ID))
	raw, err := os.ReadFile(filepath.Join(a.Sys, "remove_single_major"))
	require.NoError(t, err)
	require.Equal(t, "7", string(raw))
	require.Error(t, a.Detach(t.Context(), "nonsense"))
}
