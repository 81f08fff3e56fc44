package keys

import (
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// plantDerived puts a derived software key with a known secret into the store.
func (e *env) plantDerived(name string, t token.Type, secret []byte, convergent bool) {
	e.t.Helper()
	e.plant(name, t, secret, nil)
	n := keyName{"transit/", name}
	var meta keyRecord
	rec, err := e.sealed.Get(bg, tableKeys, n.record(), &meta)
	must(e.t, err)
	meta.Derived, meta.Convergent = true, convergent
	put, err := e.sealed.Put(tableKeys, n.record(), rec, meta)
	must(e.t, err)
	must(e.t, e.sealed.Apply(bg, put))
}

func (e *env) encAs(r api.Encrypt) string {
	e.t.Helper()
	out, err := e.encrypt(bg, call(), &r)
	must(e.t, err)
	return out.Ciphertext
}

func (e *env) makeDerived(name, typ string, convergent bool) *api.Key {
	e.t.Helper()
	return e.makeAs(api.CreateKey{Name: name, Type: typ, Protection: "software", Derived: true, ConvergentEncryption: convergent})
}

// The ciphertexts were computed with pyca/cryptography 48 (HKDF, AESGCM,
// ChaCha20Poly1305) and Python's hmac: secret 00 01 02 …, context "tenant-7",
// plaintext "attack at dawn"; not convergent: nonce 10 11 … 1b, associated data
// "header".
func TestKnownDerived(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	const secret = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	context, plaintext := []byte("tenant-7"), []byte("attack at dawn")
	for _, c := range []struct {
		typ                 token.Type
		derived, convergent string
	}{
		{token.AES128, "vault:v1:EBESExQVFhcYGRoblLfONm1FiPgJlfuHtFxEC2Vd6oZ3rGo1ol6bdlXB", "vault:v1:/rOpds3+9DTe8MWYKJRAi8Pz8+lh2z+q7E4eFOeAq8KZBsK8U6Yvus1T"},
		{token.AES256, "vault:v1:EBESExQVFhcYGRobY8gYwnn2SKSXNsmbx6JTgU/K+BqgqsGeyMv+17pI", "vault:v1:wvDIJkhmubuFh/qV7WNoFnYjTIYYuQeza/Bnj0PV3DWzyc79Ujc6NNQP"},
		{token.ChaCha20, "vault:v1:EBESExQVFhcYGRobUy09H+au00XzyvTDNYC1xFUsFP55/OhMbzgOu29I", "vault:v1:wvDIJkhmubuFh/qVP6T9nstHcUWczY5WlP3jegld7jTMHaBTjgbT/tD1"},
	} {
		size := c.typ.Bits() / 8
		e.plantDerived("d-"+c.typ.String(), c.typ, unhex(t, secret)[:size], false)
		r, err := e.decrypt(bg, call(), &api.Decrypt{Name: "d-" + c.typ.String(), Ciphertext: c.derived, Context: context, AssociatedData: []byte("header")})
		must(t, err)
		if string(*r.Plaintext) != string(plaintext) {
			t.Errorf("%v: %q", c.typ, *r.Plaintext)
		}
		name := "c-" + c.typ.String()
		e.plantDerived(name, c.typ, unhex(t, secret)[:size], true)
		if got := e.encAs(api.Encrypt{Name: name, Plaintext: plaintext, Context: context}); got != c.convergent {
			t.Errorf("%v: convergent %s", c.typ, got)
		}
		r, err = e.decrypt(bg, call(), &api.Decrypt{Name: name, Ciphertext: c.convergent, Context: context})
		must(t, err)
		if string(*r.Plaintext) != string(plaintext) {
			t.Errorf("%v: convergent %q", c.typ, *r.Plaintext)
		}
	}
}

func TestDerived(t *testing.T) {
	t.Parallel()
	for _, typ := range []string{"aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305"} {
		e := newEnv(t, typ == "aes256-gcm96")
		k := e.makeDerived("k", typ, false)
		if !k.Derived || !k.SupportsDerivation || k.KDF != "hkdf_sha256" || k.ConvergentEncryption == nil || *k.ConvergentEncryption || k.ConvergentEncryptionVersion != 0 {
			t.Errorf("%+v", k)
		}
		a, b := []byte("a"), []byte("b")
		text := e.encAs(api.Encrypt{Name: "k", Plaintext: []byte("x"), Context: a})
		if again := e.encAs(api.Encrypt{Name: "k", Plaintext: []byte("x"), Context: a}); again == text {
			t.Error("not convergent, but the ciphertexts are the same")
		}
		e.rotateNow("k")
		e.restart()
		r, err := e.rewrap(bg, call(), &api.Rewrap{Name: "k", Ciphertext: text, Context: a})
		must(t, err)
		d, err := e.dataKey(bg, call(), &api.DataKey{Name: "k", Kind: "plaintext", Context: a})
		must(t, err)
		for ciphertext, want := range map[string]string{text: "x", r.Ciphertext: "x", d.Ciphertext: string(d.Plaintext)} {
			p, err := e.decrypt(bg, call(), &api.Decrypt{Name: "k", Ciphertext: ciphertext, Context: a})
			must(t, err)
			if string(*p.Plaintext) != want {
				t.Errorf("%q", *p.Plaintext)
			}
			_, err = e.decrypt(bg, call(), &api.Decrypt{Name: "k", Ciphertext: ciphertext, Context: b})
			wantFault(t, err, fault.Invalid, msgOpen)
			_, err = e.decrypt(bg, call(), &api.Decrypt{Name: "k", Ciphertext: ciphertext})
			wantFault(t, err, fault.Invalid, "missing 'context' for key derivation; the key was created using a derived key")
		}
		if !strings.HasPrefix(r.Ciphertext, "vault:v2:") {
			t.Error(r.Ciphertext)
		}
		_, err = e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte("x")})
		wantFault(t, err, fault.Invalid, "missing 'context'")
		_, err = e.rewrap(bg, call(), &api.Rewrap{Name: "k", Ciphertext: text})
		wantFault(t, err, fault.Invalid, "missing 'context'")
		_, err = e.dataKey(bg, call(), &api.DataKey{Name: "k", Kind: "wrapped"})
		wantFault(t, err, fault.Invalid, "missing 'context'")
		h, err := e.hmac(bg, call(), &api.HMAC{Name: "k", Input: []byte("m")}) // needs no context
		if err != nil || !strings.HasPrefix(h.HMAC, "vault:v2:") {
			t.Errorf("%+v %v", h, err)
		}
	}
}

