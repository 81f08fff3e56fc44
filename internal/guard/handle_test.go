package guard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func TestAnswer(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, err := s.Handle(t.Context(), &Request{Verb: op.Write, Path: "transit/encrypt/k", Token: s.root, Remote: "r",
		Decode: func(req any) ([]string, error) {
			req.(*thing).N, req.(*thing).Name = 5, "from the body"
			return []string{"zeta", "alpha"}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	if id, err := uuid.Parse(a.RequestID); err != nil || id.Version() != 4 {
		t.Errorf("request ID %q", a.RequestID)
	}
	if got := a.Data.(*thing); *got != (thing{Name: "k", N: 5}) {
		t.Errorf("got %+v", got)
	}
	if want := []string{"Endpoint ignored these unrecognized parameters: [alpha zeta]"}; !slices.Equal(a.Warnings, want) {
		t.Errorf("warnings %q", a.Warnings)
	}
	if a.Op.Name != "transit.encrypt" {
		t.Errorf("operation %q", a.Op.Name)
	}
	events := s.rec.take()
	if len(events) != 2 {
		t.Fatalf("events %+v", events)
	}
	for i, typ := range []string{EventRequest, EventResponse} {
		e := events[i]
		if e.Type != typ || e.RequestID != a.RequestID || e.Operation != "transit.encrypt" || e.Verb != "write" ||
			e.Path != "transit/encrypt/k" || e.Remote != "r" || e.DisplayName != "root" || e.Accessor == "" ||
			!slices.Equal(e.Policies, []string{"root"}) || e.Data == nil || e.Error != "" {
			t.Errorf("event %d: %+v", i, e)
		}
	}
}

func TestTokensAreRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, token := range []string{"", "x", "s.", s.root + "x", s.root[:len(s.root)-1], strings.Repeat("x", maxTokenText+1),
		strings.ToUpper(s.root)} {
		for _, path := range []string{"transit/keys/a", "sys/mounts", "nowhere/x", "transit/no-such-path", "auth/token/lookup-self"} {
			s.refused(fault.Denied, "permission denied", token, op.Read, path, nil)
		}
	}
	if did := s.done(); len(did) != 0 {
		t.Errorf("done %q", did)
	}
	for _, e := range s.rec.take() {
		if e.Type != EventRequest || e.Kind != fault.Denied || e.Error != "permission denied" || e.Remote == "" {
			t.Errorf("event %+v", e)
		}
	}
}

func TestUnknownPaths(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.refused(fault.NotFound, `no handler for route "x/y". route entry not found.`, s.root, op.Read, "x/y", nil)
	s.refused(fault.NotFound, `no handler for route`, s.root, op.Read, "", nil)
	s.refused(fault.NotFound, "unsupported path", s.root, op.Read, "transit/nothing", nil)
	s.refused(fault.NotFound, "unsupported path", s.root, op.Read, "transit//keys/a", nil)
	s.refused(fault.NotFound, "unsupported path", s.root, op.Read, "transit/keys//a", nil)
	s.refused(fault.Unsupported, "unsupported operation", s.root, op.Read, "transit/keys", nil)
	s.refused(fault.Unsupported, "unsupported operation", s.root, op.Delete, "sys/mounts", nil)
	s.refused(fault.Invalid, "longer than", s.root, op.Read, strings.Repeat("a/", maxPath), nil)
	for _, path := range []string{"transit/keys", "transit/keys/"} {
		s.must(s.root, op.List, path, nil)
	}
	s.must(s.root, op.Read, "transit/keys/a/", nil)
}

// A slash at the end must not lead around a rule.
func TestSlashDoesNotEvadeDeny(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	token := s.limited(`path "transit/*" { capabilities = ["read", "list"] } path "transit/keys/a" { capabilities = ["deny"] }`)
	s.must(token, op.Read, "transit/keys/b", nil)
	s.refused(fault.Denied, "permission denied", token, op.Read, "transit/keys/a", nil)
	s.refused(fault.Denied, "permission denied", token, op.Read, "transit/keys/a/", nil)
}

func TestCapabilitiesAreChecked(t *testing.T) {
	t.Parallel()
	verbs := map[string]func(s *server, token string) error{
		"read": func(s *server, token string) error {
			_, err := s.call(token, op.Read, "transit/keys/a", nil)
			return err
		},
		"list": func(s *server, token string) error { _, err := s.call(token, op.List, "transit/keys", nil); return err },
		"delete": func(s *server, token string) error {
			_, err := s.call(token, op.Delete, "transit/keys/a", nil)
			return err
		},
		"update": func(s *server, token string) error {
			_, err := s.call(token, op.Write, "transit/keys/there", nil)
			return err
		},
		"create": func(s *server, token string) error {
			_, err := s.call(token, op.Write, "transit/keys/new", nil)
			return err
		},
	}
	for allowed := range verbs {
		t.Run(allowed, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.exists["there"] = true
			token := s.limited(fmt.Sprintf(`path "transit/keys*" { capabilities = [%q] }`, allowed))
			for verb, call := range verbs {
				err := call(s, token)
				if verb == allowed && err != nil || verb != allowed && fault.KindOf(err) != fault.Denied {
					t.Errorf("with %s, %s: %v", allowed, verb, err)
				}
			}
			// without an existence check a write needs update
			_, err := s.call(token, op.Write, "transit/keys/a/rotate", nil)
			if (err == nil) != (allowed == "update") {
				t.Errorf("with %s, rotate: %v", allowed, err)
			}
		})
	}
}

func TestSudo(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for caps, want := range map[string]bool{`"update"`: false, `"sudo"`: false, `"update", "sudo"`: true, `"update", "sudo", "deny"`: false} {
		token := s.limited(fmt.Sprintf(`path "transit/wipe/+" { capabilities = [%s] }`, caps))
		if _, err := s.call(token, op.Write, "transit/wipe/a", nil); (err == nil) != want {
			t.Errorf("with %s: %v", caps, err)
		}
	}
	s.must(s.root, op.Write, "transit/wipe/a", nil)
}

// Whoever may not use a path does not make the server read a body.
func TestBodyIsReadOnlyIfAllowed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	token := s.limited(`path "transit/keys/a" { capabilities = ["read"] }`)
	for _, tok := range []string{"", token} {
		s.refused(fault.Denied, "", tok, op.Write, "transit/encrypt/a", func(any) { t.Error("the body was read") })
	}
}

