package keys

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token/tokentest"
)

func TestLegacyOperations(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	const name = "9bac3719-2b8d-11e9-aeab-0242b5ece4c3"
	k, err := e.createLegacyKey(bg, call(), &api.CreateLegacyKey{Name: name, Type: "rsa-2048", Label: "test", ID: "9bac37192b8d11e9aeab0242b5ece4c3"})
	must(t, err)
	block, _ := pem.Decode([]byte(k.PublicKey))
	if block == nil || k.Name != name || k.Label != "test" || k.Type != "rsa-2048" || k.ID != "9bac37192b8d11e9aeab0242b5ece4c3" || e.there("test") != 1 {
		t.Fatalf("%+v", k)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	must(t, err)
	ciphertext := tokentest.EncryptPKCS1v15(t, public.(*rsa.PublicKey), []byte("foobar"))
	e.restart()
	decrypt := func(r api.LegacyDecrypt) (string, error) {
		d, err := e.legacyDecrypt(bg, call(), &r)
		if err != nil {
			return "", err
		}
		return string(d.Plaintext), nil
	}
	if got, err := decrypt(api.LegacyDecrypt{Name: name, Ciphertext: ciphertext, Scheme: "rsa-pkcs1v15"}); err != nil || got != "foobar" {
		t.Errorf("%q %v", got, err)
	}
	// Wrong padding is a message that looks random, the same each time.
	ciphertext[9] ^= 1
	first, err := decrypt(api.LegacyDecrypt{Name: name, Ciphertext: ciphertext, Scheme: "rsa-pkcs1v15"})
	must(t, err)
	if second, err := decrypt(api.LegacyDecrypt{Name: name, Ciphertext: ciphertext, Scheme: "rsa-pkcs1v15"}); err != nil || first == "foobar" || first != second {
		t.Errorf("%q, then %q %v", first, second, err)
	}
	_, err = decrypt(api.LegacyDecrypt{Name: name, Ciphertext: ciphertext[1:], Scheme: "rsa-pkcs1v15"})
	wantFault(t, err, fault.Invalid, "")
	_, err = decrypt(api.LegacyDecrypt{Name: "none", Ciphertext: ciphertext, Scheme: "rsa-pkcs1v15"})
	wantFault(t, err, fault.NotFound, "none")
	for _, scheme := range []string{"", "oaep"} {
		_, err = decrypt(api.LegacyDecrypt{Name: name, Ciphertext: ciphertext, Scheme: scheme})
		wantFault(t, err, fault.Invalid, "rsa-pkcs1v15")
	}
	_, err = decrypt(api.LegacyDecrypt{Name: name, Scheme: "rsa-pkcs1v15"})
	wantFault(t, err, fault.Invalid, "missing")
	for _, r := range []api.CreateLegacyKey{
		{Name: "x", Type: "aes256-gcm96", ID: "01"}, {Name: "x", Type: "rsa-1024", ID: "01"}, {Name: "x", ID: "01"},
		{Name: "x", Type: "rsa-2048"}, {Name: "x", Type: "rsa-2048", Label: "l"}, {Name: "x", Type: "rsa-2048", ID: "0"}, {Name: "../x", Type: "rsa-2048", ID: "01"},
	} {
		if _, err := e.createLegacyKey(bg, call(), &r); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%+v: %v", r, err)
		}
	}
	_, err = e.createLegacyKey(bg, call(), &api.CreateLegacyKey{Name: name, Type: "rsa-2048", Label: "test", ID: "9bac37192b8d11e9aeab0242b5ece4c3"})
	wantFault(t, err, fault.Conflict, "exists already")
}
