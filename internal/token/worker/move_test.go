package worker

//lint:file-ignore SA1019 the format has RSA with PKCS #1 v1.5

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/tokentest"
)

// openMove opens a token that was not provisioned, as one is that keys move to.
func openMove(t testing.TB, cfg Config) *hsm {
	t.Helper()
	d := newDevice(t, cfg)
	if err := d.Create(within(t), []byte(testSO), []byte(testPIN)); err != nil {
		t.Fatal(err)
	}
	return openDevice(t, d)
}

func newMoveID() (id token.ID) {
	rand.Read(id[:])
	return id
}

func makeKEKEK(t testing.TB, h *hsm) (public []byte, kekek *token.Half) {
	t.Helper()
	id := newMoveID()
	public, err := h.MakeKEKEK(within(t), 2048, id, "kekek")
	if err != nil {
		t.Fatal(err)
	}
	return public, &token.Half{Label: "kekek", ID: id[:]}
}

func halvesOf(t testing.TB, h *hsm) (private, public []token.Half) {
	t.Helper()
	all, err := h.Halves(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, half := range all {
		if half.Private {
			private = append(private, half)
		} else {
			public = append(public, half)
		}
	}
	return private, public
}

// objectsLeft is how many private and public keys a token has.
func objectsLeft(t testing.TB, h *hsm) int {
	private, public := halvesOf(t, h)
	return len(private) + len(public)
}

// parcelOf wraps PKCS #8 DER with keys that are in memory, as a source would.
func parcelOf(t testing.TB, kekekPublic []byte, kekek *token.Half, kek, pkcs8 []byte, isRSA bool) token.Parcel {
	t.Helper()
	wrappedKEK, err := rsa.EncryptPKCS1v15(rand.Reader, rsaPublic(t, kekekPublic), kek)
	if err != nil {
		t.Fatal(err)
	}
	return token.Parcel{RSA: isRSA, Wrapped: tokentest.KWP(t, kek, pkcs8), WrappedKEK: wrappedKEK, KEKEK: kekek}
}

func TestMove(t *testing.T) {
	t.Parallel()
	from, to := softConfig(t), softConfig(t)
	source, destination := openMove(t, from), openMove(t, to)
	for _, k := range []struct{ kind, label string }{
		{"EC:prime256v1", "p256"}, {"EC:secp384r1", "p384"}, {"EC:secp521r1", "p521"}, {"rsa:2048", "rsa"}, {"rsa:3072", "large"},
	} {
		tokentest.Tool(t, softHSM, "test", testPIN, from.Env, "--keypairgen", "--key-type", k.kind, "--id", "0102", "--label", k.label, "--extractable", "--usage-sign")
	}
	kekekPublic, kekek := makeKEKEK(t, destination)
	private, public := halvesOf(t, source)
	if len(private) != 5 || len(public) != 5 {
		t.Fatalf("%d private and %d public keys", len(private), len(public))
	}
	for _, key := range private {
		if !key.Extractable || key.Visible || key.Uses&token.UseSign == 0 {
			t.Errorf("%+v", key)
		}
		at := slices.IndexFunc(public, func(p token.Half) bool { return p.Label == key.Label })
		wrapped, wrappedKEK, err := source.MoveOut(within(t), kekekPublic, key)
		if err != nil {
			t.Fatal(key.Label, err)
		}
		id := newMoveID()
		got, err := destination.MoveIn(within(t), token.Parcel{RSA: key.RSA, Wrapped: wrapped, WrappedKEK: wrappedKEK, KEKEK: kekek},
			token.NewHalf{ID: id, Label: key.Label, Uses: token.UseSign})
		if err != nil || !bytes.Equal(got, public[at].Public) {
			t.Fatalf("%s: the public half is not that of the source: %v", key.Label, err)
		}
		if err := destination.PutPublic(within(t), got, token.NewHalf{ID: id, Label: key.Label, Uses: token.UseSign, Visible: true}); err != nil {
			t.Fatal(key.Label, err)
		}
		useMoved(t, destination, key, got)
	}
	private, public = halvesOf(t, destination)
	if len(private) != 6 || len(public) != 6 {
		t.Fatalf("%d private and %d public keys", len(private), len(public))
	}
	for _, key := range append(private, public...) {
		uses := token.UseSign
		if key.Label == "kekek" {
			uses = token.UseWrap
		}
		if key.Extractable || key.Visible == key.Private || key.Uses != uses {
			t.Errorf("%+v", key)
		}
	}
}

// useMoved signs with the key that came, and verifies with the public half of the source.
func useMoved(t testing.TB, h *hsm, key token.Half, der []byte) {
	t.Helper()
	st, err := h.Adopt(within(t), token.ObjectName{Class: token.PrivateObject, Label: key.Label})
	if err != nil {
		t.Fatal(err)
	}
	k, err := h.Key(st)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("moved"))
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	ok := false
	switch public := parsed.(type) {
	case *rsa.PublicKey:
		sig := do1(t, k, token.Op{Kind: token.Sign, Scheme: token.PKCS1v15, Hash: crypto.SHA256}, token.Item{In: digest[:]})
		ok = rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sig) == nil
	case *ecdsa.PublicKey:
		sig := do1(t, k, token.Op{Kind: token.Sign}, token.Item{In: digest[:]})
		r, s := new(big.Int).SetBytes(sig[:len(sig)/2]), new(big.Int).SetBytes(sig[len(sig)/2:])
		ok = ecdsa.Verify(public, digest[:], r, s)
	}
	if !ok {
		t.Errorf("%s: the signature is wrong", key.Label)
	}
}