func TestSealed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.must(s.root, op.Read, "transit/keys/a", nil)
	for _, state := range []struct{ initialized, sealed bool }{{true, true}, {false, true}, {false, false}} {
		s.mu.Lock()
		s.initialized, s.isSealed = state.initialized, state.sealed
		s.mu.Unlock()
		s.refused(fault.Sealed, "Vault is sealed", s.root, op.Read, "transit/keys/a", nil)
		s.refused(fault.Sealed, "Vault is sealed", s.root, op.Read, "sys/mounts", nil)
		s.refused(fault.Sealed, "Vault is sealed", "", op.Read, "nowhere/x", nil)
		s.refused(fault.Sealed, "Vault is sealed", "", op.Read, "sys/open", nil)
		s.must("", op.Read, "sys/health", nil)
	}
	s.Reset()
	s.mu.Lock()
	s.initialized, s.isSealed = true, false
	s.mu.Unlock()
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.must(s.root, op.Read, "transit/keys/a", nil)
}

func TestBeforeGenesis(t *testing.T) {
	t.Parallel()
	s := blankServer(t)
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.refused(fault.Sealed, "Vault is sealed", "x", op.Read, "transit/keys/a", nil)
	s.must("", op.Read, "sys/health", nil)
	if err := s.CreateRootToken(t.Context(), "chosen"); fault.KindOf(err) != fault.Sealed {
		t.Errorf("root token before genesis: %v", err)
	}
	root, changes, err := s.Genesis(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.mem.applied != 0 {
		t.Error("genesis wrote by itself")
	}
	s.refused(fault.Sealed, "Vault is sealed", root, op.Read, "transit/keys/a", nil)
	if err := s.sealed.Apply(t.Context(), changes...); err != nil {
		t.Fatal(err)
	}
	s.must(root, op.Read, "transit/keys/a", nil)
	for _, c := range changes {
		if strings.Contains(c.Key+string(c.Data), root) {
			t.Errorf("%s/%s shows the root token", c.Table, c.Key)
		}
	}
}

func TestChosenRootToken(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if err := s.CreateRootToken(t.Context(), "dev-only"); err != nil {
		t.Fatal(err)
	}
	s.must("dev-only", op.Read, "sys/mounts", nil)
	if err := s.CreateRootToken(t.Context(), "dev-only"); fault.KindOf(err) != fault.Conflict {
		t.Errorf("twice: %v", err)
	}
	for _, bad := range []string{"", "abc", "s.abcdef", "a b c d", "tökens", strings.Repeat("x", maxTokenText+1)} {
		if err := s.CreateRootToken(t.Context(), bad); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

// P3: no operation without a record.
func TestNothingIsDoneUnrecorded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.must(s.root, op.Read, "transit/keys/a", nil)
	s.done()
	s.rec.take()

	s.rec.setFail(EventRequest)
	mounted, policies, tokens := s.mem.count(tableMounts), s.mem.count(tablePolicies), s.mem.count(tableTokens)
	for _, o := range s.Table() {
		if o.Audit == op.AuditNone || opensWrapped(o) || o.Name == nameWrap { // of wrapping: TestWrapAudit
			continue
		}
		path := strings.NewReplacer("{name}", "n", "{path...}", "p/q").Replace(o.Path)
		s.refused(fault.Unavailable, "was not performed", s.root, o.Verb, o.Mount+"/"+path, nil)
	}
	if did := s.done(); len(did) != 0 {
		t.Errorf("done unrecorded: %q", did)
	}
	if s.mem.count(tableMounts) != mounted || s.mem.count(tablePolicies) != policies || s.mem.count(tableTokens) != tokens {
		t.Error("records changed")
	}
	s.refused(fault.Denied, "permission denied", "bad", op.Read, "transit/keys/a", nil)
	s.must("", op.Read, "sys/health", nil)

	s.mu.Lock()
	s.noRecorder = true
	s.mu.Unlock()
	s.refused(fault.Unavailable, "was not performed", s.root, op.Read, "transit/keys/a", nil)
	s.refused(fault.Unavailable, "was not performed", "", op.Read, "sys/open", nil)
	s.must("", op.Read, "sys/health", nil)
}

func TestAnswerIsWithheldIfUnrecorded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.must(s.root, op.Read, "transit/keys/a", nil)
	s.done()
	s.rec.take()
	s.rec.setFail(EventResponse)
	a, err := s.call(s.root, op.Read, "transit/keys/a", nil)
	if a != nil || fault.KindOf(err) != fault.Unavailable || !strings.Contains(fault.Message(err), "withheld") {
		t.Errorf("%+v, %v", a, err)
	}
	if did := s.done(); !slices.Equal(did, []string{"transit/a"}) {
		t.Errorf("done %q", did)
	}
	if !strings.Contains(s.logs.String(), "its outcome could not be recorded") {
		t.Error("the log does not say so")
	}
}

// sys/seal closes the audit log by itself: its intent is its record.
func TestSealAnswersWithoutOutcome(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if _, err := s.call(s.root, op.Write, "sys/seal", nil); err != nil {
		t.Fatal(err)
	}
	events := s.rec.take()
	if len(events) != 1 || events[0].Type != EventRequest || events[0].Operation != "sys.seal" {
		t.Errorf("events %+v", events)
	}
	s.refused(fault.Sealed, "Vault is sealed", s.root, op.Read, "transit/keys/a", nil)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.refused(fault.Invalid, "no good", s.root, op.Write, "transit/invalid", nil)
	s.refused(fault.Internal, "internal error", s.root, op.Write, "transit/broken", nil)
	s.refused(fault.Sealed, "Vault is sealed", s.root, op.Write, "transit/busy", nil)
	if !strings.Contains(s.logs.String(), "inner detail") {
		t.Error("the cause is not logged")
	}
	var outcomes []string
	for _, e := range s.rec.take() {
		if e.Type == EventResponse {
			outcomes = append(outcomes, e.Kind.String()+": "+e.Error)
		}
	}
	if want := []string{"invalid: no good", "internal: internal error", "sealed: Vault is sealed"}; !slices.Equal(outcomes, want) {
		t.Errorf("recorded %q", outcomes)
	}
}

// P4: a panic costs only its call.
func TestPanics(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.refused(fault.Internal, "internal error", s.root, op.Write, "transit/panic", nil)
	s.refused(fault.Internal, "internal error", s.root, op.Write, "transit/encrypt/a", func(any) { panic("in the front") })
	events := s.rec.take()
	if len(events) < 2 || events[1].Type != EventResponse || events[1].Error != "internal error" {
		t.Errorf("events %+v", events)
	}
	if log := s.logs.String(); !strings.Contains(log, "boom") || !strings.Contains(log, "handle.go") {
		t.Errorf("log %s", log)
	}
	s.must(s.root, op.Read, "transit/keys/a", nil)
}

func TestDecodeErrorChangesNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	_, err := s.Handle(t.Context(), &Request{Verb: op.Write, Path: "transit/encrypt/a", Token: s.root,
		Decode: func(any) ([]string, error) { return nil, fault.New(fault.TooLarge, "too large") }})
	if fault.KindOf(err) != fault.TooLarge || len(s.done()) != 0 {
		t.Errorf("%v", err)
	}
	events := s.rec.take()
	if len(events) != 1 || events[0].Kind != fault.TooLarge || events[0].Type != EventRequest {
		t.Errorf("events %+v", events)
	}
}

