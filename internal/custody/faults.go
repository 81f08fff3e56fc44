package custody

import (
	"context"
	"errors"
	"fmt"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

const seeLog = "the server's log has the details"

// deviceFault puts an error of the HSM into the caller's words; trying says
// what was being tried. A *fault.Error stays as it is.
func deviceFault(err error, trying string) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	if errors.Is(err, token.ErrModule) {
		// Its text is for the operator who configured the module.
		return fault.New(fault.Unavailable, "%s: %v", trying, err)
	}
	kind, reason := deviceReason(err)
	e := fault.New(kind, "%s: %s", trying, reason)
	e.Err = err
	if errors.Is(err, token.ErrLocked) {
		return e.WithHint("set the user PIN again with the SO PIN and the HSM's own tool, to the value that it had")
	}
	return e
}

func deviceReason(err error) (fault.Kind, string) {
	switch {
	case errors.Is(err, token.ErrLocked):
		return fault.Conflict, "its user PIN is locked after too many wrong ones"
	case errors.Is(err, token.ErrAbsent):
		return fault.Unavailable, "it is not there"
	case errors.Is(err, token.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return fault.Unavailable, "it does not answer"
	case errors.Is(err, token.ErrUnsupported):
		return fault.Unsupported, "the HSM can't do it; " + seeLog
	}
	return fault.Unavailable, "it failed; " + seeLog
}

// storeFault puts an error of the store into the caller's words.
func storeFault(err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	if errors.Is(err, store.ErrSealed) {
		return &fault.Error{Kind: fault.Sealed, Msg: "Vault is sealed", Err: err}
	}
	if errors.Is(err, store.ErrConflict) {
		return fault.Wrap(fault.Conflict, err, "another server initialised this database at the same time")
	}
	return fault.Wrap(fault.Unavailable, err, "the database can't be read or written; %s", seeLog)
}

// serviceFault puts an error of a service behind the seal into the caller's words.
func serviceFault(err error) error {
	if err == nil || fault.KindOf(err) != fault.Internal {
		return err
	}
	return fault.Wrap(fault.Unavailable, err, "the services behind the seal could not start; %s", seeLog)
}

// tokenName names an HSM token to people.
func tokenName(label string) string {
	if label == "" {
		return "the HSM token"
	}
	return fmt.Sprintf("the HSM token %q", label)
}
