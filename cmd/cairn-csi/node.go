package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/attach/krbd"
	"github.com/cairn-storage/cairn/csi/attach/probe"
	"github.com/cairn-storage/cairn/csi/attach/remote"
	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/csi/kms"
	"github.com/cairn-storage/cairn/csi/node"
	"github.com/cairn-storage/cairn/csi/node/host"
	"github.com/cairn-storage/cairn/csi/node/journal"
	"github.com/cairn-storage/cairn/csi/registration"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/csi/systemd"
	"github.com/cairn-storage/cairn/csi/web"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
)

type nodeOptions struct {
	kube
	name, kubelet, state, http, method string
	volumes                            int64
}

// healthInterval is how often the volumes of the node are looked at.
const healthInterval = 30 * time.Second

// limitsInterval is how soon a changed limit of a volume holds where the kernel
// attaches it.
const limitsInterval = 30 * time.Second

// usersInterval is how soon a node goes over to another CephX user.
const usersInterval = 30 * time.Second

func nodeCommand() *cobra.Command {
	var o nodeOptions
	c := &cobra.Command{
		Use:   "node",
		Short: "Stage and publish volumes on this node",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	o.flags(c.Flags())
	c.Flags().StringVar(&o.name, "node", env("NODE_NAME", ""), "name of this node ($NODE_NAME)")
	c.Flags().StringVar(&o.kubelet, "kubelet-dir", "/var/lib/kubelet", "kubelet's directory")
	c.Flags().StringVar(&o.state, "state-dir", "/var/lib/cairn/csi", "directory of the driver's own state")
	c.Flags().StringVar(&o.http, "http-address", ":9811", "address of /metrics, /healthz and /readyz; empty serves none")
	c.Flags().StringVar(&o.method, "attach-method", "", "how to attach volumes: krbd or fuse; empty takes the best that this node can")
	c.Flags().Int64Var(&o.volumes, "max-volumes", 256, "volumes that this node takes at once; 0 is no limit")
	return c
}

func (o nodeOptions) run(ctx context.Context) error {
	if o.name == "" {
		return errors.New("--node is missing: the name of this node ($NODE_NAME)")
	}
	client, err := o.client()
	if err != nil {
		return err
	}
	method, err := o.choose(ctx)
	if err != nil {
		return err
	}
	credentials := connections.Secrets{Client: client.CoreV1().Secrets(o.namespace), Name: connections.NodeSecret(o.name)}
	clusters := connections.New(credentials, rados.Connector{}, connections.Timeouts)
	driver := &node.Server{
		ID: o.name, KubeletDir: o.kubelet, Method: method, Attacher: o.attacher(method, clusters),
		Host:        host.NewLinux(),
		Journal:     journal.Journal{Dir: filepath.Join(o.state, "node")},
		Credentials: credentials,
		Clusters:    clusters,
		Keys: &kms.Keys{Source: kms.Kubernetes{
			ConfigMaps: client.CoreV1().ConfigMaps(o.namespace), Secrets: client.CoreV1().Secrets(o.namespace)}},
		Labels:     o.labels(client),
		MaxVolumes: o.volumes,
	}
	if method == probe.KRBD {
		driver.EncryptedAttacher = o.attacher(probe.FUSE, clusters)
	} else {
		driver.Kernel = krbd.Attacher{Clusters: clusters}
	}
	if err := driver.Reconcile(ctx); err != nil {
		// Each volume is looked at again when kubelet asks for it.
		klog.ErrorS(err, "Not everything on this node could be reconciled")
	}
	watcher := &node.Watcher{Server: driver, Tell: node.Events{Client: client, Node: o.name}.Tell}
	users := &node.Users{Server: driver, Cairn: cairn{client.Discovery().RESTClient(), o.namespace, o.name}}
	return errors.Join(o.serve(ctx, driver, watcher, users), shutDown(context.WithoutCancel(ctx), driver))
}

// shutDownLimit is longer than systemd waits for processes (DefaultTimeoutStopSec, 90 s).
const shutDownLimit = 2 * time.Minute

// shutDown takes the volumes down where not this plugin ends but the node.
func shutDown(ctx context.Context, driver *node.Server) error {
	stopping, err := systemd.Stopping(ctx, systemd.Run)
	if err != nil {
		klog.ErrorS(err, "Asked to stop: taken for a replacement of this plugin")
	}
	if !stopping {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, shutDownLimit)
	defer cancel()
	return driver.ShutDown(ctx)
}

// labels reads those of this node.
func (o nodeOptions) labels(client kubernetes.Interface) node.Labels {
	return func(ctx context.Context) (map[string]string, error) {
		n, err := client.CoreV1().Nodes().Get(ctx, o.name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return n.Labels, nil
	}
}

func (o nodeOptions) choose(ctx context.Context) (string, error) {
	if o.method != "" && o.method != probe.KRBD && o.method != probe.FUSE {
		return "", fmt.Errorf("--attach-method: %q is neither %s nor %s", o.method, probe.KRBD, probe.FUSE)
	}
	if o.method != probe.FUSE {
		krbd.LoadModule(ctx)
	}
	methods := probe.Methods("/")
	method := o.method
	if method == "" {
		method = probe.Best(methods)
	}
	klog.InfoS("Attach method", "method", method, "probed", methods)
	if method == "" {
		return "", fmt.Errorf("this node cannot attach volumes: %+v", methods)
	}
	return method, nil
}

func (o nodeOptions) attacher(method string, clusters *connections.Manager) attach.Attacher {
	if method == probe.KRBD {
		return krbd.Attacher{Clusters: clusters}
	}
	return remote.NewClient(attachSocket(o.state))
}

func (o nodeOptions) serve(ctx context.Context, driver *node.Server, watcher *node.Watcher, users *node.Users) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), watcher)
	grpc := server.New(server.Options{Metrics: registry})
	csi.RegisterIdentityServer(grpc, &identity.Server{Version: version})
	csi.RegisterNodeServer(grpc, driver)

	socket := filepath.Join(o.kubelet, "plugins", identity.DriverName, "csi.sock")
	listener, err := server.Listen(ctx, socket)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.ServeOn(ctx, grpc, listener) })
	group.Go(func() error { return watcher.Watch(ctx, healthInterval) })
	group.Go(func() error { return users.Watch(ctx, usersInterval) })
	if kernel, ok := driver.Attacher.(krbd.Attacher); ok {
		group.Go(func() error { return kernel.KeepLimits(ctx, limitsInterval) })
	}
	group.Go(func() error {
		plugin := registration.Plugin{Driver: identity.DriverName, Endpoint: socket}
		return plugin.Serve(ctx, registration.Socket(o.kubelet, identity.DriverName))
	})
	group.Go(func() error {
		return web.Serve(ctx, o.http, web.Handler(registry, func(ctx context.Context) error {
			_, err := driver.Attacher.List(ctx)
			return err
		}))
	})
	return group.Wait()
}
