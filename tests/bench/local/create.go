package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"
	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/controller"
	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/daemon/ceph"
	cairnrados "github.com/cairn-storage/cairn/daemon/ceph/rados"
	"github.com/cairn-storage/cairn/tests/bench/result"
)

const (
	createRounds = 7
	imageSize    = 1 << 30
)

// maker makes one image; worker is which of the callers at once this is.
type maker func(ctx context.Context, worker int, name string) error

// create compares CreateVolume with a bare create of an image.
func create(ctx context.Context, b *bed, report func(...result.Entry)) error {
	volume, closeDriver, err := driver(ctx, b)
	if err != nil {
		return err
	}
	defer closeDriver()
	image, closeFloor, err := bare(b)
	if err != nil {
		return err
	}
	defer closeFloor()
	parts, err := breakdown(ctx, b)
	if err != nil {
		return err
	}
	for _, load := range []struct{ callers, each int }{{1, 100}, {16, 320}} {
		var ours, theirs, p50, p99 []float64
		var oursAll, theirsAll []float64
		for round := range createRounds + 1 {
			a, err := times(ctx, volume, load.callers, load.each)
			if err != nil {
				return fmt.Errorf("CreateVolume: %w", err)
			}
			f, err := times(ctx, image, load.callers, load.each)
			if err != nil {
				return fmt.Errorf("bare create: %w", err)
			}
			b.say("create, %d at once, round %d: p50 %.2f / %.2f ms, p99 %.2f / %.2f ms", load.callers, round,
				result.Median(a), result.Median(f), result.Quantile(a, .99), result.Quantile(f, .99))
			if round == 0 {
				continue // both sides warm up
			}
			ours, theirs = append(ours, result.Median(a)), append(theirs, result.Median(f))
			oursAll, theirsAll = append(oursAll, result.Quantile(a, .99)), append(theirsAll, result.Quantile(f, .99))
			p50 = append(p50, result.Median(a)/result.Median(f))
			p99 = append(p99, result.Quantile(a, .99)/result.Quantile(f, .99))
		}
		note := func(ours, theirs, ratios []float64, what string) string {
			return fmt.Sprintf("%s %.3g ms over %.3g ms; %d rounds of %d a side, ratios %s",
				what, result.Median(ours), result.Median(theirs), createRounds, load.each, result.Spread(ratios))
		}
		suffix := fmt.Sprintf("ratio_c%d", load.callers)
		p50note := note(ours, theirs, p50, "p50")
		if load.callers == 1 {
			p50note += "; " + parts
		}
		report(result.New("create", "create_p50_"+suffix, "ratio", result.Median(p50), "%s", p50note))
		if load.callers > 1 {
			report(result.New("create", "create_p99_"+suffix, "ratio", result.Median(p99), "%s", note(oursAll, theirsAll, p99, "p99")))
		}
	}
	return nil
}

// breakdown says what the parts of a create cost that the bare one has not.
func breakdown(ctx context.Context, b *bed) (string, error) {
	lookup := func(ctx context.Context, _ int, _ string) error {
		_, err := b.conn.PoolID(ctx, pool)
		return err
	}
	create := func(metadata map[string]string) maker {
		return func(ctx context.Context, _ int, name string) error {
			return b.conn.CreateImage(ctx, ceph.ImageRef{PoolID: b.pool, Name: name}, ceph.ImageSpec{Size: imageSize, Metadata: metadata})
		}
	}
	var took [3][]float64
	for range 5 {
		for i, make := range []maker{lookup, create(nil), create(map[string]string{"cairn.storage/name": "x", "cairn.storage/claim": "y"})} {
			ms, err := times(ctx, make, 1, 20)
			if err != nil {
				return "", err
			}
			took[i] = append(took[i], ms...)
		}
	}
	lookups, plain, full := result.Median(took[0]), result.Median(took[1]), result.Median(took[2])
	return fmt.Sprintf("of it the pool's lookup %.2g ms, the metadata %.2g ms", lookups, full-plain), nil
}

// times are the milliseconds that each of n creates took.
func times(ctx context.Context, create maker, callers, n int) ([]float64, error) {
	var (
		mu    sync.Mutex
		took  []float64
		errs  []error
		group sync.WaitGroup
	)
	for worker := range callers {
		group.Go(func() {
			for range n / callers {
				began := time.Now()
				err := create(ctx, worker, "pvc-"+uuid.NewString())
				ms := float64(time.Since(began).Microseconds()) / 1000
				mu.Lock()
				took, errs = append(took, ms), append(errs, err)
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	group.Wait()
	return took, errors.Join(errs...)
}

// driver serves the Controller as cairn-csi does and calls it through its socket.
func driver(ctx context.Context, b *bed) (maker, func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	credentials := b.cluster.Credentials()
	clusters := connections.New(connections.Static{credentials.FSID: credentials}, cairnrados.Connector{}, connections.Timeouts)
	s := server.New(server.Options{Metrics: prometheus.NewRegistry()})
	csi.RegisterIdentityServer(s, &identity.Server{Version: "bench", Controller: true})
	csi.RegisterControllerServer(s, &controller.Server{Clusters: clusters})
	socket := filepath.Join(b.dir, "csi.sock")
	listener, err := server.Listen(ctx, socket)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	served := make(chan error, 1)
	go func() { served <- server.ServeOn(ctx, s, listener) }()
	channel, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		cancel()
		return nil, nil, err
	}
	end := func() {
		_ = channel.Close()
		cancel()
		<-served
		_ = clusters.Close()
	}
	client := csi.NewControllerClient(channel)
	return func(ctx context.Context, _ int, name string) error {
		_, err := client.CreateVolume(ctx, &csi.CreateVolumeRequest{
			Name:               name,
			CapacityRange:      &csi.CapacityRange{RequiredBytes: imageSize},
			VolumeCapabilities: []*csi.VolumeCapability{filesystem()},
			Parameters: map[string]string{"clusterID": credentials.FSID, "pool": pool,
				"csi.storage.k8s.io/pvc/namespace": "default", "csi.storage.k8s.io/pvc/name": "data-" + name[:12]},
		})
		return err
	}, end, nil
}

func filesystem() *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: "xfs"}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
}

// bare is the floor: the create alone, on a connection of its own.
func bare(b *bed) (maker, func(), error) {
	conn, err := rados.NewConnWithUser("admin")
	if err != nil {
		return nil, nil, err
	}
	if err := errors.Join(conn.SetConfigOption("mon_host", b.cluster.MonHost), conn.SetConfigOption("key", b.cluster.AdminKey.Reveal())); err != nil {
		return nil, nil, err
	}
	if err := conn.Connect(); err != nil {
		return nil, nil, err
	}
	var pools []*rados.IOContext
	for range 16 {
		ioctx, err := conn.OpenIOContext(pool)
		if err != nil {
			conn.Shutdown()
			return nil, nil, err
		}
		pools = append(pools, ioctx)
	}
	end := func() {
		for _, ioctx := range pools {
			ioctx.Destroy()
		}
		conn.Shutdown()
	}
	features := uint64(rbd.FeatureSetFromNames(ceph.DefaultFeatures))
	return func(_ context.Context, worker int, name string) error {
		options := rbd.NewRbdImageOptions()
		defer options.Destroy()
		if err := options.SetUint64(rbd.ImageOptionFeatures, features); err != nil {
			return err
		}
		return rbd.CreateImage(pools[worker], name, imageSize, options)
	}, end, nil
}
