package server

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/p11"
	. "github.com/claviger/claviger/internal/p11/p11test"
	"github.com/claviger/claviger/internal/token/tokentest"
)

// pkcs11Server is a development server with the socket of the module.
func pkcs11Server(t *testing.T, dir string) (*Server, string) {
	t.Helper()
	return pkcs11ServerOf(t, config.Dev(t.TempDir()), dir)
}

// onTokens runs a test with the embedded token and with SoftHSM2.
func onTokens(t *testing.T, test func(t *testing.T, s *Server, socket string)) {
	t.Parallel()
	t.Run("embedded token", func(t *testing.T) {
		t.Parallel()
		s, socket := pkcs11Server(t, t.TempDir())
		test(t, s, socket)
	})
	t.Run("SoftHSM2", func(t *testing.T) {
		t.Parallel()
		module, env := tokentest.SoftHSM(t)
		cfg := config.Dev(t.TempDir())
		cfg.Token.Driver, cfg.Token.PKCS11.Module = config.DriverPKCS11, module
		for _, e := range env {
			name, value, _ := strings.Cut(e, "=")
			cfg.Token.PKCS11.Env[name] = value
		}
		s, socket := pkcs11ServerOf(t, cfg, t.TempDir())
		test(t, s, socket)
	})
}

func pkcs11ServerOf(t *testing.T, cfg *config.Config, dir string) (*Server, string) {
	t.Helper()
	socket := filepath.Join(dir, "p11.sock")
	f := &cfg.Front.PKCS11
	f.Enabled, f.Address, f.Mode = true, "unix:"+socket, "0600"
	f.Slots = []config.PKCS11Slot{{Label: "claviger", Mounts: []string{"transit"}, Issuers: []string{"pki"}}}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return running(t, cfg, Options{Dev: &Dev{RootTokenID: "root"}}), socket
}

