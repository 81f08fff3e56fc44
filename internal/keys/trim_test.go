package keys

import (
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

func (e *env) trim(name string, first int) (*api.Key, error) {
	return e.trimKey(bg, call(), &api.TrimKey{Name: name, MinAvailableVersion: &first})
}

func TestTrim(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.make("k", "")
	texts := []string{e.enc("k", "x")}
	for range 3 {
		e.rotateNow("k")
		texts = append(texts, e.enc("k", "x"))
	}
	e.configure("k", api.ConfigKey{MinDecryptionVersion: ptr(3), MinEncryptionVersion: ptr(3)})
	if k, err := e.trim("k", 1); err != nil || k.MinAvailableVersion != 1 || e.count(tableVersions) != 4 {
		t.Fatalf("%+v %v", k, err)
	}
	k, err := e.trim("k", 3)
	must(t, err)
	if k.MinAvailableVersion != 3 || k.LatestVersion != 4 || len(k.Keys) != 2 {
		t.Errorf("%+v", k)
	}
	if e.count(tableVersions) != 2 || e.count(tableCounters) != 2 {
		t.Errorf("%d versions, %d counters", e.count(tableVersions), e.count(tableCounters))
	}
	for range 2 {
		for i, text := range texts {
			p, err := e.dec("k", text)
			if i < 2 {
				wantFault(t, err, fault.Invalid, msgTooOld)
			} else if err != nil || p != "x" {
				t.Errorf("version %d: %q %v", i+1, p, err)
			}
		}
		_, err = e.configKey(bg, call(), &api.ConfigKey{Name: "k", MinDecryptionVersion: ptr(2)})
		wantFault(t, err, fault.Invalid, "below the min available version of 3")
		e.restart()
	}
	if k, err = e.trim("k", 3); err != nil || k.MinAvailableVersion != 3 {
		t.Errorf("%+v %v", k, err)
	}
	if k = e.rotateNow("k"); k.LatestVersion != 5 || len(k.Keys) != 3 {
		t.Errorf("%+v", k)
	}
	e.configure("k", api.ConfigKey{DeletionAllowed: ptr(true)})
	_, err = e.deleteKey(bg, call(), &api.KeyName{Name: "k"})
	must(t, err)
	if n := e.count(tableVersions) + e.count(tableKeys) + e.count(tableCounters); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

// A trimmed version is gone from the store, from memory and from the HSM.
func TestTrimDestroys(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("k", "ed25519")
	e.rotateNow("k")
	e.configure("k", api.ConfigKey{MinDecryptionVersion: ptr(2), MinEncryptionVersion: ptr(2)})
	objects := len(e.hsm.ids())
	_, err := e.trim("k", 2)
	must(t, err)
	if n := len(e.hsm.ids()); n != objects/2 || e.count(tableIntents) != 0 {
		t.Errorf("%d of %d objects, %d intents", n, objects, e.count(tableIntents))
	}
	k, err := e.key(bg, keyName{"transit/", "k"})
	must(t, err)
	if k.slots[0].version.Load() != nil || k.slots[1].version.Load() == nil {
		t.Error("the wrong version is in memory")
	}
	e.rotateNow("k")
	e.configure("k", api.ConfigKey{MinEncryptionVersion: ptr(3)})
	e.configure("k", api.ConfigKey{MinDecryptionVersion: ptr(3)})
	e.hsm.destroy = func(token.Stored) error { return token.ErrUnavailable }
	_, err = e.trim("k", 3)
	must(t, err)
	if e.count(tableIntents) == 0 {
		t.Error("the object must be noted for the next start")
	}
	e.hsm.destroy = nil
	e.restart()
	if n := len(e.hsm.ids()); n != objects/2 || e.count(tableIntents) != 0 {
		t.Errorf("%d objects, %d intents", n, e.count(tableIntents))
	}
}

func TestTrimRefuses(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.make("k", "")
	e.make("unset", "")
	for range 3 {
		e.rotateNow("k")
	}
	e.configure("k", api.ConfigKey{MinDecryptionVersion: ptr(2), MinEncryptionVersion: ptr(4)})
	_, err := e.trim("k", 2)
	must(t, err)
	for _, c := range []struct {
		name  string
		first *int
		want  string
	}{
		{"k", nil, "missing min_available_version"},
		{"k", ptr(-1), "minimum available version cannot be negative"},
		{"k", ptr(1), "minimum available version cannot be decremented"},
		{"k", ptr(3), "minimum available version cannot be greater than minimum decryption version"},
		{"k", ptr(5), "minimum available version cannot be greater than minimum encryption version"},
		{"unset", ptr(0), "minimum available version should be positive"},
		{"unset", ptr(1), "minimum available version cannot be set when minimum encryption version is not set"},
		{"none", ptr(1), "invalid key name"},
	} {
		_, err := e.trimKey(bg, call(), &api.TrimKey{Name: c.name, MinAvailableVersion: c.first})
		wantFault(t, err, fault.Invalid, c.want)
	}
	if n := e.count(tableVersions); n != 4 {
		t.Errorf("%d versions", n)
	}
}

func TestTrimOfSoftDeleted(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.make("k", "")
	e.rotateNow("k")
	e.configure("k", api.ConfigKey{MinDecryptionVersion: ptr(2), MinEncryptionVersion: ptr(2)})
	_, err := e.softDelete(bg, call(), &api.KeyName{Name: "k"})
	must(t, err)
	_, err = e.trim("k", 2)
	wantFault(t, err, fault.Invalid, "soft-deleted")
	if n := e.count(tableVersions); n != 2 {
		t.Errorf("%d versions", n)
	}
}

// The secret of a trimmed version may come back from a backup: the count of
// its encryptions must not begin anew.
func TestTrimKeepsCountsOfCopies(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.makeDerived("k", "", true)
	old := e.encAs(api.Encrypt{Name: "k", Plaintext: []byte("x"), Context: []byte("c")})
	b, err := e.backupKey(bg, call(), &api.KeyName{Name: "k"})
	must(t, err)
	e.rotateNow("k")
	e.configure("k", api.ConfigKey{MinDecryptionVersion: ptr(2), MinEncryptionVersion: ptr(2)})
	_, err = e.trim("k", 2)
	must(t, err)
	if e.count(tableVersions) != 1 || e.count(tableCounters) != 1 {
		t.Errorf("%d versions, %d counters", e.count(tableVersions), e.count(tableCounters))
	}
	_, err = e.restoreKey(bg, call(), &api.Restore{Name: "l", Backup: b.Backup})
	must(t, err)
	if again := e.encAs(api.Encrypt{Name: "l", Plaintext: []byte("x"), Context: []byte("c")}); again != old {
		t.Errorf("a restored derived key makes %s, not %s", again, old)
	}
}
