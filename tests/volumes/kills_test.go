package volumes

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/tests/faults/driver"
	"github.com/cairn-storage/cairn/tests/faults/state"
	"github.com/cairn-storage/cairn/tests/localceph"
	"github.com/cairn-storage/cairn/tests/verifier"
)

// rounds of killing.
const rounds = 50

func TestMain(m *testing.M) {
	driver.Main()
	os.Exit(m.Run())
}

// The node plugin is killed again and again, at any moment of its calls, while
// every acknowledged write to a volume that it staged is recorded: nothing is lost
// or stale, each next plugin knows the volume, and at the end nothing is left.
func TestNodePluginKilledUnderIO(t *testing.T) {
	k := newKilled(t)
	steady, other := k.volume("steady"), k.volume("other")
	k.must(k.up(k.plugin(), steady))
	k.must(k.calls(k.plugin(), steady, other)) // formats it
	began := time.Now()
	k.must(k.calls(k.plugin(), steady, other))
	took := time.Since(began)
	writing, end := context.WithCancel(k.Context())
	written := make(chan *verifier.Result, 1)
	go func() {
		result, err := verifier.Run(writing, verifier.Options{Path: filepath.Join(k.target(steady), "data"), Size: 16 << 20, Depth: 4, Duration: 10 * time.Minute})
		if err != nil {
			result = &verifier.Result{Error: err.Error()}
		}
		written <- result
	}()

	cut := map[string]int{}
	var back time.Duration
	for range rounds {
		cut[k.kill(rand.N(took), steady, other)]++
		began = time.Now()
		k.must(k.Restart(k.Context(), driver.Node))
		k.must(k.up(k.plugin(), steady))
		k.must(k.stats(k.plugin(), steady))
		back = max(back, time.Since(began))
	}
	end()
	result := <-written
	require.True(t, result.Sound(), "%+v", result)
	fmt.Printf("%d × node plugin killed (in %v), answers again within %v: %d writes acknowledged, %d lost, %d stale, longest stall %v\n", rounds, cut,
		back.Round(time.Millisecond), result.Acknowledged, result.Lost, result.Corrupt, time.Duration(result.LongestStallMillis)*time.Millisecond)

	for _, v := range []*csi.Volume{steady, other} {
		k.must(k.down(k.plugin(), v))
		k.remove(v)
	}
	k.must(state.Eventually(k.Context(), func() error {
		left, err := k.Left(k.Context())
		if err == nil && left != "" {
			err = fmt.Errorf("this is left:\n%s", left)
		}
		return err
	}))
}

// killed is a driver whose node plugin is killed.
type killed struct {
	*testing.T
	*driver.Driver
	ctx        context.Context
	controller csi.ControllerClient
}

// Context bounds all that the test waits for.
func (k *killed) Context() context.Context { return k.ctx }

func newKilled(t *testing.T) *killed {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	t.Cleanup(cancel)
	cluster, err := localceph.Start(ctx, t.TempDir(), localceph.Options{OSDs: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Stop()) })
	d, err := driver.Start(ctx, cluster, t.TempDir(), ceph.ConnectOptions{MonTimeout: 10 * time.Second, OSDTimeout: 10 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Stop()) })
	return &killed{T: t, Driver: d, ctx: ctx, controller: csi.NewControllerClient(d)}
}

func (k *killed) must(err error) {
	k.Helper()
	require.NoError(k, err, "the node plugin said:\n%s", k.Said(driver.Node))
}

// plugin is the node plugin of this moment, over a connection of its own as
// kubelet's are.
func (k *killed) plugin() csi.NodeClient {
	conn, err := grpc.NewClient("unix://"+filepath.Join(k.Dir, driver.Node+".sock"), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(named))
	require.NoError(k, err)
	k.Cleanup(func() { require.NoError(k, conn.Close()) })
	return csi.NewNodeClient(conn)
}

// named says which call failed.
func named(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if err := invoke(ctx, method, req, reply, conn, opts...); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(method), err)
	}
	return nil
}

