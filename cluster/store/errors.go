package store

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"sampan/internal/fault"
)

// Expired is the error of a watch or a list that asks for history which is
// kept no more: the API's 410. Its text is upstream's.
type Expired struct {
	Revision int64 // asked for
	Oldest   int64 // what a watch can still start after, or a list can still be of
}

func (e *Expired) Error() string {
	return fmt.Sprintf("too old resource version: %d (%d)", e.Revision, e.Oldest)
}

// Ended is the error of a watch whose kind was declared anew, or is declared no
// more: what its objects are like may have changed. All events up to then were
// returned.
type Ended struct {
	Kind string
	Gone bool // declared no more
}

func (e *Ended) Error() string {
	if e.Gone {
		return "watch " + e.Kind + ": its definition is gone"
	}
	return "watch " + e.Kind + ": its definition has changed"
}

// OpFailed is the error of a write one of whose further operations met another
// state than it asked for. Nothing was written.
type OpFailed struct{ Op Op }

func (e *OpFailed) Error() string {
	if e.Op.Revision == 0 {
		return "write together with " + e.Op.Key.String() + ": already exists"
	}
	return "write together with " + e.Op.Key.String() + ": changed meanwhile"
}

// exists and its siblings are the faults of writes.
func exists(k Key) error {
	return &fault.Error{Class: fault.Exists, Op: "create", On: k.String()}
}

func notFound(op string, k Key) error {
	return &fault.Error{Class: fault.NotFound, Op: op, On: k.String()}
}

// unavailable wraps an error of etcd's. Whether a write happened is not known
// after it.
func unavailable(op, on string, err error) error {
	if errors.Is(err, rpctypes.ErrNoSpace) {
		return &fault.Error{Class: fault.Unavailable, Op: op, On: on, Err: err,
			Fix: "the store has reached its quota: delete objects or raise the quota"}
	}
	if errors.Is(err, rpctypes.ErrRequestTooLarge) {
		return &TooLarge{err}
	}
	return &fault.Error{Class: fault.Unavailable, Op: op, On: on, Err: err}
}

// TooLarge is the error of a write that etcd does not take for its size.
type TooLarge struct{ Err error }

func (e *TooLarge) Error() string { return e.Err.Error() }
