package registration

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	v1 "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

func TestKubeletsDialogue(t *testing.T) {
	require.Equal(t, "/var/lib/kubelet/plugins_registry/d-reg.sock", Socket("/var/lib/kubelet", "d"))
	socket := filepath.Join(t.TempDir(), "reg.sock")
	refused := make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	plugin := Plugin{Driver: "d", Endpoint: "/e.sock", Refused: func(reason string) { refused <- reason }}
	go func() { done <- plugin.Serve(ctx, socket) }()

	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	client := v1.NewRegistrationClient(conn)
	info, err := client.GetInfo(t.Context(), &v1.InfoRequest{}, grpc.WaitForReady(true))
	require.NoError(t, err)
	require.Equal(t, []string{"CSIPlugin", "d", "/e.sock", "1.0.0"}, []string{info.Type, info.Name, info.Endpoint, info.SupportedVersions[0]})
	_, err = client.NotifyRegistrationStatus(t.Context(), &v1.RegistrationStatus{PluginRegistered: true})
	require.NoError(t, err)
	require.Empty(t, refused)
	_, err = client.NotifyRegistrationStatus(t.Context(), &v1.RegistrationStatus{Error: "no"})
	require.NoError(t, err)
	require.Equal(t, "no", <-refused)
	require.NoError(t, conn.Close())
	cancel()
	require.NoError(t, <-done)
}
