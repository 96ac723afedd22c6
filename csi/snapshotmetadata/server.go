// Package snapshotmetadata serves Kubernetes' SnapshotMetadata API, by which backup
// programs learn which blocks of a volume a snapshot holds, and which differ from
// those of an earlier one.
package snapshotmetadata

import (
	"context"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/external-snapshot-metadata/pkg/api"
	snapshots "github.com/kubernetes-csi/external-snapshotter/client/v8/clientset/versioned"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	authn "k8s.io/api/authentication/v1"
	authz "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/csi/step"
)

// Audience of the tokens that clients show: one that was made for anything else
// is refused.
const Audience = "snapshot-metadata." + identity.DriverName

// Server checks who asks, finds snapshots by their names, and lets the driver answer.
type Server struct {
	api.UnimplementedSnapshotMetadataServer
	Client    kubernetes.Interface
	Snapshots snapshots.Interface
	Driver    csi.SnapshotMetadataServer
}

// GetMetadataAllocated streams what a snapshot holds.
func (s *Server) GetMetadataAllocated(req *api.GetMetadataAllocatedRequest, stream grpc.ServerStreamingServer[api.GetMetadataAllocatedResponse]) error {
	id, err := s.admit(stream.Context(), req.GetSecurityToken(), req.GetNamespace(), req.GetSnapshotName())
	if err != nil {
		return err
	}
	return s.Driver.GetMetadataAllocated(
		&csi.GetMetadataAllocatedRequest{SnapshotId: id, StartingOffset: req.GetStartingOffset(), MaxResults: req.GetMaxResults()},
		answers[csi.GetMetadataAllocatedResponse]{stream, func(m *csi.GetMetadataAllocatedResponse) error {
			return stream.Send(&api.GetMetadataAllocatedResponse{BlockMetadataType: api.BlockMetadataType(m.GetBlockMetadataType()),
				VolumeCapacityBytes: m.GetVolumeCapacityBytes(), BlockMetadata: blocks(m.GetBlockMetadata())})
		}})
}

// GetMetadataDelta streams what differs between two snapshots of one volume.
func (s *Server) GetMetadataDelta(req *api.GetMetadataDeltaRequest, stream grpc.ServerStreamingServer[api.GetMetadataDeltaResponse]) error {
	id, err := s.admit(stream.Context(), req.GetSecurityToken(), req.GetNamespace(), req.GetTargetSnapshotName())
	if err != nil {
		return err
	}
	// The driver refuses a base of another volume: none but the target has to be looked up.
	return s.Driver.GetMetadataDelta(
		&csi.GetMetadataDeltaRequest{BaseSnapshotId: req.GetBaseSnapshotId(), TargetSnapshotId: id, StartingOffset: req.GetStartingOffset(), MaxResults: req.GetMaxResults()},
		answers[csi.GetMetadataDeltaResponse]{stream, func(m *csi.GetMetadataDeltaResponse) error {
			return stream.Send(&api.GetMetadataDeltaResponse{BlockMetadataType: api.BlockMetadataType(m.GetBlockMetadataType()),
				VolumeCapacityBytes: m.GetVolumeCapacityBytes(), BlockMetadata: blocks(m.GetBlockMetadata())})
		}})
}

// answers are a stream of the driver's, whose messages are sent on in other types.
type answers[T any] struct {
	grpc.ServerStream
	send func(*T) error
}

// Send sends one message on.
func (a answers[T]) Send(m *T) error { return a.send(m) }

func blocks(list []*csi.BlockMetadata) []*api.BlockMetadata {
	out := make([]*api.BlockMetadata, len(list))
	for i, b := range list {
		out[i] = &api.BlockMetadata{ByteOffset: b.GetByteOffset(), SizeBytes: b.GetSizeBytes()}
	}
	return out
}

