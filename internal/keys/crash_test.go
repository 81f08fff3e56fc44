package keys

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// Every write of an act fails once, before or after it reached the disk, with
// a clean error or with the server gone. Afterwards what was acknowledged is
// there, what is there works, and after the next start the HSM has no object
// that no key uses.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	acts := map[string]struct {
		prepare func(e *env)
		act     func(e *env) error
	}{
		"create": {func(*env) {}, func(e *env) error {
			_, err := e.createKey(bg, call(), &api.CreateKey{Name: "k", Type: "ed25519"})
			return err
		}},
		"create two objects": {func(*env) {}, func(e *env) error {
			_, err := e.createKey(bg, call(), &api.CreateKey{Name: "k", Type: "ecdsa-p256", Protection: "token"})
			return err
		}},
		"rotate": {func(e *env) { e.make("k", "ed25519") }, func(e *env) error {
			_, err := e.rotateKey(bg, call(), &api.RotateKey{Name: "k"})
			return err
		}},
		"delete": {func(e *env) { e.make("k", "ed25519"); e.configure("k", api.ConfigKey{DeletionAllowed: ptr(true)}) }, func(e *env) error {
			_, err := e.deleteKey(bg, call(), &api.KeyName{Name: "k"})
			return err
		}},
		"trim": {func(e *env) {
			e.make("k", "ed25519")
			e.rotateNow("k")
			e.configure("k", api.ConfigKey{MinDecryptionVersion: ptr(2), MinEncryptionVersion: ptr(2)})
		}, func(e *env) error {
			_, err := e.trim("k", 2)
			return err
		}},
	}
	for name, a := range acts {
		for at := int64(1); at <= 5; at++ {
			for _, mode := range []string{"before", "after", "before and gone", "after and gone"} {
				t.Run(fmt.Sprintf("%s/write %d/%s", name, at, mode), func(t *testing.T) {
					t.Parallel()
					e := newEnv(t, true)
					a.prepare(e)
					e.db.hook(failAt(at, mode))
					err := a.act(e)
					if err != nil && fault.KindOf(err) != fault.Unavailable {
						t.Errorf("error %v", err)
					}
					reached := e.db.n.Load() >= at
					e.db.hook(nil)
					e.consistent("before the restart")
					if err == nil && name != "delete" {
						e.sig(api.Sign{Name: "k", Input: []byte("m")})
					}
					e.restart()
					e.consistent("after the restart")
					if e.count(tableIntents) != 0 || len(e.referenced()) != len(e.hsm.ids()) {
						t.Errorf("%d intents, %d objects of which %d are used", e.count(tableIntents), len(e.hsm.ids()), len(e.referenced()))
					}
					if !reached && err != nil {
						t.Errorf("nothing failed, but: %v", err)
					}
				})
			}
		}
	}
}

func failAt(at int64, mode string) func(n int64) (before, after error) {
	boom := fault.New(fault.Unavailable, "the disk is full")
	return func(n int64) (before, after error) {
		if n < at || n > at && !strings.HasSuffix(mode, "gone") {
			return nil, nil
		}
		if n == at && strings.HasPrefix(mode, "after") {
			return nil, boom
		}
		return boom, nil
	}
}

// referenced returns the objects that versions in the store use.
func (e *env) referenced() map[string]bool {
	e.t.Helper()
	ids := map[string]bool{}
	entries, err := e.sealed.List(bg, tableVersions, "", "", 0)
	must(e.t, err)
	for _, entry := range entries {
		var r versionRecord
		must(e.t, entry.Decode(&r))
		for _, s := range []*secretRecord{&r.Main, r.MAC} {
			if s != nil && s.Place == api.ProtectionToken {
				ids[s.ID] = true
			}
		}
	}
	return ids
}

// consistent checks that every version has its secrets, that every object is
// used or noted, and that every visible key works in all its versions.
func (e *env) consistent(when string) {
	e.t.Helper()
	have := map[string]bool{}
	for _, s := range e.hsm.ids() {
		have[recordOf(s).ID] = true
	}
	used := e.referenced()
	for id := range used {
		if !have[id] {
			e.t.Errorf("%s: object %s is used and does not exist", when, id)
		}
	}
	for id := range have {
		var r intentRecord
		if _, err := e.sealed.Get(bg, tableIntents, id, &r); err != nil && !used[id] {
			e.t.Errorf("%s: object %s is neither used nor noted", when, id)
		}
	}
	k, err := e.key(bg, keyName{"transit/", "k"})
	if errors.Is(err, errNoKey) {
		if n := e.count(tableVersions); n != 0 {
			e.t.Errorf("%s: %d versions of no key", when, n)
		}
		return
	}
	must(e.t, err)
	for v := max(k.oldest(), k.meta.MinEncryption); v <= k.meta.Latest; v++ {
		e.sig(api.Sign{Name: "k", Input: []byte("m"), KeyVersion: v})
		if _, err := e.hmac(bg, call(), &api.HMAC{Name: "k", Input: []byte("m"), KeyVersion: v}); err != nil {
			e.t.Errorf("%s: HMAC of version %d: %v", when, v, err)
		}
	}
}

