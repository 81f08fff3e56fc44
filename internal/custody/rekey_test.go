package custody

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

func (b *bed) rekeyStart(req api.StartRekey) api.RekeyStatus {
	b.t.Helper()
	return *mustInvoke[api.RekeyStatus](b, "sys.rekey.start", &req)
}

func (b *bed) rekeyGive(nonce string, shares ...string) (s api.RekeyStatus) {
	b.t.Helper()
	for _, share := range shares {
		s = *mustInvoke[api.RekeyStatus](b, "sys.rekey.update", &api.GiveRekeyShare{Key: share, Nonce: nonce})
	}
	return s
}

func (b *bed) rekeyVerify(nonce string, shares ...string) (s api.RekeyVerifyStatus) {
	b.t.Helper()
	for _, share := range shares {
		s = *mustInvoke[api.RekeyVerifyStatus](b, "sys.rekey.verify", &api.GiveRekeyShare{Key: share, Nonce: nonce})
	}
	return s
}

// does invokes what answers nothing.
func (b *bed) does(name string, req any) {
	b.t.Helper()
	if _, err := b.invoke(name, req); err != nil {
		b.t.Fatal(name, err)
	}
}

func (b *bed) seal() {
	b.t.Helper()
	if err := b.c.Seal(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// opens tells whether the shares unseal a sealed server.
func (b *bed) opens(shares ...string) bool {
	b.t.Helper()
	if _, err := b.c.Reset(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	for _, share := range shares {
		if _, err := b.c.Unseal(b.t.Context(), share); err != nil {
			return false
		}
	}
	_, sealed := b.c.State()
	return !sealed && b.works()
}

func TestRekeyVerified(t *testing.T) {
	t.Parallel()
	b, old := rooted(t)
	if err := b.c.Rotate(t.Context()); err != nil { // a storage key of a later term is sealed anew too
		t.Fatal(err)
	}
	s := b.rekeyStart(api.StartRekey{SecretShares: 4, SecretThreshold: 2, RequireVerification: true})
	if !s.Started || s.Nonce == "" || s.N != 4 || s.T != 2 || s.Required != 3 || s.Complete || !s.VerificationRequired {
		t.Fatalf("%+v", s)
	}
	if s := b.rekeyGive(s.Nonce, old[0], old[4]); s.Progress != 2 || s.Complete || s.Keys != nil {
		t.Fatalf("%+v", s)
	}
	made := b.rekeyGive(s.Nonce, old[1])
	if !made.Complete || len(made.Keys) != 4 || len(made.KeysBase64) != 4 || made.VerificationNonce == "" || made.ShareSet.Threshold != 2 {
		t.Fatalf("%+v", made)
	}
	if set := *mustInvoke[api.ShareSet](b, "sys.share-set", nil); set.SetID == made.ShareSet.SetID || set.Shares != 5 {
		t.Errorf("the new set is in force before its verification: %+v", set)
	}
	v := b.rekeyVerify(made.VerificationNonce, made.Keys[3])
	if v.Complete || v.Progress != 1 || v.T != 2 || v.N != 4 {
		t.Errorf("%+v", v)
	}
	again := *mustInvoke[api.RekeyVerifyStatus](b, "sys.rekey.verify.restart", nil)
	if again.Progress != 0 || again.Nonce == made.VerificationNonce {
		t.Errorf("%+v", again)
	}
	if v = b.rekeyVerify(again.Nonce, made.Keys[3], made.KeysBase64[0]); !v.Complete {
		t.Fatalf("%+v", v)
	}
	if set := *mustInvoke[api.ShareSet](b, "sys.share-set", nil); set.SetID != made.ShareSet.SetID || b.c.record().Former != nil {
		t.Errorf("%+v", set)
	}
	b.wantState(true, false) // it went on
	b.restart()
	if b.opens(old[:3]...) || !b.opens(made.Keys[1:3]...) {
		t.Error("the old shares open, or the new ones do not")
	}
	if log := b.log.String(); strings.Contains(log, made.Keys[0][20:]) || strings.Contains(log, old[0][20:]) || !strings.Contains(log, "The shares were replaced") {
		t.Error("the log holds a share, or does not tell of the rekey")
	}
}

// Without verification both sets open until the new one did: its shares may have
// got lost on the way.
func TestRekeyUnverified(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprint(lost), func(t *testing.T) {
			t.Parallel()
			b, old := rooted(t)
			s := b.rekeyStart(api.StartRekey{SecretShares: 1, SecretThreshold: 1})
			made := b.rekeyGive(s.Nonce, old[:3]...)
			if !made.Complete || made.VerificationNonce != "" || b.c.record().Former == nil {
				t.Fatalf("%+v", made)
			}
			if mustInvoke[api.RekeyStatus](b, "sys.rekey.status", nil).Started {
				t.Error("the attempt goes on")
			}
			b.restart()
			if lost {
				if !b.opens(old[2:]...) || b.c.record().Former == nil {
					t.Fatal("the old shares do not open")
				}
				// They authorise another rekey, which is the way out.
				s := b.rekeyStart(api.StartRekey{SecretShares: 3, SecretThreshold: 3, RequireVerification: true})
				third := b.rekeyGive(s.Nonce, old[:3]...)
				if v := b.rekeyVerify(third.VerificationNonce, third.Keys...); !v.Complete {
					t.Fatalf("%+v", v)
				}
				b.restart()
				if b.opens(old[:3]...) || b.opens(made.Keys...) || !b.opens(third.Keys...) {
					t.Error("other shares open than the newest")
				}
				return
			}
			if _, err := b.c.Unseal(t.Context(), old[0]); err != nil {
				t.Fatal(err)
			}
			if s := b.c.Status(); s.T != 3 || s.N != 5 || s.Progress != 1 {
				t.Errorf("%+v", s)
			}
			_, err := b.c.Unseal(t.Context(), made.Keys[0])
			wantFault(t, err, fault.Invalid, "do not open together", "reset")
			if !errors.Is(err, ErrForeign) {
				t.Error(err)
			}
			if !b.opens(made.Keys...) || b.c.record().Former != nil {
				t.Fatal("the new shares do not open, or the old ones still do")
			}
			b.restart()
			if b.opens(old[:3]...) || !b.opens(made.Keys...) {
				t.Error("the old shares open, or the new ones do not")
			}
		})
	}
}

func TestRekeyNewPIN(t *testing.T) {
	t.Parallel()
	for _, adopted := range []bool{false, true} {
		b := newBed(t)
		req := &api.Init{SecretShares: 2, SecretThreshold: 2}
		if adopted {
			b.device.initialise([]byte("so pin"), []byte("135792"))
			req.HSMToken, req.HSMPIN = Adopt, "135792"
		}
		r, err := b.c.Init(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		b.give(r.Keys...)
		user, so := b.device.userPIN, b.device.soPIN
		made := b.repinTo(r.Keys, 3, 2)
		if v := b.rekeyVerify(made.VerificationNonce, made.Keys[:2]...); !v.Complete {
			t.Fatalf("%+v", v)
		}
		if bytes.Equal(user, b.device.userPIN) || bytes.Equal(so, b.device.soPIN) != adopted {
			t.Errorf("adopted %v: the PINs are %s and %s, were %s and %s", adopted, b.device.userPIN, b.device.soPIN, user, so)
		}
		if b.c.record().Former != nil || b.device.wrong != 0 {
			t.Error("the old shares open, or a PIN was refused")
		}
		b.restart()
		if b.opens(r.Keys...) || !b.opens(made.Keys[1:]...) || b.device.wrong != 0 {
			t.Error("the old shares open, or the new ones do not")
		}
		if log := b.log.String(); strings.Contains(log, string(b.device.userPIN)) || strings.Contains(log, string(user)) {
			t.Error("a PIN is in the log")
		}
	}
}

// repinTo makes new shares that wait for verification, with a new PIN.
func (b *bed) repinTo(shares []string, n, t int) api.RekeyStatus {
	b.t.Helper()
	s := b.rekeyStart(api.StartRekey{SecretShares: n, SecretThreshold: t, RequireVerification: true, NewPIN: true})
	return b.rekeyGive(s.Nonce, shares...)
}

// The process ends at every call of the last step, in all forms: afterwards the old
// or the new shares unseal, whichever are tried first, and no PIN is tried often.
func TestRekeyKilled(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"verified", "unverified", "new PIN"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			seen := map[string]bool{}
			for n := 1; ; n++ {
				at := killRekey(t, form, n, n%2 == 0)
				if at == "" {
					break
				}
				killRekey(t, form, n, n%2 == 1)
				seen[at] = true
			}
			names := []string{"store.Get", "store.Apply", "token.OpenSecret", "token.SealSecret"}
			if form == "new PIN" {
				names = append(names, "token.ChangePIN 1", "token.ChangePIN 1 done", "token.ChangePIN 2", "token.ChangePIN 2 done")
			}
			for _, name := range names {
				if !seen[name] {
					t.Errorf("%s never failed", name)
				}
			}
		})
	}
}

