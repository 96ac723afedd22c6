// Package scenario has, for each RPC of the CSI specification, what a fault is
// planted in: what is there before the call, the call, and the way back. The
// RPCs are taken from the specification's own descriptor, so that none can be
// forgotten.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// RPC is one of the specification's.
type RPC struct {
	Service, Name string
	Stream        bool
	request       protoreflect.MessageType
	response      protoreflect.MessageType
}

// Method is what gRPC calls it.
func (r RPC) Method() string { return "/csi.v1." + r.Service + "/" + r.Name }

// RPCs returns every RPC of every service.
func RPCs() []RPC {
	var all []RPC
	services := csi.File_csi_proto.Services()
	for i := range services.Len() {
		methods := services.Get(i).Methods()
		for j := range methods.Len() {
			m := methods.Get(j)
			all = append(all, RPC{Service: string(services.Get(i).Name()), Name: string(m.Name()), Stream: m.IsStreamingServer(),
				request: message(m.Input()), response: message(m.Output())})
		}
	}
	return all
}

func message(d protoreflect.MessageDescriptor) protoreflect.MessageType {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		panic(err)
	}
	return t
}

// Offered asks the driver whether it serves an RPC; else it returns the
// driver's own words.
func (r RPC) Offered(ctx context.Context, conn grpc.ClientConnInterface) (bool, string, error) {
	_, err := r.Call(ctx, conn, r.request.New().Interface())
	switch s := status.Convert(err); s.Code() {
	case codes.Unimplemented:
		return false, strings.TrimPrefix(s.Message(), "rpc error: code = Unimplemented desc = "), nil
	case codes.Unavailable:
		return false, "", fmt.Errorf("%s: %w", r.Method(), err)
	}
	return true, "", nil
}

// Call sends a request and returns the answer; those of a stream as one, its
// repeated fields one after the other.
func (r RPC) Call(ctx context.Context, conn grpc.ClientConnInterface, req proto.Message) (proto.Message, error) {
	answer := r.response.New().Interface()
	if !r.Stream {
		return answer, conn.Invoke(ctx, r.Method(), req, answer)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{StreamName: r.Name, ServerStreams: true}, r.Method())
	if err != nil {
		return nil, err
	}
	if err := errors.Join(stream.SendMsg(req), stream.CloseSend()); err != nil {
		return nil, err
	}
	for {
		part := r.response.New().Interface()
		err := stream.RecvMsg(part)
		if errors.Is(err, io.EOF) {
			return answer, nil
		}
		if err != nil {
			return nil, err
		}
		proto.Merge(answer, part)
	}
}

// gates are the capabilities that an RPC needs the driver to claim. One that is
// not here must be served by any driver that has its service.
var gates = map[string]string{
	"CreateVolume": "CREATE_DELETE_VOLUME", "DeleteVolume": "CREATE_DELETE_VOLUME",
	"ControllerPublishVolume": "PUBLISH_UNPUBLISH_VOLUME", "ControllerUnpublishVolume": "PUBLISH_UNPUBLISH_VOLUME",
	"ListVolumes": "LIST_VOLUMES", "GetCapacity": "GET_CAPACITY", "ControllerGetVolume": "GET_VOLUME",
	"CreateSnapshot": "CREATE_DELETE_SNAPSHOT", "DeleteSnapshot": "CREATE_DELETE_SNAPSHOT",
	"ListSnapshots": "LIST_SNAPSHOTS", "GetSnapshot": "GET_SNAPSHOT",
	"ControllerExpandVolume": "EXPAND_VOLUME", "ControllerModifyVolume": "MODIFY_VOLUME",
	"CreateVolumeGroupSnapshot": "CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT",
	"DeleteVolumeGroupSnapshot": "CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT",
	"GetVolumeGroupSnapshot":    "CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT",
	"NodeStageVolume":           "STAGE_UNSTAGE_VOLUME", "NodeUnstageVolume": "STAGE_UNSTAGE_VOLUME",
	"NodeGetVolumeStats": "GET_VOLUME_STATS", "NodeExpandVolume": "EXPAND_VOLUME",
	"NodeGetVolumeHealth": "GET_VOLUME_HEALTH", "NodeGetStorageHealth": "GET_STORAGE_HEALTH",
	"ControllerGetVolumeHealth": "GET_VOLUME_HEALTH", "ControllerListVolumeHealth": "LIST_VOLUME_HEALTH",
}

// Claims checks that the driver serves an RPC exactly when it claims the
// capability for it.
func (r RPC) Claims(claimed map[string]bool, offered bool) error {
	gate, gated := gates[r.Name]
	if !gated || claimed[r.Service+"/"+gate] == offered {
		return nil
	}
	return fmt.Errorf("%s: served: %t, but %s claimed: %t", r.Method(), offered, gate, !offered)
}

// Claimed asks the driver for its capabilities: "Controller/EXPAND_VOLUME".
func Claimed(ctx context.Context, conn grpc.ClientConnInterface) (map[string]bool, error) {
	claimed := map[string]bool{}
	for _, r := range RPCs() {
		if !strings.HasSuffix(r.Name, "GetCapabilities") {
			continue
		}
		answer, err := r.Call(ctx, conn, r.request.New().Interface())
		if status.Code(err) == codes.Unimplemented {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, name := range capabilities(answer) {
			claimed[r.Service+"/"+name] = true
		}
	}
	return claimed, nil
}

func capabilities(answer proto.Message) (names []string) {
	switch a := answer.(type) {
	case *csi.ControllerGetCapabilitiesResponse:
		for _, c := range a.GetCapabilities() {
			names = append(names, c.GetRpc().GetType().String())
		}
	case *csi.GroupControllerGetCapabilitiesResponse:
		for _, c := range a.GetCapabilities() {
			names = append(names, c.GetRpc().GetType().String())
		}
	case *csi.NodeGetCapabilitiesResponse:
		for _, c := range a.GetCapabilities() {
			names = append(names, c.GetRpc().GetType().String())
		}
	}
	return names
}
