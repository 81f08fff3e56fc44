package keys

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

func (e *env) backUp(name string) string {
	e.t.Helper()
	r, err := e.backupKey(bg, call(), &api.KeyName{Name: name})
	must(e.t, err)
	return r.Backup
}

func (e *env) restoreAs(name, backup string, force bool) error {
	_, err := e.restoreKey(bg, call(), &api.Restore{Name: name, Backup: backup, Force: force})
	return err
}

func (e *env) remove(name string) {
	e.t.Helper()
	e.configure(name, api.ConfigKey{DeletionAllowed: ptr(true)})
	_, err := e.deleteKey(bg, call(), &api.KeyName{Name: name})
	must(e.t, err)
}

// What a key made before its deletion is of use after its restoration, for
// every type that a backup can hold.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	soft, hard := newEnv(t, false), newEnv(t, true)
	for _, typ := range token.Types() {
		for _, e := range []*env{soft, hard} {
			if e == hard && !hard.hsm.info.Holds[typ].Wrapped || typ.Class() == token.ClassRSA && typ != token.RSA2048 {
				continue
			}
			name := typ.String()
			e.make(name, name)
			h, err := e.hmac(bg, call(), &api.HMAC{Name: name, Input: []byte("m")})
			must(t, err)
			var text, sig string
			if canEncrypt(typ) {
				text = e.enc(name, "p")
			}
			if canSign(typ) {
				r, err := e.sign(bg, call(), &api.Sign{Name: name, Input: []byte("m")})
				must(t, err)
				sig = r.Signature
			}
			e.rotateNow(name)
			e.configure(name, api.ConfigKey{MinEncryptionVersion: ptr(2)})
			backup := e.backUp(name)
			before := e.read(name)
			e.remove(name)
			must(t, e.restoreAs("", backup, false))
			if typ == token.AES256 {
				e.restart()
			}
			after := e.read(name)
			if after.LatestVersion != 2 || after.MinEncryptionVersion != 2 || after.RestoreInfo == nil || after.RestoreInfo.Version != 2 ||
				*after.BackupInfo != *before.BackupInfo || string(after.Keys["1"]) != string(before.Keys["1"]) {
				t.Errorf("%s: before %+v, after %+v", name, before, after)
			}
			v, err := e.verify(bg, call(), &api.Verify{Name: name, Input: []byte("m"), HMAC: h.HMAC})
			if must(t, err); !*v.Valid {
				t.Errorf("%s: HMAC", name)
			}
			if text != "" {
				if p, err := e.dec(name, text); err != nil || p != "p" {
					t.Errorf("%s: %q %v", name, p, err)
				}
				e.enc(name, "new")
			}
			if sig != "" {
				v, err := e.verify(bg, call(), &api.Verify{Name: name, Input: []byte("m"), Signature: sig})
				if must(t, err); !*v.Valid {
					t.Errorf("%s: signature", name)
				}
			}
			if k := e.rotateNow(name); k.LatestVersion != 3 {
				t.Errorf("%s: %d versions", name, k.LatestVersion)
			}
		}
	}
}

func TestBackupOfDerivedKey(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.makeAs(api.CreateKey{Name: "k", Derived: true, ConvergentEncryption: true})
	r, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte("p"), Context: []byte("c")})
	must(t, err)
	backup := e.backUp("k")
	e.remove("k")
	must(t, e.restoreAs("", backup, false))
	d, err := e.decrypt(bg, call(), &api.Decrypt{Name: "k", Ciphertext: r.Ciphertext, Context: []byte("c")})
	must(t, err)
	if again, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte("p"), Context: []byte("c")}); err != nil || again.Ciphertext != r.Ciphertext || string(*d.Plaintext) != "p" {
		t.Errorf("%+v %v", again, err)
	}
}

func TestBackupShowsNothing(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.make("k", "ecdsa-p256")
	blob, err := base64.StdEncoding.DecodeString(e.backUp("k"))
	must(t, err)
	var r versionRecord
	_, err = e.sealed.Get(bg, tableVersions, keyName{"transit/", "k"}.version(1), &r)
	must(t, err)
	for what, part := range map[string]string{"secret": string(r.Main.Secret), "HMAC secret": string(r.MAC.Secret), "text": "secret", "public key": string(r.Main.Public)} {
		if part == "" || strings.Contains(string(blob), part) {
			t.Errorf("the backup shows the %s", what)
		}
	}
}

func TestBackupRefusesObjects(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("ed", "ed25519")
	e.makeAs(api.CreateKey{Name: "aes", Protection: "token"})
	for _, name := range []string{"ed", "aes"} {
		_, err := e.backupKey(bg, call(), &api.KeyName{Name: name})
		wantFault(t, err, fault.Invalid, "is an object of the HSM token (protection token) and never leaves it")
		if e.read(name).BackupInfo != nil {
			t.Error("a refused backup is noted")
		}
	}
	_, err := e.backupKey(bg, call(), &api.KeyName{Name: "none"})
	wantFault(t, err, fault.NotFound, "")
}

