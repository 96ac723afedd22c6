package controller

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// is checks an error's code and that it says a thing.
func is(t *testing.T, err error, code codes.Code, says string) {
	t.Helper()
	require.ErrorContains(t, err, says)
	require.Equal(t, code, server.Code(err), err)
}

// volume makes a volume.
func (s *Server) volume(t *testing.T, name string, change ...func(*csi.CreateVolumeRequest)) *csi.Volume {
	t.Helper()
	resp, err := s.CreateVolume(t.Context(), request(func(r *csi.CreateVolumeRequest) {
		r.Name = name
		for _, c := range change {
			c(r)
		}
	}))
	require.NoError(t, err)
	return resp.GetVolume()
}

// snap makes a snapshot of a volume.
func (s *Server) snap(t *testing.T, volume *csi.Volume, name string) *csi.Snapshot {
	t.Helper()
	resp, err := s.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: volume.GetVolumeId()})
	require.NoError(t, err)
	return resp.GetSnapshot()
}

func fromSnapshot(id string) func(*csi.CreateVolumeRequest) {
	return func(r *csi.CreateVolumeRequest) {
		r.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
	}
}

func fromVolume(id string) func(*csi.CreateVolumeRequest) {
	return func(r *csi.CreateVolumeRequest) {
		r.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}}
	}
}

func ofSize(bytes int64) func(*csi.CreateVolumeRequest) {
	return func(r *csi.CreateVolumeRequest) { r.CapacityRange = &csi.CapacityRange{RequiredBytes: bytes} }
}

func (s *Server) delete(t *testing.T, volume *csi.Volume) {
	t.Helper()
	_, err := s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: volume.GetVolumeId()})
	require.NoError(t, err)
}

func imageRef(t *testing.T, volume *csi.Volume) ceph.ImageRef {
	t.Helper()
	id, err := volumeid.Parse(volume.GetVolumeId())
	require.NoError(t, err)
	return id.Image
}

func write(t *testing.T, conn ceph.Conn, volume *csi.Volume, data string, offset int64) {
	t.Helper()
	image, err := conn.OpenImage(t.Context(), imageRef(t, volume), ceph.OpenOptions{})
	require.NoError(t, err)
	_, err = image.WriteAt([]byte(data), offset)
	require.NoError(t, err)
	require.NoError(t, image.Close())
}

func read(t *testing.T, conn ceph.Conn, volume *csi.Volume, n int, offset int64) string {
	t.Helper()
	image, err := conn.OpenImage(t.Context(), imageRef(t, volume), ceph.OpenOptions{ReadOnly: true})
	require.NoError(t, err)
	data := make([]byte, n)
	_, err = image.ReadAt(data, offset)
	require.NoError(t, err)
	require.NoError(t, image.Close())
	return string(data)
}