func killRekey(t *testing.T, form string, n int, newFirst bool) (at string) {
	t.Helper()
	b := newBed(t)
	old := b.init(2, 2).Keys
	b.give(old...)
	var made api.RekeyStatus
	s := b.rekeyStart(api.StartRekey{SecretShares: 3, SecretThreshold: 2, RequireVerification: form != "unverified", NewPIN: form == "new PIN"})
	b.rekeyGive(s.Nonce, old[0])
	if form == "unverified" {
		b.faults.kill(n)
		resp, err := b.invoke("sys.rekey.update", &api.GiveRekeyShare{Key: old[1], Nonce: s.Nonce})
		if err == nil {
			made = *resp.(*api.RekeyStatus)
		}
	} else {
		made = b.rekeyGive(s.Nonce, old[1])
		b.rekeyVerify(made.VerificationNonce, made.Keys[0])
		b.faults.kill(n)
		b.invoke("sys.rekey.verify", &api.GiveRekeyShare{Key: made.Keys[2], Nonce: made.VerificationNonce})
	}
	at = b.faults.at
	b.faults.arm(0)
	b.restart()
	candidates := [][]string{old}
	if len(made.Keys) > 0 {
		candidates = append(candidates, made.Keys[:2])
	}
	if newFirst {
		slices.Reverse(candidates)
	}
	var opened []string
	for _, shares := range candidates {
		if b.opens(shares...) {
			opened = shares
			break
		}
	}
	switch {
	case opened == nil:
		t.Fatalf("%s, killed at %s (call %d): neither the old nor the new shares open; log:\n%s", form, at, n, b.log.String())
	case b.device.wrong > 0:
		t.Errorf("%s, killed at %s: the last PIN was refused", form, at)
	}
	// What opened once opens again, and authorises the next rekey.
	b.seal()
	if !b.opens(opened...) {
		t.Fatalf("%s, killed at %s: what opened once does not again", form, at)
	}
	next := b.repinTo(opened[:2], 1, 1)
	if v := b.rekeyVerify(next.VerificationNonce, next.Keys...); !v.Complete {
		t.Errorf("%+v", v)
	}
	b.restart()
	for _, shares := range candidates {
		if b.opens(shares...) {
			t.Errorf("%s, killed at %s: shares of before the last rekey open", form, at)
		}
	}
	if !b.opens(next.Keys...) {
		t.Errorf("%s, killed at %s: the last shares do not open", form, at)
	}
	return at
}

