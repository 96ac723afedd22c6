package krbd

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

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
	for _, part := range []string{"keeper", "attach"} {
		b.run("sh", "-c", "/share/cairn-csi "+part+" --state-dir "+state+" </dev/null >/var/log/"+part+".log 2>&1 &")
	}
}

// start starts the plugin and waits until its socket answers.
func (b *bench) start() {
	b.Helper()
	pid, err := b.machine.Run(b.Context(), "sh", "-c", "mkdir -p "+kubelet+"; /share/cairn-csi node --node "+nodeName+
		" --kubeconfig /share/kubeconfig --kubelet-dir "+kubelet+" --state-dir "+state+" </dev/null >>"+log+" 2>&1 & echo $!")
	require.NoError(b, err)
	b.plugin.pid = strings.TrimSpace(pid)
	if b.plugin.NodeClient == nil {
		b.plugin.NodeClient = csi.NewNodeClient(b.dial())
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	_, err = b.plugin.NodeGetInfo(ctx, &csi.NodeGetInfoRequest{}, grpc.WaitForReady(true))
	require.NoError(b, err, b.log())
}

// kill ends the plugin with a signal and waits until it is gone.
func (b *bench) kill(signal string) {
	b.Helper()
	_, err := b.machine.Run(b.Context(), "sh", "-c", "kill -"+signal+" "+b.plugin.pid+"; while kill -0 "+b.plugin.pid+" 2>/dev/null; do sleep 0.05; done")
	require.NoError(b, err)
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
