package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/fault"
)

// Client is the data path's side. It remembers what it put, and puts it again
// when another keeper takes the place of one that died.
type Client struct {
	Socket string

	mu   sync.Mutex
	mine map[string]put
}

type put struct {
	state json.RawMessage
	files []*os.File
}

// retry is how long to wait before the keeper is called again.
const retry = 200 * time.Millisecond

// Put hands over an entry. The files stay the caller's, and must stay open until
// the entry is dropped.
func (c *Client) Put(ctx context.Context, name string, state any, files ...*os.File) error {
	raw, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("encode the state of %s: %w", name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, _, err := c.call(ctx, request{Op: opPut, Name: name, State: raw}, files); err != nil {
		return err
	}
	c.remember(name, put{raw, files})
	return nil
}

// Get returns an entry's descriptors, which are the caller's, and decodes its
// state; false when there is none.
func (c *Client) Get(ctx context.Context, name string, state any) ([]*os.File, bool, error) {
	out, files, err := c.call(ctx, request{Op: opGet, Name: name}, nil)
	if err != nil || !out.Found {
		return nil, false, err
	}
	if err := json.Unmarshal(out.State, state); err != nil {
		closeAll(files)
		return nil, false, fmt.Errorf("decode the state of %s: %w", name, err)
	}
	return files, true, nil
}

// Claim makes an entry of another process this client's, as it is.
func (c *Client) Claim(name string, state any, files ...*os.File) error {
	raw, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("encode the state of %s: %w", name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remember(name, put{raw, files})
	return nil
}

func (c *Client) remember(name string, p put) {
	if c.mine == nil {
		c.mine = map[string]put{}
	}
	c.mine[name] = p
}

// List returns the names of all entries.
func (c *Client) List(ctx context.Context) ([]string, error) {
	out, _, err := c.call(ctx, request{Op: opList}, nil)
	return out.Names, err
}

// Drop ends an entry. Where the keeper does not answer, it is dropped as soon as
// it does.
func (c *Client) Drop(ctx context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.mine, name)
	_, _, err := c.call(ctx, request{Op: opDrop, Name: name}, nil)
	return err
}

// Follow keeps the keeper's entries as they should be until the context ends: to
// a keeper that comes up, all is put again in the order of names, so that what has
// an entry has those that it needs, and what is not this client's is dropped.
func (c *Client) Follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := c.once(ctx)
		if ctx.Err() == nil {
			klog.ErrorS(err, "The keeper is gone: volumes would end with this process until there is another")
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

func (c *Client) once(ctx context.Context) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := send(conn, request{Op: opWait}, nil); err != nil {
		return err
	}
	if err := c.sync(ctx); err != nil {
		return err
	}
	_, err = receive(conn, &response{})
	return err
}

func (c *Client) sync(ctx context.Context) error {
	names, err := c.List(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.mine)) {
		p := c.mine[name]
		if _, _, err := c.call(ctx, request{Op: opPut, Name: name, State: p.state}, p.files); err != nil {
			return err
		}
	}
	var errs []error
	for _, name := range names {
		if _, ok := c.mine[name]; !ok {
			_, _, err := c.call(ctx, request{Op: opDrop, Name: name}, nil)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Holds reports whether the keeper has all that this client put.
func (c *Client) Holds(ctx context.Context) error {
	names, err := c.List(ctx)
	if err != nil {
		return err
	}
	held := map[string]bool{}
	for _, name := range names {
		held[name] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.mine {
		if !held[name] {
			return fault.Errorf(fault.Unavailable, "the keeper does not have %s yet", name)
		}
	}
	return nil
}

func (c *Client) dial(ctx context.Context) (*net.UnixConn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, c.Socket)
	if err != nil {
		return nil, fault.Errorf(fault.Unavailable, "the keeper does not answer on %s (is its pod running on this node?): %w", c.Socket, err)
	}
	return conn.(*net.UnixConn), nil
}

// call makes one call over a connection of its own.
func (c *Client) call(ctx context.Context, in request, files []*os.File) (out response, got []*os.File, err error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return out, nil, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := send(conn, in, files); err != nil {
		return out, nil, fault.Errorf(fault.Unavailable, "the keeper: %w", err)
	}
	got, err = receive(conn, &out)
	if err != nil {
		return out, nil, fault.Errorf(fault.Unavailable, "the keeper did not answer: %w", err)
	}
	if out.Error != "" {
		closeAll(got)
		return out, nil, fault.Errorf(fault.Refused, "the keeper: %s", out.Error)
	}
	return out, got, nil
}
