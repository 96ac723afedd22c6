// Package places knows where images are: which clusters and RADOS namespaces the
// driver works in, and which pools those have.
package places

import (
	"cmp"
	"context"
	"slices"

	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Place is a RADOS namespace in all pools of a cluster.
type Place struct{ FSID, Namespace string }

// Source knows the places that the driver works in.
type Source interface {
	Places(ctx context.Context) ([]Place, error)
}

// Static is a source of places at hand.
type Static []Place

// Places returns them.
func (s Static) Places(context.Context) ([]Place, error) { return s, nil }

// Clusters runs calls against a cluster (connections.Manager).
type Clusters interface {
	Do(ctx context.Context, fsid string, f func(ceph.Block) error) error
}

// Root is one directory of images: a namespace in a pool.
type Root struct {
	FSID      string
	PoolID    int64
	Namespace string
}

// Compare orders roots.
func (r Root) Compare(o Root) int {
	return cmp.Or(cmp.Compare(r.FSID, o.FSID), cmp.Compare(r.PoolID, o.PoolID), cmp.Compare(r.Namespace, o.Namespace))
}

// Image names an image in the root.
func (r Root) Image(name string) ceph.ImageRef {
	return ceph.ImageRef{PoolID: r.PoolID, Namespace: r.Namespace, Name: name}
}

// Roots returns all directories of images, in order.
func Roots(ctx context.Context, source Source, clusters Clusters) ([]Root, error) {
	places, err := source.Places(ctx)
	if err != nil {
		return nil, err
	}
	namespaces := map[string][]string{}
	for _, p := range places {
		namespaces[p.FSID] = append(namespaces[p.FSID], p.Namespace)
	}
	var roots []Root
	for fsid, names := range namespaces {
		err := clusters.Do(ctx, fsid, func(cluster ceph.Block) error {
			pools, err := cluster.ImagePools(ctx)
			for _, pool := range pools {
				for _, namespace := range names {
					roots = append(roots, Root{fsid, pool.ID, namespace})
				}
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(roots, Root.Compare)
	return slices.Compact(roots), nil
}

// page is how many names are asked for at once.
const page = 1000

// Names calls f with the names of a root's images after a name, in order, those
// of hidden images too, until it returns false. A namespace that is not there
// has none.
func Names(ctx context.Context, cluster ceph.Block, root Root, after string, f func(name string) (bool, error)) error {
	for {
		names, err := cluster.ListImages(ctx, root.PoolID, root.Namespace, after, page)
		if ceph.Is(err, ceph.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if more, err := f(name); err != nil || !more {
				return err
			}
		}
		if len(names) < page {
			return nil
		}
		after = names[len(names)-1]
	}
}

// HiddenNames returns the names of a root's hidden images.
func HiddenNames(ctx context.Context, cluster ceph.Block, root Root) (hidden []string, err error) {
	err = Names(ctx, cluster, root, ceph.HiddenPrefix, func(name string) (bool, error) {
		if !imagemeta.Hidden(name) {
			return false, nil // the names come in order
		}
		hidden = append(hidden, name)
		return true, nil
	})
	return hidden, err
}