// Every wrong parcel has the same answer, and leaves nothing in the token.
func TestMoveRefused(t *testing.T) {
	t.Parallel()
	h := openMove(t, softConfig(t))
	public, kekek := makeKEKEK(t, h)
	_, other := makeKEKEK(t, openMove(t, softConfig(t)))
	kek := bytes.Repeat([]byte{7}, token.KEKSize)
	ec, _ := tokentest.Secret(t, token.P256, 0)
	rsaKey, _ := tokentest.Secret(t, token.RSA2048, 0)
	edwards, _ := tokentest.Secret(t, token.Ed25519, 0)
	before := objectsLeft(t, h)
	good := parcelOf(t, public, kekek, kek, ec, false)
	short, err := rsa.EncryptPKCS1v15(rand.Reader, rsaPublic(t, public), kek[:31])
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]token.Parcel{
		"another KEK":           {Wrapped: good.Wrapped, WrappedKEK: parcelOf(t, public, kekek, make([]byte, token.KEKSize), ec, false).WrappedKEK, KEKEK: kekek},
		"no padding":            {Wrapped: good.Wrapped, WrappedKEK: bytes.Repeat([]byte{1}, 256), KEKEK: kekek},
		"beyond the modulus":    {Wrapped: good.Wrapped, WrappedKEK: bytes.Repeat([]byte{255}, 256), KEKEK: kekek},
		"a short KEK":           {Wrapped: good.Wrapped, WrappedKEK: short, KEKEK: kekek},
		"RSA announced, EC":     {RSA: true, Wrapped: good.Wrapped, WrappedKEK: good.WrappedKEK, KEKEK: kekek},
		"EC announced, RSA":     parcelOf(t, public, kekek, kek, rsaKey, false),
		"Ed25519":               parcelOf(t, public, kekek, kek, edwards, false),
		"no key at all":         parcelOf(t, public, kekek, kek, []byte("this is no key"), true),
		"an AES key":            parcelOf(t, public, kekek, kek, kek, false),
		"cut":                   {Wrapped: good.Wrapped[:len(good.Wrapped)-8], WrappedKEK: good.WrappedKEK, KEKEK: kekek},
		"no multiple of 8":      {Wrapped: good.Wrapped[:len(good.Wrapped)-1], WrappedKEK: good.WrappedKEK, KEKEK: kekek},
		"empty":                 {WrappedKEK: good.WrappedKEK, KEKEK: kekek},
		"another KEK in clear":  {Wrapped: good.Wrapped, KEK: make([]byte, token.KEKSize)},
		"a short KEK in clear":  {Wrapped: good.Wrapped, KEK: kek[:16]},
		"a missing KEK (clear)": {Wrapped: good.Wrapped},
	} {
		if _, err := h.MoveIn(within(t), p, token.NewHalf{ID: newMoveID()}); err != token.ErrOpen { //nolint:errorlint // exactly this, with nothing around it
			t.Errorf("%s: %v", name, err)
		}
	}
	good.KEKEK = other
	if _, err := h.MoveIn(within(t), good, token.NewHalf{ID: newMoveID()}); !errors.Is(err, token.ErrNotFound) {
		t.Errorf("a KEKEK that isn't there: %v", err)
	}
	if n := objectsLeft(t, h); n != before {
		t.Errorf("%d objects are left in the token", n-before)
	}
	if _, err := h.MoveIn(within(t), token.Parcel{Wrapped: good.Wrapped, KEK: kek}, token.NewHalf{ID: newMoveID()}); err != nil {
		t.Errorf("the same key with the KEK in clear: %v", err)
	}
}

// Each bit of both parts counts, and the answer is the same for all of them.
func TestMoveBitFlips(t *testing.T) {
	t.Parallel()
	h := openMove(t, softConfig(t))
	public, kekek := makeKEKEK(t, h)
	secret, _ := tokentest.Secret(t, token.P256, 0)
	good := parcelOf(t, public, kekek, bytes.Repeat([]byte{9}, token.KEKSize), secret, false)
	before := objectsLeft(t, h)
	flip := func(b []byte, bit int) []byte {
		b = bytes.Clone(b)
		b[bit/8] ^= 1 << (bit % 8)
		return b
	}
	for bit := 0; bit < 8*len(good.Wrapped); bit += 7 {
		p := good
		p.Wrapped = flip(good.Wrapped, bit)
		if _, err := h.MoveIn(within(t), p, token.NewHalf{ID: newMoveID()}); err != token.ErrOpen { //nolint:errorlint // exactly this
			t.Fatalf("bit %d of the key: %v", bit, err)
		}
	}
	for bit := 0; bit < 8*len(good.WrappedKEK); bit += 13 {
		p := good
		p.WrappedKEK = flip(good.WrappedKEK, bit)
		if _, err := h.MoveIn(within(t), p, token.NewHalf{ID: newMoveID()}); err != token.ErrOpen { //nolint:errorlint // exactly this
			t.Fatalf("bit %d of the KEK: %v", bit, err)
		}
	}
	if n := objectsLeft(t, h); n != before {
		t.Errorf("%d objects are left in the token", n-before)
	}
}

