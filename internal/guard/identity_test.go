package guard

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

// as calls as an identity.
func (s *server) as(id *Identity, verb op.Verb, path string) error {
	_, err := s.Handle(context.Background(), &Request{Verb: verb, Path: path, As: id, Remote: "127.0.0.1:1"})
	return err
}

func newIdentity(t *testing.T, policies []string, own string) *Identity {
	t.Helper()
	id, err := NewIdentity("front/test", policies, own)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := newIdentity(t, nil, `path "transit/encrypt/*" { capabilities = ["update"] }`)
	got, err := Call[thing](t.Context(), s, id, op.Write, "transit/encrypt/a", "192.0.2.1:5", &thing{N: 7})
	if err != nil || got.Name != "a" || got.N != 7 {
		t.Fatalf("%+v, %v", got, err)
	}
	events := s.rec.take()
	if len(events) != 2 {
		t.Fatalf("%d events", len(events))
	}
	for _, e := range events {
		if e.DisplayName != "front/test" || e.Accessor != "" || e.Remote != "192.0.2.1:5" || e.Operation != "transit.encrypt" {
			t.Errorf("recorded %+v", e)
		}
	}
	if err := s.as(id, op.Write, "transit/wipe/a"); fault.KindOf(err) != fault.Denied {
		t.Errorf("what the policy does not allow: %v", err)
	}
	events = s.rec.take()
	if len(events) != 1 || events[0].DisplayName != "front/test" || events[0].Kind != fault.Denied {
		t.Errorf("a refusal was recorded as %+v", events)
	}
	if done := s.done(); !slices.Equal(done, []string{"transit/a"}) {
		t.Errorf("did %q", done)
	}
}

// TestIdentityBounds: whatever its policy says, an identity stays with the engines.
func TestIdentityBounds(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := newIdentity(t, nil, `path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }`)
	for _, o := range s.Table() {
		if o.Mount != kindSys && o.Mount != kindToken || o.Public {
			continue
		}
		path := o.Mount + "/" + strings.NewReplacer("{", "", "}", "", "...", "").Replace(o.Path)
		if err := s.as(id, o.Verb, path); err == nil || fault.KindOf(err) == fault.Internal {
			t.Errorf("%s: %v", o.Name, err)
		}
	}
	if err := s.as(id, op.Write, "transit/wipe/a"); err != nil {
		t.Errorf("an engine's operation: %v", err)
	}
	for what, req := range map[string]*Request{
		"with a client token": {Verb: op.Write, Path: "transit/wipe/a", As: id, Token: s.root},
		"wrapped":             {Verb: op.Write, Path: "transit/wipe/a", As: id, WrapTTL: 60},
	} {
		if _, err := s.Handle(t.Context(), req); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	s.setSealed(true)
	if err := s.as(id, op.Write, "transit/wipe/a"); fault.KindOf(err) != fault.Sealed {
		t.Errorf("sealed: %v", err)
	}
}

// TestIdentityPolicies: named policies are asked as they are at each call.
func TestIdentityPolicies(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := newIdentity(t, []string{"Daemon"}, `path "*" { capabilities = ["update"] }`)
	denied := func(what string) {
		t.Helper()
		if err := s.as(id, op.Write, "transit/encrypt/a"); fault.KindOf(err) != fault.Denied {
			t.Errorf("%s: %v", what, err)
		}
	}
	denied("without the policy")
	s.policy("daemon", `path "transit/encrypt/a" { capabilities = ["update"] }`)
	if err := s.as(id, op.Write, "transit/encrypt/a"); err != nil {
		t.Errorf("with the policy: %v", err)
	}
	s.policy("daemon", `path "transit/encrypt/a" { capabilities = ["deny"] }`)
	denied("after the policy was changed")
}

func TestNewIdentityRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		policies []string
		own      string
	}{
		{"", nil, ""}, {"Front", nil, ""}, {strings.Repeat("a", 129), nil, ""},
		{"front/x", []string{"root"}, ""}, {"front/x", []string{" ROOT "}, ""}, {"front/x", []string{"a b"}, ""},
		{"front/x", nil, `path "x" { capabilities = ["fly"] }`},
	} {
		if _, err := NewIdentity(c.name, c.policies, c.own); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestCallTypes(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := newIdentity(t, nil, `path "*" { capabilities = ["update"] }`)
	if _, err := Call[thing](t.Context(), s, id, op.Write, "transit/encrypt/a", "", &api.Empty{}); fault.KindOf(err) != fault.Internal {
		t.Errorf("wrong request type: %v", err)
	}
	if _, err := Call[api.Keys](t.Context(), s, id, op.Write, "transit/encrypt/a", "", &thing{}); err == nil {
		t.Error("wrong response type was taken")
	}
}
