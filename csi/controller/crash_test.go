package controller

import (
	"context"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/model"
)

// fromNowOn makes all calls from a number on fail, as if the process had ended,
// and reports afterwards whether one did.
func fromNowOn(cluster *model.Cluster, n int) (heal func() (hit bool)) {
	calls := 0
	cluster.FailWith(func(op string) error {
		if calls++; calls > n {
			return ceph.Errorf(ceph.Unreached, op, "planted")
		}
		return nil
	})
	return func() bool {
		cluster.FailWith(nil)
		return calls > n
	}
}

// Cut off at any of its calls and repeated, each RPC ends as if nothing had been.
func TestCutOffAnywhereAndRepeated(t *testing.T) {
	type state struct {
		s    *Server
		conn ceph.Conn
		data *csi.Volume
		snap string
	}
	qos := map[string]string{"iops": "100"}
	for name, run := range map[string]func(context.Context, state) error{
		"create": func(ctx context.Context, b state) error {
			_, err := b.s.CreateVolume(ctx, request(func(r *csi.CreateVolumeRequest) { r.Name = "pvc-2"; r.MutableParameters = qos }))
			return err
		},
		"restore": func(ctx context.Context, b state) error {
			_, err := b.s.CreateVolume(ctx, request(func(r *csi.CreateVolumeRequest) {
				r.Name = "pvc-2"
				fromSnapshot(b.snap)(r)
				ofSize(2 << 30)(r)
			}))
			return err
		},
		"clone": func(ctx context.Context, b state) error {
			_, err := b.s.CreateVolume(ctx, request(func(r *csi.CreateVolumeRequest) {
				r.Name = "pvc-2"
				fromVolume(b.data.GetVolumeId())(r)
				r.MutableParameters = qos
			}))
			return err
		},
		"snapshot": func(ctx context.Context, b state) error {
			_, err := b.s.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: "new", SourceVolumeId: b.data.GetVolumeId()})
			return err
		},
		"group": func(ctx context.Context, b state) error {
			_, err := b.s.CreateVolumeGroupSnapshot(ctx, &csi.CreateVolumeGroupSnapshotRequest{Name: "g", SourceVolumeIds: []string{b.data.GetVolumeId()}})
			return err
		},
		"delete": func(ctx context.Context, b state) error {
			_, err := b.s.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: b.data.GetVolumeId()})
			return err
		},
		"delete snapshot": func(ctx context.Context, b state) error {
			_, err := b.s.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: b.snap})
			return err
		},
		"modify": func(ctx context.Context, b state) error {
			_, err := b.s.ControllerModifyVolume(ctx, &csi.ControllerModifyVolumeRequest{VolumeId: b.data.GetVolumeId(), MutableParameters: qos})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			attempt := func(cut int) (after map[string]imageState, hit bool) {
				s, cluster, conn := bench(t)
				b := state{s: s, conn: conn, data: s.volume(t, "pvc-1")}
				b.snap = s.snap(t, b.data, "snap").GetSnapshotId()
				if cut >= 0 {
					heal := fromNowOn(cluster, cut)
					err := run(t.Context(), b)
					hit = heal()
					require.Equal(t, hit, err != nil)
					s.usages = usages{}
				}
				require.NoError(t, run(t.Context(), b))
				return stateOf(t, conn), hit
			}
			want, _ := attempt(-1)
			boundaries := 0
			for hit := true; hit; boundaries++ {
				var got map[string]imageState
				got, hit = attempt(boundaries)
				require.Equal(t, want, got, "cut off after %d calls", boundaries)
			}
			require.Greater(t, boundaries, 1)
		})
	}
}

// imageState is what counts of an image.
type imageState struct {
	size      int64
	metadata  map[string]string
	limits    ceph.Limits
	snapshots []string
	clone     bool
}

func stateOf(t *testing.T, conn ceph.Conn) map[string]imageState {
	names, err := conn.ListImages(t.Context(), 1, "", "", 100)
	require.NoError(t, err)
	all := map[string]imageState{}
	for _, name := range names {
		ref := ceph.ImageRef{PoolID: 1, Name: name}
		info, err := conn.ImageInfo(t.Context(), ref)
		require.NoError(t, err)
		snapshots, err := conn.ListSnapshots(t.Context(), ref)
		require.NoError(t, err)
		state := imageState{size: info.Size, metadata: info.Metadata, limits: info.Limits, clone: info.Parent != nil}
		delete(state.metadata, imagemeta.Source) // names IDs that differ from run to run
		for _, s := range snapshots {
			state.snapshots = append(state.snapshots, s.Name)
		}
		if imagemeta.Hidden(name) {
			name = ceph.HiddenPrefix
		}
		all[name] = state
	}
	return all
}