// admit returns the driver's ID of a snapshot to who may read it in Kubernetes.
func (s *Server) admit(ctx context.Context, token, namespace, name string) (id string, err error) {
	switch {
	case token == "":
		return "", status.Error(codes.Unauthenticated, "security_token: is missing")
	case namespace == "" || name == "":
		return "", fault.Errorf(fault.Invalid, "namespace and name of the snapshot are needed")
	}
	user, err := s.authenticate(ctx, token)
	if err != nil {
		return "", err
	}
	if err := s.authorize(ctx, user, namespace, name); err != nil {
		return "", err
	}
	return s.find(ctx, namespace, name)
}

func (s *Server) authenticate(ctx context.Context, token string) (*authn.UserInfo, error) {
	step.Enter(ctx, "have the token reviewed")
	review, err := s.Client.AuthenticationV1().TokenReviews().Create(ctx,
		&authn.TokenReview{Spec: authn.TokenReviewSpec{Token: token, Audiences: []string{Audience}}}, metav1.CreateOptions{})
	if err != nil {
		return nil, fault.Errorf(fault.Unavailable, "have the token reviewed: %w", err)
	}
	if !review.Status.Authenticated || !slices.Contains(review.Status.Audiences, Audience) {
		return nil, status.Error(codes.Unauthenticated, "security_token: is not a valid token for the audience "+Audience)
	}
	return &review.Status.User, nil
}

func (s *Server) authorize(ctx context.Context, user *authn.UserInfo, namespace, name string) error {
	step.Enter(ctx, "ask whether "+user.Username+" may read the snapshot")
	extra := map[string]authz.ExtraValue{}
	for key, value := range user.Extra {
		extra[key] = authz.ExtraValue(value)
	}
	review, err := s.Client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authz.SubjectAccessReview{Spec: authz.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
		ResourceAttributes: &authz.ResourceAttributes{Group: "snapshot.storage.k8s.io", Version: "v1", Resource: "volumesnapshots", Verb: "get", Namespace: namespace, Name: name},
	}}, metav1.CreateOptions{})
	if err != nil {
		return fault.Errorf(fault.Unavailable, "ask whether %s may read the snapshot: %w", user.Username, err)
	}
	if !review.Status.Allowed || review.Status.Denied {
		return status.Errorf(codes.PermissionDenied, "%s may not get volumesnapshots %s in namespace %s", user.Username, name, namespace)
	}
	return nil
}

// find looks the snapshot up, and sees that it is this driver's.
func (s *Server) find(ctx context.Context, namespace, name string) (id string, err error) {
	step.Enter(ctx, "look up VolumeSnapshot "+namespace+"/"+name)
	snapshot, err := s.Snapshots.SnapshotV1().VolumeSnapshots(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "", fault.Errorf(fault.NotFound, "there is no VolumeSnapshot %s/%s", namespace, name)
	case err != nil:
		return "", fault.Errorf(fault.Unavailable, "look up VolumeSnapshot %s/%s: %w", namespace, name, err)
	case snapshot.Status == nil || snapshot.Status.BoundVolumeSnapshotContentName == nil:
		return "", fault.Errorf(fault.Unavailable, "VolumeSnapshot %s/%s has no content yet", namespace, name)
	}
	content, err := s.Snapshots.SnapshotV1().VolumeSnapshotContents().Get(ctx, *snapshot.Status.BoundVolumeSnapshotContentName, metav1.GetOptions{})
	switch {
	case err != nil:
		return "", fault.Errorf(fault.Unavailable, "look up the content of VolumeSnapshot %s/%s: %w", namespace, name, err)
	case content.Spec.Driver != identity.DriverName:
		return "", fault.Errorf(fault.Invalid, "VolumeSnapshot %s/%s is of the driver %s", namespace, name, content.Spec.Driver)
	case content.Spec.VolumeSnapshotRef.Namespace != namespace || content.Spec.VolumeSnapshotRef.Name != name:
		return "", fault.Errorf(fault.Refused, "the content that VolumeSnapshot %s/%s names is another's", namespace, name)
	case content.Status == nil || content.Status.SnapshotHandle == nil:
		return "", fault.Errorf(fault.Unavailable, "VolumeSnapshot %s/%s is not made yet", namespace, name)
	}
	return *content.Status.SnapshotHandle, nil
}