func dial(t testing.TB, socket, token string) *Client {
	t.Helper()
	c, err := Dial(socket, token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// theOne returns the only object of a class with a label.
func theOne(t testing.TB, c *Client, class uint64, label string) *p11.Object {
	t.Helper()
	found, err := c.Find(Bytes(Number(nil, p11.CKA_CLASS, class), p11.CKA_LABEL, []byte(label)), 100)
	if err != nil || len(found) != 1 {
		t.Fatalf("%d objects of class %d with label %s, %v", len(found), class, label, err)
	}
	return found[0]
}

func TestPKCS11Signs(t *testing.T) { onTokens(t, signs) }

func signs(t *testing.T, s *Server, socket string) {
	t.Helper()
	c := dial(t, socket, "root")
	if err := c.Login(); err != nil {
		t.Fatal(err)
	}
	for _, typ := range []string{"rsa-2048", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "hmac"} {
		body := map[string]any{"type": typ}
		if typ == "hmac" {
			body["key_size"] = 64 // SoftHSM2 wants them as long as the hash
		}
		if status := do(t, s, "POST", "transit/keys/"+typ, "root", body, nil); status != 200 {
			t.Fatalf("making %s: status %d", typ, status)
		}
	}
	message := []byte("a message")
	pss := func(hash, mgf, salt uint64) func(*p11.Writer) {
		return func(w *p11.Writer) { w.U8(p11.ParamPSS); w.U64(hash); w.U64(mgf); w.U64(salt) }
	}
	value := func(n uint64) func(*p11.Writer) {
		return func(w *p11.Writer) { w.U8(p11.ParamNumber); w.U64(n) }
	}
	for _, c2 := range []struct {
		key  string
		mech uint64
		par  func(*p11.Writer)
		hash crypto.Hash // of the digest that is sent where raw
		raw  bool
		size int
	}{
		{"rsa-2048", p11.CKM_RSA_PKCS, nil, 0, false, 256},
		{"rsa-2048", p11.CKM_SHA1_RSA_PKCS, nil, crypto.SHA1, false, 256},
		{"rsa-2048", p11.CKM_SHA224_RSA_PKCS, nil, crypto.SHA224, false, 256},
		{"rsa-2048", p11.CKM_SHA256_RSA_PKCS, nil, crypto.SHA256, false, 256},
		{"rsa-2048", p11.CKM_SHA384_RSA_PKCS, nil, crypto.SHA384, false, 256},
		{"rsa-2048", p11.CKM_SHA512_RSA_PKCS, nil, crypto.SHA512, false, 256},
		{"rsa-2048", p11.CKM_RSA_PKCS_PSS, pss(p11.CKM_SHA256, p11.CKG_MGF1_SHA256, 32), crypto.SHA256, true, 256},
		{"rsa-2048", p11.CKM_SHA1_RSA_PKCS_PSS, pss(p11.CKM_SHA_1, p11.CKG_MGF1_SHA1, 20), crypto.SHA1, false, 256},
		{"rsa-2048", p11.CKM_SHA224_RSA_PKCS_PSS, pss(p11.CKM_SHA224, p11.CKG_MGF1_SHA224, 28), crypto.SHA224, false, 256},
		{"rsa-2048", p11.CKM_SHA256_RSA_PKCS_PSS, pss(p11.CKM_SHA256, p11.CKG_MGF1_SHA256, 11), crypto.SHA256, false, 256},
		{"rsa-2048", p11.CKM_SHA256_RSA_PKCS_PSS, pss(p11.CKM_SHA256, p11.CKG_MGF1_SHA256, 0), crypto.SHA256, false, 256},
		{"rsa-2048", p11.CKM_SHA384_RSA_PKCS_PSS, pss(p11.CKM_SHA384, p11.CKG_MGF1_SHA384, 48), crypto.SHA384, false, 256},
		{"rsa-2048", p11.CKM_SHA512_RSA_PKCS_PSS, pss(p11.CKM_SHA512, p11.CKG_MGF1_SHA512, 190), crypto.SHA512, false, 256},
		{"ecdsa-p256", p11.CKM_ECDSA, nil, crypto.SHA256, true, 64},
		{"ecdsa-p256", p11.CKM_ECDSA, nil, crypto.SHA512, true, 64},
		{"ecdsa-p256", p11.CKM_ECDSA, nil, 0, true, 64},
		{"ecdsa-p256", p11.CKM_ECDSA_SHA1, nil, crypto.SHA1, false, 64},
		{"ecdsa-p256", p11.CKM_ECDSA_SHA256, nil, crypto.SHA256, false, 64},
		{"ecdsa-p384", p11.CKM_ECDSA, nil, crypto.SHA512, true, 96},
		{"ecdsa-p384", p11.CKM_ECDSA_SHA384, nil, crypto.SHA384, false, 96},
		{"ecdsa-p521", p11.CKM_ECDSA, nil, crypto.SHA1, true, 132},
		{"ecdsa-p521", p11.CKM_ECDSA_SHA512, nil, crypto.SHA512, false, 132},
		{"ecdsa-p521", p11.CKM_ECDSA_SHA224, nil, crypto.SHA224, false, 132},
		{"ed25519", p11.CKM_EDDSA, nil, 0, false, 64},
		{"hmac", p11.CKM_SHA256_HMAC, nil, 0, false, 32},
		{"hmac", p11.CKM_SHA_1_HMAC, nil, 0, false, 20},
		{"hmac", p11.CKM_SHA512_HMAC_GENERAL, value(17), 0, false, 17},
	} {
		class, public := uint64(p11.CKO_PRIVATE_KEY), uint64(p11.CKO_PUBLIC_KEY)
		if c2.key == "hmac" {
			class, public = p11.CKO_SECRET_KEY, p11.CKO_SECRET_KEY
		}
		private := theOne(t, c, class, c2.key).Handle
		pub := theOne(t, c, public, c2.key).Handle
		data := message
		if c2.raw && c2.hash != 0 {
			data = digestOf(c2.hash, message)
		}
		sig, err := c.Sign(private, c2.mech, c2.par, false, data)
		if err != nil || len(sig) != c2.size {
			t.Errorf("%s with 0x%x: %d bytes, %v", c2.key, c2.mech, len(sig), err)
			continue
		}
		if err := c.Verify(pub, c2.mech, c2.par, false, data, sig); err != nil {
			t.Errorf("%s with 0x%x: its signature is refused: %v", c2.key, c2.mech, err)
		}
		if !c2.raw && c2.hash != 0 {
			// The module hashes by itself.
			if err := c.Verify(pub, c2.mech, c2.par, true, digestOf(c2.hash, message), sig); err != nil {
				t.Errorf("%s with 0x%x and a digest: %v", c2.key, c2.mech, err)
			}
		}
		sig[3] ^= 1
		if err := c.Verify(pub, c2.mech, c2.par, false, data, sig); Code(err) != p11.CKR_SIGNATURE_INVALID {
			t.Errorf("%s with 0x%x: a wrong signature: %v", c2.key, c2.mech, err)
		}
		if err := c.Verify(pub, c2.mech, c2.par, false, data, sig[1:]); Code(err) != p11.CKR_SIGNATURE_LEN_RANGE {
			t.Errorf("%s with 0x%x: a short signature: %v", c2.key, c2.mech, err)
		}
	}
	checkAttributes(t, c)
}

func digestOf(h crypto.Hash, b []byte) []byte {
	f := h.New()
	f.Write(b)
	return f.Sum(nil)
}

// checkAttributes compares the public parts with the keys that verify.
func checkAttributes(t *testing.T, c *Client) {
	t.Helper()
	digest := sha256.Sum256([]byte("x"))
	o := theOne(t, c, p11.CKO_PUBLIC_KEY, "rsa-2048")
	n, _, _ := Value(o, p11.CKA_MODULUS)
	e, _, _ := Value(o, p11.CKA_PUBLIC_EXPONENT)
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	private := theOne(t, c, p11.CKO_PRIVATE_KEY, "rsa-2048")
	sig := must[[]byte](t)(c.Sign(private.Handle, p11.CKM_SHA256_RSA_PKCS, nil, true, digest[:]))
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], sig); err != nil {
		t.Error(err)
	}
	ec := theOne(t, c, p11.CKO_PUBLIC_KEY, "ecdsa-p256")
	point, _, _ := Value(ec, p11.CKA_EC_POINT)
	ecKey := must[*ecdsa.PublicKey](t)(ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point[2:]))
	sig = must[[]byte](t)(c.Sign(theOne(t, c, p11.CKO_PRIVATE_KEY, "ecdsa-p256").Handle, p11.CKM_ECDSA, nil, false, digest[:]))
	if !ecdsa.Verify(ecKey, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		t.Error("the point is not that of the key that signs")
	}
	// A digest of three bytes is the same number as one with zeros in front.
	short := []byte{1, 2, 3}
	sig = must[[]byte](t)(c.Sign(theOne(t, c, p11.CKO_PRIVATE_KEY, "ecdsa-p256").Handle, p11.CKM_ECDSA, nil, false, short))
	if !ecdsa.Verify(ecKey, short, new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		t.Error("a short digest is signed as another")
	}
	ed := theOne(t, c, p11.CKO_PUBLIC_KEY, "ed25519")
	point, _, _ = Value(ed, p11.CKA_EC_POINT)
	sig = must[[]byte](t)(c.Sign(theOne(t, c, p11.CKO_PRIVATE_KEY, "ed25519").Handle, p11.CKM_EDDSA, nil, false, short))
	if !ed25519.Verify(point[2:], short, sig) {
		t.Error("the point is not that of the Ed25519 key")
	}
	for _, secret := range []uint64{p11.CKA_PRIVATE_EXPONENT, p11.CKA_PRIME_1, p11.CKA_COEFFICIENT} {
		if v, form, ok := Value(private, secret); !ok || form != p11.FormWithheld || v != nil {
			t.Errorf("attribute 0x%x: %x, form %d, %t", secret, v, form, ok)
		}
	}
	id1, _, _ := Value(private, p11.CKA_ID)
	id2, _, _ := Value(o, p11.CKA_ID)
	if len(id1) != 20 || !bytes.Equal(id1, id2) {
		t.Errorf("CKA_ID %x and %x", id1, id2)
	}
	for flag, want := range map[uint64]byte{p11.CKA_SENSITIVE: 1, p11.CKA_EXTRACTABLE: 0, p11.CKA_PRIVATE: 1, p11.CKA_TOKEN: 1, p11.CKA_SIGN: 1} {
		if v, _, _ := Value(private, flag); len(v) != 1 || v[0] != want {
			t.Errorf("flag 0x%x is %x", flag, v)
		}
	}
}

