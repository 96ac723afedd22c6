// Package store keeps OCI images on disk, all of them in one directory: blobs
// by digest, so that images share layers, and one small file for each name.
// Layers are not compressed: they only ever travel within one machine.
package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image is what an image is made of.
type Image struct {
	Name       string
	Layers     []v1.Descriptor
	Entrypoint []string
	Env        []string
	User       string
}

// Store is a directory of images.
type Store struct{ dir string }

// Open makes the directory if it is missing.
func Open(dir string) (*Store, error) {
	for _, sub := range []string{"blobs/sha256", "refs", "layers"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("image store: %w", err)
		}
	}
	return &Store{dir: dir}, nil
}

// BlobPath is the file that holds a blob.
func (s *Store) BlobPath(digest v1.Hash) string {
	return filepath.Join(s.dir, "blobs", digest.Algorithm, digest.Hex)
}

func (s *Store) refPath(name string) string {
	return filepath.Join(s.dir, "refs", strings.NewReplacer("/", "_", ":", "@").Replace(name)+".json")
}

// Ref is a name and the manifest that it stands for.
type Ref struct {
	Name     string        `json:"name"`
	Manifest v1.Descriptor `json:"manifest"`
}

// Refs lists the images by name.
func (s *Store) Refs() ([]Ref, error) {
	paths, err := filepath.Glob(filepath.Join(s.dir, "refs", "*.json"))
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	refs := make([]Ref, 0, len(paths))
	for _, path := range paths {
		var ref Ref
		if err := readJSON(path, &ref); err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	sort.Slice(refs, func(i, j int) bool { return refs[i].Name < refs[j].Name })
	return refs, nil
}

// Ref finds one image.
func (s *Store) Ref(name string) (Ref, error) {
	var ref Ref
	err := readJSON(s.refPath(name), &ref)
	if errors.Is(err, fs.ErrNotExist) {
		return ref, fmt.Errorf("image %s is not in the store: make it with images/build", name)
	}
	return ref, err
}

// Manifest reads what an image consists of.
func (s *Store) Manifest(ref Ref) (*v1.Manifest, error) {
	manifest := &v1.Manifest{}
	if err := readJSON(s.BlobPath(ref.Manifest.Digest), manifest); err != nil {
		return nil, err
	}
	return manifest, nil
}

// Layers are an image's layers, to build another on.
func (s *Store) Layers(name string) ([]v1.Descriptor, error) {
	ref, err := s.Ref(name)
	if err != nil {
		return nil, err
	}
	manifest, err := s.Manifest(ref)
	if err != nil {
		return nil, err
	}
	return manifest.Layers, nil
}

// Put writes configuration and manifest of an image whose layers are in the store.
func (s *Store) Put(image Image) (v1.Hash, error) {
	config := v1.ConfigFile{
		Architecture: runtime.GOARCH,
		OS:           "linux",
		RootFS:       v1.RootFS{Type: "layers"},
		Config:       v1.Config{Entrypoint: image.Entrypoint, Env: withPath(image.Env), User: image.User, WorkingDir: "/"},
	}
	for _, layer := range image.Layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, layer.Digest)
	}
	configDescriptor, err := s.putJSON(config, types.OCIConfigJSON)
	if err != nil {
		return v1.Hash{}, err
	}
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: configDescriptor, Layers: image.Layers}
	descriptor, err := s.putJSON(manifest, types.OCIManifestSchema1)
	if err != nil {
		return v1.Hash{}, err
	}
	data, err := json.Marshal(Ref{Name: image.Name, Manifest: descriptor})
	if err != nil {
		return v1.Hash{}, fmt.Errorf("encode reference: %w", err)
	}
	return descriptor.Digest, writeFile(s.refPath(image.Name), data)
}

func withPath(env []string) []string {
	for _, entry := range env {
		if strings.HasPrefix(entry, "PATH=") {
			return env
		}
	}
	return append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
}

// Collect removes the blobs that no image needs any more.
func (s *Store) Collect() error {
	refs, err := s.Refs()
	if err != nil {
		return err
	}
	needed := map[string]bool{}
	for _, ref := range refs {
		manifest, err := s.Manifest(ref)
		if err != nil {
			return err
		}
		needed[ref.Manifest.Digest.Hex] = true
		needed[manifest.Config.Digest.Hex] = true
		for _, layer := range manifest.Layers {
			needed[layer.Digest.Hex] = true
		}
	}
	blobs, err := os.ReadDir(filepath.Join(s.dir, "blobs", "sha256"))
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	for _, blob := range blobs {
		if needed[blob.Name()] {
			continue
		}
		if err := os.Remove(filepath.Join(s.dir, "blobs", "sha256", blob.Name())); err != nil {
			return fmt.Errorf("remove an unused blob: %w", err)
		}
	}
	return nil
}

func (s *Store) putJSON(value any, mediaType types.MediaType) (v1.Descriptor, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("encode %s: %w", mediaType, err)
	}
	return s.putBlob(mediaType, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// putBlob writes a blob whose digest is known only when it is complete.
func (s *Store) putBlob(mediaType types.MediaType, write func(io.Writer) error) (v1.Descriptor, error) {
	partial, err := os.CreateTemp(s.dir, "partial-")
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("image store: %w", err)
	}
	defer func() {
		_ = partial.Close()
		_ = os.Remove(partial.Name())
	}()
	hash := sha256.New()
	if err := write(io.MultiWriter(partial, hash)); err != nil {
		return v1.Descriptor{}, fmt.Errorf("write blob: %w", err)
	}
	size, err := partial.Seek(0, io.SeekCurrent)
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("write blob: %w", err)
	}
	if err := partial.Close(); err != nil {
		return v1.Descriptor{}, fmt.Errorf("write blob: %w", err)
	}
	digest := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(hash.Sum(nil))}
	if err := os.Rename(partial.Name(), s.BlobPath(digest)); err != nil {
		return v1.Descriptor{}, fmt.Errorf("keep blob: %w", err)
	}
	return v1.Descriptor{MediaType: mediaType, Size: size, Digest: digest}, nil
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	return nil
}

func writeFile(path string, data []byte) error {
	partial := path + ".partial"
	if err := os.WriteFile(partial, data, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(partial, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
