package disk

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// fakeHost is a tree that looks like a node's, with plain files for devices.
type fakeHost struct {
	Host
	t *testing.T
}

func newFakeHost(t *testing.T) fakeHost {
	root := t.TempDir()
	host := fakeHost{t: t, Host: Host{
		Sys: filepath.Join(root, "sys"), Dev: filepath.Join(root, "dev"),
		Mounts: filepath.Join(root, "mountinfo"), Swaps: filepath.Join(root, "swaps"),
	}}
	require.NoError(t, os.MkdirAll(host.block(), 0o755))
	require.NoError(t, os.MkdirAll(host.Dev, 0o755))
	host.write(host.Mounts, "")
	host.write(host.Swaps, "Filename Type Size Used Priority\n")
	return host
}

func (h fakeHost) write(path, text string) {
	require.NoError(h.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(h.t, os.WriteFile(path, []byte(text), 0o644))
}

// add makes a device: its attributes, and its links below /dev/disk.
func (h fakeHost) add(name string, attributes map[string]string, links ...string) {
	h.write(h.node(name), "")
	h.write(h.block(name, "size"), "20971520\n") // 10Gi
	for file, text := range attributes {
		h.write(h.block(name, file), text+"\n")
	}
	for _, link := range links {
		path := filepath.Join(h.Dev, "disk", link)
		require.NoError(h.t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(h.t, os.Symlink("../../"+name, path))
	}
}

// fakeLooker says what is on devices.
type fakeLooker struct {
	labels map[string]*label
	err    error
}

func (f fakeLooker) label(b block) (*label, error) { return f.labels[b.name], f.err }

func (f fakeLooker) judge(context.Context, block) (verdict, error) {
	return verdict{}, f.err
}
