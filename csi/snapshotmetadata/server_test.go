package snapshotmetadata

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/external-snapshot-metadata/client/apis/snapshotmetadataservice/v1beta1"
	cbt "github.com/kubernetes-csi/external-snapshot-metadata/client/clientset/versioned/fake"
	"github.com/kubernetes-csi/external-snapshot-metadata/pkg/api"
	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	snapshots "github.com/kubernetes-csi/external-snapshotter/client/v8/clientset/versioned/fake"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	authn "k8s.io/api/authentication/v1"
	authz "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/csi/server"
)

// fakeDriver answers with what it was asked.
type fakeDriver struct {
	csi.UnimplementedSnapshotMetadataServer
}

func (fakeDriver) GetMetadataAllocated(req *csi.GetMetadataAllocatedRequest, stream csi.SnapshotMetadata_GetMetadataAllocatedServer) error {
	if req.GetSnapshotId() != "handle-monday" {
		return errors.New("another snapshot: " + req.GetSnapshotId())
	}
	for _, offset := range []int64{req.GetStartingOffset(), req.GetStartingOffset() + 8192} {
		if err := stream.Send(&csi.GetMetadataAllocatedResponse{BlockMetadataType: csi.BlockMetadataType_VARIABLE_LENGTH, VolumeCapacityBytes: 1 << 30,
			BlockMetadata: []*csi.BlockMetadata{{ByteOffset: offset, SizeBytes: 4096 * int64(req.GetMaxResults())}}}); err != nil {
			return err
		}
	}
	return nil
}

func (fakeDriver) GetMetadataDelta(req *csi.GetMetadataDeltaRequest, stream csi.SnapshotMetadata_GetMetadataDeltaServer) error {
	if req.GetBaseSnapshotId() != "handle-sunday" || req.GetTargetSnapshotId() != "handle-monday" {
		return errors.New("other snapshots")
	}
	return stream.Send(&csi.GetMetadataDeltaResponse{BlockMetadataType: csi.BlockMetadataType_VARIABLE_LENGTH, VolumeCapacityBytes: 1 << 30,
		BlockMetadata: []*csi.BlockMetadata{{ByteOffset: req.GetStartingOffset(), SizeBytes: 512}}})
}

// apiServer knows one token, of ann, who may read snapshots in the namespace "hers".
func apiServer() *fake.Clientset {
	client := fake.NewClientset()
	client.PrependReactor("create", "tokenreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authn.TokenReview).DeepCopy()
		switch review.Spec.Token {
		case "hers":
			review.Status = authn.TokenReviewStatus{Authenticated: true, User: authn.UserInfo{Username: "ann"}, Audiences: review.Spec.Audiences}
		case "for the API server":
			review.Status = authn.TokenReviewStatus{Authenticated: true, User: authn.UserInfo{Username: "ann"}, Audiences: []string{"kubernetes"}}
		case "no answer":
			return true, nil, errors.New("no answer")
		}
		return true, review, nil
	})
	client.PrependReactor("create", "subjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authz.SubjectAccessReview).DeepCopy()
		want := authz.ResourceAttributes{Group: "snapshot.storage.k8s.io", Version: "v1", Resource: "volumesnapshots", Verb: "get", Namespace: "hers"}
		got := *review.Spec.ResourceAttributes
		got.Name = ""
		review.Status.Allowed = review.Spec.User == "ann" && got == want
		return true, review, nil
	})
	return client
}

func content(name, driver, of string) *snapshotv1.VolumeSnapshotContent {
	handle := "handle-" + name
	return &snapshotv1.VolumeSnapshotContent{ObjectMeta: metav1.ObjectMeta{Name: "content-" + name},
		Spec:   snapshotv1.VolumeSnapshotContentSpec{Driver: driver, VolumeSnapshotRef: corev1.ObjectReference{Namespace: "hers", Name: of}},
		Status: &snapshotv1.VolumeSnapshotContentStatus{SnapshotHandle: &handle}}
}

func snapshot(name, content string) *snapshotv1.VolumeSnapshot {
	s := &snapshotv1.VolumeSnapshot{ObjectMeta: metav1.ObjectMeta{Namespace: "hers", Name: name}}
	if content != "" {
		s.Status = &snapshotv1.VolumeSnapshotStatus{BoundVolumeSnapshotContentName: &content}
	}
	return s
}

