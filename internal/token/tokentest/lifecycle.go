package tokentest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/claviger/claviger/internal/token"
)

// testDevice checks a token's way from nothing to provisioned.
func (s *suite) testDevice(t *testing.T) {
	d := s.newDevice(t)
	st := s.state(t, d, true, false)
	_, err := d.Open(s.context(t), s.pin)
	wantErr(t, "Open before Create", err, token.ErrAbsent)
	s.refusedCreate(t, d, st)

	must(t, d.Create(s.context(t), s.soPIN, s.pin))
	s.state(t, d, true, true)
	wantErr(t, "Create again", d.Create(s.context(t), s.soPIN, []byte("other-pin-99")), token.ErrExists)

	for _, wrong := range []string{"user-pin-1235", "user-pin-123", "user-pin-12345"} {
		_, err = d.Open(s.context(t), []byte(wrong))
		wantErr(t, "Open with a wrong PIN", err, token.ErrPIN)
	}
	s.testProvision(t, d)
}

func (s *suite) state(t *testing.T, d token.Device, present, initialized bool) token.State {
	t.Helper()
	st, err := d.State(s.context(t))
	must(t, err)
	if st.Present != present || st.Initialized != initialized || st.PINLocked {
		t.Fatalf("State = %+v, want present %v, initialized %v, not locked", st, present, initialized)
	}
	if initialized && st.Label == "" {
		t.Error("State: no label")
	}
	return st
}

// refusedCreate: what is refused leaves nothing behind.
func (s *suite) refusedCreate(t *testing.T, d token.Device, st token.State) {
	if st.MinPIN > 1 {
		short := bytes.Repeat([]byte("1"), st.MinPIN-1)
		if d.Create(s.context(t), s.soPIN, short) == nil || d.Create(s.context(t), short, s.pin) == nil {
			t.Error("Create took a PIN that is too short")
		}
	}
	if st.MaxPIN > 0 {
		long := bytes.Repeat([]byte("1"), st.MaxPIN+1)
		if d.Create(s.context(t), s.soPIN, long) == nil || d.Create(s.context(t), long, s.pin) == nil {
			t.Error("Create took a PIN that is too long")
		}
	}
	if d.Create(cancelled(), s.soPIN, s.pin) == nil {
		t.Error("Create went on though its context was cancelled")
	}
	s.state(t, d, true, false)
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// testProvision: the system keys are made by Provision only, once, and for ever.
func (s *suite) testProvision(t *testing.T, d token.Device) {
	ctx := s.context(t)
	tok := s.open(t, d)
	_, err := tok.SealSecret(ctx, []byte("secret"), nil)
	wantErr(t, "SealSecret without Provision", err, token.ErrNotFound)
	_, err = tok.OpenSecret(ctx, make([]byte, 64), nil)
	wantErr(t, "OpenSecret without Provision", err, token.ErrNotFound)
	_, err = tok.AuditKey(ctx)
	wantErr(t, "AuditKey without Provision", err, token.ErrNotFound)
	if _, err := tok.Generate(ctx, token.Spec{Type: token.AES256, Place: token.PlaceWrapped, ID: newID()}); err == nil {
		t.Error("Generate wrapped a key without a KEK")
	}

	must(t, tok.Provision(ctx, true))
	if !tok.Info().Transferable {
		t.Error("the KEK was asked to be transferable and is not")
	}
	sealed, err := tok.SealSecret(ctx, []byte("secret"), []byte("aad"))
	must(t, err)
	audit, err := tok.AuditKey(ctx)
	must(t, err)
	for _, transferable := range []bool{true, false} {
		must(t, tok.Provision(ctx, transferable))
		s.sameSystemKeys(t, tok, sealed, audit)
	}
	must(t, tok.Close())
	tok = s.open(t, d)
	s.sameSystemKeys(t, tok, sealed, audit)
	must(t, tok.Close())
}

func (s *suite) sameSystemKeys(t *testing.T, tok token.Token, sealed []byte, audit token.Stored) {
	t.Helper()
	if !tok.Info().Transferable {
		t.Error("the KEK is not transferable any more")
	}
	secret, err := tok.OpenSecret(s.context(t), sealed, []byte("aad"))
	must(t, err)
	wantEqual(t, "secret", secret, []byte("secret"))
	now, err := tok.AuditKey(s.context(t))
	must(t, err)
	wantEqual(t, "public audit key", now.Public, audit.Public)
}

// testReopen closes the token, checks that it is of no use any more, and uses
// every key again after a new login.
func (s *suite) testReopen(t *testing.T, d token.Device, tok token.Token) {
	stored := s.kept
	if len(stored) == 0 {
		t.Fatal("there are no keys to use again")
	}
	handle, err := tok.Key(stored[0].Stored)
	must(t, err)
	s.closeUnderLoad(t, tok, s.subject(t, tok, stored[0].Stored))
	must(t, tok.Close())
	s.testClosed(t, tok, handle, stored[0].Stored)

	tok = s.open(t, d)
	t.Run("Keys", func(t *testing.T) {
		for _, k := range stored {
			s.run(t, k.Type.String()+"/"+placeName(k.Place), func(t *testing.T) { k.again(t, s.subject(t, tok, k.Stored)) })
		}
	})
	if !t.Failed() {
		for _, k := range stored {
			must(t, tok.Destroy(s.context(t), k.Stored))
		}
	}
}

func (s *suite) testClosed(t *testing.T, tok token.Token, used token.Key, stored token.Stored) {
	ctx := s.context(t)
	check := func(what string, err error) { t.Helper(); wantErr(t, what+" after Close", err, token.ErrClosed) }
	check("Provision", tok.Provision(ctx, false))
	_, err := tok.SealSecret(ctx, []byte("x"), nil)
	check("SealSecret", err)
	_, err = tok.OpenSecret(ctx, make([]byte, 64), nil)
	check("OpenSecret", err)
	_, err = tok.AuditKey(ctx)
	check("AuditKey", err)
	_, err = tok.Generate(ctx, token.Spec{Type: stored.Type, Size: stored.Size, ID: newID()})
	check("Generate", err)
	check("Random", tok.Random(ctx, make([]byte, 8)))
	check("Destroy", tok.Destroy(ctx, token.Stored{Type: token.AES256, Place: token.PlaceObject, ID: newID()}))
	k := subject{Key: used, typ: stored.Type, s: s}
	_, err = k.attempt(t)
	check("Do", err)
	if fresh, err := tok.Key(stored); err == nil {
		k.Key = fresh
		_, err = k.attempt(t)
		check("Do with a new handle", err)
	} else {
		check("Key", err)
	}
	tok.Info() // must not panic
}

// closeUnderLoad closes the token while a key is used: calls end well or say so.
func (s *suite) closeUnderLoad(t *testing.T, tok token.Token, k subject) {
	const callers = 4
	done := make(chan error, callers)
	started := make(chan struct{}, callers)
	for range callers {
		go func() {
			op, it := simplest(k.typ)
			for first := true; ; first = false {
				items := []token.Item{it}
				if err := k.Do(context.Background(), op, items); err != nil {
					done <- err
					return
				}
				if first {
					started <- struct{}{}
				}
			}
		}()
	}
	for range callers {
		<-started
	}
	must(t, tok.Close())
	for range callers {
		if err := <-done; !errors.Is(err, token.ErrClosed) {
			t.Errorf("a call under way when the token was closed: %v", err)
		}
	}
}
