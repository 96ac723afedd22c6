// Package fault are the errors that a call's own logic ends in, as opposed to
// those of Ceph (daemon/ceph). Package server gives each kind its gRPC code.
package fault

import (
	"errors"
	"fmt"
)

// Kind says what went wrong.
type Kind string

// The kinds of fault.
const (
	// Invalid: the request itself is wrong.
	Invalid Kind = "invalid"
	// NotFound: the subject of the request is not there.
	NotFound Kind = "not found"
	// Conflict: something of that name is there and is different.
	Conflict Kind = "conflict"
	// OutOfRange: a size that cannot be.
	OutOfRange Kind = "out of range"
	// Refused: right in itself, but not in the present state.
	Refused Kind = "refused"
	// Unavailable: a part that is needed does not answer; try again.
	Unavailable Kind = "unavailable"
	// Pending: an earlier call is still busy with the same subject.
	Pending Kind = "pending"
	// Exhausted: there is no room for what is asked for.
	Exhausted Kind = "exhausted"
	// Stale: a token that does not continue any list.
	Stale Kind = "stale"
)

// Error is a fault.
type Error struct {
	Kind Kind
	// Field of the request that is at fault, if one is.
	Field string
	Err   error
}

func (e *Error) Error() string {
	if e.Field == "" {
		return e.Err.Error()
	}
	return e.Field + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Field is a fault of a kind in a field of the request.
func Field(kind Kind, field, format string, args ...any) error {
	return &Error{Kind: kind, Field: field, Err: fmt.Errorf(format, args...)}
}

// Errorf is a fault of a kind.
func Errorf(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// KindOf returns the kind of the outermost fault in an error's chain, empty when there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}
