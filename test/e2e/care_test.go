package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"hash"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

// A key that is wrapped by the HSM token comes back from its backup, is used by
// the token, and refuses its use while it is soft-deleted; and a certificate
// request is signed in the token.
func TestCareOfWrappedKeys(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{})
	s.OK(t, "PUT", "transit/keys/k", map[string]any{"type": "aes256-gcm96"})
	sealed := s.OK(t, "PUT", "transit/encrypt/k", map[string]any{"plaintext": "cGxhaW4="})
	backup := s.OK(t, "GET", "transit/backup/k", nil)["backup"]
	s.OK(t, "PUT", "transit/keys/k/config", map[string]any{"deletion_allowed": true})
	s.OK(t, "DELETE", "transit/keys/k", nil)
	s.OK(t, "PUT", "transit/restore/again", map[string]any{"backup": backup})
	s.OK(t, "PUT", "transit/restore", map[string]any{"backup": backup})
	s.OK(t, "PUT", "transit/keys/k/config", map[string]any{"deletion_allowed": true})
	s.OK(t, "DELETE", "transit/keys/k", nil)
	if p := s.OK(t, "PUT", "transit/decrypt/again", map[string]any{"ciphertext": sealed["ciphertext"]})["plaintext"]; p != "cGxhaW4=" {
		t.Errorf("plaintext %v", p)
	}
	s.OK(t, "DELETE", "transit/keys/again/soft-delete", nil)
	if status, body := s.Do(t, "PUT", "transit/decrypt/again", map[string]any{"ciphertext": sealed["ciphertext"]}); status != 400 {
		t.Errorf("status %d: %v", status, body)
	}
	s.OK(t, "POST", "transit/keys/again/soft-delete-restore", nil)

	for _, typ := range []string{"ecdsa-p384", "rsa-2048", "ed25519"} {
		s.OK(t, "PUT", "transit/keys/"+typ, map[string]any{"type": typ})
		text := s.OK(t, "POST", "transit/keys/"+typ+"/csr", nil)["csr"].(string)
		block, _ := pem.Decode([]byte(text))
		csr, err := x509.ParseCertificateRequest(block.Bytes)
		if err == nil {
			err = csr.CheckSignature()
		}
		if err != nil {
			t.Errorf("%s: %v", typ, err)
		}
	}
}

// An import is opened in the HSM token, with every hash that callers choose, and
// stays there but for protection=software.
func TestImportThroughToken(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{})
	public := s.WrappingKey(t)
	for name, h := range map[string]hash.Hash{"SHA1": sha1.New(), "SHA256": sha256.New()} {
		kek := make([]byte, 32)
		rand.Read(kek)
		wrapped, err := rsa.EncryptOAEP(h, rand.Reader, public, kek, nil)
		if err != nil {
			t.Fatal(err)
		}
		wrapped = append(wrapped, harness.KeyWrap(t, kek, make([]byte, 32))...)
		for protection, want := range map[string]string{"": "wrapped", "wrapped": "wrapped", "token": "token", "software": "software"} {
			body := map[string]any{"ciphertext": base64.StdEncoding.EncodeToString(wrapped), "hash_function": name, "protection": protection}
			key := name + protection
			s.OK(t, "POST", "transit/keys/"+key+"/import", body)
			if got := s.OK(t, "GET", "transit/keys/"+key, nil)["protection"]; got != want {
				t.Errorf("%s: protection %v", key, got)
			}
			// AES-GCM test case 14 of McGrew and Viega: key, nonce and plaintext are zeros
			p := s.OK(t, "PUT", "transit/decrypt/"+key, map[string]any{"ciphertext": "vault:v1:AAAAAAAAAAAAAAAAzqdAPU1ga24HTsXTuvOdGNDRyKeZmWvwJluYtdSKuRk="})["plaintext"]
			if p != base64.StdEncoding.EncodeToString(make([]byte, 16)) {
				t.Errorf("%s: plaintext %v", key, p)
			}
		}
		body := map[string]any{"ciphertext": base64.StdEncoding.EncodeToString(wrapped), "hash_function": name, "type": "ecdsa-p256"}
		if status, answer := s.Do(t, "POST", "transit/keys/other/import", body); status != 400 {
			t.Errorf("a secret of another type: status %d: %v", status, answer)
		}
	}
}