// connect starts a server, and finds it as a client does: by what was announced.
func connect(t *testing.T) api.SnapshotMetadataClient {
	services := cbt.NewSimpleClientset(&v1beta1.SnapshotMetadataService{ObjectMeta: metav1.ObjectMeta{Name: identity.DriverName},
		Spec: v1beta1.SnapshotMetadataServiceSpec{Audience: "old", Address: "old:1", CACert: []byte("old")}})
	config, err := Announce(t.Context(), services, "backup.ns.svc:6443")
	require.NoError(t, err)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := server.New(server.Options{})
	api.RegisterSnapshotMetadataServer(s, &Server{Client: apiServer(), Driver: fakeDriver{}, Snapshots: snapshots.NewSimpleClientset( //nolint:staticcheck // what is to replace it is not there yet
		snapshot("monday", "content-monday"), content("monday", identity.DriverName, "monday"),
		snapshot("new", ""),
		snapshot("foreign", "content-foreign"), content("foreign", "other.csi", "foreign"),
		snapshot("stolen", "content-monday"))})
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- server.ServeOn(ctx, s, tls.NewListener(listener, config)) }()
	t.Cleanup(func() { stop(); require.NoError(t, <-ended) })

	announced, err := services.CbtV1beta1().SnapshotMetadataServices().Get(t.Context(), identity.DriverName, metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "backup.ns.svc:6443", announced.Spec.Address)
	require.Equal(t, Audience, announced.Spec.Audience)
	authorities := x509.NewCertPool()
	require.True(t, authorities.AppendCertsFromPEM(announced.Spec.CACert))
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(
		&tls.Config{RootCAs: authorities, ServerName: "backup.ns.svc", MinVersion: tls.VersionTLS13})))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return api.NewSnapshotMetadataClient(conn)
}

func TestBlocksOfSnapshots(t *testing.T) {
	client := connect(t)
	allocated, err := client.GetMetadataAllocated(t.Context(), &api.GetMetadataAllocatedRequest{
		SecurityToken: "hers", Namespace: "hers", SnapshotName: "monday", StartingOffset: 4096, MaxResults: 2})
	require.NoError(t, err)
	for _, offset := range []int64{4096, 12288} {
		m, err := allocated.Recv()
		require.NoError(t, err)
		require.Equal(t, api.BlockMetadataType_VARIABLE_LENGTH, m.GetBlockMetadataType())
		require.Equal(t, int64(1<<30), m.GetVolumeCapacityBytes())
		require.Len(t, m.GetBlockMetadata(), 1)
		require.Equal(t, []int64{offset, 8192}, []int64{m.GetBlockMetadata()[0].GetByteOffset(), m.GetBlockMetadata()[0].GetSizeBytes()})
	}
	_, err = allocated.Recv()
	require.ErrorIs(t, err, io.EOF)

	delta, err := client.GetMetadataDelta(t.Context(), &api.GetMetadataDeltaRequest{
		SecurityToken: "hers", Namespace: "hers", BaseSnapshotId: "handle-sunday", TargetSnapshotName: "monday", StartingOffset: 1024})
	require.NoError(t, err)
	m, err := delta.Recv()
	require.NoError(t, err)
	require.Equal(t, api.BlockMetadataType_VARIABLE_LENGTH, m.GetBlockMetadataType())
	require.Equal(t, int64(1024), m.GetBlockMetadata()[0].GetByteOffset())
}

func TestWhoMayAsk(t *testing.T) {
	client := connect(t)
	for name, c := range map[string]struct {
		token, namespace, snapshot string
		want                       codes.Code
	}{
		"no token":                       {"", "hers", "monday", codes.Unauthenticated},
		"an unknown token":               {"stolen", "hers", "monday", codes.Unauthenticated},
		"a token for another audience":   {"for the API server", "hers", "monday", codes.Unauthenticated},
		"nobody to review the token":     {"no answer", "hers", "monday", codes.Unavailable},
		"a namespace that is not theirs": {"hers", "his", "monday", codes.PermissionDenied},
		"no namespace":                   {"hers", "", "monday", codes.InvalidArgument},
		"no snapshot":                    {"hers", "hers", "", codes.InvalidArgument},
		"an unknown snapshot":            {"hers", "hers", "tuesday", codes.NotFound},
		"a snapshot not made yet":        {"hers", "hers", "new", codes.Unavailable},
		"a snapshot of another driver":   {"hers", "hers", "foreign", codes.InvalidArgument},
		"another snapshot's content":     {"hers", "hers", "stolen", codes.FailedPrecondition},
	} {
		t.Run(name, func(t *testing.T) {
			allocated, err := client.GetMetadataAllocated(t.Context(), &api.GetMetadataAllocatedRequest{SecurityToken: c.token, Namespace: c.namespace, SnapshotName: c.snapshot})
			require.NoError(t, err)
			_, err = allocated.Recv()
			require.Equal(t, c.want, status.Code(err), "%v", err)
			require.NotContains(t, err.Error(), "for the API server", "no token is told on")
			delta, err := client.GetMetadataDelta(t.Context(), &api.GetMetadataDeltaRequest{SecurityToken: c.token, Namespace: c.namespace, TargetSnapshotName: c.snapshot})
			require.NoError(t, err)
			_, err = delta.Recv()
			require.Equal(t, c.want, status.Code(err), "%v", err)
		})
	}
}

func TestAnnounceTheFirstTime(t *testing.T) {
	services := cbt.NewSimpleClientset()
	_, err := Announce(t.Context(), services, "backup.ns.svc:6443")
	require.NoError(t, err)
	announced, err := services.CbtV1beta1().SnapshotMetadataServices().Get(t.Context(), identity.DriverName, metav1.GetOptions{})
	require.NoError(t, err)
	require.NotEmpty(t, announced.Spec.CACert)
	_, err = Announce(t.Context(), services, "no port")
	require.ErrorContains(t, err, "address")
}