func TestConvergent(t *testing.T) {
	t.Parallel()
	for _, typ := range []string{"aes256-gcm96", "xchacha20-poly1305"} {
		e := newEnv(t, false)
		k := e.makeDerived("k", typ, true)
		if k.ConvergentEncryption == nil || !*k.ConvergentEncryption || k.ConvergentEncryptionVersion != 3 {
			t.Errorf("%+v", k)
		}
		a, b := []byte("a"), []byte("b")
		r, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", BatchInput: []api.EncryptItem{
			{Plaintext: []byte("x"), Context: a}, {Plaintext: []byte("y"), Context: a}, {Plaintext: []byte("x"), Context: b}, {Plaintext: []byte("x"), Context: a},
		}})
		must(t, err)
		x, y, other, again := r.BatchResults[0].Ciphertext, r.BatchResults[1].Ciphertext, r.BatchResults[2].Ciphertext, r.BatchResults[3].Ciphertext
		if x != again || x == other || x == y || x[:20] == y[:20] {
			t.Errorf("%s %s %s %s", x, y, other, again)
		}
		e.restart()
		if x != e.encAs(api.Encrypt{Name: "k", Plaintext: []byte("x"), Context: a}) {
			t.Error("another ciphertext after a restart")
		}
		_, err = e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte("x"), Context: a, AssociatedData: []byte("h")})
		wantFault(t, err, fault.Invalid, "associated_data is not possible with convergent encryption")
		e.rotateNow("k")
		w, err := e.rewrap(bg, call(), &api.Rewrap{Name: "k", Ciphertext: x, Context: a})
		must(t, err)
		p, err := e.decrypt(bg, call(), &api.Decrypt{Name: "k", Ciphertext: w.Ciphertext, Context: a})
		must(t, err)
		if string(*p.Plaintext) != "x" || w.Ciphertext[9:] == x[9:] {
			t.Errorf("%q %s", *p.Plaintext, w.Ciphertext)
		}
	}
}

