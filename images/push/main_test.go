package main

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/images/store"
)

func TestAnImageArrivesAsItWasMade(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir)
	require.NoError(t, err)
	program := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(program, []byte("a program"), 0o755))
	layer, err := s.FileLayer(program + ":/usr/bin/program")
	require.NoError(t, err)
	_, err = s.Put(store.Image{Name: "cairn.storage/it:dev", Layers: []v1.Descriptor{layer}, Entrypoint: []string{"/usr/bin/program"}, User: "167"})
	require.NoError(t, err)
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	to := strings.TrimPrefix(server.URL, "http://") + "/storage/it:1.0"
	for range 2 { // again changes nothing
		require.NoError(t, push(t.Context(), dir, []string{"cairn.storage/it:dev=" + to}))
	}

	reference, err := name.ParseReference(to)
	require.NoError(t, err)
	got, err := remote.Image(reference)
	require.NoError(t, err)
	config, err := got.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, []string{"/usr/bin/program"}, config.Config.Entrypoint)
	require.Equal(t, "167", config.Config.User)
	require.Equal(t, []v1.Hash{layer.Digest}, config.RootFS.DiffIDs)
	content := mutate.Extract(got)
	defer func() { require.NoError(t, content.Close()) }()
	archive, err := os.Create(filepath.Join(dir, "content.tar"))
	require.NoError(t, err)
	_, err = archive.ReadFrom(content)
	require.NoError(t, err)
	text, err := os.ReadFile(archive.Name())
	require.NoError(t, err)
	require.Contains(t, string(text), "a program")
}

func TestWhatCannotBePushedIsNamed(t *testing.T) {
	for pair, want := range map[string]string{
		"cairn.storage/it:dev":                         "is not NAME=REFERENCE",
		"cairn.storage/it:dev=registry.example.com/it": "names no image of a registry with its tag",
		"it:none=registry.example.com/it:1.0":          "make it with images/build",
	} {
		require.ErrorContains(t, push(t.Context(), t.TempDir(), []string{pair}), want)
	}
}