func TestGenerateFails(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	for _, c := range []struct {
		err  error
		kind fault.Kind
	}{{token.ErrUnavailable, fault.Unavailable}, {token.ErrClosed, fault.Unavailable}, {token.ErrUnsupported, fault.Invalid}, {errBoom, fault.Internal}, {context.DeadlineExceeded, fault.Unavailable}} {
		for _, typ := range []string{"ed25519", "ecdsa-p256"} {
			e.hsm.generate = func(token.Spec) error { return fmt.Errorf("generate: %w", c.err) }
			_, err := e.createKey(bg, call(), &api.CreateKey{Name: "k", Type: typ})
			wantFault(t, err, c.kind, "")
		}
	}
	e.hsm.generate = func(s token.Spec) error { // the second secret fails
		if s.Type == token.HMAC {
			return token.ErrUnavailable
		}
		return nil
	}
	_, err := e.createKey(bg, call(), &api.CreateKey{Name: "k", Type: "ed25519"})
	wantFault(t, err, fault.Unavailable, "try again")
	if len(e.hsm.ids()) != 0 || e.count(tableIntents) != 0 || e.count(tableKeys) != 0 {
		t.Error("something is left")
	}
}

// A module that turns out not to wrap a type gets an object, unless the caller
// asked for wrapped.
func TestWrapFallback(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.hsm.generate = func(s token.Spec) error {
		if s.Type == token.RSA2048 && s.Place == token.PlaceWrapped {
			return token.ErrUnsupported
		}
		return nil
	}
	if k := e.make("k", "rsa-2048"); k.Protection != "token" {
		t.Errorf("%+v", k)
	}
	_, err := e.createKey(bg, call(), &api.CreateKey{Name: "l", Type: "rsa-2048", Protection: "wrapped"})
	wantFault(t, err, fault.Invalid, "can't make a key of type rsa-2048")
	if k := e.rotateNow("k"); k.LatestVersion != 2 || len(e.hsm.ids()) < 2 {
		t.Errorf("%+v", k)
	}
}

func TestUseFails(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("k", "")
	e.make("ec", "ecdsa-p256")
	good := e.enc("k", "x")
	for _, c := range []struct {
		err  error
		kind fault.Kind
		text string
		item string // "" if the whole call fails
	}{
		{token.ErrUnavailable, fault.Unavailable, "try again", ""},
		{token.ErrClosed, fault.Unavailable, "try again", ""},
		{token.ErrSealed, fault.Sealed, "Vault is sealed", ""},
		{token.ErrUnsupported, fault.Invalid, "protection=software", "not supported"},
		{token.ErrNotFound, fault.Internal, "is gone from the HSM token", "is gone from the HSM token"},
		{token.ErrBlob, fault.Internal, "was altered", "was altered"},
		{errBoom, fault.Internal, "", "internal error"},
	} {
		e.hsm.use = func() error { return c.err }
		_, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte("x")})
		wantFault(t, err, c.kind, c.text)
		_, err = e.dec("k", good)
		wantFault(t, err, c.kind, c.text)
		_, err = e.sign(bg, call(), &api.Sign{Name: "ec", Input: []byte("x")})
		wantFault(t, err, c.kind, c.text)
		_, err = e.hmac(bg, call(), &api.HMAC{Name: "ec", Input: []byte("x")})
		wantFault(t, err, c.kind, c.text)
		_, err = e.rewrap(bg, call(), &api.Rewrap{Name: "k", Ciphertext: good})
		wantFault(t, err, c.kind, c.text)
		r, err := e.decrypt(bg, call(), &api.Decrypt{Name: "k", BatchInput: []api.DecryptItem{{Ciphertext: good}}})
		if c.item == "" {
			wantFault(t, err, c.kind, c.text)
			continue
		}
		must(t, err)
		status := map[fault.Kind]int{fault.Internal: 500, fault.Invalid: 400}[c.kind]
		if r.Status != status || !strings.Contains(r.BatchResults[0].Error, c.item) || strings.Contains(r.BatchResults[0].Error, "boom") {
			t.Errorf("%v: %+v", c.err, r)
		}
	}
}

func TestSealedServer(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.make("k", "")
	tok := e.holder.Set(nil)
	_, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte("x")})
	wantFault(t, err, fault.Sealed, "Vault is sealed")
	_, err = e.random(bg, call(), &api.Random{})
	wantFault(t, err, fault.Sealed, "")
	_, err = e.createKey(bg, call(), &api.CreateKey{Name: "l"})
	wantFault(t, err, fault.Sealed, "")
	e.Reset()
	if len(e.cache.entries) != 0 {
		t.Error("Reset left keys in memory")
	}
	e.holder.Set(tok)
	e.enc("k", "x")
	e.sealed.Seal()
	e.Reset()
	_, err = e.dec("k", "vault:v1:AAAA")
	wantFault(t, err, fault.Sealed, "")
	_, err = e.listKeys(bg, call(), nil)
	wantFault(t, err, fault.Sealed, "")
}

// A record that stands where another key's belongs is refused, even if it is
// authentic: here one that another key of the same name left.
func TestForeignRecords(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.make("k", "")
	c := e.enc("k", "x")
	n := keyName{"transit/", "k"}
	var r versionRecord
	rec, err := e.sealed.Get(bg, tableVersions, n.version(1), &r)
	must(t, err)
	for name, edit := range map[string]func(r *versionRecord){
		"key": func(r *versionRecord) { r.KeyID = "other" }, "number": func(r *versionRecord) { r.Number = 2 },
		"type": func(r *versionRecord) { r.Main.Type = token.AES128 }, "format": func(r *versionRecord) { r.Format = 2 },
	} {
		bad := r
		edit(&bad)
		put, err := e.sealed.Put(tableVersions, n.version(1), rec, bad)
		must(t, err)
		must(t, e.sealed.Apply(bg, put))
		rec++
		e.restart()
		_, err = e.dec("k", c)
		if !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		wantFault(t, err, fault.Internal, "altered")
	}
	must(t, e.sealed.Apply(bg, e.sealed.Remove(tableVersions, n.version(1), rec)))
	e.restart()
	_, err = e.dec("k", c)
	wantFault(t, err, fault.Internal, "altered")
	if !errors.Is(err, store.ErrCorrupt) {
		t.Error(err)
	}
}
