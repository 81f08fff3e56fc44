package guard

import (
	"context"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

// Request is a call as a front received it.
type Request struct {
	Verb op.Verb
	// Path is the path without the front's prefix: "transit/encrypt/app".
	Path string
	// Help asks for an explanation of the path instead of a call. The verb is Read.
	Help bool
	// Token is the client token, "" if none was sent.
	Token string
	// As is the identity of the configuration that calls in place of a client
	// token; nil if there is none.
	As *Identity
	// Remote is the caller's network address, for the audit record.
	Remote string
	// WrapTTL, if positive, asks for the answer to be kept for that long and a
	// token for it to be returned instead.
	WrapTTL api.Seconds
	// Decode fills the operation's request, a pointer to a struct, from the
	// front's wire format and returns the names of fields that it has no place
	// for. The guard calls it once, after it knows that the caller may use the
	// path, so that nobody makes the server parse a large body without a right to.
	Decode func(req any) (unknown []string, err error)
	// WantSent is set by the guard before it calls Decode, if a policy has a say
	// in the parameters: Decode then sets Sent to the names of the fields that the
	// caller sent. Those that have a value need not be among them.
	WantSent bool
	Sent     []string
}

// Answer is what an operation returned.
type Answer struct {
	RequestID string
	Op        *op.Meta
	// Data is nil or a pointer to the operation's response struct, or an
	// *api.WrapInfo if that is wrapped.
	Data     any
	Warnings []string
}

// Door is what fronts know of the guard.
type Door interface {
	// Handle finds the operation, checks the caller, records the intent,
	// performs, records the outcome. Errors are *fault.Error where the caller
	// may know the reason.
	Handle(ctx context.Context, req *Request) (*Answer, error)
}
