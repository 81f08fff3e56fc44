package keys

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

func (e *env) legacyEnc(r api.LegacyEncrypt) ([]byte, error) {
	out, err := e.legacyEncrypt(bg, call(), &r)
	if err != nil {
		return nil, err
	}
	return out.Ciphertext, nil
}

func (e *env) legacyDec(r api.LegacyDecrypt) (string, error) {
	out, err := e.legacyDecrypt(bg, call(), &r)
	if err != nil {
		return "", err
	}
	return string(out.Plaintext), nil
}

// TestLegacyCBC compares with what `openssl enc -aes-128-cbc` makes of the same key.
func TestLegacyCBC(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	secret, iv := make([]byte, 16), make([]byte, 16)
	for i := range secret {
		secret[i], iv[i] = byte(i), byte(i*0x11)
	}
	known, err := hex.DecodeString("b61920811b03c3842728ddcfbf380316311d2dbfc60fb41c15ec8bfaba0e2e00")
	must(t, err)
	must(t, e.importAs(api.ImportKey{Name: "k", Type: "aes128-gcm96", AllowRotation: true, Ciphertext: e.wrap(crypto.SHA256.New, secret)}))
	e.rotateNow("k") // older programs mean the first version all the same
	const plain = "you are handsome man"
	got, err := e.legacyEnc(api.LegacyEncrypt{Name: "k", Plaintext: []byte(plain), Scheme: "aes-cbc", IV: iv})
	if err != nil || !bytes.Equal(got, known) {
		t.Errorf("%x %v", got, err)
	}
	decrypt := func(ciphertext, iv []byte) (string, error) {
		return e.legacyDec(api.LegacyDecrypt{Name: "k", Ciphertext: ciphertext, Scheme: "aes-cbc", IV: iv})
	}
	if got, err := decrypt(known, iv); err != nil || got != plain {
		t.Errorf("%q %v", got, err)
	}
	for _, length := range []int{0, 15, 17} {
		_, err := e.legacyEnc(api.LegacyEncrypt{Name: "k", Plaintext: []byte(plain), Scheme: "aes-cbc", IV: make([]byte, length)})
		wantFault(t, err, fault.Invalid, "needs 16")
		_, err = decrypt(known, make([]byte, length))
		wantFault(t, err, fault.Invalid, "needs 16")
	}
	for _, wrong := range [][]byte{known[:31], known[:16], append([]byte{1}, known[1:]...)[:16]} {
		if got, err := decrypt(wrong, iv); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%x is %q, %v", wrong, got, err)
		}
	}
	_, err = e.legacyEnc(api.LegacyEncrypt{Name: "k", Plaintext: []byte(plain), Scheme: "rsa-oaep-sha1"})
	wantFault(t, err, fault.Invalid, "no public half")
	_, err = decrypt(nil, iv)
	wantFault(t, err, fault.Invalid, "missing")
}

// TestLegacyOAEP: what the standard library encrypts with RSA-OAEP and SHA-1 is
// decrypted, and what is encrypted opens again, with the first version.
func TestLegacyOAEP(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	_, err := e.createLegacyKey(bg, call(), &api.CreateLegacyKey{Name: "k", Type: "rsa-2048", Label: "test", ID: "02"})
	must(t, err)
	public, err := e.PublicKey(bg, Ref{Mount: "transit/", Name: "k"})
	must(t, err)
	theirs, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public.(*rsa.PublicKey), []byte("theirs"), nil)
	must(t, err)
	e.rotateNow("k")
	encrypt := func(plain string) ([]byte, error) {
		return e.legacyEnc(api.LegacyEncrypt{Name: "k", Plaintext: []byte(plain), Scheme: "rsa-oaep-sha1"})
	}
	decrypt := func(ciphertext []byte) (string, error) {
		return e.legacyDec(api.LegacyDecrypt{Name: "k", Ciphertext: ciphertext, Scheme: "rsa-oaep-sha1"})
	}
	if got, err := decrypt(theirs); err != nil || got != "theirs" {
		t.Errorf("%q %v", got, err)
	}
	longest := strings.Repeat("x", 214)
	ours, err := encrypt(longest)
	must(t, err)
	if got, err := decrypt(ours); err != nil || got != longest {
		t.Errorf("%q %v", got, err)
	}
	_, err = encrypt(longest + "x")
	wantFault(t, err, fault.Invalid, "at most 214")
	ours[9] ^= 1
	_, err = decrypt(ours)
	wantFault(t, err, fault.Invalid, "")
	_, err = e.legacyEnc(api.LegacyEncrypt{Name: "k", Plaintext: []byte("x"), Scheme: "aes-cbc", IV: make([]byte, 16)})
	wantFault(t, err, fault.Invalid, "can't encrypt in this way")
	for _, scheme := range []string{"", "rsa-pkcs1v15"} {
		_, err = e.legacyEnc(api.LegacyEncrypt{Name: "k", Plaintext: []byte("x"), Scheme: scheme})
		wantFault(t, err, fault.Invalid, "rsa-oaep-sha1 or aes-cbc")
	}
	_, err = e.legacyEnc(api.LegacyEncrypt{Name: "none", Plaintext: []byte("x"), Scheme: "rsa-oaep-sha1"})
	wantFault(t, err, fault.NotFound, "none")
}
