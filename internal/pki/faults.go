package pki

import (
	"context"
	"errors"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

func invalid(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, format, args...)
}

// storeFault translates an error of the store; doing completes "can't …".
func storeFault(err error, doing string) error {
	if _, ok := errors.AsType[*fault.Error](err); ok || err == nil {
		return err
	}
	switch {
	case errors.Is(err, store.ErrSealed):
		return fault.New(fault.Sealed, "Vault is sealed")
	case errors.Is(err, store.ErrConflict):
		return fault.Wrap(fault.Conflict, err, "this is being changed by others; try again")
	case errors.Is(err, store.ErrCorrupt):
		e := &fault.Error{Kind: fault.Internal, Msg: "can't " + doing, Err: err}
		return e.WithHint("a record of this authority was altered in the database; restore it from a backup")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fault.Wrap(fault.Unavailable, err, "the store does not answer; try again")
	}
	return fault.Wrap(fault.Internal, err, "can't %s", doing)
}
