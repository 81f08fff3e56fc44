package keys

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/soft"
)

// rotator is a clock, and a guard that notes what the server does by itself.
type rotator struct {
	mu    sync.Mutex
	clock time.Time
	paths []string
	err   error  // instead of the work
	first func() // before the work
}

func newRotator(e *env) *rotator {
	r := &rotator{clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	e.now = r.now
	return r
}

func (r *rotator) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clock
}

func (r *rotator) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock = r.clock.Add(d)
}

func (r *rotator) run(ctx context.Context, verb op.Verb, path string, request any, do func(context.Context, *op.Call) (any, error)) error {
	r.mu.Lock()
	r.paths = append(r.paths, verb.String()+" "+path+" "+request.(*api.KeyName).Name)
	err, first := r.err, r.first
	r.mu.Unlock()
	if err != nil {
		return err
	}
	if first != nil {
		first()
	}
	_, err = do(ctx, call())
	return err
}

// look rotates what is due and returns what was done.
func (e *env) look(r *rotator) []string {
	e.t.Helper()
	must(e.t, e.RotateDue(bg, atTransit, r.run))
	r.mu.Lock()
	defer r.mu.Unlock()
	paths := r.paths
	r.paths = nil
	return paths
}

func (e *env) latest(name string) int {
	e.t.Helper()
	k, err := e.readKey(bg, call(), &api.ReadKey{Name: name})
	must(e.t, err)
	return k.LatestVersion
}

const rotateK = "write transit/keys/k/rotate k"

func TestAutoRotate(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	r := newRotator(e)
	if k := e.makeAs(api.CreateKey{Name: "k", AutoRotatePeriod: 3600}); k.AutoRotatePeriod != 3600 {
		t.Errorf("%+v", k)
	}
	e.make("never", "")
	text := e.enc("k", "x")
	for _, step := range []struct {
		pass time.Duration
		want int
	}{
		{0, 1}, {time.Hour - time.Second, 1}, {time.Second, 2}, {0, 2}, {time.Hour - time.Second, 2},
		{time.Second, 3}, {100 * time.Hour, 4}, {0, 4}, {time.Minute, 4},
	} {
		r.pass(step.pass)
		before := e.latest("k")
		done := e.look(r)
		if got := e.latest("k"); got != step.want || (got != before) != slices.Equal(done, []string{rotateK}) {
			t.Fatalf("after %v: version %d, %q, want %d", step.pass, got, done, step.want)
		}
		e.restart()
		e.now = r.now
	}
	if p, err := e.dec("k", text); err != nil || p != "x" || e.latest("never") != 1 {
		t.Errorf("%q %v", p, err)
	}
	e.rotateNow("k") // by hand: a new period begins
	r.pass(59 * time.Minute)
	if done := e.look(r); done != nil {
		t.Errorf("%q", done)
	}
}

// A process that died after the rotation and before it noted the next time
// does not rotate again.
func TestAutoRotateInterrupted(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	r := newRotator(e)
	e.makeAs(api.CreateKey{Name: "k", AutoRotatePeriod: 3600})
	r.pass(time.Hour)
	r.err = fault.New(fault.Unavailable, "the audit record can't be written")
	if err := e.RotateDue(bg, atTransit, r.run); fault.KindOf(err) != fault.Unavailable || e.latest("k") != 1 {
		t.Fatal(err)
	}
	r.err = nil
	e.look(r)
	put, err := e.putAutoRotate(bg, keyName{"transit/", "k"})
	must(t, err)
	must(t, e.sealed.Apply(bg, put))
	if done := e.look(r); done != nil || e.latest("k") != 2 {
		t.Errorf("%q, version %d", done, e.latest("k"))
	}
	if again := e.look(r); again != nil {
		t.Errorf("%q", again)
	}
}