// kill kills the node plugin after a while of calls, and returns which call it cut off.
func (k *killed) kill(after time.Duration, steady, other *csi.Volume) string {
	n, ended := k.plugin(), make(chan error, 1)
	go func() {
		for {
			if err := k.calls(n, steady, other); err != nil {
				ended <- err
				return
			}
		}
	}()
	time.Sleep(after)
	k.Kill(driver.Node)
	err := <-ended
	require.Equal(k, codes.Unavailable, status.Code(err), "%v", err)
	method, _, _ := strings.Cut(err.Error(), ":")
	return method
}

// calls makes every call for one volume, and repeats those for one that is in use.
func (k *killed) calls(n csi.NodeClient, steady, other *csi.Volume) error {
	for _, call := range []func() error{
		func() error { return k.up(n, other) },
		func() error { return k.stats(n, other) },
		func() error { return k.up(n, steady) },
		func() error { return k.stats(n, steady) },
		func() error { return k.down(n, other) },
	} {
		if err := call(); err != nil {
			return err
		}
	}
	return nil
}

func (k *killed) volume(name string) *csi.Volume {
	resp, err := k.controller.CreateVolume(k.Context(), &csi.CreateVolumeRequest{Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: gib},
		VolumeCapabilities: []*csi.VolumeCapability{capability("ext4", writer)},
		Parameters:         map[string]string{"clusterID": k.Ceph.FSID, "pool": driver.Pool}})
	require.NoError(k, err)
	v := resp.GetVolume()
	_, err = k.controller.ControllerPublishVolume(k.Context(), &csi.ControllerPublishVolumeRequest{VolumeId: v.GetVolumeId(), NodeId: driver.NodeID, VolumeCapability: capability("ext4", writer)})
	require.NoError(k, err)
	return v
}

func (k *killed) remove(v *csi.Volume) {
	_, err := k.controller.ControllerUnpublishVolume(k.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: v.GetVolumeId(), NodeId: driver.NodeID})
	require.NoError(k, err)
	_, err = k.controller.DeleteVolume(k.Context(), &csi.DeleteVolumeRequest{VolumeId: v.GetVolumeId()})
	require.NoError(k, err)
}

func (k *killed) staging(v *csi.Volume) string {
	return filepath.Join(k.Dir, "kubelet", "staging", v.GetVolumeId())
}

func (k *killed) target(v *csi.Volume) string {
	return filepath.Join(k.Dir, "kubelet", "pods", v.GetVolumeId())
}

func (k *killed) up(n csi.NodeClient, v *csi.Volume) error {
	_, err := n.NodeStageVolume(k.Context(), &csi.NodeStageVolumeRequest{VolumeId: v.GetVolumeId(), StagingTargetPath: k.staging(v),
		VolumeCapability: capability("ext4", writer), VolumeContext: v.GetVolumeContext()})
	if err != nil {
		return err
	}
	_, err = n.NodePublishVolume(k.Context(), &csi.NodePublishVolumeRequest{VolumeId: v.GetVolumeId(), StagingTargetPath: k.staging(v),
		TargetPath: k.target(v), VolumeCapability: capability("ext4", writer)})
	return err
}

func (k *killed) stats(n csi.NodeClient, v *csi.Volume) error {
	stats, err := n.NodeGetVolumeStats(k.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: v.GetVolumeId(), VolumePath: k.target(v), StagingTargetPath: k.staging(v)})
	if err == nil && stats.GetUsage()[0].GetTotal() < gib/2 {
		err = fmt.Errorf("it is not the volume that is mounted: %v", stats)
	}
	return err
}

func (k *killed) down(n csi.NodeClient, v *csi.Volume) error {
	_, err := n.NodeUnpublishVolume(k.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: v.GetVolumeId(), TargetPath: k.target(v)})
	if err != nil {
		return err
	}
	_, err = n.NodeUnstageVolume(k.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: v.GetVolumeId(), StagingTargetPath: k.staging(v)})
	return err
}
