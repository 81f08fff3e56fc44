package guard

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

// wrapped calls an operation and asks for a wrapped answer.
func (s *server) wrapped(token, path string, verb op.Verb, ttl api.Seconds, fill func(any)) *Answer {
	s.t.Helper()
	a, err := s.wrapping(token, path, verb, ttl, fill)
	if err != nil {
		s.t.Fatalf("%v %s: %v", verb, path, err)
	}
	return a
}

func (s *server) wrapping(token, path string, verb op.Verb, ttl api.Seconds, fill func(any)) (*Answer, error) {
	return s.Handle(s.t.Context(), &Request{Verb: verb, Path: path, Token: token, WrapTTL: ttl,
		Decode: func(req any) ([]string, error) {
			if fill != nil {
				fill(req)
			}
			return nil, nil
		}})
}

func (s *server) unwrap(client, inBody string) (*api.Unwrapped, error) {
	a, err := s.call(client, op.Write, "sys/wrapping/unwrap", fill(func(r *api.WrappingToken) { r.Token = inBody }))
	if err != nil {
		return nil, err
	}
	return a.Data.(*api.Unwrapped), nil
}

const badWrapping = "wrapping token is not valid or does not exist"

func (s *server) opensNothing(token string) {
	s.t.Helper()
	for _, path := range []string{"unwrap", "rewrap", "lookup"} {
		s.refused(fault.Invalid, badWrapping, token, op.Write, "sys/wrapping/"+path, nil)
		s.refused(fault.Invalid, badWrapping, s.root, op.Write, "sys/wrapping/"+path,
			fill(func(r *api.WrappingToken) { r.Token = token }))
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := s.wrapped(s.root, "transit/keys/a<b", op.Read, 60, nil)
	info := a.Data.(*api.WrapInfo)
	if !strings.HasPrefix(info.Token, "s.") || len(info.Token) != 26 || info.Accessor == "" || info.TTL != 60 ||
		!info.CreationTime.Equal(s.time()) || info.CreationPath != "transit/keys/a<b" || info.WrappedAccessor != "" || len(a.Warnings) != 0 {
		t.Errorf("%+v", a)
	}
	records := s.mem.all(tableWraps, tableWrapped, tableTokens, tableAccessors)
	if len(records) < 3 {
		t.Errorf("only %d records were looked at", len(records))
	}
	for _, r := range records {
		if strings.Contains(string(r.Data)+r.Key, info.Token) || strings.Contains(string(r.Data), "a<b") {
			t.Errorf("record %s/%s shows the token or what it opens", r.Table, r.Key)
		}
	}
	l := s.must("", op.Write, "sys/wrapping/lookup", fill(func(r *api.WrappingToken) { r.Token = info.Token })).(*api.WrappingInfo)
	if l.CreationPath != "transit/keys/a<b" || l.CreationTTL != 60 || !l.CreationTime.Equal(s.time()) {
		t.Errorf("%+v", l)
	}
	s.refused(fault.Denied, "", info.Token, op.Read, "transit/keys/a", nil)
	s.refused(fault.Denied, "", info.Token, op.Read, "auth/token/lookup-self", nil)
	s.Reset() // what is wrapped outlives a seal
	u, err := s.unwrap(info.Token, "")
	if err != nil || string(u.Data) != `{}` || u.Auth != nil {
		t.Errorf("%+v, %v", u, err)
	}
	s.opensNothing(info.Token)
	if n := s.mem.count(tableWraps) + s.mem.count(tableWrapped); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

func TestWrapData(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	const data = `{"a":1.50,"b":["<x>",null]}`
	body := fill(func(r *api.WrapData) { r.Data = json.RawMessage(data) })
	s.refused(fault.Invalid, "endpoint requires response wrapping to be used", s.root, op.Write, "sys/wrapping/wrap", body)
	info := s.wrapped(s.root, "sys/wrapping/wrap", op.Write, 5, body).Data.(*api.WrapInfo)
	if info.CreationPath != "sys/wrapping/wrap" {
		t.Errorf("%+v", info)
	}
	u, err := s.unwrap(s.root, info.Token)
	if err != nil || string(u.Data) != data {
		t.Errorf("%+v, %v", u, err)
	}
	empty := s.wrapped(s.root, "sys/wrapping/wrap", op.Write, 5, nil).Data.(*api.WrapInfo)
	if u, err := s.unwrap(empty.Token, ""); err != nil || string(u.Data) != `{}` {
		t.Errorf("%+v, %v", u, err)
	}
}

// A wrapped client token works, and only who opens the answer knows it.
func TestWrapClientToken(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := s.wrapped(s.root, "auth/token/create", op.Write, 60, fill(func(r *api.CreateToken) { r.Policies = []string{"default"} }))
	info := a.Data.(*api.WrapInfo)
	again := s.wrapped(info.Token, "sys/wrapping/unwrap", op.Write, 60, nil).Data.(*api.WrapInfo) // wraps what it opens
	if again.WrappedAccessor == "" || again.WrappedAccessor != info.WrappedAccessor || again.Token == info.Token {
		t.Errorf("%+v, then %+v", info, again)
	}
	s.opensNothing(info.Token)
	u, err := s.unwrap(again.Token, "")
	if err != nil || u.Auth == nil || u.Data != nil || u.Auth.Accessor != info.WrappedAccessor {
		t.Fatalf("%+v, %v", u, err)
	}
	s.must(u.Auth.ClientToken, op.Read, "auth/token/lookup-self", nil)
}

func TestWrapWarnings(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, err := s.Handle(t.Context(), &Request{Verb: op.Read, Path: "transit/keys/a", Token: s.root, WrapTTL: 5,
		Decode: func(any) ([]string, error) { return []string{"x"}, nil }})
	if err != nil || len(a.Warnings) != 0 {
		t.Fatalf("%+v, %v", a, err)
	}
	opened, err := s.call(a.Data.(*api.WrapInfo).Token, op.Write, "sys/wrapping/unwrap", nil)
	if err != nil || len(opened.Warnings) != 1 || !strings.Contains(opened.Warnings[0], "[x]") {
		t.Errorf("%+v, %v", opened, err)
	}
}

func TestRewrap(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	info := s.wrapped(s.root, "transit/keys/a", op.Read, 60, nil).Data.(*api.WrapInfo)
	s.pass(50 * time.Second)
	again := s.must(info.Token, op.Write, "sys/wrapping/rewrap", nil).(*api.WrapInfo)
	if again.Token == info.Token || again.Accessor == info.Accessor || again.TTL != 60 || again.CreationPath != "transit/keys/a" ||
		!again.CreationTime.Equal(s.time()) {
		t.Errorf("%+v", again)
	}
	s.opensNothing(info.Token)
	s.pass(50 * time.Second)
	if u, err := s.unwrap("", again.Token); err == nil {
		t.Errorf("opened from the body by nobody: %+v", u)
	}
	if _, err := s.unwrap(again.Token, again.Token); err != nil {
		t.Error(err)
	}
}

func TestWrapEnds(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	info := s.wrapped(s.root, "transit/keys/a", op.Read, 10, nil).Data.(*api.WrapInfo)
	s.pass(10 * time.Second)
	s.opensNothing(info.Token)
	s.opensNothing("")
	s.opensNothing("s.unknown")
	s.opensNothing(strings.Repeat("x", maxTokenText+1))
	s.wrapped(s.root, "transit/keys/a", op.Read, 10, nil)
	if n := s.mem.count(tableWrapped); n != 1 {
		t.Errorf("%d wrapped answers; the one that is over should be removed", n)
	}
	s.pass(10 * time.Second)
	if _, err := s.Tidy(t.Context()); err != nil || s.mem.count(tableWraps)+s.mem.count(tableWrapped) != 0 {
		t.Errorf("tidy left something: %v", err)
	}
}

// Who is not allowed to unwrap can't do it for another one's token.
func TestUnwrapNeedsPolicy(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	info := s.wrapped(s.root, "transit/keys/a", op.Read, 10, nil).Data.(*api.WrapInfo)
	bare := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.NoDefaultPolicy = []string{"nothing"}, true }).ClientToken
	for _, token := range []string{"", "wrong", bare} {
		for _, path := range []string{"unwrap", "rewrap"} {
			s.refused(fault.Denied, "permission denied", token, op.Write, "sys/wrapping/"+path,
				fill(func(r *api.WrappingToken) { r.Token = info.Token }))
		}
	}
	s.refused(fault.Denied, "", bare, op.Write, "sys/wrapping/wrap", nil)
	usual := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"nothing"} }).ClientToken
	if _, err := s.unwrap(usual, info.Token); err != nil {
		t.Error(err)
	}
}

func TestUnwrapOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for range 10 {
		info := s.wrapped(s.root, "transit/keys/a", op.Read, 10, nil).Data.(*api.WrapInfo)
		var opened atomic.Int32
		var wait sync.WaitGroup
		for i := range 8 {
			wait.Go(func() {
				path := "sys/wrapping/unwrap"
				if i%2 == 1 {
					path = "sys/wrapping/rewrap"
				}
				if _, err := s.call(info.Token, op.Write, path, nil); err == nil {
					opened.Add(1)
				} else if fault.Message(err) != badWrapping {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if n := opened.Load(); n != 1 {
			t.Errorf("opened %d times", n)
		}
	}
}

// Another call opens the answer while this one reads it.
func TestUnwrapRace(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"sys/wrapping/unwrap", "sys/wrapping/rewrap"} {
		s := newServer(t)
		info := s.wrapped(s.root, "transit/keys/a", op.Read, 10, nil).Data.(*api.WrapInfo)
		var first error
		s.mem.setRead(func(table string) {
			if table == tableWrapped {
				s.mem.setRead(nil)
				_, first = s.unwrap(info.Token, "")
			}
		})
		s.refused(fault.Invalid, badWrapping, info.Token, op.Write, path, nil)
		if first != nil {
			t.Error(first)
		}
	}
}

func TestWhatIsNotWrapped(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	shares := op.Meta{Name: "sys.shares", Mount: kindSys, Path: "shares", Verb: op.Write, Public: true, Audit: op.AuditNone, Bare: true}
	if err := s.Register(op.Define(shares, func(context.Context, *op.Call, *thing) (*thing, error) {
		t.Error("an answer was made that would not have been wrapped")
		return nil, nil
	})); err != nil {
		t.Fatal(err)
	}
	if _, err := s.wrapping("", "sys/shares", op.Write, 60, nil); fault.KindOf(err) != fault.Invalid {
		t.Errorf("%v", err)
	}
	for _, c := range []struct {
		verb op.Verb
		path string
	}{
		{op.Delete, "sys/policies/acl/none"}, {op.Read, "sys/health"},
	} {
		if a := s.wrapped(s.root, c.path, c.verb, 60, nil); a.Data != nil {
			if info, ok := a.Data.(*api.WrapInfo); ok {
				t.Errorf("%s: %+v", c.path, info)
			}
		}
	}
	for _, ttl := range []api.Seconds{-1, maxWrapTTL + 1} {
		if _, err := s.wrapping(s.root, "transit/keys/a", op.Write, ttl, nil); fault.KindOf(err) != fault.Invalid {
			t.Errorf("ttl %d: %v", ttl, err)
		}
		if _, err := s.wrapping("s.x", "sys/wrapping/unwrap", op.Write, ttl, nil); !strings.Contains(fault.Message(err), "1 to 2764800 seconds") {
			t.Errorf("ttl %d of what is unwrapped: %v", ttl, err)
		}
	}
	if did := s.done(); len(did) > 1 {
		t.Errorf("performed %q", did)
	}
	if n := s.mem.count(tableWraps); n != 0 {
		t.Errorf("%d wrapped", n)
	}
}

// The audit log shows neither the wrapping token nor what it opens, and names
// who opens it; no answer is given that it does not know of.
func TestWrapAudit(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.rec.take()
	info := s.wrapped(s.root, "transit/keys/secret-name", op.Read, 60, nil).Data.(*api.WrapInfo)
	events := s.rec.take()
	if len(events) != 2 || events[1].Type != EventResponse || events[1].Data != any(info) {
		t.Fatalf("%+v", events)
	}
	s.rec.setFail(EventRequest)
	for _, path := range []string{"unwrap", "rewrap", "lookup"} {
		s.refused(fault.Unavailable, "was not performed", info.Token, op.Write, "sys/wrapping/"+path, nil)
	}
	if _, err := s.wrapping(s.root, "sys/wrapping/wrap", op.Write, 5, nil); fault.KindOf(err) != fault.Unavailable || s.mem.count(tableWraps) != 1 {
		t.Errorf("wrapped unrecorded: %v", err)
	}
	s.rec.setFail("")
	if _, err := s.unwrap(s.root, info.Token); err != nil {
		t.Fatal(err)
	}
	events = s.rec.take()
	if len(events) != 2 || events[0].DisplayName != "root" || events[0].Operation != "sys.wrapping.unwrap" {
		t.Errorf("%+v", events)
	}
	s.mem.setFail(errors.New("disk full"))
	if _, err := s.wrapping(s.root, "transit/keys/a", op.Read, 60, nil); fault.KindOf(err) != fault.Unavailable ||
		!strings.Contains(fault.Message(err), "withheld") {
		t.Errorf("an answer that can't be kept: %v", err)
	}
	s.mem.setFail(nil)
	s.rec.setFail(EventResponse)
	if _, err := s.wrapping(s.root, "transit/keys/a", op.Read, 60, nil); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("an outcome that can't be recorded: %v", err)
	}
}
