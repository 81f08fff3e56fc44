package server

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/p11"
	. "github.com/claviger/claviger/internal/p11/p11test"
)

func oaep(hash, mgf uint64, label []byte) func(*p11.Writer) {
	return func(w *p11.Writer) {
		w.U8(p11.ParamOAEP)
		w.U64(hash)
		w.U64(mgf)
		w.U64(p11.CKZ_DATA_SPECIFIED)
		w.Bytes(label)
	}
}

func gcm(iv, aad []byte, bits uint64) func(*p11.Writer) {
	return func(w *p11.Writer) {
		w.U8(p11.ParamGCM)
		w.Bytes(iv)
		w.U64(uint64(8 * len(iv)))
		w.Bytes(aad)
		w.U64(bits)
	}
}

func rawParam(b []byte) func(*p11.Writer) {
	return func(w *p11.Writer) { w.U8(p11.ParamRaw); w.Bytes(b) }
}

func ecdhParam(kdf uint64, shared, public []byte) func(*p11.Writer) {
	return func(w *p11.Writer) { w.U8(p11.ParamECDH); w.U64(kdf); w.Bytes(shared); w.Bytes(public) }
}

var onToken = Flag(nil, p11.CKA_TOKEN, true)

func TestPKCS11Encrypts(t *testing.T) { onTokens(t, encrypts) }

