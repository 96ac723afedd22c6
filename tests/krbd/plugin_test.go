package krbd

import (
	"context"
	"net"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/cairn-storage/cairn/csi/identity"
)

const (
	kubelet = "/var/lib/kubelet"
	state   = "/var/lib/cairn/csi"
	log     = "/var/log/node.log"
)

// plugin is the node plugin in the guest: cairn-csi node as the DaemonSet runs it.
type plugin struct {
	csi.NodeClient
	pid string
}

// userspace starts what a node has beside the plugin, for encrypted volumes.
func (b *bench) userspace() {
	b.Helper()
	b.run("modprobe", "-a", "fuse", "loop")
	for part, command := range map[string]string{
		"keeper": "cairn-keeper hold --dir " + state + "/keeper",
		"attach": "cairn-keeper run /share/cairn-csi attach --state-dir " + state,
	} {
		b.run("sh", "-c", "/share/"+command+" </dev/null >/var/log/"+part+".log 2>&1 &")
	}
}

// start starts the plugin and waits until its socket answers.
func (b *bench) start() {
	b.Helper()
	b.startBy("krbd")
}

// startBy starts the plugin with an attach method; empty lets it choose.
func (b *bench) startBy(method string) {
	b.Helper()
	b.plugin.pid = b.run("sh", "-c", "mkdir -p "+kubelet+"; /share/cairn-csi node --node "+nodeName+" --attach-method '"+method+
		"' --kubeconfig /share/kubeconfig --kubelet-dir "+kubelet+" --state-dir "+state+" </dev/null >>"+log+" 2>&1 & echo $!")
	if b.plugin.NodeClient == nil {
		b.plugin.NodeClient = csi.NewNodeClient(b.dial())
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	_, err := b.plugin.NodeGetInfo(ctx, &csi.NodeGetInfoRequest{}, grpc.WaitForReady(true))
	for status.Code(err) == codes.Unavailable && ctx.Err() == nil { // it went out over the connection to the one before
		_, err = b.plugin.NodeGetInfo(ctx, &csi.NodeGetInfoRequest{}, grpc.WaitForReady(true))
	}
	require.NoError(b, err, b.log())
}

// kill ends the plugin with a signal and waits until it is gone.
func (b *bench) kill(signal string) {
	b.Helper()
	b.end(b.plugin.pid, signal)
}

// end ends a process of the guest.
func (b *bench) end(pid, signal string) {
	b.Helper()
	b.run("sh", "-c", "kill -"+signal+" "+pid+"; while kill -0 "+pid+" 2>/dev/null; do sleep 0.05; done")
}

// dial connects to the plugin's socket, and again when the plugin is.
func (b *bench) dial() *grpc.ClientConn {
	socket := filepath.Join(kubelet, "plugins", identity.DriverName, "csi.sock")
	conn, err := grpc.NewClient("passthrough:///csi",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return b.machine.Dial(ctx, socket) }),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1, MaxDelay: 200 * time.Millisecond}}),
	)
	require.NoError(b, err)
	return conn
}

// log is what the plugin has printed.
func (b *bench) log() string {
	text, err := b.machine.Run(context.WithoutCancel(b.Context()), "cat", log)
	if err != nil {
		return err.Error()
	}
	return text
}
