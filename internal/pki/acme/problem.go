package acme

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// Types of problems (RFC 8555 section 6.7, RFC 9773 section 7.4,
// draft-ietf-acme-profiles section 4), with their statuses.
var statuses = map[string]int{
	AccountDoesNotExist:     http.StatusBadRequest,
	AlreadyReplaced:         http.StatusConflict,
	AlreadyRevoked:          http.StatusBadRequest,
	BadCSR:                  http.StatusBadRequest,
	BadNonce:                http.StatusBadRequest,
	BadPublicKey:            http.StatusBadRequest,
	BadRevocationReason:     http.StatusBadRequest,
	BadSignatureAlgorithm:   http.StatusBadRequest,
	Connection:              http.StatusBadRequest,
	DNS:                     http.StatusBadRequest,
	ExternalAccountRequired: http.StatusForbidden,
	IncorrectResponse:       http.StatusForbidden,
	InvalidContact:          http.StatusBadRequest,
	InvalidProfile:          http.StatusBadRequest,
	Malformed:               http.StatusBadRequest,
	OrderNotReady:           http.StatusForbidden,
	RateLimited:             http.StatusTooManyRequests,
	RejectedIdentifier:      http.StatusBadRequest,
	TLS:                     http.StatusBadRequest,
	Unauthorized:            http.StatusForbidden,
	UnsupportedContact:      http.StatusBadRequest,
	UnsupportedIdentifier:   http.StatusBadRequest,
}

// Names of the problem types.
const (
	AccountDoesNotExist     = "accountDoesNotExist"
	AlreadyReplaced         = "alreadyReplaced"
	AlreadyRevoked          = "alreadyRevoked"
	BadCSR                  = "badCSR"
	BadNonce                = "badNonce"
	BadPublicKey            = "badPublicKey"
	BadRevocationReason     = "badRevocationReason"
	BadSignatureAlgorithm   = "badSignatureAlgorithm"
	Connection              = "connection"
	DNS                     = "dns"
	ExternalAccountRequired = "externalAccountRequired"
	IncorrectResponse       = "incorrectResponse"
	InvalidContact          = "invalidContact"
	InvalidProfile          = "invalidProfile"
	Malformed               = "malformed"
	OrderNotReady           = "orderNotReady"
	RateLimited             = "rateLimited"
	RejectedIdentifier      = "rejectedIdentifier"
	TLS                     = "tls"
	Unauthorized            = "unauthorized"
	UnsupportedContact      = "unsupportedContact"
	UnsupportedIdentifier   = "unsupportedIdentifier"
)

const typePrefix = "urn:ietf:params:acme:error:"

var kinds = map[int]fault.Kind{
	http.StatusForbidden: fault.Denied, http.StatusConflict: fault.Conflict, http.StatusTooManyRequests: fault.Exhausted,
}

// New makes the error of a problem: a *fault.Error around an *api.ACMEProblem.
func New(kind, format string, args ...any) *fault.Error {
	p := &api.ACMEProblem{Type: typePrefix + kind, Detail: fmt.Sprintf(format, args...), Status: statuses[kind]}
	k, ok := kinds[p.Status]
	if !ok {
		k = fault.Invalid
	}
	return &fault.Error{Kind: k, Msg: p.Detail, Err: p}
}

// Problem is the problem document of an error that New made.
func Problem(err *fault.Error) *api.ACMEProblem {
	p, _ := errors.AsType[*api.ACMEProblem](err)
	return p
}
