package controller

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// ListSnapshots lists snapshots: one by its ID, those of a volume, or all, in the
// order of their images and IDs.
func (s *Server) ListSnapshots(ctx context.Context, req *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	size, err := pageSize(req.GetMaxEntries())
	if err != nil {
		return nil, err
	}
	after, err := parseSnapshotToken(req.GetStartingToken())
	if err != nil {
		return nil, err
	}
	l := &snapshotList{size: size, after: after, resp: &csi.ListSnapshotsResponse{}}
	switch {
	case req.GetSnapshotId() != "":
		err = s.listOne(ctx, l, req)
	case req.GetSourceVolumeId() != "":
		err = s.listSource(ctx, l, req.GetSourceVolumeId())
	default:
		err = s.listAll(ctx, l)
	}
	if err != nil {
		return nil, err
	}
	return l.resp, nil
}

// snapshotList is an answer in the making.
type snapshotList struct {
	size  int
	after *snapshotToken
	last  snapshotToken
	resp  *csi.ListSnapshotsResponse
}

// snapshotToken is a place in the list of all snapshots: that of the snapshot
// before. Its code is fsid/pool/namespace/image/snapshot.
type snapshotToken struct {
	root  places.Root
	image string
	snap  uint64
}

func (t snapshotToken) String() string {
	return fmt.Sprintf("%s/%d/%s/%s/%d", t.root.FSID, t.root.PoolID, t.root.Namespace, t.image, t.snap)
}

func parseSnapshotToken(token string) (*snapshotToken, error) {
	if token == "" {
		return nil, nil
	}
	stale := fault.Field(fault.Stale, "starting_token", "%.100q does not continue a list of snapshots", token)
	fields := strings.Split(token, "/")
	if len(fields) != 5 || len(token) > 512 || fields[3] == "" || volumeid.CheckFSID(fields[0]) != nil || volumeid.CheckNamespace(fields[2]) != nil {
		return nil, stale
	}
	pool, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return nil, stale
	}
	snap, err := strconv.ParseUint(fields[4], 10, 64)
	if err != nil {
		return nil, stale
	}
	t := &snapshotToken{places.Root{FSID: fields[0], PoolID: pool, Namespace: fields[2]}, fields[3], snap}
	if t.String() != token || pool < 1 || snap < 1 {
		return nil, stale
	}
	return t, nil
}

func (s *Server) listOne(ctx context.Context, l *snapshotList, req *csi.ListSnapshotsRequest) error {
	id, err := volumeid.ParseSnapshot(req.GetSnapshotId())
	if err != nil {
		return nil // there is none of this driver
	}
	snapshot, err := s.snapshot(ctx, id)
	if ceph.Is(err, ceph.NotFound) || fault.KindOf(err) == fault.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if source := req.GetSourceVolumeId(); source == "" || source == snapshot.GetSourceVolumeId() {
		l.resp.Entries = []*csi.ListSnapshotsResponse_Entry{{Snapshot: snapshot}}
	}
	return nil
}

func (s *Server) listSource(ctx context.Context, l *snapshotList, code string) error {
	id, err := volumeid.Parse(code)
	if err != nil {
		return nil // there is no volume of this driver
	}
	root := places.Root{FSID: id.FSID, PoolID: id.Image.PoolID, Namespace: id.Image.Namespace}
	err = s.Clusters.Do(ctx, id.FSID, func(cluster ceph.Block) error {
		_, err := l.image(ctx, cluster, root, id.Image.Name)
		return err
	})
	if fault.KindOf(err) == fault.NotFound {
		return nil // there is no such cluster
	}
	return err
}

func (s *Server) listAll(ctx context.Context, l *snapshotList) error {
	step.Enter(ctx, "list the pools")
	roots, err := places.Roots(ctx, s.Places, s.Clusters)
	if err != nil {
		return err
	}
	more := true
	for _, root := range roots {
		if !more || l.after != nil && root.Compare(l.after.root) < 0 {
			continue
		}
		err := s.Clusters.Do(ctx, root.FSID, func(cluster ceph.Block) (err error) {
			more, err = l.add(ctx, cluster, root)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// add adds the snapshots in a root. It returns whether there is room for more.
func (l *snapshotList) add(ctx context.Context, cluster ceph.Block, root places.Root) (more bool, err error) {
	begin := ""
	if l.after != nil && root == l.after.root {
		if more, err = l.image(ctx, cluster, root, l.after.image); err != nil || !more {
			return more, err
		}
		begin = l.after.image
	}
	more = true
	err = places.Names(ctx, cluster, root, begin, func(name string) (bool, error) {
		more, err = l.image(ctx, cluster, root, name)
		return more, err
	})
	return more, err
}

// image adds the snapshots of one image that come after the token.
func (l *snapshotList) image(ctx context.Context, cluster ceph.Block, root places.Root, name string) (more bool, err error) {
	step.Enter(ctx, "list the snapshots of "+root.Image(name).String())
	list, err := cluster.ListSnapshots(ctx, root.Image(name))
	if ceph.Is(err, ceph.NotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	source := ""
	for i := range list {
		info := &list[i]
		if temporary(info) || l.after != nil && l.after.root == root && l.after.image == name && info.Ref.SnapID <= l.after.snap {
			continue
		}
		if len(l.resp.Entries) == l.size {
			l.resp.NextToken = l.last.String()
			return false, nil
		}
		if source == "" {
			if source, err = sourceOf(ctx, cluster, root.FSID, info); err != nil {
				return true, nil // not a volume of this driver
			}
		}
		snapshot, err := describe(root.FSID, info, source)
		if err != nil {
			return false, err
		}
		l.last = snapshotToken{root, name, info.Ref.SnapID}
		l.resp.Entries = append(l.resp.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: snapshot})
	}
	return true, nil
}