// TestPKCS11Objects makes, finds, changes and destroys objects.
func TestPKCS11Objects(t *testing.T) {
	t.Parallel()
	s, socket := pkcs11Server(t, t.TempDir())
	c := dial(t, socket, "root")
	p256 := must[[]byte](t)(hex.DecodeString("06082a8648ce3d030107"))
	token := Flag(nil, p11.CKA_TOKEN, true)
	pub, priv, err := c.GeneratePair(p11.CKM_EC_KEY_PAIR_GEN, Bytes(token, p11.CKA_EC_PARAMS, p256),
		Bytes(Bytes(token, p11.CKA_LABEL, []byte("web")), p11.CKA_ID, []byte{1, 2}))
	if err != nil {
		t.Fatal(err)
	}
	if status := do(t, s, "GET", "transit/keys/web", "root", nil, nil); status != 200 {
		t.Errorf("the key has another name: status %d", status)
	}
	if o := must[*p11.Object](t)(c.Get(priv.Handle)); o.Handle != priv.Handle {
		t.Errorf("another object: %x", o.Handle)
	}
	sig := must[[]byte](t)(c.Sign(priv.Handle, p11.CKM_ECDSA, nil, false, make([]byte, 32)))
	if err := c.Verify(pub.Handle, p11.CKM_ECDSA, nil, false, make([]byte, 32), sig); err != nil {
		t.Error(err)
	}
	// A second of the same label gets another name and keeps the label.
	if _, second, err := c.GeneratePair(p11.CKM_EC_KEY_PAIR_GEN, Bytes(token, p11.CKA_EC_PARAMS, p256), Bytes(token, p11.CKA_LABEL, []byte("web"))); err != nil {
		t.Error(err)
	} else if label, _, _ := Value(second, p11.CKA_LABEL); string(label) != "web" || second.Handle == priv.Handle {
		t.Errorf("label %q", label)
	} else if err := c.Destroy(second.Handle); err != nil {
		t.Error(err)
	}
	cert := testCertificate(t)
	made := must[*p11.Object](t)(c.Create(Bytes(Bytes(Bytes(Number(token, p11.CKA_CLASS, p11.CKO_CERTIFICATE), p11.CKA_VALUE, cert),
		p11.CKA_ID, []byte{1, 2}), p11.CKA_LABEL, []byte("web"))))
	found := must[[]*p11.Object](t)(c.Find(Bytes(nil, p11.CKA_ID, []byte{1, 2}), 1))
	if len(found) != 3 {
		t.Errorf("%d objects with the CKA_ID", len(found))
	}
	if subject, _, _ := Value(made, p11.CKA_SUBJECT); len(subject) == 0 {
		t.Error("the certificate has no subject")
	}
	changed := must[*p11.Object](t)(c.Change(p11.OpSet, priv.Handle, Bytes(nil, p11.CKA_LABEL, []byte("new label"))))
	if label, _, _ := Value(changed, p11.CKA_LABEL); string(label) != "new label" || changed.Handle != priv.Handle {
		t.Errorf("label %q, handle %x", label, changed.Handle)
	}
	if _, err := c.Change(p11.OpSet, priv.Handle, Flag(nil, p11.CKA_EXTRACTABLE, true)); Code(err) != p11.CKR_ATTRIBUTE_READ_ONLY {
		t.Errorf("extractable: %v", err)
	}
	data := must[*p11.Object](t)(c.Create(Bytes(Number(token, p11.CKA_CLASS, p11.CKO_DATA), p11.CKA_VALUE, []byte("data"))))
	data2 := must[*p11.Object](t)(c.Change(p11.OpCopy, data.Handle, Bytes(nil, p11.CKA_LABEL, []byte("copy"))))
	if v, _, _ := Value(must[*p11.Object](t)(c.Get(data2.Handle)), p11.CKA_VALUE); string(v) != "data" || data2.Handle == data.Handle {
		t.Errorf("the copy has %q", v)
	}
	for _, handle := range []uint64{data.Handle, data2.Handle, made.Handle, priv.Handle, pub.Handle} {
		if err := c.Destroy(handle); err != nil {
			t.Errorf("destroying: %v", err)
		}
	}
	if left := must[[]*p11.Object](t)(c.Find(nil, 3)); len(left) != 0 {
		t.Errorf("%d objects are left", len(left))
	}
	if _, err := c.Sign(priv.Handle, p11.CKM_ECDSA, nil, false, make([]byte, 32)); Code(err) != p11.CKR_KEY_HANDLE_INVALID {
		t.Errorf("signing with a key that is gone: %v", err)
	}
}

