package rados

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"syscall"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// command is a mon command as the mons' own description of it names it
// (src/mon/MonCommands.h): prefix and arguments.
type command map[string]any

// encode returns the command's prefix, by which errors name it, and its text.
func (cmd command) encode() (op string, text []byte, err error) {
	op, _ = cmd["prefix"].(string)
	if text, err = json.Marshal(cmd); err != nil {
		return op, nil, ceph.Errorf(ceph.Invalid, op, "encode the command: %w", err)
	}
	return op, text, nil
}

// mon runs a mon command and returns its raw answer.
func (c *conn) mon(ctx context.Context, cmd command, input []byte) ([]byte, error) {
	cmd["format"] = "json"
	op, text, err := cmd.encode()
	if err != nil {
		return nil, err
	}
	return call(ctx, c, op, func() ([]byte, error) {
		out, message, err := c.rados.MonCommandWithInputBuffer(text, input)
		if err != nil {
			return nil, explain(op, message, err)
		}
		return out, nil
	})
}

// mgr runs a command of the active mgr. It returns what the mgr refuses because of
// the state of things, in its words: that it answers with EBUSY for what is in use,
// and with EAGAIN for what it cannot tell yet.
func (c *conn) mgr(ctx context.Context, cmd command) (refused string, err error) {
	return c.askMgr(ctx, cmd, nil)
}

// askMgr is mgr that decodes the JSON answer into to, unless that is nil.
func (c *conn) askMgr(ctx context.Context, cmd command, to any) (refused string, err error) {
	if to != nil {
		cmd["format"] = "json"
	}
	op, text, err := cmd.encode()
	if err != nil {
		return "", err
	}
	return call(ctx, c, op, func() (string, error) {
		out, message, err := c.rados.MgrCommand([][]byte{text})
		var coded interface{ ErrorCode() int }
		switch {
		case err == nil && to != nil:
			if err := json.Unmarshal(out, to); err != nil {
				return "", ceph.Errorf(ceph.Unexpected, op, "decode the answer: %w", err)
			}
			return "", nil
		case err == nil:
			return "", nil
		case errors.As(err, &coded) && (coded.ErrorCode() == -int(syscall.EBUSY) || coded.ErrorCode() == -int(syscall.EAGAIN)):
			return cmp.Or(strings.TrimSpace(message), err.Error()), nil
		}
		return "", explain(op, message, err)
	})
}

// ask runs a mon command and decodes its JSON answer into to.
func (c *conn) ask(ctx context.Context, cmd command, to any) error {
	op, _ := cmd["prefix"].(string)
	out, err := c.mon(ctx, cmd, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, to); err != nil {
		return ceph.Errorf(ceph.Unexpected, op, "decode the answer: %w", err)
	}
	return nil
}

// tell runs mon commands in order for their effect.
func (c *conn) tell(ctx context.Context, cmds ...command) error {
	for _, cmd := range cmds {
		if _, err := c.mon(ctx, cmd, nil); err != nil {
			return err
		}
	}
	return nil
}

// explain adds what the mons said to the error's kind.
func explain(op, message string, err error) error {
	wrapped := wrap(op, err)
	if message == "" {
		return wrapped
	}
	return ceph.Errorf(ceph.KindOf(wrapped), op, "%s (%w)", message, err)
}

// PoolImages returns the names of the images in a pool, over all namespaces.
func (c *conn) PoolImages(ctx context.Context, pool string) ([]string, error) {
	op := "list the images of pool " + pool
	return call(ctx, c, op, func() ([]string, error) {
		ioctx, err := c.rados.OpenIOContext(pool)
		if err != nil {
			return nil, wrap(op, err)
		}
		defer ioctx.Destroy()
		namespaces, err := rbd.NamespaceList(ioctx)
		if err != nil {
			return nil, wrap(op, err)
		}
		var all []string
		for _, namespace := range append(namespaces, "") {
			ioctx.SetNamespace(namespace)
			names, err := namesIn(ioctx)
			if err != nil {
				return nil, wrap(op, err)
			}
			all = append(all, names...)
		}
		return all, nil
	})
}

// namesIn returns the names of a namespace's images, and of those in its trash,
// which a user put there: their data counts no less.
func namesIn(ioctx *rados.IOContext) ([]string, error) {
	names, err := rbd.GetImageNames(ioctx)
	if err != nil {
		return nil, err
	}
	trash, err := rbd.GetTrashList(ioctx)
	if err != nil {
		return nil, err
	}
	for _, image := range trash {
		names = append(names, image.Name+" (in RBD's trash)")
	}
	return names, nil
}