func encrypts(t *testing.T, _ *Server, socket string) {
	t.Helper()
	c := dial(t, socket, "root")
	pub, priv, err := c.GeneratePair(p11.CKM_RSA_PKCS_KEY_PAIR_GEN, Number(onToken, p11.CKA_MODULUS_BITS, 2048), Bytes(onToken, p11.CKA_LABEL, []byte("rsa")))
	if err != nil {
		t.Fatal(err)
	}
	aes := must[*p11.Object](t)(c.Generate(p11.CKM_AES_KEY_GEN, Number(Bytes(onToken, p11.CKA_LABEL, []byte("aes")), p11.CKA_VALUE_LEN, 32)))
	iv := bytes.Repeat([]byte{7}, 16)
	message := []byte("thirty-two bytes of a message, !")
	for _, c2 := range []struct {
		name     string
		enc, dec uint64
		mech     uint64
		par      func(*p11.Writer)
	}{
		{"RSA PKCS #1", pub.Handle, priv.Handle, p11.CKM_RSA_PKCS, nil},
		{"OAEP SHA-1", pub.Handle, priv.Handle, p11.CKM_RSA_PKCS_OAEP, oaep(p11.CKM_SHA_1, p11.CKG_MGF1_SHA1, nil)},
		{"OAEP SHA-256", pub.Handle, priv.Handle, p11.CKM_RSA_PKCS_OAEP, oaep(p11.CKM_SHA256, p11.CKG_MGF1_SHA256, []byte("label"))},
		{"OAEP SHA-512", pub.Handle, priv.Handle, p11.CKM_RSA_PKCS_OAEP, oaep(p11.CKM_SHA512, p11.CKG_MGF1_SHA512, nil)},
		{"GCM", aes.Handle, aes.Handle, p11.CKM_AES_GCM, gcm(iv[:12], []byte("aad"), 128)},
		{"GCM, short tag", aes.Handle, aes.Handle, p11.CKM_AES_GCM, gcm(iv[:12], nil, 96)},
		{"CBC", aes.Handle, aes.Handle, p11.CKM_AES_CBC, rawParam(iv)},
		{"CBC with padding", aes.Handle, aes.Handle, p11.CKM_AES_CBC_PAD, rawParam(iv)},
	} {
		out, err := c.Crypt(p11.OpEncrypt, c2.enc, c2.mech, c2.par, message)
		if err != nil || bytes.Contains(out, message[:16]) {
			t.Errorf("%s: %x, %v", c2.name, out, err)
			continue
		}
		if back, err := c.Crypt(p11.OpDecrypt, c2.dec, c2.mech, c2.par, out); err != nil || !bytes.Equal(back, message) {
			t.Errorf("%s: decrypted %q, %v", c2.name, back, err)
		}
		if c2.mech == p11.CKM_RSA_PKCS || c2.mech == p11.CKM_AES_CBC {
			continue // these can't tell
		}
		out[0] ^= 1
		if c2.mech == p11.CKM_AES_CBC_PAD {
			out[len(out)-17] ^= 0x40
		}
		if _, err := c.Crypt(p11.OpDecrypt, c2.dec, c2.mech, c2.par, out); Code(err) != p11.CKR_ENCRYPTED_DATA_INVALID {
			t.Errorf("%s: a wrong ciphertext: %v", c2.name, err)
		}
	}
	for name, err := range map[string]error{
		"RSA with AES":  errorOf(c.Crypt(p11.OpDecrypt, aes.Handle, p11.CKM_RSA_PKCS, nil, make([]byte, 256))),
		"AES with RSA":  errorOf(c.Crypt(p11.OpDecrypt, priv.Handle, p11.CKM_AES_CBC, rawParam(iv), iv)),
		"public":        errorOf(c.Crypt(p11.OpDecrypt, pub.Handle, p11.CKM_RSA_PKCS, nil, make([]byte, 256))),
		"wrapping":      wrap(c, aes.Handle, priv.Handle),
		"other OAEP":    errorOf(c.Crypt(p11.OpEncrypt, pub.Handle, p11.CKM_RSA_PKCS_OAEP, oaep(p11.CKM_SHA256, p11.CKG_MGF1_SHA1, nil), message)),
		"an IV of 8":    errorOf(c.Crypt(p11.OpEncrypt, aes.Handle, p11.CKM_AES_GCM, gcm(iv[:8], nil, 128), message)),
		"no whole CBC":  errorOf(c.Crypt(p11.OpEncrypt, aes.Handle, p11.CKM_AES_CBC, rawParam(iv), message[:5])),
		"short RSA":     errorOf(c.Crypt(p11.OpDecrypt, priv.Handle, p11.CKM_RSA_PKCS, nil, message)),
		"no such thing": errorOf(c.Crypt(p11.OpEncrypt, aes.Handle, 0x1081, nil, message)),
	} {
		want := map[string]p11.Code{"RSA with AES": p11.CKR_KEY_TYPE_INCONSISTENT, "AES with RSA": p11.CKR_KEY_TYPE_INCONSISTENT,
			"public": p11.CKR_KEY_TYPE_INCONSISTENT, "wrapping": p11.CKR_KEY_UNEXTRACTABLE, "other OAEP": p11.CKR_MECHANISM_PARAM_INVALID,
			"an IV of 8": p11.CKR_MECHANISM_PARAM_INVALID, "no whole CBC": p11.CKR_DATA_LEN_RANGE,
			"short RSA": p11.CKR_ENCRYPTED_DATA_LEN_RANGE, "no such thing": p11.CKR_MECHANISM_INVALID}[name]
		if Code(err) != want {
			t.Errorf("%s: %v (0x%x), want 0x%x", name, err, Code(err), want)
		}
	}
}

func errorOf(_ []byte, err error) error { return err }

func wrap(c *Client, with, handle uint64) error {
	_, err := c.Do(p11.OpWrap, func(w *p11.Writer) {
		Key(w, with)
		Mechanism(w, p11.CKM_AES_CBC_PAD, rawParam(make([]byte, 16)))
		w.U64(handle)
	})
	return err
}

func TestPKCS11Derives(t *testing.T) { onTokens(t, derives) }

