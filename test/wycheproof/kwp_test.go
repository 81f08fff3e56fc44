package wycheproof

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

// kwp imports what the vectors wrapped: the first part of the import is the
// vector's key, the second its ciphertext. Keys of 256 bits are taken only.
func kwp(t *testing.T, s *suite) {
	c := newTally()
	const file = "aes_kwp_test.json"
	for _, g := range read(t, file)[file] {
		for _, v := range g.Tests {
			if len(v.CT) < 16 {
				c.left["less than two blocks"]++
				continue
			}
			s.unwraps(t, c, g.KeySize, &v)
		}
	}
	c.report(t, 200)
	c.uniform(t)
}

func (s *suite) unwraps(t *testing.T, c *tally, keySize int, v *Vector) {
	t.Helper()
	typ := "hmac"
	if len(v.Msg) == 16 {
		typ = "aes128-gcm96"
	}
	name := fmt.Sprintf("kwp-%d", v.ID)
	blob := harness.ImportBlob(t, s.wrapping, v.Key, v.CT)
	refusal := s.tryImport(t, name, typ, map[string]any{"ciphertext": encode(blob)})
	c.checked++
	switch {
	case v.Result != "valid" || keySize != 256:
		if refusal == "" {
			t.Errorf("test %d (%s), a key of %d bits, was imported", v.ID, v.Comment, keySize)
		}
		c.refusals[refusal]++
	case typ == "hmac" && len(v.Msg) < minHMAC:
		// It is of no use as a key. An HSM token does not say that it could be
		// unwrapped all the same.
		if !strings.Contains(refusal, "is no key of type hmac") && !strings.Contains(refusal, "can't be unwrapped") {
			t.Errorf("test %d (%s), %d bytes: %s", v.ID, v.Comment, len(v.Msg), refusal)
		}
	case refusal != "":
		t.Errorf("test %d (%s), %d bytes: %s", v.ID, v.Comment, len(v.Msg), refusal)
	default:
		s.holds(t, name, typ, v.Msg)
	}
}

// holds fails unless a key is this secret.
func (s *suite) holds(t *testing.T, name, typ string, secret []byte) {
	t.Helper()
	if typ == "hmac" {
		want := hmac.New(sha256.New, secret)
		want.Write([]byte("message"))
		got := s.OK(t, "POST", "transit/hmac/"+name, map[string]any{"input": encode([]byte("message"))})["hmac"]
		if got != ciphertext(want.Sum(nil)) {
			t.Errorf("%s: HMAC %v", name, got)
		}
		return
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, gcm.NonceSize())
	sealed := gcm.Seal(nil, nonce, []byte("message"), nil)
	got := s.OK(t, "POST", "transit/decrypt/"+name, map[string]any{"ciphertext": ciphertext(nonce, sealed)})["plaintext"]
	if got != encode([]byte("message")) {
		t.Errorf("%s: plaintext %v", name, got)
	}
}
