// Package api holds the wire types of every operation: what a caller sends and
// what it gets, in the form of Vault's HTTP API. It imports only the standard
// library, so that clients can use it alone.
//
// The same structs serve the server, the Go client, the CLI, the OpenAPI
// document and the audit log. Their tags:
//
//	json    name on the wire; omitempty leaves a zero value out of an answer
//	path    the field is taken from the URL (json:"-" beside it)
//	doc     one line for the API reference
//	audit   what the audit record shows of it: "plain" the value, "-" nothing;
//	        without the tag strings and bytes are recorded as HMAC, numbers
//	        and booleans plain
//
// []byte is standard base64 on the wire; nil means absent, an empty slice "".
// Where empty is a value of its own the tag says omitzero, so that "" is sent.
// A pointer is nil if the field was absent.
package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Seconds is a duration. On the wire it is read from a number of seconds or a
// text such as "1h30m", and written as a number of seconds.
type Seconds int64

// Duration converts s.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }

// Envelope is the frame of every answer but the bare ones (vault-style: all
// keys are always there, null where empty).
type Envelope struct {
	RequestID     string          `json:"request_id"`
	LeaseID       string          `json:"lease_id"`
	Renewable     bool            `json:"renewable"`
	LeaseDuration int64           `json:"lease_duration"`
	Data          json.RawMessage `json:"data"`
	WrapInfo      *WrapInfo       `json:"wrap_info"`
	Warnings      []string        `json:"warnings"`
	Auth          *Auth           `json:"auth"`
}

// ErrorResponse is the body of every failed call. The last element may be a
// hint of what to do next; it begins with HintPrefix.
type ErrorResponse struct {
	Errors []string `json:"errors"`
}

// HintPrefix begins the element of ErrorResponse.Errors that is a hint.
const HintPrefix = "hint: "

// Error is a failed call as the client sees it.
type Error struct {
	Status int // HTTP status
	Errors []string
}

// Error joins the server's messages, without the hint.
func (e *Error) Error() string {
	var messages []string
	for _, m := range e.Errors {
		if !strings.HasPrefix(m, HintPrefix) {
			messages = append(messages, m)
		}
	}
	if len(messages) == 0 && e.Status == 404 {
		return "not found"
	}
	if len(messages) == 0 {
		return fmt.Sprintf("the server answered with status %d", e.Status)
	}
	return strings.Join(messages, "; ")
}

// Hint is what the server says to do next, "" if it says nothing.
func (e *Error) Hint() string {
	for _, m := range e.Errors {
		if hint, ok := strings.CutPrefix(m, HintPrefix); ok {
			return hint
		}
	}
	return ""
}

// Empty is a request or answer without fields.
type Empty struct{}

// Keys is the answer of a list. An empty one is "not found" on the wire.
type Keys struct {
	Keys []string `json:"keys" audit:"plain"`
}

// IsEmpty tells fronts to answer "not found".
func (k *Keys) IsEmpty() bool { return len(k.Keys) == 0 }