func TestMoveOutRefused(t *testing.T) {
	t.Parallel()
	cfg := softConfig(t)
	h := openMove(t, cfg)
	tokentest.Tool(t, softHSM, "test", testPIN, cfg.Env, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", "--label", "stays", "--usage-sign")
	public, _ := makeKEKEK(t, h)
	private, _ := halvesOf(t, h)
	for _, key := range private {
		if _, _, err := h.MoveOut(within(t), public, key); !errors.Is(err, token.ErrUnsupported) {
			t.Errorf("%s left the token: %v", key.Label, err)
		}
	}
	if _, _, err := h.MoveOut(within(t), public, token.Half{Label: "none"}); !errors.Is(err, token.ErrNotFound) {
		t.Errorf("no such key: %v", err)
	}
	_, small := tokentest.Secret(t, token.P256, 0)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&weak.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, kekek := range map[string][]byte{"an EC key": small, "1024 bits": der, "no key": []byte("x"), "trailing bytes": append(bytes.Clone(public), 0)} {
		if _, _, err := h.MoveOut(within(t), kekek, private[0]); !errors.Is(err, token.ErrUnsupported) {
			t.Errorf("%s as KEKEK: %v", name, err)
		}
	}
	for _, bits := range []int{0, 1024, 2047, 2100, 8192} {
		if _, err := h.MakeKEKEK(within(t), bits, newMoveID(), "x"); !errors.Is(err, token.ErrUnsupported) {
			t.Errorf("a KEKEK of %d bits: %v", bits, err)
		}
	}
}

// A token without room keeps nothing of a key, and a worker that ends half way
// costs a retry.
func TestMoveFaults(t *testing.T) {
	t.Parallel()
	s := newShim(t)
	h := openMove(t, s.cfg)
	public, kekek := makeKEKEK(t, h)
	secret, want := tokentest.Secret(t, token.P256, 0)
	p := parcelOf(t, public, kekek, bytes.Repeat([]byte{5}, token.KEKSize), secret, false)
	before := objectsLeft(t, h)
	s.tell(t, "full")
	if _, err := h.MoveIn(within(t), p, token.NewHalf{ID: newMoveID(), Label: "x"}); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("without room: %v", err)
	}
	if n := objectsLeft(t, h); n != before {
		t.Errorf("%d objects are left in the token", n-before)
	}
	s.tell(t, "crash-after-unwrap")
	id := newMoveID()
	got, err := h.MoveIn(within(t), p, token.NewHalf{ID: id, Label: "x"})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("after a crash: %v", err)
	}
	if n := objectsLeft(t, h); n != before+1 {
		t.Errorf("%d objects came instead of one", n-before)
	}
	for range 2 {
		if err := h.Remove(within(t), id, "x"); err != nil {
			t.Error(err)
		}
	}
	if n := objectsLeft(t, h); n != before {
		t.Errorf("%d objects are left in the token", n-before)
	}
}

// A TPM has no mechanism for it, and that is said before anything is made.
func TestMoveTPM(t *testing.T) {
	t.Parallel()
	tpm := tokentest.TPM(t)
	cfg := softConfig(t)
	cfg.Module, cfg.Label, cfg.Env, cfg.WritePaths, cfg.Workers = tpm.Module, tpm.Label, tpm.Env, []string{tpm.Store}, 1
	h, err := newDevice(t, cfg).open(contextOf(t, 2*time.Minute), tpm.PIN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if _, err := h.MakeKEKEK(within(t), 2048, newMoveID(), "x"); !errors.Is(err, token.ErrUnsupported) || !strings.Contains(err.Error(), "RFC 5649") {
		t.Error(err)
	}
	if n := objectsLeft(t, h); n != 0 {
		t.Errorf("%d objects", n)
	}
	if _, err := h.MoveIn(within(t), token.Parcel{KEK: make([]byte, token.KEKSize)}, token.NewHalf{}); !errors.Is(err, token.ErrUnsupported) {
		t.Error(err)
	}
	if _, err := h.MakeCarrier(within(t), token.MinKEKEK, newMoveID(), "x"); !errors.Is(err, token.ErrUnsupported) || !strings.Contains(err.Error(), "RFC 5649") {
		t.Error(err)
	}
	if err := h.TryCarry(within(t), nil); !errors.Is(err, token.ErrUnsupported) {
		t.Error(err)
	}
	if _, err := h.Carry(within(t), nil, nil, nil); !errors.Is(err, token.ErrUnsupported) {
		t.Error(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.MoveOut(within(t), der, token.Half{Label: "x"}); !errors.Is(err, token.ErrUnsupported) {
		t.Error(err)
	}
}
