package server

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// byFault gives each kind of fault its code.
var byFault = map[fault.Kind]codes.Code{
	fault.Invalid:     codes.InvalidArgument,
	fault.NotFound:    codes.NotFound,
	fault.Conflict:    codes.AlreadyExists,
	fault.OutOfRange:  codes.OutOfRange,
	fault.Refused:     codes.FailedPrecondition,
	fault.Unavailable: codes.Unavailable,
	fault.Pending:     codes.Aborted,
	fault.Exhausted:   codes.ResourceExhausted,
	fault.Stale:       codes.Aborted,
}

// byCeph gives each kind of Ceph's errors its code.
var byCeph = map[ceph.Kind]codes.Code{
	ceph.NotFound:   codes.NotFound,
	ceph.Exists:     codes.AlreadyExists,
	ceph.Busy:       codes.FailedPrecondition,
	ceph.Full:       codes.ResourceExhausted,
	ceph.Forbidden:  codes.PermissionDenied,
	ceph.Invalid:    codes.InvalidArgument,
	ceph.Timeout:    codes.DeadlineExceeded,
	ceph.Fenced:     codes.Unavailable,
	ceph.Unreached:  codes.Unavailable,
	ceph.Unexpected: codes.Internal,
}

// Code returns the gRPC code of an error: of its fault, else of its Ceph error,
// else of its context's.
func Code(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	if code, ok := byFault[fault.KindOf(err)]; ok {
		return code
	}
	if errors.Is(err, context.Canceled) {
		return codes.Canceled
	}
	if ceph.KindOf(err) == ceph.Unexpected {
		if s, ok := status.FromError(err); ok {
			return s.Code()
		}
	}
	return byCeph[ceph.KindOf(err)]
}

func mapErrors(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	resp, err := handle(ctx, req)
	if err != nil {
		return nil, status.Error(Code(err), err.Error())
	}
	return resp, nil
}
