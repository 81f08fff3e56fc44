package custody

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func (b *bed) invoke(name string, req any) (any, error) {
	b.t.Helper()
	for _, o := range b.c.Operations() {
		if o.Name == name {
			if req == nil {
				req = o.NewRequest()
			}
			return o.Invoke(b.t.Context(), &op.Call{}, req)
		}
	}
	b.t.Fatalf("no operation %s", name)
	return nil, nil
}

func mustInvoke[T any](b *bed, name string, req any) *T {
	b.t.Helper()
	v, err := b.invoke(name, req)
	if err != nil {
		b.t.Fatal(name, err)
	}
	return v.(*T)
}

func TestOperationTable(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	guarded := map[string]bool{"sys.seal": true, "sys.hsm": true, "sys.key-status": true, "sys.ha-status": true, "sys.ceremony": true,
		"sys.rotate.config.read": true, "sys.rotate.keyring.config.read": true}
	sudo := map[string]bool{"sys.seal": true, "sys.rotate": true, "sys.rotate.keyring": true, "sys.rotate.config": true, "sys.rotate.keyring.config": true}
	for _, name := range []string{"status", "start", "cancel", "update"} {
		sudo["sys.generate-root-token."+name] = true
	}
	for _, name := range []string{"status", "start", "cancel", "update", "verify.status", "verify", "verify.restart", "backup", "backup.delete"} {
		for _, at := range []string{"rekey", "rotate-root", "rekey-recovery", "rotate-recovery"} {
			sudo["sys."+at+"."+name] = true
		}
	}
	for name := range sudo {
		guarded[name] = true
	}
	seen := map[string]bool{}
	for _, o := range b.c.Operations() {
		where := o.Verb.String() + " " + o.Path
		if seen[where] || seen[o.Name] || o.Mount != "sys" || o.Help == "" {
			t.Errorf("operation %+v", o.Meta)
		}
		seen[where], seen[o.Name] = true, true
		if strings.HasPrefix(o.Name, "sys.generate-root.") { // for everybody, but recorded
			if !o.Public || o.Sealed || o.Audit != op.AuditFull || o.Sudo || !o.Bare {
				t.Errorf("%+v", o.Meta)
			}
			continue
		}
		if guarded[o.Name] == o.Public || o.Sealed != o.Public || (o.Audit == op.AuditNone) != o.Public {
			t.Errorf("%s: public %v, sealed %v, audit %v", o.Name, o.Public, o.Sealed, o.Audit)
		}
		if o.Sudo != sudo[o.Name] || o.Bare != o.Public {
			t.Errorf("%s: sudo %v, bare %v", o.Name, o.Sudo, o.Bare)
		}
	}
	if len(b.c.Operations()) != 62 {
		t.Errorf("%d operations", len(b.c.Operations()))
	}
}