func TestContextInBatches(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.makeDerived("k", "", false)
	e.make("plain", "")
	var in []api.EncryptItem
	for _, context := range []string{"a", "b", "b", "a"} {
		in = append(in, api.EncryptItem{Plaintext: []byte("of " + context), Context: []byte(context)})
	}
	r, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", BatchInput: in})
	must(t, err)
	var out []api.DecryptItem
	for i, res := range r.BatchResults {
		out = append(out, api.DecryptItem{Ciphertext: res.Ciphertext, Context: in[i].Context})
	}
	out = append(out, api.DecryptItem{Ciphertext: out[0].Ciphertext, Context: []byte("b")})
	d, err := e.decrypt(bg, call(), &api.Decrypt{Name: "k", BatchInput: out, PartialFailure: 207})
	must(t, err)
	for i := range in {
		if p := d.BatchResults[i].Plaintext; p == nil || string(*p) != string(in[i].Plaintext) {
			t.Errorf("item %d: %+v", i, d.BatchResults[i])
		}
	}
	if d.Status != 207 || d.BatchResults[4].Error != msgOpen {
		t.Errorf("%+v", d)
	}
	none, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", BatchInput: []api.EncryptItem{{Plaintext: []byte("x")}}})
	must(t, err)
	if none.Status != 400 || none.BatchResults[0].Error != msgNoContext {
		t.Errorf("%+v", none)
	}
	for _, name := range []string{"k", "plain", "none"} {
		mixed := []api.EncryptItem{{Plaintext: []byte("x"), Context: []byte("a")}, {Plaintext: []byte("x")}}
		_, err = e.encrypt(bg, call(), &api.Encrypt{Name: name, BatchInput: mixed})
		wantFault(t, err, fault.Invalid, "context should be set either in all the request blocks or in none")
		_, err = e.decrypt(bg, call(), &api.Decrypt{Name: name, BatchInput: []api.DecryptItem{{Ciphertext: "x"}, {Ciphertext: "x", Context: []byte("a")}}})
		wantFault(t, err, fault.Invalid, msgMixedContext)
		_, err = e.rewrap(bg, call(), &api.Rewrap{Name: name, BatchInput: []api.RewrapItem{{Ciphertext: "x"}, {Ciphertext: "x", Context: []byte("a")}}})
		wantFault(t, err, fault.Invalid, msgMixedContext)
	}
}

func TestDerivedUpsert(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	_, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte("x"), ConvergentEncryption: true})
	wantFault(t, err, fault.Invalid, "convergent encryption requires derivation to be enabled, so context is required")
	_, err = e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte("x"), ConvergentEncryption: true, Context: []byte("c"), AssociatedData: []byte("h")})
	wantFault(t, err, fault.Invalid, "associated_data")
	if e.count(tableKeys) != 0 {
		t.Fatal("a refused request made a key")
	}
	e.encAs(api.Encrypt{Name: "k", Plaintext: []byte("x"), Context: []byte("c")})
	e.encAs(api.Encrypt{Name: "c", Plaintext: []byte("x"), Context: []byte("c"), ConvergentEncryption: true})
	for name, convergent := range map[string]bool{"k": false, "c": true} {
		k, err := e.readKey(bg, call(), &api.ReadKey{Name: name})
		must(t, err)
		if !k.Derived || *k.ConvergentEncryption != convergent {
			t.Errorf("%+v", k)
		}
	}
}

func TestDerivedRefusals(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	for _, c := range []struct {
		r    api.CreateKey
		want string
	}{
		{api.CreateKey{Derived: true, Protection: "elsewhere"}, "unknown protection"},
		{api.CreateKey{ConvergentEncryption: true, Protection: "software"}, "convergent encryption requires derivation to be enabled"},
		{api.CreateKey{Derived: true, ConvergentEncryption: true, Type: "ed25519"}, "convergent encryption not supported for keys of type ed25519"},
		{api.CreateKey{Derived: true, Type: "rsa-2048", Protection: "software"}, "key derivation and convergent encryption not supported for keys of type rsa-2048"},
		{api.CreateKey{Derived: true, Type: "hmac", Protection: "software"}, "not supported for keys of type hmac"},
	} {
		c.r.Name = "k"
		_, err := e.createKey(bg, call(), &c.r)
		wantFault(t, err, fault.Invalid, c.want)
	}
	if e.count(tableKeys) != 0 || e.count(tableVersions) != 0 {
		t.Error("a refused request left something")
	}
	e.make("k", "")
	c := call()
	_, err := e.createKey(bg, c, &api.CreateKey{Name: "k", Derived: true, Protection: "software"})
	must(t, err)
	if all := strings.Join(c.Warnings, "\n"); !strings.Contains(all, "its derived is false") {
		t.Errorf("%q", c.Warnings)
	}
}

// A derived key whose record was altered by hand opens nothing.
func TestDerivedRecord(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.plantDerived("short", token.AES256, make([]byte, 16), false)
	_, err := e.encrypt(bg, call(), &api.Encrypt{Name: "short", Plaintext: []byte("x"), Context: []byte("c")})
	wantFault(t, err, fault.Internal, "a record of this key was altered")
	if !strings.Contains(err.Error(), store.ErrCorrupt.Error()) {
		t.Error(err)
	}
}
