// Package p11 is the server's own socket for the PKCS#11 module
// libclaviger-pkcs11.so: package internal/p11 over the guard, without a way through
// text.
//
// Promise: every request needs a client token, and does what that may and nothing
// else; each operation stands in the audit log like one of the API.
package p11

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"

	"github.com/claviger/claviger/internal/guard"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/p11"
)

// Options are what the front needs.
type Options struct {
	Door    guard.Door
	Slots   []p11.Slot
	Peers   p11.Peers
	Version string
	Logger  *slog.Logger
}

// New makes the server of the socket. Errors are *fault.Error.
func New(o Options) (*p11.Server, error) {
	s, err := p11.New(p11.Options{Slots: o.Slots, Backend: door{o.Door}, Version: o.Version, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	return p11.NewServer(s, o.Peers), nil
}

// door is the guard as a Backend.
type door struct{ guard.Door }

var verbs = map[p11.Verb]op.Verb{p11.Read: op.Read, p11.List: op.List, p11.Write: op.Write, p11.Delete: op.Delete}

// Call hands the structs of request and answer over as they are.
func (d door) Call(ctx context.Context, c *p11.Call, in, out any) error {
	answer, err := d.Handle(ctx, &guard.Request{
		Verb: verbs[c.Verb], Path: c.Path, Token: c.Token, Remote: c.Remote,
		Decode: func(into any) ([]string, error) { return nil, assign(into, in) },
	})
	if err != nil || out == nil || answer.Data == nil {
		return err
	}
	return assign(out, answer.Data)
}

// assign copies what from points to; nil leaves to as it is.
func assign(to, from any) error {
	if from == nil {
		return nil
	}
	t, f := reflect.ValueOf(to), reflect.ValueOf(from)
	if t.Type() != f.Type() {
		return fmt.Errorf("the operation has a %T, not a %T", to, from)
	}
	t.Elem().Set(f.Elem())
	return nil
}
