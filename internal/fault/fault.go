// Package fault is the one error type of Claviger: what went wrong in the words
// of the caller, and of which kind, so that each front can translate it to its
// own form (an HTTP status, an exit code) in one place.
//
// An error that is not a *fault.Error is ours: fronts answer it as an internal
// error and show no detail of it.
package fault

import (
	"errors"
	"fmt"
)

// Kind says whose fault an error is and what the caller can do about it.
// The zero value is Internal, so that a forgotten kind never blames the caller.
type Kind uint8

const (
	Internal      Kind = iota // ours; details go to the log only
	Invalid                   // the request is wrong; repeating it does not help
	Denied                    // the caller may not do this
	NotFound                  // the named thing does not exist
	Unsupported               // the path exists, the verb does not
	TooLarge                  // the body is beyond the limit
	MediaType                 // the body is of a type that is not understood
	Conflict                  // the thing exists already or was changed meanwhile
	Exhausted                 // a limit of use is reached (a counter, a quota)
	Sealed                    // the server is sealed
	Uninitialized             // the server has never been initialised
	Unavailable               // the HSM token or the store does not answer; try again
	Uncertain                 // the outcome is unknown and repeating is not safe
)

var kindNames = [...]string{
	"internal", "invalid", "denied", "not found", "unsupported", "too large", "media type",
	"conflict", "exhausted", "sealed", "uninitialized", "unavailable", "uncertain",
}

// String returns the kind's name, for logs and metrics.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Error is an error with a kind. Msg is shown to the caller and must hold no
// secret; Hint says what to do next; Err is the cause and is only logged.
type Error struct {
	Kind Kind
	Msg  string
	Hint string
	Err  error
}

// Error returns the caller's message, followed by the cause if there is one.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Msg
	}
	if e.Msg == "" {
		return e.Err.Error()
	}
	return e.Msg + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// WithHint returns a copy of e that tells the caller what to do next.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// New makes an error of kind k whose message the caller may read.
func New(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Msg: fmt.Sprintf(format, args...)}
}

// Wrap makes an error of kind k from a cause; the message says what was being
// tried. It returns nil if err is nil.
func Wrap(k Kind, err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: k, Msg: fmt.Sprintf(format, args...), Err: err}
}

// KindOf returns the kind of the outermost *Error in err's chain, or Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Message returns what the caller may read of err: the message of the outermost
// *Error unless it is Internal, and "internal error" otherwise.
func Message(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Msg != "" && e.Kind != Internal {
		return e.Msg
	}
	return "internal error"
}

// HintOf returns the hint of the outermost *Error in err's chain, or "".
func HintOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Hint
	}
	return ""
}
