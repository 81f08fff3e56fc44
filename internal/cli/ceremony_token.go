package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"github.com/claviger/claviger/internal/ceremony"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/token"
)

// openCeremonyToken opens the HSM token of a document, and makes it first if the
// document says so.
func (a *app) openCeremonyToken(ctx context.Context, d *ceremony.Document, f *ceremonyFlags) (token.Token, error) {
	t := &d.Token
	c := &config.Token{Driver: config.DriverPKCS11, Label: t.Label, PKCS11: config.PKCS11{
		Module: t.Module, Serial: t.Serial, Env: t.Env, ReadPaths: t.ReadPaths, WritePaths: t.WritePaths, Workers: 1,
	}}
	if t.Soft != "" {
		c = &config.Token{Driver: config.DriverSoft, Label: t.Label, Soft: config.Soft{Dir: d.Path(t.Soft)}}
	}
	device, err := server.TokenDevice(c, a.quietLog())
	if err != nil {
		return nil, err
	}
	state, err := device.State(ctx)
	if err != nil {
		return nil, ceremonyTokenFault(err, t)
	}
	switch {
	case state.Initialized && t.Create:
		return nil, fault.New(fault.Conflict, "the document says that the software token is made, and it is there already").
			WithHint("remove create from the document")
	case !state.Initialized && !t.Create:
		return nil, fault.New(fault.Invalid, "there is no initialised HSM token with the label %q and the serial number %q", t.Label, t.Serial).
			WithHint("the tools of the HSM initialise it; a software token is made with create: true")
	case state.PINLocked:
		return nil, ceremonyTokenFault(token.ErrLocked, t)
	}
	pin, err := a.ceremonyPIN(ctx, d, f)
	if err != nil {
		return nil, err
	}
	defer clear(pin)
	if t.Create {
		if err := createSoft(ctx, device, pin); err != nil {
			return nil, err
		}
	}
	tok, err := device.Open(ctx, pin)
	if err != nil {
		return nil, ceremonyTokenFault(err, t)
	}
	return tok, nil
}

// createSoft makes a software token. Nobody knows its SO PIN, which could do no more
// than set another user PIN.
func createSoft(ctx context.Context, device token.Device, pin []byte) error {
	so := make([]byte, 32)
	rand.Read(so)
	defer clear(so)
	return fault.Wrap(fault.Invalid, device.Create(ctx, so, pin), "make the software token")
}

func ceremonyTokenFault(err error, t *ceremony.Token) error {
	e := &fault.Error{Kind: fault.Unavailable, Msg: fmt.Sprintf("the HSM token %q can't be opened", t.Label), Err: err}
	switch {
	case errors.Is(err, token.ErrPIN):
		return e.WithHint("look up the PIN before trying again: HSMs lock after a few wrong ones")
	case errors.Is(err, token.ErrModule):
		return e.WithHint("module of the document is the absolute path of a PKCS#11 module; claviger token doctor examines it")
	}
	return e
}

// ceremonyPIN takes the PIN from where flags and document say. The caller wipes it.
func (a *app) ceremonyPIN(ctx context.Context, d *ceremony.Document, f *ceremonyFlags) ([]byte, error) {
	var pin []byte
	var err error
	switch {
	case f.pinFD >= 0 && f.pinFile != "":
		return nil, usagef("--pin-fd and --pin-file exclude each other")
	case f.pinFD >= 0:
		in := os.NewFile(uintptr(f.pinFD), "pin")
		pin, err = firstLine(in)
		in.Close()
	case f.pinFile != "" || d.Token.PINFile != "":
		path := f.pinFile
		if path == "" {
			path = d.Path(d.Token.PINFile)
		}
		var all []byte
		if all, err = readFile(path); err == nil {
			pin = bytes.Clone(bytes.TrimRight(all, "\r\n"))
			clear(all)
		}
	default:
		pin, err = a.askCeremonyPIN(ctx, d)
	}
	if err == nil && len(pin) == 0 {
		err = usagef("the PIN is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("read the PIN of the HSM token: %w", err)
	}
	return pin, nil
}

// askCeremonyPIN asks twice for a PIN that is new.
func (a *app) askCeremonyPIN(ctx context.Context, d *ceremony.Document) ([]byte, error) {
	pin, err := a.secret(ctx, fmt.Sprintf("User PIN of the HSM token %q", d.Token.Label))
	if err != nil || !d.Token.Create || !isTerminal(a.in) {
		return pin, err
	}
	again, err := a.secret(ctx, "The same again")
	defer clear(again)
	if err == nil && !bytes.Equal(pin, again) {
		err = usagef("the two PINs differ")
	}
	return pin, err
}