func TestObserve(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var seen []string
	s.observe = func(name string, kind fault.Kind, ok bool, _ time.Duration) {
		seen = append(seen, fmt.Sprint(name, " ", kind, " ", ok))
	}
	s.must(s.root, op.Read, "transit/keys/a", nil)
	s.refused(fault.Denied, "", "", op.Read, "transit/keys/a", nil)
	s.refused(fault.NotFound, "", s.root, op.Read, "x/y", nil)
	if want := []string{"transit.read internal true", "transit.read denied false", " not found false"}; !slices.Equal(seen, want) {
		t.Errorf("seen %q", seen)
	}
}

func TestStoreFailures(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	once := s.token(s.root, func(r *api.CreateToken) { r.Policies, r.NumUses = []string{"limited"}, 5 }).ClientToken
	s.mem.setFail(errors.New("disk full: /var/lib"))
	for path, f := range map[string]func(any){
		"auth/token/create":       nil,
		"sys/policies/acl/x":      fill(func(r *api.WritePolicy) { r.Policy = `path "a" { capabilities = [] }` }),
		"sys/mounts/other":        fill(func(r *api.CreateMount) { r.Type = kindTransit }),
		"auth/token/revoke-self":  nil,
		"auth/token/revoke":       fill(func(r *api.TokenID) { r.Token = once }),
		"sys/policies/acl/rewrit": fill(func(r *api.WritePolicy) { r.Policy = `# nothing` }),
	} {
		s.refused(fault.Unavailable, "the store does not answer", s.root, op.Write, path, f)
	}
	s.refused(fault.Unavailable, "the store does not answer", once, op.Read, "auth/token/lookup-self", nil)
	s.mem.setFail(nil)
	s.must(s.root, op.Read, "sys/mounts", nil)
	if info := s.must(once, op.Read, "auth/token/lookup-self", nil).(*api.TokenInfo); info.NumUses != 4 {
		t.Errorf("%d uses left", info.NumUses)
	}
}