func TestOperationsThroughLife(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	check := func(initialized, sealed bool, health int) {
		t.Helper()
		if s := mustInvoke[api.InitStatus](b, "sys.init-status", nil); s.Initialized != initialized {
			t.Errorf("init status %+v", s)
		}
		s := mustInvoke[api.SealStatus](b, "sys.seal-status", nil)
		if s.Type != "shamir" || s.Initialized != initialized || s.Sealed != sealed || s.Version != "1.2.3" || s.StorageType != "memory" {
			t.Errorf("seal status %+v", s)
		}
		if (s.ClusterID != "") == sealed || (s.ClusterName != "") == sealed {
			t.Errorf("seal status %+v", s)
		}
		h := mustInvoke[api.Health](b, "sys.health", nil)
		if h.HTTPStatus() != health || h.Initialized != initialized || h.Sealed != sealed || h.ReplicationDRMode != "disabled" {
			t.Errorf("health %+v", h)
		}
		if d := time.Now().Unix() - h.ServerTimeUTC; d < 0 || d > 60 {
			t.Errorf("server time %d", h.ServerTimeUTC)
		}
		codes := &api.HealthQuery{ActiveCode: 210, SealedCode: 599, UninitCode: 404, StandbyCode: 429, StandbyOK: true}
		want := map[int]int{200: 210, 503: 599, 501: 404}[health]
		if h := mustInvoke[api.Health](b, "sys.health", codes); h.HTTPStatus() != want {
			t.Errorf("health with codes: %d", h.HTTPStatus())
		}
		if l := mustInvoke[api.Leader](b, "sys.leader", nil); *l != (api.Leader{}) {
			t.Errorf("leader %+v", l)
		}
	}
	check(false, true, 501)
	r := mustInvoke[api.InitResult](b, "sys.init", &api.Init{SecretShares: 3, SecretThreshold: 2})
	check(true, true, 503)
	if s := mustInvoke[api.SealStatus](b, "sys.unseal", &api.Unseal{Key: r.Keys[0]}); s.Progress != 1 {
		t.Errorf("%+v", s)
	}
	if s := mustInvoke[api.SealStatus](b, "sys.unseal", &api.Unseal{Reset: true}); s.Progress != 0 {
		t.Errorf("%+v", s)
	}
	_, err := b.invoke("sys.hsm", nil)
	wantFault(t, err, fault.Sealed, "sealed")
	mustInvoke[api.SealStatus](b, "sys.unseal", &api.Unseal{Key: r.Keys[2]})
	mustInvoke[api.SealStatus](b, "sys.unseal", &api.Unseal{Key: r.Keys[1]})
	check(true, false, 200)
	hsm := mustInvoke[api.TokenStatus](b, "sys.hsm", nil)
	if hsm.Driver != "mem" || hsm.Label != "claviger" || hsm.Quirks == nil || !hsm.KeyTypes["aes256-gcm96"].Wrapped ||
		!strings.HasPrefix(hsm.AuditPublicKey, "-----BEGIN PUBLIC KEY-----\n") || !hsm.KeyTypes["ed25519"].Token || hsm.KeyTypes["ed25519"].Note == "" {
		t.Errorf("hsm %+v", hsm)
	}
	if v, err := b.invoke("sys.seal", nil); v != nil || err != nil {
		t.Errorf("seal answers %v, %v", v, err)
	}
	check(true, true, 503)
	if s := mustInvoke[api.SealStatus](b, "sys.unseal", &api.Unseal{Reset: true}); !s.Sealed {
		t.Errorf("%+v", s)
	}
	b.wantState(true, true) // reset waited for the end of sealing
}

func TestOperationsBadInput(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, c := range []struct {
		name string
		req  any
		word string
	}{
		{"sys.unseal", &api.Unseal{}, "'key' must be specified"},
		{"sys.init", &api.Init{}, "shares must be at least one"},
		{"sys.health", &api.HealthQuery{ActiveCode: 100}, "activecode is 100"},
		{"sys.health", &api.HealthQuery{StandbyCode: 1000}, "standbycode is 1000"},
		{"sys.health", &api.HealthQuery{SealedCode: -1}, "sealedcode is -1"},
		{"sys.health", &api.HealthQuery{UninitCode: 600}, "uninitcode is 600"},
	} {
		_, err := b.invoke(c.name, c.req)
		wantFault(t, err, fault.Invalid, c.word)
	}
}

// While the HSM takes its time, the state can be asked.
func TestStatusDoesNotWait(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	r := b.init(1, 1)
	b.device.slow = 300 * time.Millisecond
	started := make(chan struct{})
	finished := make(chan error)
	go func() {
		close(started)
		_, err := b.c.Unseal(context.WithoutCancel(t.Context()), r.Keys[0])
		finished <- err
	}()
	<-started
	time.Sleep(50 * time.Millisecond)
	begin := time.Now()
	mustInvoke[api.Health](b, "sys.health", nil)
	mustInvoke[api.SealStatus](b, "sys.seal-status", nil)
	if d := time.Since(begin); d > 150*time.Millisecond {
		t.Errorf("the status took %v", d)
	}
	if err := <-finished; err != nil {
		t.Fatal(err)
	}
}

func TestNewChecksOptions(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for name, change := range map[string]func(o *Options){
		"store":     func(o *Options) { o.Store = nil },
		"device":    func(o *Options) { o.Device = nil },
		"unsealed":  func(o *Options) { o.Hooks.Unsealed = nil },
		"sealed":    func(o *Options) { o.Hooks.Sealed = nil },
		"genesis":   func(o *Options) { o.Hooks.Genesis = nil },
		"version":   func(o *Options) { o.Version = "devel" },
		"version v": func(o *Options) { o.Version = "v1.2.3" },
		"mode":      func(o *Options) { o.HSMToken = "make" },
	} {
		o := b.opts
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	o := b.opts
	o.Version, o.Logger = "0.1.0-dev+abc.1", nil
	if _, err := New(o); err != nil {
		t.Error(err)
	}
	b.faults.armOn("store.Get")
	if _, err := New(b.opts); err == nil {
		t.Error("a store that can't be read was accepted")
	}
	b.faults.arm(0)
}