// A token that refuses a new PIN keeps everything as it was.
func TestRekeyPINRefused(t *testing.T) {
	t.Parallel()
	b, old := rooted(t)
	user, so := b.device.userPIN, b.device.soPIN
	made := b.repinTo(old[:3], 2, 1)
	b.faults.armOn("token.ChangePIN 1")
	_, err := b.invoke("sys.rekey.verify", &api.GiveRekeyShare{Key: made.Keys[0], Nonce: made.VerificationNonce})
	wantFault(t, err, fault.Unavailable, "did not take a new user PIN", "the new shares open nothing")
	b.faults.arm(0)
	b.restart()
	if b.opens(made.Keys[:1]...) || !b.opens(old[:3]...) || !bytes.Equal(user, b.device.userPIN) {
		t.Error("something was changed")
	}
	// The SO PIN alone: the user PIN is the new one then.
	made = b.repinTo(old[:3], 2, 1)
	b.faults.armOn("token.ChangePIN 2")
	b.rekeyVerify(made.VerificationNonce, made.Keys[0])
	b.faults.arm(0)
	b.restart()
	if !b.opens(made.Keys[1]) || bytes.Equal(user, b.device.userPIN) || !bytes.Equal(so, b.device.soPIN) || b.c.record().Former != nil {
		t.Error("the user PIN did not change, or the SO PIN did")
	}
	if !strings.Contains(b.log.String(), "did not take a new SO PIN") {
		t.Error("the log does not tell")
	}
}

