package worker

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/tokentest"
)

// openSource opens a token with system keys.
func openSource(t testing.TB, transferable bool) (*hsm, *Device) {
	t.Helper()
	d := newDevice(t, softConfig(t))
	if err := d.Create(within(t), []byte(testSO), []byte(testPIN)); err != nil {
		t.Fatal(err)
	}
	h := openDevice(t, d)
	if err := h.Provision(within(t), transferable); err != nil {
		t.Fatal(err)
	}
	return h, d
}

func makeCarrier(t testing.TB, h *hsm) token.KEKEK {
	t.Helper()
	k, err := h.MakeCarrier(within(t), token.MinKEKEK, newMoveID(), "kekek")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestCarrierAttributes(t *testing.T) {
	t.Parallel()
	h := openMove(t, softConfig(t))
	k := makeCarrier(t, h)
	want := map[string]bool{"CKA_TOKEN": true, "CKA_PRIVATE": true, "CKA_SENSITIVE": true, "CKA_EXTRACTABLE": false,
		"CKA_ALWAYS_SENSITIVE": true, "CKA_NEVER_EXTRACTABLE": true, "CKA_LOCAL": true, "CKA_UNWRAP": true, "CKA_DECRYPT": true,
		"CKA_SIGN": false, "CKA_DERIVE": false}
	if !maps.Equal(k.Attributes, want) {
		t.Errorf("%v", k.Attributes)
	}
	// SoftHSM2 has OAEP with SHA-1 only.
	if !slices.Equal(k.Paddings, []token.Padding{token.OAEPSHA1, token.PKCS1}) {
		t.Errorf("%v", k.Paddings)
	}
	for _, bits := range []int{2048, 3000, 8192} {
		if _, err := h.MakeCarrier(within(t), bits, newMoveID(), ""); !errors.Is(err, token.ErrUnsupported) {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
}

// useWrapped seals and opens with a wrapped key.
func useWrapped(t testing.TB, h *hsm, st token.Stored, sealed []byte) []byte {
	t.Helper()
	k, err := h.Key(st)
	if err != nil {
		t.Fatal(err)
	}
	if sealed == nil {
		return do1(t, k, token.Op{Kind: token.Seal}, token.Item{Nonce: make([]byte, 12), In: []byte("kept")})
	}
	return do1(t, k, token.Op{Kind: token.Open}, token.Item{Nonce: make([]byte, 12), In: sealed})
}

func TestCarryKEK(t *testing.T) {
	t.Parallel()
	source, _ := openSource(t, true)
	key, err := source.Generate(within(t), token.Spec{Type: token.AES256, Place: token.PlaceWrapped, ID: newMoveID()})
	if err != nil {
		t.Fatal(err)
	}
	sealed := useWrapped(t, source, key, nil)
	for _, padding := range []token.Padding{token.OAEPSHA1, token.PKCS1} {
		t.Run(string(padding), func(t *testing.T) {
			t.Parallel()
			d := newDevice(t, softConfig(t))
			if err := d.Create(within(t), []byte(testSO), []byte(testPIN)); err != nil {
				t.Fatal(err)
			}
			h := openDevice(t, d)
			k := makeCarrier(t, h)
			w, err := source.CarryKEK(within(t), k.Public, []token.Padding{"unknown", token.OAEPSHA256, padding})
			if err != nil || w.Padding != padding {
				t.Fatal(w.Padding, err)
			}
			refusedKEKs(t, h, k, w)
			for range 2 { // it can be repeated
				if err := h.TakeKEK(within(t), k.ID, k.Label, w, false); err != nil {
					t.Fatal(err)
				}
			}
			if err := h.Provision(within(t), true); err != nil {
				t.Fatal(err)
			}
			if h.Info().Transferable {
				t.Error("a KEK that came not transferable is")
			}
			if got := useWrapped(t, h, key, sealed); !bytes.Equal(got, []byte("kept")) {
				t.Errorf("%q", got)
			}
			if _, err := h.CarryKEK(within(t), k.Public, k.Paddings); !errors.Is(err, token.ErrUnsupported) {
				t.Errorf("a KEK that is not transferable left: %v", err)
			}
		})
	}
}

// refusedKEKs: nothing of a KEK that is wrong stays.
func refusedKEKs(t testing.TB, h *hsm, k token.KEKEK, w token.WrappedKEK) {
	t.Helper()
	other := makeCarrier(t, h)
	flip := func(b []byte, at int) []byte {
		c := slices.Clone(b)
		c[at] ^= 1
		return c
	}
	for name, c := range map[string]struct {
		id token.ID
		w  token.WrappedKEK
	}{
		"another KEKEK":   {other.ID, w},
		"another blob":    {k.ID, token.WrappedKEK{Padding: w.Padding, Blob: flip(w.Blob, 7), Proof: w.Proof}},
		"short blob":      {k.ID, token.WrappedKEK{Padding: w.Padding, Blob: w.Blob[1:], Proof: w.Proof}},
		"another proof":   {k.ID, token.WrappedKEK{Padding: w.Padding, Blob: w.Blob, Proof: flip(w.Proof, 3)}},
		"no proof":        {k.ID, token.WrappedKEK{Padding: w.Padding, Blob: w.Blob}},
		"another padding": {k.ID, token.WrappedKEK{Padding: token.OAEPSHA256, Blob: w.Blob, Proof: w.Proof}},
		"no padding":      {k.ID, token.WrappedKEK{Blob: w.Blob, Proof: w.Proof}},
	} {
		err := h.TakeKEK(within(t), c.id, "kekek", c.w, true)
		if !errors.Is(err, token.ErrOpen) && !(name == "another padding" && errors.Is(err, token.ErrUnsupported)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	objects, err := h.Objects(within(t), token.ObjectName{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if o.Label != "kekek" {
			t.Errorf("%q stayed", o.Label)
		}
	}
}

// A KEK that was not made transferable never leaves, and none replaces another.
func TestCarryKEKRefused(t *testing.T) {
	t.Parallel()
	source, _ := openSource(t, false)
	k := makeCarrier(t, source)
	if _, err := source.CarryKEK(within(t), k.Public, k.Paddings); !errors.Is(err, token.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	if _, err := source.Carry(within(t), k.Public, k.Paddings, nil); !errors.Is(err, token.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	from, _ := openSource(t, true)
	w, err := from.CarryKEK(within(t), k.Public, k.Paddings)
	if err != nil {
		t.Fatal(err)
	}
	if err := source.TakeKEK(within(t), k.ID, k.Label, w, true); !errors.Is(err, token.ErrExists) {
		t.Errorf("%v", err)
	}
}

// What a token does not wrap is said before anything leaves.
func TestTryCarry(t *testing.T) {
	t.Parallel()
	h, _ := openSource(t, true)
	own, err := h.Generate(within(t), token.Spec{Type: token.P256, Place: token.PlaceObject, ID: newMoveID(), Label: "own"})
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := h.Generate(within(t), token.Spec{Type: token.P256, Place: token.PlaceWrapped, ID: newMoveID()})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.TryCarry(within(t), []token.Stored{wrapped, wrapped}); err != nil {
		t.Error(err)
	}
	if err := h.TryCarry(within(t), []token.Stored{wrapped, own}); !errors.Is(err, token.ErrUnsupported) || !strings.Contains(err.Error(), "CKA_EXTRACTABLE") {
		t.Errorf("an object that can't leave: %v", err)
	}
	own.ID = newMoveID()
	if err := h.TryCarry(within(t), []token.Stored{own}); !errors.Is(err, token.ErrNotFound) {
		t.Errorf("an object that is not there: %v", err)
	}
	if err := h.TryCarry(within(t), make([]token.Stored, maxCarried+1)); !errors.Is(err, token.ErrUnsupported) {
		t.Errorf("too many: %v", err)
	}
	stays, _ := openSource(t, false)
	if err := stays.TryCarry(within(t), []token.Stored{wrapped}); !errors.Is(err, token.ErrUnsupported) {
		t.Errorf("a KEK that is not transferable: %v", err)
	}
}

// Nothing is wrapped for a KEKEK with a small public exponent, whatever the module
// would do: with 1 the secret would leave in clear.
func TestSmallExponent(t *testing.T) {
	t.Parallel()
	h, d := openSource(t, true)
	good := makeCarrier(t, h)
	key, err := h.Generate(within(t), token.Spec{Type: token.AES256, Place: token.PlaceWrapped, ID: newMoveID()})
	if err != nil {
		t.Fatal(err)
	}
	tokentest.Tool(t, softHSM, "test", testPIN, d.cfg.Env, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "0102", "--label", "pair", "--extractable")
	for _, e := range []int{1, 3, 17, 257} {
		der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: rsaPublic(t, good.Public).N, E: e})
		if err != nil {
			t.Fatal(err)
		}
		wantExponent := func(what string, err error) {
			if !errors.Is(err, token.ErrUnsupported) || !strings.Contains(err.Error(), "public exponent") {
				t.Errorf("%s under a KEKEK with exponent %d: %v", what, e, err)
			}
		}
		_, err = h.CarryKEK(within(t), der, good.Paddings)
		wantExponent("the KEK", err)
		_, err = h.Carry(within(t), der, good.Paddings, []token.Stored{key})
		wantExponent("a wrapped key", err)
		_, _, err = h.MoveOut(within(t), der, token.Half{Label: "pair", ID: []byte{1, 2}, Private: true})
		wantExponent("an object", err)
	}
}

func TestCarry(t *testing.T) {
	t.Parallel()
	source, _ := openSource(t, true)
	destination, _ := openSource(t, false)
	k := makeCarrier(t, destination)
	var keys []token.Stored
	for _, typ := range []token.Type{token.AES128, token.AES256, token.P256, token.P384, token.P521, token.RSA2048, token.HMAC} {
		size := 0
		if typ == token.HMAC {
			size = 64
		}
		st, err := source.Generate(within(t), token.Spec{Type: typ, Size: size, Place: token.PlaceWrapped, ID: newMoveID()})
		if err != nil {
			t.Fatal(typ, err)
		}
		keys = append(keys, st)
	}
	f, err := source.Carry(within(t), k.Public, k.Paddings, keys)
	if err != nil {
		t.Fatal(err)
	}
	list, err := destination.Take(within(t), k.ID, k.Label, f)
	if err != nil || len(list) != len(keys) {
		t.Fatal(len(list), err)
	}
	sealed := useWrapped(t, source, keys[1], nil)
	if got := useWrapped(t, destination, list[1], sealed); string(got) != "kept" {
		t.Errorf("%q", got)
	}
	mac := func(h *hsm, st token.Stored) []byte {
		key, err := h.Key(st)
		if err != nil {
			t.Fatal(err)
		}
		return do1(t, key, token.Op{Kind: token.MAC, Hash: 5}, token.Item{In: []byte("message")})
	}
	if !bytes.Equal(mac(source, keys[6]), mac(destination, list[6])) {
		t.Error("another HMAC key came")
	}
	digest := sha256.Sum256([]byte("message"))
	signer, err := destination.Key(list[2])
	if err != nil {
		t.Fatal(err)
	}
	if sig := do1(t, signer, token.Op{Kind: token.Sign}, token.Item{In: digest[:]}); len(sig) != 64 || !bytes.Equal(list[2].Public, keys[2].Public) {
		t.Error("the key does not sign")
	}
	for name, change := range map[string]func(*token.Freight){
		"key":    func(f *token.Freight) { f.Key = slices.Clone(f.Key); f.Key[9] ^= 1 },
		"blob":   func(f *token.Freight) { f.Keys[2].Blob = slices.Clone(f.Keys[2].Blob); f.Keys[2].Blob[9] ^= 1 },
		"public": func(f *token.Freight) { f.Keys[2].Public = f.Keys[3].Public },
		"type":   func(f *token.Freight) { f.Keys[2].Type = token.RSA2048 },
		"none":   func(f *token.Freight) { f.Keys[2].Type = 0 },
	} {
		bad := f
		bad.Keys = slices.Clone(f.Keys)
		change(&bad)
		if _, err := destination.Take(within(t), k.ID, k.Label, bad); err == nil || name != "none" && !errors.Is(err, token.ErrOpen) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