// Two servers on one store that both find a key due rotate it once.
func TestAutoRotateTwice(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	r := newRotator(e)
	e.makeAs(api.CreateKey{Name: "k", Type: "ed25519", AutoRotatePeriod: 3600})
	r.pass(time.Hour)
	other, err := New(Options{Store: e.sealed, Token: e.holder, Software: soft.Engine{}, Now: r.now})
	must(t, err)
	r.first = func() {
		r.mu.Lock()
		r.first = nil
		r.mu.Unlock()
		must(t, other.RotateDue(bg, atTransit, r.run))
	}
	if done := e.look(r); len(done) != 2 {
		t.Errorf("%q, want both to try", done)
	}
	if e.latest("k") != 2 || e.count(tableVersions) != 2 || e.count(tableIntents) != 0 || len(e.hsm.ids()) != 2 {
		t.Errorf("version %d, %d objects", e.latest("k"), len(e.hsm.ids()))
	}
}

func TestAutoRotateSealed(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	r := newRotator(e)
	e.makeAs(api.CreateKey{Name: "k", AutoRotatePeriod: 3600})
	r.pass(72 * time.Hour)
	tok := e.holder.Set(nil)
	if err := e.RotateDue(bg, atTransit, r.run); fault.KindOf(err) != fault.Sealed {
		t.Fatal(err)
	}
	e.holder.Set(tok)
	if done := e.look(r); !slices.Equal(done, []string{rotateK}) || e.latest("k") != 2 {
		t.Errorf("%q", done)
	}
}

func TestKeepRotated(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	r := newRotator(e)
	e.makeAs(api.CreateKey{Name: "k", AutoRotatePeriod: 3600})
	r.pass(time.Hour)
	e.rotateEvery = time.Millisecond
	ctx, cancel := context.WithCancel(bg)
	ended := make(chan struct{})
	go func() { e.KeepRotated(ctx, func() map[string]string { return atTransit }, r.run); close(ended) }()
	for start := time.Now(); e.latest("k") != 2; time.Sleep(time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatal("not rotated")
		}
	}
	cancel()
	<-ended
}

func TestAutoRotateRules(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	r := newRotator(e)
	for _, period := range []api.Seconds{-1, 1, 3599, 1 << 40} {
		_, err := e.createKey(bg, call(), &api.CreateKey{Name: "k", AutoRotatePeriod: period})
		wantFault(t, err, fault.Invalid, "auto")
	}
	e.make("k", "")
	_, err := e.configKey(bg, call(), &api.ConfigKey{Name: "k", AutoRotatePeriod: ptr(api.Seconds(60))})
	wantFault(t, err, fault.Invalid, "auto rotate period must be 0 to disable or at least an hour")
	e.configure("k", api.ConfigKey{AutoRotatePeriod: ptr(api.Seconds(7200))})
	e.configure("k", api.ConfigKey{DeletionAllowed: ptr(true)})
	r.pass(2 * time.Hour)
	_, err = e.softDelete(bg, call(), &api.KeyName{Name: "k"})
	must(t, err)
	if done := e.look(r); done != nil {
		t.Errorf("a soft-deleted key: %q", done)
	}
	_, err = e.softDeleteRestore(bg, call(), &api.KeyName{Name: "k"})
	must(t, err)
	if done := e.look(r); !slices.Equal(done, []string{rotateK}) {
		t.Errorf("%q", done)
	}
	e.configure("k", api.ConfigKey{AutoRotatePeriod: ptr(api.Seconds(0))})
	r.pass(2 * time.Hour)
	if done := e.look(r); done != nil || e.count(tableAutoRotate) != 0 {
		t.Errorf("without a period: %q", done)
	}
	e.configure("k", api.ConfigKey{AutoRotatePeriod: ptr(api.Seconds(3600))})
	if done := e.look(r); !slices.Equal(done, []string{rotateK}) {
		t.Errorf("%q", done)
	}
}

