package ceph

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// Kind says what went wrong in terms a caller can act on. Each kind maps to one
// gRPC code (csi/server) and one condition reason (operator).
type Kind string

// The kinds of failure that Ceph answers with.
const (
	NotFound   Kind = "not found"
	Exists     Kind = "already exists"
	Busy       Kind = "busy"
	Full       Kind = "full"
	Forbidden  Kind = "not permitted"
	Invalid    Kind = "invalid"
	Timeout    Kind = "timed out"
	Fenced     Kind = "fenced"
	Unreached  Kind = "not reachable"
	Unexpected Kind = "unexpected"
)

// Error is a failed operation against Ceph.
type Error struct {
	Kind Kind
	// Op is the operation that failed, with its subject: "create image pool/name".
	Op  string
	Err error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%s: %s", e.Op, e.Kind)
	}
	return fmt.Sprintf("%s: %s: %v", e.Op, e.Kind, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error of a kind for an operation.
func Errorf(kind Kind, op, format string, args ...any) error {
	return &Error{Kind: kind, Op: op, Err: fmt.Errorf(format, args...)}
}

// KindOf returns the kind of an error: that of the outermost Error in its
// chain, Timeout for an expired context, Unexpected for anything else.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Timeout
	}
	return Unexpected
}

// Is reports whether an error is of a kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// KindOfErrno maps an errno as librados and librbd return it (positive or
// negative) to a kind.
func KindOfErrno(errno int) Kind {
	if errno < 0 {
		errno = -errno
	}
	if kind, ok := kindByErrno[syscall.Errno(errno)]; ok {
		return kind
	}
	return Unexpected
}

var kindByErrno = map[syscall.Errno]Kind{
	syscall.ENOENT:    NotFound,
	syscall.EEXIST:    Exists,
	syscall.EBUSY:     Busy,
	syscall.ENOTEMPTY: Busy,
	syscall.EAGAIN:    Busy,
	syscall.EROFS:     Busy,
	syscall.ENOSPC:    Full,
	syscall.EDQUOT:    Full,
	syscall.EPERM:     Forbidden,
	syscall.EACCES:    Forbidden,
	syscall.EINVAL:    Invalid,
	syscall.ERANGE:    Invalid,
	syscall.ETIMEDOUT: Timeout,
	syscall.ESHUTDOWN: Fenced,
	syscall.ENOTCONN:  Unreached,
}