func testCertificate(t *testing.T) []byte {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: big.NewInt(7)}
	template.Subject.CommonName = "test"
	return must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
}

func TestPKCS11Refuses(t *testing.T) {
	t.Parallel()
	s, socket := pkcs11Server(t, t.TempDir())
	do(t, s, "POST", "transit/keys/a", "root", map[string]any{"type": "ecdsa-p256"}, nil)
	do(t, s, "POST", "sys/policies/acl/see", "root", map[string]any{"policy": `path "transit/pkcs11-find" { capabilities = ["update"] }
path "transit/keys/*" { capabilities = ["read"] }`}, nil)
	var made struct {
		Auth struct {
			Token string `json:"client_token"`
		}
	}
	do(t, s, "POST", "auth/token/create", "root", map[string]any{"policies": []string{"see"}}, &made)
	root, sees, none, wrong := dial(t, socket, "root"), dial(t, socket, made.Auth.Token), dial(t, socket, ""), dial(t, socket, "wrong")
	handle := theOne(t, root, p11.CKO_PRIVATE_KEY, "a").Handle
	if sees.Login() != nil || Code(none.Login()) != p11.CKR_PIN_INCORRECT || Code(wrong.Login()) != p11.CKR_PIN_INCORRECT {
		t.Error("logins", sees.Login(), none.Login(), wrong.Login())
	}
	if theOne(t, sees, p11.CKO_PRIVATE_KEY, "a").Handle != handle {
		t.Error("another handle")
	}
	for c, want := range map[*Client]p11.Code{sees: p11.CKR_KEY_FUNCTION_NOT_PERMITTED, none: p11.CKR_USER_NOT_LOGGED_IN, wrong: p11.CKR_USER_NOT_LOGGED_IN} {
		if _, err := c.Sign(handle, p11.CKM_ECDSA, nil, false, make([]byte, 32)); Code(err) != want {
			t.Errorf("sign: %v, want %x", err, want)
		}
	}
	if _, err := root.Sign(handle+1, p11.CKM_ECDSA, nil, false, make([]byte, 32)); Code(err) != p11.CKR_KEY_HANDLE_INVALID {
		t.Errorf("another handle: %v", err)
	}
	root.Slot = 7
	if _, err := root.Get(handle); Code(err) != p11.CKR_SLOT_ID_INVALID {
		t.Errorf("another slot: %v", err)
	}
	root.Slot = 0
	if random := must[[]byte](t)(root.Random(200_000)); len(random) != 200_000 || bytes.Count(random, []byte{0}) > 2000 {
		t.Errorf("%d random bytes", len(random))
	}
	// A key that was deleted and made again under its name is another.
	do(t, s, "POST", "transit/keys/a/config", "root", map[string]any{"deletion_allowed": true}, nil)
	if status := do(t, s, "DELETE", "transit/keys/a", "root", nil, nil); status != 204 {
		t.Fatal(status)
	}
	do(t, s, "POST", "transit/keys/a", "root", map[string]any{"type": "ecdsa-p256", "deletion_allowed": true}, nil)
	if _, err := root.Sign(handle, p11.CKM_ECDSA, nil, false, make([]byte, 32)); Code(err) != p11.CKR_KEY_HANDLE_INVALID {
		t.Errorf("the old handle, at once: %v", err)
	}
	if theOne(t, root, p11.CKO_PRIVATE_KEY, "a").Handle == handle {
		t.Error("the new key has the old one's handle")
	}
	if _, err := root.Sign(handle, p11.CKM_ECDSA, nil, false, make([]byte, 32)); Code(err) != p11.CKR_KEY_HANDLE_INVALID {
		t.Errorf("the old handle: %v", err)
	}
}

// BenchmarkPKCS11Sign is a signature over the server's socket, with the embedded
// token: what the way costs.
func BenchmarkPKCS11Sign(b *testing.B) {
	cfg := config.Dev(b.TempDir())
	socket := filepath.Join(b.TempDir(), "s")
	cfg.Front.PKCS11.Enabled, cfg.Front.PKCS11.Address = true, "unix:"+socket
	cfg.Listeners[0].Address = "127.0.0.1:0"
	s, err := New(cfg, Options{Version: "0.1.0", Dev: &Dev{RootTokenID: "root"}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-ended })
	c := dial(b, socket, "root")
	if _, _, err := c.GeneratePair(p11.CKM_EC_KEY_PAIR_GEN, Bytes(onToken, p11.CKA_EC_PARAMS, []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}),
		Bytes(onToken, p11.CKA_LABEL, []byte("web"))); err != nil {
		b.Fatal(err)
	}
	handle := theOne(b, c, p11.CKO_PRIVATE_KEY, "web").Handle
	digest := make([]byte, 32)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Sign(handle, p11.CKM_ECDSA, nil, false, digest); err != nil {
			b.Fatal(err)
		}
	}
}