func TestConcurrentCalls(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	token := s.limited(`path "transit/*" { capabilities = ["read", "update", "create"] }`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if _, err := s.call(token, op.Read, "transit/keys/a", nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 20 {
			s.policy(fmt.Sprint("p", i%3), `path "x" { capabilities = ["read"] }`)
			child := s.token(s.root, func(r *api.CreateToken) { r.Policies = []string{"p1"} }).ClientToken
			s.must(child, op.Write, "auth/token/renew-self", nil)
			s.must(s.root, op.Write, "auth/token/revoke", fill(func(r *api.TokenID) { r.Token = child }))
			s.refused(fault.Denied, "", child, op.Read, "auth/token/lookup-self", nil)
			s.must(s.root, op.Write, fmt.Sprintf("sys/mounts/m%d", i), fill(func(r *api.CreateMount) { r.Type = kindTransit }))
		}
	})
	wg.Go(func() {
		for range 10 {
			if err := s.Load(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
}

func BenchmarkHandle(b *testing.B) {
	s := newServer(b)
	s.Guard.now = time.Now
	token := s.limited(`path "transit/encrypt/*" { capabilities = ["update"] } path "sys/+/x" { capabilities = ["read"] }`)
	o := op.Define(op.Meta{Name: "transit.trivial", Mount: kindTransit, Path: "trivial/{name}", Verb: op.Write},
		func(context.Context, *op.Call, *thing) (*thing, error) { return nil, nil })
	if err := s.Register(o); err != nil {
		b.Fatal(err)
	}
	s.policy("limited", `path "transit/trivial/*" { capabilities = ["update"] } path "sys/+/x" { capabilities = ["read"] }`)
	s.Guard.recorder = func() Recorder { return nothing{} }
	req := &Request{Verb: op.Write, Path: "transit/trivial/app", Token: token, Remote: "127.0.0.1:1",
		Decode: func(any) ([]string, error) { return nil, nil }}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Handle(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}

type nothing struct{}

func (nothing) Record(*Event) error { return nil }
