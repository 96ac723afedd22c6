package remote

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// script is an attacher that answers what it is told to.
type script struct {
	attach.Attacher
	got    attach.Volume
	device attach.Device
	err    error
	hang   bool
}

func (s *script) Attach(ctx context.Context, v attach.Volume) (attach.Device, error) {
	s.got = v
	if s.hang {
		<-ctx.Done()
	}
	return s.device, s.err
}
func (s *script) Detach(context.Context, string) error                  { return s.err }
func (s *script) Resize(context.Context, string) (attach.Device, error) { return s.device, s.err }
func (s *script) List(context.Context) (d []attach.Device, _ error) {
	return append(d, s.device), s.err
}

func serve(t *testing.T, s *script) *Client {
	socket := filepath.Join(t.TempDir(), "attach.sock")
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	server := &http.Server{Handler: Handler(s), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return NewClient(socket)
}

func TestCalls(t *testing.T) {
	s := &script{device: attach.Device{VolumeID: "v", Path: "/dev/loop3", Major: 7, Minor: 3, Size: 5, ClientAddrs: "a"}}
	c := serve(t, s)
	volume := attach.Volume{ID: "v", Image: ceph.ImageRef{PoolID: 1, Name: "i"}, Exclusive: true,
		Credentials: ceph.Credentials{FSID: "f", MonHost: "m", User: "u", Key: "secret"}}
	device, err := c.Attach(t.Context(), volume)
	require.NoError(t, err)
	require.Equal(t, s.device, device)
	require.Equal(t, volume, s.got, "the key arrives")
	device, err = c.Resize(t.Context(), "v")
	require.NoError(t, err)
	require.Equal(t, s.device, device)
	devices, err := c.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []attach.Device{s.device}, devices)
	require.NoError(t, c.Detach(t.Context(), "v"))
}

func TestErrorsKeepTheirKind(t *testing.T) {
	s := &script{err: ceph.Errorf(ceph.Busy, "open image", "locked")}
	c := serve(t, s)
	_, err := c.Attach(t.Context(), attach.Volume{})
	require.Equal(t, ceph.Busy, ceph.KindOf(err))
	require.ErrorContains(t, err, "locked")
	s.err = fault.Errorf(fault.Refused, "in use")
	require.Equal(t, fault.Refused, fault.KindOf(c.Detach(t.Context(), "v")))
}

func TestNobodyThere(t *testing.T) {
	_, err := NewClient(filepath.Join(t.TempDir(), "none")).List(t.Context())
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
}

func TestDeadline(t *testing.T) {
	c := serve(t, &script{hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Attach(ctx, attach.Volume{})
	require.Equal(t, ceph.Timeout, ceph.KindOf(err))
}