func derives(t *testing.T, _ *Server, socket string) {
	t.Helper()
	c := dial(t, socket, "root")
	params := must[[]byte](t)(hex.DecodeString("06052b81040022")) // P-384
	pub, priv, err := c.GeneratePair(p11.CKM_EC_KEY_PAIR_GEN, Bytes(nil, p11.CKA_EC_PARAMS, params), Flag(nil, p11.CKA_DERIVE, true))
	if err != nil {
		t.Fatal(err)
	}
	if v, _, _ := Value(priv, p11.CKA_TOKEN); v[0] != 0 {
		t.Error("a key of a session is one of the token")
	}
	other := must[*ecdh.PrivateKey](t)(ecdh.P384().GenerateKey(rand.Reader))
	point, _, _ := Value(pub, p11.CKA_EC_POINT)
	z := must[[]byte](t)(other.ECDH(must[*ecdh.PublicKey](t)(ecdh.P384().NewPublicKey(point[2:]))))
	kdf := sha256.Sum256(append(binary.BigEndian.AppendUint32(append([]byte{}, z...), 1), "info"...))
	for _, d := range []struct {
		par      func(*p11.Writer)
		template p11.Attributes
		want     []byte
	}{
		{ecdhParam(p11.CKD_NULL, nil, other.PublicKey().Bytes()), nil, z},
		{ecdhParam(p11.CKD_NULL, nil, append([]byte{4, 97}, other.PublicKey().Bytes()...)), Number(nil, p11.CKA_VALUE_LEN, 32), z[16:]},
		{ecdhParam(p11.CKD_SHA256_KDF, []byte("info"), other.PublicKey().Bytes()), Number(Number(nil, p11.CKA_VALUE_LEN, 16), p11.CKA_KEY_TYPE, p11.CKK_AES), kdf[:16]},
	} {
		o := derive(t, c, priv.Handle, d.par, d.template)
		if v, _, _ := Value(o, p11.CKA_VALUE); !bytes.Equal(v, d.want) || o.Handle != 0 {
			t.Errorf("derived %x, want %x", v, d.want)
		}
	}
	bad := append([]byte{}, other.PublicKey().Bytes()...)
	bad[20] ^= 1
	if _, err := tryDerive(c, priv.Handle, ecdhParam(p11.CKD_NULL, nil, bad), nil); Code(err) != p11.CKR_MECHANISM_PARAM_INVALID {
		t.Errorf("a point beside the curve: %v", err)
	}
	if _, err := tryDerive(c, priv.Handle, ecdhParam(p11.CKD_NULL, nil, other.PublicKey().Bytes()), Flag(nil, p11.CKA_SENSITIVE, true)); Code(err) != p11.CKR_TEMPLATE_INCONSISTENT {
		t.Errorf("a sensitive one: %v", err)
	}
	// The session's key stays under a name, with another handle.
	_, err = c.Do(p11.OpKeep, func(w *p11.Writer) { w.U32(1); w.U64(priv.Handle) })
	if err != nil {
		t.Error(err)
	}
	kept := must[*p11.Object](t)(c.Change(p11.OpCopy, priv.Handle, Bytes(onToken, p11.CKA_LABEL, []byte("kept"))))
	if v, _, _ := Value(kept, p11.CKA_TOKEN); kept.Handle == priv.Handle || v[0] != 1 {
		t.Errorf("kept as %x of %x, token %v", kept.Handle, priv.Handle, v)
	}
	if err := c.Destroy(priv.Handle); Code(err) != p11.CKR_OBJECT_HANDLE_INVALID {
		t.Errorf("destroying the session's: %v", err)
	}
	derive(t, c, kept.Handle, ecdhParam(p11.CKD_NULL, nil, other.PublicKey().Bytes()), nil)
}

func derive(t *testing.T, c *Client, handle uint64, par func(*p11.Writer), template p11.Attributes) *p11.Object {
	t.Helper()
	return must[*p11.Object](t)(tryDerive(c, handle, par, template))
}

func tryDerive(c *Client, handle uint64, par func(*p11.Writer), template p11.Attributes) (*p11.Object, error) {
	return c.Object(p11.OpDerive, func(w *p11.Writer) {
		Key(w, handle)
		Mechanism(w, p11.CKM_ECDH1_DERIVE, par)
		w.Attributes(template)
	})
}

// TestPKCS11Imports makes keys of what programs show, and unwraps keys.
func TestPKCS11Imports(t *testing.T) { onTokens(t, imports) }

