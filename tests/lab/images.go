package lab

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/cairn-storage/cairn/images/store"
)

// neededImages are what a lab cannot be without: they are made if missing.
var neededImages = map[string]string{
	"pause": "cairn.storage/pause:1",
	"ceph":  "cairn.storage/ceph:20.2.4",
}

func ensureImages(ctx context.Context) error {
	images, err := store.Open(imageStoreDir())
	if err != nil {
		return err
	}
	var missing []string
	for kind, name := range neededImages {
		if _, err := images.Ref(name); err != nil {
			missing = append(missing, kind)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	repo, err := repository()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(repo, "images/build"), missing...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make images: %w: %s", err, lastLines(string(out), 20))
	}
	return nil
}

// LoadImages gives the running nodes the named images, or all that have been
// made and are not for few tests when none is named. What a node already has costs
// next to nothing.
func LoadImages(ctx context.Context, names ...string) error {
	nodes, err := Nodes()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, node := range nodes {
		if _, running := node.initPid(); running {
			group.Go(func() error { return node.load(ctx, names) })
		}
	}
	return group.Wait()
}

func (n *Node) load(ctx context.Context, names []string) error {
	images, err := store.Open(imageStoreDir())
	if err != nil {
		return err
	}
	refs, err := chooseImages(images, names)
	if err != nil {
		return err
	}
	has, err := n.imageDigests(ctx)
	if err != nil {
		return err
	}
	for _, ref := range refs {
		if has[ref.Name] == ref.Manifest.Digest.String() {
			continue
		}
		if err := n.importImage(ctx, images, ref); err != nil {
			return fmt.Errorf("%s: load %s: %w", n.Name, ref.Name, err)
		}
	}
	return nil
}

// onlyByName is loaded where a test asks for it: it is large, and few do.
const onlyByName = "cairn.storage/ceph:18.2.7"

func chooseImages(images *store.Store, names []string) ([]store.Ref, error) {
	if len(names) == 0 {
		refs, err := images.Refs()
		return slices.DeleteFunc(refs, func(ref store.Ref) bool { return ref.Name == onlyByName }), err
	}
	var refs []store.Ref
	for _, name := range names {
		ref, err := images.Ref(name)
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// imageDigests lists the images that the node has.
func (n *Node) imageDigests(ctx context.Context) (map[string]string, error) {
	out, err := n.Exec(ctx, "ctr", "-n", "k8s.io", "images", "ls")
	if err != nil {
		return nil, err
	}
	digests := map[string]string{}
	for _, line := range strings.Split(out, "\n") {
		// REF TYPE DIGEST SIZE ...
		if fields := strings.Fields(line); len(fields) > 2 {
			digests[fields[0]] = fields[2]
		}
	}
	return digests, nil
}

// importImage streams the image to the node's containerd, without the blobs
// that it has from other images.
func (n *Node) importImage(ctx context.Context, images *store.Store, ref store.Ref) error {
	out, err := n.Exec(ctx, "ctr", "-n", "k8s.io", "content", "ls", "-q")
	if err != nil {
		return err
	}
	has := map[string]bool{}
	for _, digest := range strings.Fields(out) {
		has[digest] = true
	}
	cmd, err := n.Command(ctx, "ctr", "-n", "k8s.io", "images", "import", "--snapshotter", "overlayfs", "-")
	if err != nil {
		return err
	}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	writeErr := writeArchive(input, images, ref, has)
	closeErr := input.Close()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, lastLines(said.String(), 5))
	}
	if errors.Is(closeErr, os.ErrClosed) {
		closeErr = nil
	}
	return errors.Join(writeErr, closeErr)
}

// writeArchive writes an OCI layout that names one image and leaves out the
// layers that its reader has.
func writeArchive(w io.Writer, images *store.Store, ref store.Ref, has map[string]bool) error {
	manifest, err := images.Manifest(ref)
	if err != nil {
		return err
	}
	descriptor := ref.Manifest
	descriptor.Annotations = map[string]string{"io.containerd.image.name": ref.Name, "org.opencontainers.image.ref.name": ref.Name}
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{descriptor}})
	if err != nil {
		return fmt.Errorf("encode index: %w", err)
	}
	archive := tar.NewWriter(w)
	if err := writeEntry(archive, "oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	if err := writeEntry(archive, "index.json", index); err != nil {
		return err
	}
	blobs := append([]v1.Descriptor{ref.Manifest, manifest.Config}, manifest.Layers...)
	for i, blob := range blobs {
		if i >= 2 && has[blob.Digest.String()] {
			continue
		}
		if err := writeBlob(archive, images.BlobPath(blob.Digest), blob); err != nil {
			return err
		}
	}
	return archive.Close()
}

func writeEntry(archive *tar.Writer, name string, data []byte) error {
	if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	if _, err := archive.Write(data); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

func writeBlob(archive *tar.Writer, path string, blob v1.Descriptor) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	defer func() { _ = file.Close() }()
	header := &tar.Header{Name: "blobs/" + blob.Digest.Algorithm + "/" + blob.Digest.Hex, Mode: 0o644, Size: blob.Size}
	if err := archive.WriteHeader(header); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	if _, err := io.Copy(archive, file); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}