func TestAutoRotateImported(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	r := newRotator(e)
	for name, allowed := range map[string]bool{"fixed": false, "k": true} {
		e.plant(name, token.AES256, make([]byte, 32), nil)
		n := keyName{"transit/", name}
		var meta keyRecord
		rec, err := e.sealed.Get(bg, tableKeys, n.record(), &meta)
		must(t, err)
		meta.Imported, meta.AllowRotation = true, allowed
		put, err := e.sealed.Put(tableKeys, n.record(), rec, meta)
		must(t, err)
		must(t, e.sealed.Apply(bg, put))
	}
	_, err := e.configKey(bg, call(), &api.ConfigKey{Name: "fixed", AutoRotatePeriod: ptr(api.Seconds(3600))})
	wantFault(t, err, fault.Invalid, "does not allow rotation")
	n := keyName{"transit/", "fixed"} // as if the rule had come with a backup
	var meta keyRecord
	rec, err := e.sealed.Get(bg, tableKeys, n.record(), &meta)
	must(t, err)
	meta.AutoRotate = 3600
	put, err := e.sealed.Put(tableKeys, n.record(), rec, meta)
	must(t, err)
	due, err := e.putAutoRotate(bg, n)
	must(t, err)
	must(t, e.sealed.Apply(bg, put, due))
	e.restart()
	e.now = r.now
	e.configure("k", api.ConfigKey{AutoRotatePeriod: ptr(api.Seconds(3600))})
	r.pass(time.Hour)
	if done := e.look(r); !slices.Equal(done, []string{rotateK}) || e.latest("fixed") != 1 || e.latest("k") != 2 {
		t.Errorf("%q", done)
	}
}

// Records of keys that are gone are removed, and are in nobody's way.
func TestAutoRotateGone(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	r := newRotator(e)
	again := func() {
		e.makeAs(api.CreateKey{Name: "k", AutoRotatePeriod: 3600})
		e.configure("k", api.ConfigKey{DeletionAllowed: ptr(true)})
	}
	again()
	b, err := e.backupKey(bg, call(), &api.KeyName{Name: "k"})
	must(t, err)
	for range 2 {
		_, err = e.deleteKey(bg, call(), &api.KeyName{Name: "k"})
		must(t, err)
		again()
	}
	_, err = e.deleteKey(bg, call(), &api.KeyName{Name: "k"})
	must(t, err)
	if done := e.look(r); done != nil || e.count(tableAutoRotate) != 0 {
		t.Errorf("%q, %d records", done, e.count(tableAutoRotate))
	}
	_, err = e.restoreKey(bg, call(), &api.Restore{Backup: b.Backup})
	must(t, err)
	r.pass(time.Hour)
	if done := e.look(r); !slices.Equal(done, []string{rotateK}) {
		t.Errorf("a restored key: %q", done)
	}
	below := &op.Call{Mount: "transit/below/", MayCreate: true}
	_, err = e.createKey(bg, below, &api.CreateKey{Name: "k", AutoRotatePeriod: 3600})
	must(t, err)
	must(t, e.Unmount(bg, "transit/"))
	if e.count(tableAutoRotate) != 1 {
		t.Errorf("%d records", e.count(tableAutoRotate))
	}
}

// One key that can't be rotated does not keep others from it.
func TestAutoRotateGoesOn(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	r := newRotator(e)
	e.makeAs(api.CreateKey{Name: "a", Type: "rsa-2048", AutoRotatePeriod: 3600})
	e.makeAs(api.CreateKey{Name: "k", AutoRotatePeriod: 3600})
	r.pass(time.Hour)
	e.hsm.generate = func(s token.Spec) error {
		if s.Type == token.RSA2048 {
			return errBoom
		}
		return nil
	}
	e.look(r)
	if e.latest("a") != 1 || e.latest("k") != 2 {
		t.Errorf("versions %d and %d", e.latest("a"), e.latest("k"))
	}
	e.hsm.generate = nil
	e.look(r)
	if e.latest("a") != 2 || e.latest("k") != 2 {
		t.Errorf("versions %d and %d", e.latest("a"), e.latest("k"))
	}
}

// atTransit is the mount of the tests' keys.
var atTransit = map[string]string{"transit/": "transit/"}
