package keys

import (
	"context"
	"errors"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// Texts that Vault's clients and their tests match.
const (
	msgNoEncryptionKey = "encryption key not found"
	msgNoSigningKey    = "signing key not found"
	msgNoVerifyKey     = "signature verification key not found"
	msgTooOld          = "ciphertext or signature version is disallowed by policy (too old)"
	msgOpen            = "cipher: message authentication failed"
	msgNoPlaintext     = "missing plaintext to encrypt"
	msgNoCiphertext    = "missing ciphertext to decrypt"
	msgEmptyBatch      = "missing batch input to process"
	msgNotExportable   = "private key material is not exportable"
	msgSealed          = "Vault is sealed"
)

// errNoKey says that a named key does not exist. Each operation has its own
// text for it.
var errNoKey = errors.New("no such key")

func invalid(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, format, args...)
}

// tokenFault translates an error of a token, or of the context of a call to
// it, into the caller's terms. doing completes the sentence "the HSM token
// can't …".
func tokenFault(err error, doing string) error {
	if _, ok := errors.AsType[*fault.Error](err); ok || err == nil {
		return err
	}
	switch {
	case errors.Is(err, token.ErrOpen):
		return invalid(msgOpen)
	case errors.Is(err, token.ErrSealed):
		return fault.New(fault.Sealed, msgSealed)
	case errors.Is(err, token.ErrUnavailable), errors.Is(err, token.ErrClosed), fromContext(err):
		return fault.Wrap(fault.Unavailable, err, "the HSM token does not answer; try again")
	case errors.Is(err, token.ErrUnsupported):
		e := invalid("the HSM token can't %s: %v", doing, err)
		return e.WithHint("a key with protection=software can be used for this")
	case errors.Is(err, token.ErrNotFound), errors.Is(err, token.ErrBlob):
		e := &fault.Error{Kind: fault.Internal, Msg: "can't " + doing, Err: err}
		return e.WithHint("the secret of this key version is gone from the HSM token, was altered, or belongs to another KEK; restore it, or use another version")
	}
	return fault.Wrap(fault.Internal, err, "can't %s", doing)
}

// storeFault translates an error of the store; doing completes "can't …".
func storeFault(err error, doing string) error {
	if _, ok := errors.AsType[*fault.Error](err); ok || err == nil {
		return err
	}
	switch {
	case errors.Is(err, store.ErrSealed):
		return fault.New(fault.Sealed, msgSealed)
	case errors.Is(err, store.ErrConflict):
		return fault.Wrap(fault.Conflict, err, "the key is being changed by others; try again")
	case errors.Is(err, store.ErrCorrupt):
		e := &fault.Error{Kind: fault.Internal, Msg: "can't " + doing, Err: err}
		return e.WithHint("a record of this key was altered in the database; restore it from a backup")
	case fromContext(err):
		return fault.Wrap(fault.Unavailable, err, "the store does not answer; try again")
	}
	return fault.Wrap(fault.Internal, err, "can't %s", doing)
}

func fromContext(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// itemText is what a batch result says of an error.
func itemText(err error) string {
	text := fault.Message(err)
	if hint := fault.HintOf(err); hint != "" && fault.KindOf(err) == fault.Internal {
		text += ": " + hint
	}
	return text
}

// unreadable is the error of a batch item that the front could not read.
func unreadable(item *api.BatchItem) error {
	if item.Problem == "" {
		return nil
	}
	return invalid("%s", item.Problem)
}

// ofWhole tells whether an error concerns the whole call and not one item of
// it: nothing that the caller could change about the item would help.
func ofWhole(err error) bool {
	switch fault.KindOf(err) {
	case fault.Unavailable, fault.Sealed, fault.Uncertain, fault.Exhausted:
		return true
	}
	return false
}

// orMissing gives errNoKey the text of an operation.
func orMissing(err error, msg string) error {
	if errors.Is(err, errNoKey) {
		return invalid("%s", msg)
	}
	return err
}