func TestRekeyRefused(t *testing.T) {
	t.Parallel()
	b, old := rooted(t)
	refused := func(name string, req any, kind fault.Kind, words ...string) {
		t.Helper()
		_, err := b.invoke(name, req)
		wantFault(t, err, kind, words...)
	}
	refused("sys.rekey.update", &api.GiveRekeyShare{Key: old[0]}, fault.Invalid, "no barrier rekey in progress")
	refused("sys.rekey.verify", &api.GiveRekeyShare{Key: old[0]}, fault.Invalid, "no rekey verification in progress")
	refused("sys.rekey.verify.status", nil, fault.Invalid, "no rekey verification in progress")
	refused("sys.rekey.backup", nil, fault.Invalid, "no backed-up keys")
	for _, x := range []struct {
		req  api.StartRekey
		want string
	}{
		{api.StartRekey{}, "shares must be at least one"},
		{api.StartRekey{SecretShares: 256, SecretThreshold: 1}, "less than 256"},
		{api.StartRekey{SecretShares: 2, SecretThreshold: 3}, "cannot be larger"},
		{api.StartRekey{SecretShares: 2}, "threshold must be at least one"},
		{api.StartRekey{SecretShares: 2, SecretThreshold: 2, Backup: true}, "without providing PGP keys"},
		{api.StartRekey{SecretShares: 2, SecretThreshold: 2, NewPIN: true}, "new_pin needs require_verification"},
		{api.StartRekey{SecretShares: 2, SecretThreshold: 2, PGPKeys: []string{"x"}}, "1 pgp_keys for 2"},
		{api.StartRekey{SecretShares: 1, SecretThreshold: 1, PGPKeys: []string{"x!"}}, "key 1 of 1"},
	} {
		refused("sys.rekey.start", &x.req, fault.Invalid, x.want)
	}
	s := b.rekeyStart(api.StartRekey{SecretShares: 2, SecretThreshold: 1, RequireVerification: true})
	refused("sys.rekey.start", &api.StartRekey{SecretShares: 2, SecretThreshold: 1}, fault.Invalid, "rekey already in progress", "cancel")
	refused("sys.rekey.update", &api.GiveRekeyShare{Nonce: s.Nonce}, fault.Invalid, "'key' must be specified")
	refused("sys.rekey.update", &api.GiveRekeyShare{Key: old[0], Nonce: "x"}, fault.Invalid, "incorrect nonce supplied", s.Nonce)
	refused("sys.rekey.update", &api.GiveRekeyShare{Key: vectorShares[0], Nonce: s.Nonce}, fault.Invalid, "another set")
	refused("sys.rekey.cancel", &api.CancelRekey{Nonce: "x"}, fault.Invalid, "incorrect nonce")
	b.rekeyGive(s.Nonce, old[0])
	refused("sys.rekey.update", &api.GiveRekeyShare{Key: old[0], Nonce: s.Nonce}, fault.Invalid, "was given already")
	made := b.rekeyGive(s.Nonce, old[1:3]...)
	refused("sys.rekey.update", &api.GiveRekeyShare{Key: old[3], Nonce: s.Nonce}, fault.Invalid, "made already")
	refused("sys.rekey.verify", &api.GiveRekeyShare{Key: made.Keys[0], Nonce: s.Nonce}, fault.Invalid, "incorrect nonce")
	refused("sys.rekey.verify", &api.GiveRekeyShare{Key: old[0], Nonce: made.VerificationNonce}, fault.Invalid, "another set")
	b.does("sys.rekey.cancel", &api.CancelRekey{Nonce: s.Nonce})
	refused("sys.rekey.verify", &api.GiveRekeyShare{Key: made.Keys[0], Nonce: made.VerificationNonce}, fault.Invalid, "no rekey verification")
	b.seal()
	refused("sys.rekey.status", nil, fault.Sealed)
	refused("sys.rekey.start", &api.StartRekey{SecretShares: 2, SecretThreshold: 1}, fault.Sealed)
	if b.opens(made.Keys[0]) || !b.opens(old[:3]...) {
		t.Error("a cancelled rekey changed the shares")
	}
	// Sealing ends an attempt.
	s = b.rekeyStart(api.StartRekey{SecretShares: 2, SecretThreshold: 1})
	b.seal()
	b.give(old[:3]...)
	refused("sys.rekey.update", &api.GiveRekeyShare{Key: old[0], Nonce: s.Nonce}, fault.Invalid, "no barrier rekey")
}

