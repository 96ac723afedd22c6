package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/csi/node/host"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/tests/faults/scenario"
)

// Bugs that only show when a process dies, planted one at a time: each is found,
// by the case that it is in.
func TestPlantedBugs(t *testing.T) {
	for name, bug := range map[string]struct {
		rpc, of string
		mutant  mutant
	}{
		"a create works in an image of its own first":       {"CreateVolume", "empty", mutant{ofConnector: changed(func(c ceph.Conn) ceph.Conn { return scratch{c} })}},
		"a repeated create takes the image as it is":        {"CreateVolume", "empty", mutant{ofConnector: changed(func(c ceph.Conn) ceph.Conn { return piecemeal{c} })}},
		"a delete is noted as done before it is":            {"DeleteVolume", "", mutant{ofConnector: changed(func(c ceph.Conn) ceph.Conn { return hasty{c} })}},
		"a log that was begun counts as replayed":           {"NodeStageVolume", "first to read", mutant{ofConnector: changed(func(c ceph.Conn) ceph.Conn { return &hopeful{Conn: c} })}},
		"the journal is kept in memory":                     {"NodePublishVolume", "mount", mutant{ofJournal: lostJournal}},
		"a publish knows only what its own process mounted": {"NodePublishVolume", "mount", mutant{ofHost: func(h host.Host) host.Host { return &shortSighted{Host: h, bound: map[string]bool{}} }}},
		"an unstage unmounts only what its process mounted": {"NodeUnstageVolume", "mount", mutant{ofHost: func(h host.Host) host.Host { return &tidy{Host: h, mounted: map[string]bool{}} }}},
		"a detach knows only its own process's devices":     {"NodeUnstageVolume", "block", mutant{ofAttacher: func(a attach.Attacher) attach.Attacher { return &amnesiac{Attacher: a, mine: map[string]bool{}} }}},
	} {
		t.Run(name, func(t *testing.T) {
			i := slices.IndexFunc(scenario.RPCs(), func(r scenario.RPC) bool { return r.Name == bug.rpc })
			cases := scenario.Cases(scenario.RPCs()[i])
			j := slices.IndexFunc(cases, func(c scenario.Case) bool { return c.Name == bug.of })
			r, err := sweep(t, cases[j], bug.mutant, kinds[0], kinds[1])
			require.NoError(t, err, "without a fault nobody sees the bug")
			require.NotEmpty(t, r.Failures, "the bug was not found")
			fmt.Printf("planted bug: %-52s %d of %d boundaries tell\n", name, len(r.Failures), r.Boundaries)
			t.Logf("found at %d of %d boundaries: %.200v", len(r.Failures), r.Boundaries, r.Failures[0])
		})
	}
}

type changer struct {
	ceph.Connector
	change func(ceph.Conn) ceph.Conn
}

func changed(f func(ceph.Conn) ceph.Conn) func(ceph.Connector) ceph.Connector {
	return func(c ceph.Connector) ceph.Connector { return changer{c, f} }
}

func (c changer) Connect(ctx context.Context, credentials ceph.Credentials, o ceph.ConnectOptions) (ceph.Conn, error) {
	conn, err := c.Connector.Connect(ctx, credentials, o)
	if err != nil {
		return nil, err
	}
	return c.change(conn), nil
}

type scratch struct{ ceph.Conn }

func (s scratch) CreateImage(ctx context.Context, ref ceph.ImageRef, spec ceph.ImageSpec) error {
	other := ref
	other.Name = "scratch"
	err := s.Conn.CreateImage(ctx, other, spec)
	if err != nil && !ceph.Is(err, ceph.Exists) {
		return err
	}
	mine := err == nil
	if err = s.Conn.CreateImage(ctx, ref, spec); err != nil && !mine {
		return err // somebody else's scratch image, it thinks
	}
	return errors.Join(err, s.Conn.RemoveImage(ctx, other))
}

// piecemeal makes an image small, and then grows it.
type piecemeal struct{ ceph.Conn }

func (p piecemeal) CreateImage(ctx context.Context, ref ceph.ImageRef, spec ceph.ImageSpec) error {
	size := spec.Size
	spec.Size = 1 << 20
	switch err := p.Conn.CreateImage(ctx, ref, spec); {
	case ceph.Is(err, ceph.Exists):
		return nil
	case err != nil:
		return err
	}
	return p.Conn.GrowImage(ctx, ref, size)
}

type hasty struct{ ceph.Conn }

func (h hasty) RemoveImage(ctx context.Context, ref ceph.ImageRef) error {
	info, err := h.Conn.ImageInfo(ctx, ref)
	if err != nil || info.Metadata["gone"] != "" {
		return err
	}
	if err := h.Conn.SetImageMetadata(ctx, ref, map[string]string{"gone": "yes"}); err != nil {
		return err
	}
	return h.Conn.RemoveImage(ctx, ref)
}

// hopeful takes a log that another process began to replay for replayed.
type hopeful struct {
	ceph.Conn
	began bool
}

func (h *hopeful) SetImageMetadata(ctx context.Context, ref ceph.ImageRef, metadata map[string]string) error {
	h.began = h.began || metadata[imagemeta.LogReplayer] != ""
	return h.Conn.SetImageMetadata(ctx, ref, metadata)
}

func (h *hopeful) ImageInfo(ctx context.Context, ref ceph.ImageRef) (*ceph.ImageInfo, error) {
	info, err := h.Conn.ImageInfo(ctx, ref)
	if err == nil && !h.began && info.Metadata[imagemeta.LogReplayer] != "" {
		info.Metadata[imagemeta.Log] = info.Metadata[imagemeta.LogReplayer]
	}
	return info, err
}

func lostJournal(dir string) string {
	lost, err := os.MkdirTemp("", "cairn-crash-lost-*")
	if err != nil {
		panic(err)
	}
	return lost
}

type shortSighted struct {
	host.Host
	bound map[string]bool
}

func (s *shortSighted) Bind(ctx context.Context, source, path string, readOnly bool) error {
	s.bound[path] = true
	return s.Host.Bind(ctx, source, path, readOnly)
}

func (s *shortSighted) MountAt(path string) (*host.Mount, error) {
	if filepath.Base(path) == "target" && !s.bound[path] {
		return nil, nil
	}
	return s.Host.MountAt(path)
}

type tidy struct {
	host.Host
	mounted map[string]bool
}

func (t *tidy) Mount(ctx context.Context, device, path, filesystem string, options []string) error {
	t.mounted[path] = true
	return t.Host.Mount(ctx, device, path, filesystem, options)
}

func (t *tidy) Unmount(ctx context.Context, path string) error {
	if !t.mounted[path] {
		return nil
	}
	return t.Host.Unmount(ctx, path)
}

type amnesiac struct {
	attach.Attacher
	mine map[string]bool
}

func (a *amnesiac) Attach(ctx context.Context, v attach.Volume) (attach.Device, error) {
	a.mine[v.ID] = true
	return a.Attacher.Attach(ctx, v)
}

func (a *amnesiac) Detach(ctx context.Context, volumeID string) error {
	if !a.mine[volumeID] {
		return nil
	}
	return a.Attacher.Detach(ctx, volumeID)
}
