package keys

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

func (e *env) proofs(all bool) (blobs [][]byte) {
	e.t.Helper()
	failed, err := e.Proofs(bg, all, func(b []byte) error { blobs = append(blobs, slices.Clone(b)); return nil })
	must(e.t, err)
	if failed != 0 {
		e.t.Errorf("%d keys have no test ciphertext", failed)
	}
	return blobs
}

func (e *env) checked(blobs [][]byte) map[string][]Checked {
	e.t.Helper()
	all := map[string][]Checked{}
	must(e.t, e.CheckProofs(bg, blobs, func(c Checked) error { all[c.Name] = append(all[c.Name], c); return nil }))
	return all
}

// Every type of key, in server memory and in an HSM token: with test ciphertexts each
// version is proved, without them it works.
func TestProofs(t *testing.T) {
	t.Parallel()
	for _, onHSM := range []bool{false, true} {
		e := newEnv(t, onHSM)
		n := 0
		for _, typ := range token.Types() {
			if onHSM && !e.hsm.info.Holds[typ].Wrapped && !e.hsm.info.Holds[typ].Object || typ == token.RSA3072 || typ == token.RSA4096 {
				continue
			}
			e.make(typ.String(), typ.String())
			e.rotateNow(typ.String())
			n++
		}
		e.makeDerived("derived", "aes256-gcm96", false)
		e.rotateNow("derived")
		n++
		all := e.proofs(true)
		if again := e.proofs(true); len(again) != len(all) {
			t.Errorf("%d blobs, then %d", len(all), len(again))
		}
		e.restart()
		got := e.checked(all)
		if len(got) != n {
			t.Errorf("%d keys, want %d", len(got), n)
		}
		for name, versions := range got {
			for _, v := range versions {
				if v.Err != nil || !v.Proved || len(versions) != 2 {
					t.Errorf("on an HSM %v: %s: %+v", onHSM, name, v)
				}
			}
		}
		latest := e.checked(e.proofs(false))["aes256-gcm96"]
		if latest[0].Proved || !latest[1].Proved || latest[0].Err != nil {
			t.Errorf("the newest versions only: %+v", latest)
		}
		if none := e.checked(nil)["aes256-gcm96"]; none[0].Proved || none[0].Err != nil {
			t.Errorf("without test ciphertexts: %+v", none)
		}
	}
}

// The same version of the same key makes the same test ciphertext: it uses one nonce
// once for one text, and counts as no use.
func TestProofsAreTheSame(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("k", "aes256-gcm96")
	out := func() []byte {
		proofs, err := e.readProofs(e.proofs(true))
		must(t, err)
		for id, p := range proofs {
			if !id.mac {
				return p
			}
		}
		return nil
	}
	if a, b := out(), out(); !bytes.Equal(a, b) || len(a) != 48 {
		t.Errorf("%x and %x", a, b)
	}
	if bytes.Equal(proofNonce(token.AES256, "id", 1), proofNonce(token.AES256, "id", 2)) || bytes.Equal(proofText("id", 1), proofText("jd", 1)) {
		t.Error("two versions share a nonce, or a text")
	}
}

// Another secret in a record is noticed, although it works.
func TestProofsOfOtherSecrets(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	names := []string{"aes256-gcm96", "ecdsa-p256", "hmac", "rsa-2048"}
	for _, name := range names {
		e.make(name, name)
		e.make("other-"+name, name)
	}
	blobs := e.proofs(true)
	for _, name := range names {
		var mine, other versionRecord
		at := keyName{"transit/", name}.version(1)
		version, err := e.Service.store.Get(bg, tableVersions, at, &mine)
		must(t, err)
		_, err = e.Service.store.Get(bg, tableVersions, keyName{"transit/", "other-" + name}.version(1), &other)
		must(t, err)
		mine.Main.ID, mine.Main.Blob = other.Main.ID, other.Main.Blob
		put, err := e.Service.store.Put(tableVersions, at, version, mine)
		must(t, err)
		must(t, e.Service.store.Apply(bg, put))
	}
	for name, versions := range e.checked(blobs) {
		if wrong := slices.Contains(names, name); wrong != (versions[0].Err != nil) || wrong == versions[0].Proved {
			t.Errorf("%s: %+v", name, versions[0])
		}
	}
}

// Keys that can't be used are counted, and the others have their test ciphertexts.
func TestProofsOfBrokenKeys(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("good", "aes256-gcm96")
	e.make("broken", "aes256-gcm96")
	var r versionRecord
	at := keyName{"transit/", "broken"}.version(1)
	version, err := e.Service.store.Get(bg, tableVersions, at, &r)
	must(t, err)
	rand.Read(r.Main.Blob)
	put, err := e.Service.store.Put(tableVersions, at, version, r)
	must(t, err)
	must(t, e.Service.store.Apply(bg, put))
	var blobs [][]byte
	failed, err := e.Proofs(bg, true, func(b []byte) error { blobs = append(blobs, b); return nil })
	if err != nil || failed != 1 {
		t.Errorf("%d failed, %v", failed, err)
	}
	got := e.checked(blobs)
	if !got["good"][0].Proved || got["broken"][0].Err == nil {
		t.Errorf("%+v", got)
	}
	mine := errors.New("mine")
	if _, err := e.Proofs(bg, true, func([]byte) error { return mine }); err != mine {
		t.Error(err)
	}
	if err := e.CheckProofs(bg, [][]byte{[]byte("no blob")}, nil); !errors.Is(err, store.ErrCorrupt) {
		t.Error(err)
	}
}