func TestRekeyBackup(t *testing.T) {
	t.Parallel()
	g := newGnuPG(t)
	public, print := g.key("ada@example.org", "future-default", "default", "never")
	b, old := rooted(t)
	key := base64.StdEncoding.EncodeToString(public)
	s := b.rekeyStart(api.StartRekey{SecretShares: 2, SecretThreshold: 1, Backup: true, PGPKeys: []string{key, key}})
	made := b.rekeyGive(s.Nonce, old[:3]...)
	if !slices.Equal(made.PGPFingerprints, []string{print, print}) || !made.Backup {
		t.Errorf("%+v", made)
	}
	kept := *mustInvoke[api.RekeyBackup](b, "sys.rekey.backup", nil)
	if kept.Nonce != s.Nonce || !slices.Equal(kept.Keys[print], made.Keys) || !slices.Equal(kept.KeysBase64[print], made.KeysBase64) {
		t.Errorf("%+v", kept)
	}
	b.restart()
	share := string(g.run(unhex(t, made.Keys[1]), "--decrypt"))
	if !b.opens(share) {
		t.Error("a decrypted share does not open")
	}
	b.does("sys.rotate-root.backup.delete", nil)
	b.does("sys.rekey.backup.delete", nil)
	if b.store.has(table, backupKey) {
		t.Error("the backup is still there")
	}
}

// Who writes the database can move no former set into another record, nor alter it.
func TestFormerAltered(t *testing.T) {
	t.Parallel()
	b, old := rooted(t)
	s := b.rekeyStart(api.StartRekey{SecretShares: 1, SecretThreshold: 1})
	b.rekeyGive(s.Nonce, old[:3]...)
	for name, change := range map[string]func(f *formerSet){
		"shares":      func(f *formerSet) { f.Shares++ },
		"threshold":   func(f *formerSet) { f.Threshold = 1 },
		"commitments": func(f *formerSet) { f.Commitments[0][0] ^= 1 },
		"id":          func(f *formerSet) { f.SetID = strings.Repeat("0", 16) },
	} {
		r := *b.c.record()
		f := *r.Former
		f.Commitments = slices.Clone(f.Commitments)
		f.Commitments[0] = slices.Clone(f.Commitments[0])
		change(&f)
		r.Former = &f
		data, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseRecord(data); err == nil || !strings.Contains(err.Error(), "altered") {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.store.edit(t, func(r *record) { r.Former.PINs[20] ^= 1 })
	b.restart()
	b.give(old[0], old[1])
	_, err := b.c.Unseal(t.Context(), old[2])
	wantFault(t, err, fault.Conflict, "was altered")
}

func TestPINsBothWays(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{7}, 32)
	for _, p := range []*pins{
		{user: []byte("u"), so: []byte("s")},
		{user: []byte("u"), so: []byte{}},
		{user: []byte("u1"), so: []byte("s1"), before: &pins{user: []byte("u0"), so: []byte("s0")}},
	} {
		sealed, err := sealPINs(key, p, []byte("aad"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := openPINs(key, sealed, []byte("aad"))
		if err != nil || !bytes.Equal(got.user, p.user) || !bytes.Equal(got.so, p.so) || (got.before == nil) != (p.before == nil) {
			t.Errorf("%+v, %v", got, err)
		}
		if p.before != nil && !bytes.Equal(got.before.so, p.before.so) {
			t.Errorf("%+v", got.before)
		}
		if _, err := openPINs(key, sealed, []byte("other")); !errors.Is(err, errPINRecord) {
			t.Error(err)
		}
	}
}
