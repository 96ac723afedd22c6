package store

import (
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Compressed returns an image of the store as it goes to other machines: its layers compressed.
// Its digest is therefore another one than in the store.
func (s *Store) Compressed(name string) (v1.Image, error) {
	ref, err := s.Ref(name)
	if err != nil {
		return nil, err
	}
	manifest, err := s.Manifest(ref)
	if err != nil {
		return nil, err
	}
	var layers []v1.Layer
	for _, descriptor := range manifest.Layers {
		open := func() (io.ReadCloser, error) { return os.Open(s.BlobPath(descriptor.Digest)) }
		layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
		if err != nil {
			return nil, fmt.Errorf("read layer %s of %s: %w", descriptor.Digest, name, err)
		}
		layers = append(layers, layer)
	}
	var made v1.ConfigFile
	if err := readJSON(s.BlobPath(manifest.Config.Digest), &made); err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layers...)
	if err != nil {
		return nil, fmt.Errorf("compress %s: %w", name, err)
	}
	if image, err = mutate.ConfigFile(mutate.ConfigMediaType(image, types.OCIConfigJSON), &made); err != nil {
		return nil, fmt.Errorf("configure %s: %w", name, err)
	}
	return image, nil
}
