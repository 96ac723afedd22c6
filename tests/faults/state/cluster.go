// Package state reads what is in a cluster's pool in a form that two runs of the
// same calls have in common: without what Ceph numbers as it likes.
package state

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/cairn-storage/cairn/csi/kms"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Reader is what of a cluster is read.
type Reader = ceph.Block

// sampled are the offsets where data is compared: all that tests write at.
const (
	sampled = 16
	stride  = 1 << 20
	sample  = 4096
)

// NoImage begins the line of a name that no image has: one is being removed, or its
// removal was cut off.
const NoImage = "an entry without an image: "

// Cluster returns a line for each image and each snapshot of a pool.
func Cluster(ctx context.Context, c Reader, pool string) ([]string, error) {
	id, err := c.PoolID(ctx, pool)
	if err != nil {
		return nil, err
	}
	names, err := c.ListImages(ctx, id, "", "", 10000)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, name := range names {
		more, err := image(ctx, c, ceph.ImageRef{PoolID: id, Name: name})
		if ceph.Is(err, ceph.NotFound) {
			lines = append(lines, NoImage+name)
			continue
		}
		if err != nil {
			return nil, err
		}
		lines = append(lines, more...)
	}
	slices.Sort(lines)
	return lines, nil
}

// display is an image's name; a hidden one has a number in it.
func display(name string) string {
	if strings.HasPrefix(name, ceph.HiddenPrefix) {
		return "(hidden)"
	}
	return name
}

func image(ctx context.Context, c Reader, ref ceph.ImageRef) ([]string, error) {
	info, err := c.ImageInfo(ctx, ref)
	if err != nil {
		return nil, err
	}
	parent, err := parentOf(ctx, c, info.Parent)
	if err != nil {
		return nil, err
	}
	data := "(encrypted)"
	if !info.Encrypted {
		if data, err = content(ctx, c, ref, info.Size, 0); err != nil {
			return nil, err
		}
	}
	lines := []string{fmt.Sprintf("image %s size=%d features=%v metadata=%s parent=%s clients=%d data=%s",
		display(ref.Name), info.Size, slices.Sorted(slices.Values(info.Features)), metadata(info.Metadata), parent, len(info.Watchers), data)}
	snapshots, err := c.ListSnapshots(ctx, ref)
	if err != nil {
		return nil, err
	}
	for _, s := range snapshots {
		data, err := content(ctx, c, ref, s.Size, s.Ref.SnapID)
		if err != nil {
			return nil, err
		}
		group := ""
		if s.Group != nil {
			group = s.Group.Name
		}
		lines = append(lines, fmt.Sprintf("snapshot %s@%s size=%d group=%q data=%s", display(s.Image), s.Name, s.Size, group, data))
	}
	return lines, nil
}

// numbered are the IDs of snapshots, which have numbers of Ceph's in them, and
// those of attachments, which are random.
var numbered = regexp.MustCompile(`\b[0-9][a-z]\.[0-9a-f]{32}\.\S*|\bcairn-[0-9a-f]{8}-[0-9a-f-]{27}`)

func metadata(m map[string]string) string {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if key == kms.MetadataKey && m[key] != "" {
			m[key] = "(a key)"
		}
		pairs = append(pairs, key+"="+numbered.ReplaceAllString(m[key], "(ID)"))
	}
	return "[" + strings.Join(pairs, " ") + "]"
}

func parentOf(ctx context.Context, c Reader, ref *ceph.SnapshotRef) (string, error) {
	if ref == nil {
		return "none", nil
	}
	s, err := c.Snapshot(ctx, *ref)
	switch {
	case ceph.Is(err, ceph.NotFound):
		return "(removed)", nil
	case err != nil:
		return "", err
	}
	return display(s.Image) + "@" + s.Name, nil
}

// content is a digest of an image's data, or of a snapshot's.
func content(ctx context.Context, c Reader, ref ceph.ImageRef, size int64, snapshot uint64) (string, error) {
	i, err := c.OpenImage(ctx, ref, ceph.OpenOptions{ReadOnly: true, Snapshot: snapshot})
	if err != nil {
		return "", err
	}
	defer func() { _ = i.Close() }()
	hash := sha256.New()
	block := make([]byte, sample)
	for n := range int64(sampled) {
		if n*stride+sample > size {
			break
		}
		if _, err := i.ReadAt(block, n*stride); err != nil {
			return "", err
		}
		if n == 0 && bytes.HasPrefix(block, []byte("XFSB")) {
			return "(an xfs)", nil // it has a random name
		}
		_, _ = hash.Write(block)
	}
	return fmt.Sprintf("%x", hash.Sum(nil)[:6]), nil
}