func imports(t *testing.T, s *Server, socket string) {
	t.Helper()
	c := dial(t, socket, "root")
	r := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	r.Precompute()
	template := Number(Number(Bytes(onToken, p11.CKA_LABEL, []byte("im port")), p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), p11.CKA_KEY_TYPE, p11.CKK_RSA)
	for typ, v := range map[uint64][]byte{p11.CKA_MODULUS: r.N.Bytes(), p11.CKA_PUBLIC_EXPONENT: {1, 0, 1}, p11.CKA_PRIVATE_EXPONENT: r.D.Bytes(),
		p11.CKA_PRIME_1: r.Primes[0].Bytes(), p11.CKA_PRIME_2: r.Primes[1].Bytes(), p11.CKA_ID: {9}} {
		template = Bytes(template, typ, v)
	}
	o := must[*p11.Object](t)(c.Create(template))
	sig := must[[]byte](t)(c.Sign(o.Handle, p11.CKM_RSA_PKCS, nil, false, []byte("x")))
	if err := rsa.VerifyPKCS1v15(&r.PublicKey, 0, []byte("x"), sig); err != nil {
		t.Error(err)
	}
	label, _, _ := Value(o, p11.CKA_LABEL)
	id, _, _ := Value(o, p11.CKA_ID)
	if local, _, _ := Value(o, p11.CKA_LOCAL); string(label) != "im port" || !bytes.Equal(id, []byte{9}) || local[0] != 0 {
		t.Errorf("label %q, CKA_ID %x", label, id)
	}
	e := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	d := must[[]byte](t)(e.Bytes())
	params := must[[]byte](t)(hex.DecodeString("06082a8648ce3d030107"))
	ec := must[*p11.Object](t)(c.Create(Bytes(Bytes(Number(Number(onToken, p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), p11.CKA_KEY_TYPE, p11.CKK_EC),
		p11.CKA_EC_PARAMS, params), p11.CKA_VALUE, append([]byte{0}, d...))))
	sig = must[[]byte](t)(c.Sign(ec.Handle, p11.CKM_ECDSA, nil, false, make([]byte, 32)))
	if !verifyRaw(&e.PublicKey, make([]byte, 32), sig) {
		t.Error("the imported EC key signs with another")
	}
	_, seed, _ := ed25519.GenerateKey(rand.Reader)
	edTemplate := Bytes(Bytes(Number(Number(onToken, p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), p11.CKA_KEY_TYPE, p11.CKK_EC_EDWARDS),
		p11.CKA_EC_PARAMS, append([]byte{0x13, 12}, "edwards25519"...)), p11.CKA_VALUE, seed.Seed())
	ed, err := c.Create(edTemplate)
	if s.cfg.Token.Driver == config.DriverPKCS11 {
		// SoftHSM2 can't take Ed25519 keys in.
		if Code(err) != p11.CKR_ATTRIBUTE_VALUE_INVALID {
			t.Errorf("importing Ed25519: %v", err)
		}
	} else if err != nil {
		t.Error(err)
	} else if sig := must[[]byte](t)(c.Sign(ed.Handle, p11.CKM_EDDSA, nil, false, nil)); !ed25519.Verify(seed.Public().(ed25519.PublicKey), nil, sig) {
		t.Error("the imported Ed25519 key signs with another")
	}
	secret := bytes.Repeat([]byte{3}, 32)
	mac := must[*p11.Object](t)(c.Create(Bytes(Number(Number(onToken, p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.CKA_KEY_TYPE, p11.CKK_GENERIC_SECRET), p11.CKA_VALUE, secret)))
	local := p11.Key{Attributes: Bytes(Number(nil, p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.CKA_VALUE, secret)}
	there := must[[]byte](t)(c.Sign(mac.Handle, p11.CKM_SHA256_HMAC, nil, false, []byte("m")))
	here := must[[]byte](t)(c.Bytes(p11.OpSign, func(w *p11.Writer) {
		w.U64(0)
		w.Attributes(local.Attributes)
		Mechanism(w, p11.CKM_SHA256_HMAC, nil)
		w.U8(0)
		w.Bytes([]byte("m"))
	}))
	if !bytes.Equal(there, here) {
		t.Errorf("HMAC %x there, %x here", there, here)
	}
	if _, err := c.Create(Bytes(Number(onToken, p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), p11.CKA_VALUE, secret)); Code(err) != p11.CKR_TEMPLATE_INCOMPLETE {
		t.Errorf("a key without a type: %v", err)
	}
	unwraps(t, c, o, secret)
}

func verifyRaw(k *ecdsa.PublicKey, digest, sig []byte) bool {
	r, s := sig[:len(sig)/2], sig[len(sig)/2:]
	return ecdsa.Verify(k, digest, new(big.Int).SetBytes(r), new(big.Int).SetBytes(s))
}

func unwraps(t *testing.T, c *Client, private *p11.Object, secret []byte) {
	t.Helper()
	id, _, _ := Value(private, p11.CKA_ID)
	found := must[[]*p11.Object](t)(c.Find(Bytes(Number(nil, p11.CKA_CLASS, p11.CKO_PUBLIC_KEY), p11.CKA_ID, id), 10))
	wrapped := must[[]byte](t)(c.Crypt(p11.OpEncrypt, found[0].Handle, p11.CKM_RSA_PKCS, nil, secret))
	unwrap := func(template p11.Attributes) (*p11.Object, error) {
		return c.Object(p11.OpUnwrap, func(w *p11.Writer) {
			Key(w, private.Handle)
			Mechanism(w, p11.CKM_RSA_PKCS, nil)
			w.Bytes(wrapped)
			w.Attributes(template)
		})
	}
	template := Number(Number(nil, p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.CKA_KEY_TYPE, p11.CKK_AES)
	session := must[*p11.Object](t)(unwrap(template))
	if v, _, _ := Value(session, p11.CKA_VALUE); !bytes.Equal(v, secret) || session.Handle != 0 {
		t.Errorf("unwrapped %x", v)
	}
	token := must[*p11.Object](t)(unwrap(Bytes(Flag(template, p11.CKA_TOKEN, true), p11.CKA_LABEL, []byte("unwrapped"))))
	if _, form, ok := Value(token, p11.CKA_VALUE); !ok || form != p11.FormWithheld || token.Handle == 0 {
		t.Errorf("the token's key has its value in form %d", form)
	}
	iv := make([]byte, 16)
	there := must[[]byte](t)(c.Crypt(p11.OpEncrypt, token.Handle, p11.CKM_AES_CBC, rawParam(iv), iv))
	here := must[[]byte](t)(c.Bytes(p11.OpEncrypt, func(w *p11.Writer) {
		w.U64(0)
		w.Attributes(session.Attributes)
		Mechanism(w, p11.CKM_AES_CBC, rawParam(iv))
		w.Bytes(iv)
	}))
	if !bytes.Equal(there, here) {
		t.Errorf("the unwrapped key encrypts to %x there, to %x here", there, here)
	}
	if _, err := unwrap(Flag(template, p11.CKA_SENSITIVE, true)); Code(err) != p11.CKR_TEMPLATE_INCONSISTENT {
		t.Errorf("a sensitive key of a session: %v", err)
	}
}

// TestPKCS11Authorities: certificates of a pki engine appear, by the policy of the
// caller.
func TestPKCS11Authorities(t *testing.T) {
	t.Parallel()
	s, socket := pkcs11Server(t, t.TempDir())
	do(t, s, "POST", "sys/mounts/pki", "root", map[string]any{"type": "pki"}, nil)
	if status := do(t, s, "POST", "pki/root/generate/internal", "root", map[string]any{"common_name": "Test CA", "issuer_name": "ca", "ttl": "24h"}, nil); status != 200 {
		t.Fatalf("making the authority: status %d", status)
	}
	c := dial(t, socket, "root")
	found := must[[]*p11.Object](t)(c.Find(Number(nil, p11.CKA_CLASS, p11.CKO_CERTIFICATE), 10))
	if len(found) != 1 {
		t.Fatalf("%d certificates", len(found))
	}
	label, _, _ := Value(found[0], p11.CKA_LABEL)
	der, _, _ := Value(found[0], p11.CKA_VALUE)
	if cert, err := x509.ParseCertificate(der); err != nil || cert.Subject.CommonName != "Test CA" || string(label) != "ca" {
		t.Errorf("label %s, %v", label, err)
	}
	if o := must[*p11.Object](t)(c.Get(found[0].Handle)); o.Handle != found[0].Handle {
		t.Error("another object")
	}
	if err := c.Destroy(found[0].Handle); Code(err) != p11.CKR_ACTION_PROHIBITED {
		t.Errorf("destroying it: %v", err)
	}
	copied := must[*p11.Object](t)(c.Change(p11.OpCopy, found[0].Handle, Bytes(onToken, p11.CKA_LABEL, []byte("copy"))))
	if v, _, _ := Value(copied, p11.CKA_VALUE); !bytes.Equal(v, der) {
		t.Error("the copy is another certificate")
	}
}

// TestPKCS11Versions: a rotated key has a new object first; the old one stays, and
// signs no more when the key says so. A key with several versions is not destroyed.
func TestPKCS11Versions(t *testing.T) {
	t.Parallel()
	s, socket := pkcs11Server(t, t.TempDir())
	c := dial(t, socket, "root")
	do(t, s, "POST", "transit/keys/a", "root", map[string]any{"type": "ecdsa-p256"}, nil)
	old := theOne(t, c, p11.CKO_PRIVATE_KEY, "a").Handle
	do(t, s, "POST", "transit/keys/a/rotate", "root", nil, nil)
	both := must[[]*p11.Object](t)(c.Find(Bytes(Number(nil, p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), p11.CKA_LABEL, []byte("a")), 10))
	if len(both) != 2 || both[0].Handle == old || both[1].Handle != old {
		t.Fatalf("%d objects, the old one is not the last", len(both))
	}
	sign := func(handle uint64) error {
		_, err := c.Sign(handle, p11.CKM_ECDSA, nil, false, make([]byte, 32))
		return err
	}
	if err := sign(old); err != nil {
		t.Error(err)
	}
	do(t, s, "POST", "transit/keys/a/config", "root", map[string]any{"min_encryption_version": 2, "deletion_allowed": true}, nil)
	if err := sign(old); Code(err) != p11.CKR_KEY_FUNCTION_NOT_PERMITTED {
		t.Errorf("the old version: %v", err)
	}
	if err := sign(both[0].Handle); err != nil {
		t.Error(err)
	}
	if err := c.Destroy(both[0].Handle); Code(err) != p11.CKR_ACTION_PROHIBITED {
		t.Errorf("destroying one of two versions: %v", err)
	}
	do(t, s, "POST", "sys/seal", "root", nil, nil)
	c.Wait = 300 * time.Millisecond
	if err := sign(both[0].Handle); Code(err) != p11.CKR_DEVICE_ERROR {
		t.Errorf("sealed: %v", err)
	}
	r, err := c.Do(p11.OpInfo, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		r.Bytes()
	}
	if major, minor, flags := r.U8(), r.U8(), r.U8(); major != 0 || minor != 1 || flags != p11.InfoLogin {
		t.Errorf("version %d.%d, flags %d", major, minor, flags)
	}
}

// TestPKCS11Peers: who is not among the configured users is cut off.
func TestPKCS11Peers(t *testing.T) {
	t.Parallel()
	cfg := config.Dev(t.TempDir())
	socket := filepath.Join(t.TempDir(), "s")
	f := &cfg.Front.PKCS11
	f.Enabled, f.Address, f.Mode, f.UIDs = true, "unix:"+socket, "0666", []int{os.Getuid() + 1}
	f.Group = strconv.Itoa(os.Getgid())
	running(t, cfg, Options{Dev: &Dev{}})
	if _, err := Dial(socket, ""); err == nil {
		t.Error("another user may connect")
	}
}