func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	e, other := newEnv(t, true), newEnv(t, true)
	e.make("k", "")
	e.enc("k", "p")
	good := e.backUp("k")
	blob, err := base64.StdEncoding.DecodeString(good)
	must(t, err)
	blob[20] ^= 1
	newer, err := e.sealed.SealBlob(backupPurpose, []byte(`{"format":2}`))
	must(t, err)
	odd, err := e.sealed.SealBlob(backupPurpose, []byte(`[]`))
	must(t, err)
	for _, c := range []struct {
		e    *env
		name string
		text string
		kind fault.Kind
		want string
	}{
		{e, "", "", fault.Invalid, "'backup' must be supplied"},
		{e, "", "%", fault.Invalid, "no base64"},
		{e, "", "AAAA", fault.Invalid, "not authentic"},
		{e, "", base64.StdEncoding.EncodeToString(blob), fault.Invalid, "not authentic"},
		{other, "", good, fault.Invalid, "another cluster made it"},
		{e, "", base64.StdEncoding.EncodeToString(newer), fault.Invalid, "this release can't restore the backup"},
		{e, "", base64.StdEncoding.EncodeToString(odd), fault.Invalid, "this release can't restore the backup"},
		{e, "a b", good, fault.Invalid, "no name for a key"},
		{e, "", good, fault.Invalid, `key "k" already exists`},
	} {
		wantFault(t, c.e.restoreAs(c.name, c.text, false), c.kind, c.want)
	}
	wantFault(t, e.restoreAs("", good, true), fault.Invalid, "deletion is not allowed for it")
	if other.count(tableKeys) != 0 || e.count(tableKeys) != 1 || e.count(tableVersions) != 1 {
		t.Error("a refused restoration left something")
	}
}

// A key that is replaced leaves nothing, in the store and in the HSM token.
func TestRestoreReplaces(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("k", "")
	text := e.enc("k", "p")
	backup := e.backUp("k")
	e.make("other", "ed25519")
	e.rotateNow("other")
	e.rotateNow("other")
	e.configure("other", api.ConfigKey{DeletionAllowed: ptr(true)})
	wantFault(t, e.restoreAs("other", backup, false), fault.Invalid, "replace the key with force=true")
	must(t, e.restoreAs("other", backup, true))
	if p, err := e.dec("other", text); err != nil || p != "p" {
		t.Errorf("%q %v", p, err)
	}
	if k := e.read("other"); k.LatestVersion != 1 || k.Type != "aes256-gcm96" || k.DeletionAllowed {
		t.Errorf("%+v", k)
	}
	if len(e.hsm.ids()) != 0 || e.count(tableIntents) != 0 || e.count(tableVersions) != 2 {
		t.Errorf("%d objects, %d intents, %d versions", len(e.hsm.ids()), e.count(tableIntents), e.count(tableVersions))
	}
	// the same key, in its earlier state
	e.rotateNow("k")
	e.configure("k", api.ConfigKey{DeletionAllowed: ptr(true)})
	must(t, e.restoreAs("", backup, true))
	if p, err := e.dec("k", text); err != nil || p != "p" || e.read("k").LatestVersion != 1 || e.count(tableVersions) != 2 {
		t.Errorf("%q %v, %d versions", p, err, e.count(tableVersions))
	}
	e.remove("k")
	if p, err := e.dec("other", text); err != nil || p != "p" {
		t.Errorf("the copy is gone with the key: %q %v", p, err)
	}
}

// Restoring gives no version a new life: its copies count their encryptions
// together, also those since the backup and those before the deletion.
func TestRestoredKeyKeepsItsCount(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.limits = sealLimits{total: 6, firstBlock: 1, lastBlock: 1}
	e.make("k", "")
	e.enc("k", "1")
	backup := e.backUp("k")
	e.enc("k", "2")
	must(t, e.restoreAs("copy", backup, false))
	e.enc("copy", "3")
	e.remove("k")
	e.remove("copy")
	must(t, e.restoreAs("", backup, false))
	e.enc("k", "4")
	e.configure("k", api.ConfigKey{DeletionAllowed: ptr(true)})
	must(t, e.restoreAs("", backup, true))
	e.enc("k", "5")
	e.enc("k", "6")
	_, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte("7")})
	wantFault(t, err, fault.Exhausted, "rotate the key")
}

// A restoration of which it is unknown whether it was made is found as it is.
func TestRestoreWithFailingStore(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("k", "")
	text := e.enc("k", "p")
	backup := e.backUp("k")
	e.db.hook(func(int64) (before, after error) { return nil, errBoom })
	if err := e.restoreAs("after", backup, false); err == nil {
		t.Error("no error")
	}
	e.db.hook(func(int64) (before, after error) { return errBoom, nil })
	if err := e.restoreAs("before", backup, false); err == nil {
		t.Error("no error")
	}
	e.db.hook(func(n int64) (before, after error) {
		if n == 1 {
			return store.ErrConflict, nil
		}
		return nil, nil
	})
	must(t, e.restoreAs("again", backup, false))
	e.db.hook(nil)
	for name, there := range map[string]bool{"after": true, "before": false, "again": true} {
		if p, err := e.dec(name, text); there != (err == nil && p == "p") {
			t.Errorf("%s: %q %v", name, p, err)
		}
	}
}
