package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Client is an attacher in another process.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client of the attacher behind a unix socket.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// Attach makes a volume a device.
func (c *Client) Attach(ctx context.Context, v attach.Volume) (device attach.Device, err error) {
	step.Enter(ctx, "attach "+v.Image.String()+" (attach process)")
	return device, c.call(ctx, pathAttach, v, &device)
}

// Detach ends an attachment.
func (c *Client) Detach(ctx context.Context, volumeID string) error {
	step.Enter(ctx, "detach (attach process)")
	return c.call(ctx, pathDetach, reference{volumeID}, &struct{}{})
}

// List returns the attached volumes.
func (c *Client) List(ctx context.Context) (devices []attach.Device, err error) {
	step.Enter(ctx, "list what is attached (attach process)")
	return devices, c.call(ctx, pathDevices, struct{}{}, &devices)
}

// Resize makes a device as large as its image.
func (c *Client) Resize(ctx context.Context, volumeID string) (device attach.Device, err error) {
	step.Enter(ctx, "resize the device (attach process)")
	return device, c.call(ctx, pathResize, reference{volumeID}, &device)
}

// Renew has what is attached of a cluster use other credentials.
func (c *Client) Renew(ctx context.Context, credentials ceph.Credentials) (used map[string]string, err error) {
	step.Enter(ctx, "go over to other credentials (attach process)")
	return used, c.call(ctx, pathRenew, credentials, &used)
}

func (c *Client) call(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode the call %s: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://attach"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make the call %s: %w", path, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreached(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return c.unreached(ctx, err)
	}
	return nil
}

// unreached explains a call that got no answer.
func (c *Client) unreached(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &ceph.Error{Kind: ceph.Timeout, Op: "attach process", Err: errors.Join(errors.New("no answer in time"), ctx.Err())}
	}
	return fault.Errorf(fault.Unavailable, "the attach process does not answer on %s (is its pod running on this node?): %w", c.socket, err)
}

func refusal(resp *http.Response) error {
	var f failure
	if err := json.NewDecoder(resp.Body).Decode(&f); err != nil || f.Message == "" {
		return fault.Errorf(fault.Unavailable, "the attach process answered %s", resp.Status)
	}
	return f.unpack()
}
