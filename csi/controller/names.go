package controller

import (
	"context"
	"regexp"
	"strings"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// unique is a snapshot's name as Kubernetes makes it: of a UID, so that no other
// snapshot has it.
var unique = regexp.MustCompile(`^snapshot-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// nameIsFree refuses a name that a snapshot of another volume has: the
// specification wants names to be of one snapshot. RBD knows them by image, so
// that all images are looked at, unless the name itself says that it is unique.
func (s *Server) nameIsFree(ctx context.Context, name string, id volumeid.ID) error {
	if unique.MatchString(name) || s.Places == nil {
		return nil
	}
	step.Enter(ctx, "look whether another volume has a snapshot of this name")
	roots, err := places.Roots(ctx, s.Places, s.Clusters)
	if err != nil {
		return err
	}
	snapshot := volumeid.ImageName(name)
	for _, root := range roots {
		err := s.Clusters.Do(ctx, root.FSID, func(cluster ceph.Block) error {
			return places.Names(ctx, cluster, root, "", func(image string) (bool, error) {
				if root.FSID == id.FSID && root.Image(image) == id.Image {
					return true, nil
				}
				return true, notAmong(ctx, cluster, root.Image(image), snapshot, name)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func notAmong(ctx context.Context, cluster ceph.Block, image ceph.ImageRef, snapshot, name string) error {
	list, err := cluster.ListSnapshots(ctx, image)
	if err != nil && !ceph.Is(err, ceph.NotFound) {
		return err
	}
	for _, s := range list {
		if s.Name == snapshot && s.Group == nil {
			return fault.Field(fault.Conflict, "name", "%s has a snapshot %q already", image, name)
		}
	}
	return nil
}

// temporary reports whether a snapshot is one of the driver's own.
func temporary(s *ceph.SnapshotInfo) bool {
	return strings.HasPrefix(s.Name, imagemeta.TemporaryPrefix)
}
