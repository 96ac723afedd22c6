package controller

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// maxPage is how many entries an answer has at most, whatever was asked for: a
// gRPC message holds 4 MiB.
const maxPage = 5000

func pageSize(asked int32) (int, error) {
	switch {
	case asked < 0:
		return 0, fault.Field(fault.Invalid, "max_entries", "%d is negative", asked)
	case asked == 0 || asked > maxPage:
		return maxPage, nil
	}
	return int(asked), nil
}

// ListVolumes lists the images that can be volumes, in the order of their
// clusters, pools, namespaces and names. Their sizes are not told: to know them
// each image would have to be opened. A token is the ID of the volume before.
func (s *Server) ListVolumes(ctx context.Context, req *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	size, err := pageSize(req.GetMaxEntries())
	if err != nil {
		return nil, err
	}
	after, err := parseVolumeToken(req.GetStartingToken())
	if err != nil {
		return nil, err
	}
	published, err := s.published(ctx)
	if err != nil {
		return nil, err
	}
	resp := &csi.ListVolumesResponse{}
	err = s.eachVolume(ctx, after, func(code string) bool {
		if len(resp.Entries) == size {
			resp.NextToken = resp.Entries[size-1].GetVolume().GetVolumeId()
			return false
		}
		resp.Entries = append(resp.Entries, &csi.ListVolumesResponse_Entry{
			Volume: &csi.Volume{VolumeId: code},
			Status: &csi.ListVolumesResponse_VolumeStatus{PublishedNodeIds: published[code]},
		})
		return true
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func parseVolumeToken(token string) (*volumeid.ID, error) {
	if token == "" {
		return nil, nil
	}
	id, err := volumeid.Parse(token)
	if err != nil {
		return nil, fault.Field(fault.Stale, "starting_token", "%w", err)
	}
	return &id, nil
}

func (s *Server) published(ctx context.Context) (map[string][]string, error) {
	if s.Volumes == nil {
		return nil, nil
	}
	step.Enter(ctx, "look where volumes are published")
	published, err := s.Volumes.Published(ctx)
	if err != nil {
		return nil, fault.Errorf(fault.Unavailable, "look where volumes are published: %w", err)
	}
	return published, nil
}

// eachVolume calls f with the IDs of all volumes after one, in order, until it
// returns false.
func (s *Server) eachVolume(ctx context.Context, after *volumeid.ID, f func(code string) bool) error {
	step.Enter(ctx, "list the pools")
	roots, err := places.Roots(ctx, s.Places, s.Clusters)
	if err != nil {
		return err
	}
	more := true
	for _, root := range roots {
		begin, skip := from(root, after)
		if skip || !more {
			continue
		}
		err := s.Clusters.Do(ctx, root.FSID, func(cluster ceph.Block) error {
			step.Enter(ctx, "list images")
			return places.Names(ctx, cluster, root, begin, func(name string) (bool, error) {
				code, err := volumeid.ID{FSID: root.FSID, Image: root.Image(name)}.Encode()
				if err == nil { // others are no volumes: hidden ones, or not of this driver
					more = f(code)
				}
				return more, nil
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// from returns the name to begin after in a root, or that the root is before all
// that is wanted.
func from(root places.Root, after *volumeid.ID) (name string, skip bool) {
	if after == nil {
		return "", false
	}
	order := root.Compare(places.Root{FSID: after.FSID, PoolID: after.Image.PoolID, Namespace: after.Image.Namespace})
	if order == 0 {
		return after.Image.Name, false
	}
	return "", order < 0
}

// ControllerGetVolume says what a volume is, and where it is published.
func (s *Server) ControllerGetVolume(ctx context.Context, req *csi.ControllerGetVolumeRequest) (*csi.ControllerGetVolumeResponse, error) {
	id, err := parseID(req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	var info *ceph.ImageInfo
	err = s.Clusters.Do(ctx, id.FSID, func(cluster ceph.Block) error {
		step.Enter(ctx, "look at "+id.Image.String())
		info, err = cluster.ImageInfo(ctx, id.Image)
		return err
	})
	if err != nil {
		return nil, err
	}
	published, err := s.published(ctx)
	if err != nil {
		return nil, err
	}
	return &csi.ControllerGetVolumeResponse{
		Volume: &csi.Volume{VolumeId: req.GetVolumeId(), CapacityBytes: info.Size},
		Status: &csi.ControllerGetVolumeResponse_VolumeStatus{PublishedNodeIds: published[req.GetVolumeId()]},
	}, nil
}
