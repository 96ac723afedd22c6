package controller

import (
	"context"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// The reasons why a volume is not well.
const (
	reasonImageMissing = "ImageMissing"
	reasonPoolFull     = "PoolFull"
)

type ailment = csi.VolumeHealth_VolumeHealthEntry

// ControllerGetVolumeHealth says what is wrong with a volume. One whose image is
// gone exists still if Kubernetes has it.
func (s *Server) ControllerGetVolumeHealth(ctx context.Context, req *csi.ControllerGetVolumeHealthRequest) (*csi.ControllerGetVolumeHealthResponse, error) {
	id, err := parseID(req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	health := &csi.VolumeHealth{VolumeId: req.GetVolumeId()}
	err = s.Clusters.Do(ctx, id.FSID, func(cluster ceph.Block) error {
		step.Enter(ctx, "look at "+id.Image.String())
		_, err := cluster.ImageInfo(ctx, id.Image)
		if ceph.Is(err, ceph.NotFound) {
			return s.missing(ctx, health, err)
		}
		if err != nil {
			return err
		}
		return s.poolHealth(ctx, cluster, id.FSID, id.Image.PoolID, health)
	})
	if err != nil {
		return nil, err
	}
	return &csi.ControllerGetVolumeHealthResponse{VolumeHealth: health}, nil
}

// missing notes that the image is gone, or returns that there is no such volume.
func (s *Server) missing(ctx context.Context, health *csi.VolumeHealth, notFound error) error {
	ids, err := s.volumeIDs(ctx)
	if err != nil {
		return err
	}
	if _, known := slices.BinarySearch(ids, health.GetVolumeId()); !known {
		return notFound
	}
	health.HealthStatuses = append(health.HealthStatuses, imageMissing(notFound))
	return nil
}

func imageMissing(err error) *ailment {
	return &ailment{Status: csi.VolumeHealthErrorType_DATA_LOSS, Reason: reasonImageMissing, Message: err.Error()}
}

func (s *Server) poolHealth(ctx context.Context, cluster ceph.Block, fsid string, pool int64, health *csi.VolumeHealth) error {
	usage, err := s.usages.get(ctx, cluster, poolKey{fsid, pool})
	if err != nil {
		return err
	}
	if usage.Full {
		health.HealthStatuses = append(health.HealthStatuses, &ailment{
			Status: csi.VolumeHealthErrorType_DEGRADED, Reason: reasonPoolFull,
			Message: fmt.Sprintf("pool %s is full and takes no writes: it stores %d bytes, and has a quota of %d (0: none)", usage.Name, usage.Stored, usage.Quota)})
	}
	return nil
}

// volumeIDs returns the IDs of the volumes that Kubernetes knows, in order.
func (s *Server) volumeIDs(ctx context.Context) ([]string, error) {
	if s.Volumes == nil {
		return nil, nil
	}
	step.Enter(ctx, "look which volumes there are")
	ids, err := s.Volumes.IDs(ctx)
	if err != nil {
		return nil, fault.Errorf(fault.Unavailable, "look which volumes there are: %w", err)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// ControllerListVolumeHealth lists the volumes that are not well, in the order of
// their IDs. A token is the ID of the volume before.
func (s *Server) ControllerListVolumeHealth(ctx context.Context, req *csi.ControllerListVolumeHealthRequest) (*csi.ControllerListVolumeHealthResponse, error) {
	size, err := pageSize(req.GetMaxEntries())
	if err != nil {
		return nil, err
	}
	if _, err := parseVolumeToken(req.GetStartingToken()); err != nil {
		return nil, err
	}
	ids, err := s.volumeIDs(ctx)
	if err != nil {
		return nil, err
	}
	resp, images := &csi.ControllerListVolumeHealthResponse{}, imageSets{}
	for _, code := range ids {
		if code <= req.GetStartingToken() {
			continue
		}
		health, err := s.healthOf(ctx, code, images)
		if err != nil {
			return nil, err
		}
		if len(health.GetHealthStatuses()) == 0 {
			continue
		}
		if len(resp.Entries) == size {
			resp.NextToken = resp.Entries[size-1].GetVolumeId()
			break
		}
		resp.Entries = append(resp.Entries, health)
	}
	return resp, nil
}

// imageSets are the names of the images of roots.
type imageSets map[places.Root]map[string]bool

// healthOf finds out by lists of images what is wrong with a volume: nothing is
// opened for it.
func (s *Server) healthOf(ctx context.Context, code string, images imageSets) (*csi.VolumeHealth, error) {
	health := &csi.VolumeHealth{VolumeId: code}
	id, err := volumeid.Parse(code)
	if err != nil {
		return health, nil // not made by this driver, nor known to it
	}
	root := places.Root{FSID: id.FSID, PoolID: id.Image.PoolID, Namespace: id.Image.Namespace}
	err = s.Clusters.Do(ctx, id.FSID, func(cluster ceph.Block) error {
		if err := images.fill(ctx, cluster, root); err != nil {
			return err
		}
		if !images[root][id.Image.Name] {
			health.HealthStatuses = append(health.HealthStatuses, imageMissing(ceph.Errorf(ceph.NotFound, "look for "+id.Image.String(), "it is not there")))
			return nil
		}
		return s.poolHealth(ctx, cluster, id.FSID, root.PoolID, health)
	})
	return health, err
}

func (sets imageSets) fill(ctx context.Context, cluster ceph.Block, root places.Root) error {
	if sets[root] != nil {
		return nil
	}
	step.Enter(ctx, "list images")
	names := map[string]bool{}
	err := places.Names(ctx, cluster, root, "", func(name string) (bool, error) {
		names[name] = true
		return true, nil
	})
	if err == nil {
		sets[root] = names
	}
	return err
}
