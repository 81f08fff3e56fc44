package pgp

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

func pair(t testing.TB, c *packet.Config) (*openpgp.Entity, string) {
	t.Helper()
	e, err := openpgp.NewEntity("Ada", "", "ada@example.org", c)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return e, base64.StdEncoding.EncodeToString(b.Bytes())
}

func key(t testing.TB, text string) *Key {
	t.Helper()
	k, err := Parse(text, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKindAndExpiry(t *testing.T) {
	t.Parallel()
	made := time.Now().Add(-time.Hour).Truncate(time.Second)
	for want, c := range map[string]*packet.Config{
		"RSA 2048, version 4":          {Algorithm: packet.PubKeyAlgoRSA, RSABits: 2048},
		"ECDH Curve25519, version 4":   {Algorithm: packet.PubKeyAlgoEdDSA},
		"X25519 Curve25519, version 6": {Algorithm: packet.PubKeyAlgoEd25519, V6Keys: true},
		"ECDH P384, version 4":         {Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveNistP384},
	} {
		c.Time = func() time.Time { return made }
		_, text := pair(t, c)
		k := key(t, text)
		if k.Kind() != want || !k.Expires().IsZero() || k.Owner() != "Ada <ada@example.org>" {
			t.Errorf("%q, %v, %q, want %q", k.Kind(), k.Expires(), k.Owner(), want)
		}
		c.KeyLifetimeSecs = 86400
		_, text = pair(t, c)
		if k := key(t, text); !k.Expires().Equal(made.Add(24 * time.Hour)) {
			t.Errorf("%s expires %v", want, k.Expires())
		}
		public, err := k.Public()
		if err != nil {
			t.Fatal(err)
		}
		if again := key(t, base64.StdEncoding.EncodeToString(public)); again.Fingerprint != k.Fingerprint {
			t.Error("the public key is another one")
		}
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	e, text := pair(t, &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	other, _ := pair(t, &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	k := key(t, text)
	message := []byte("what is signed")
	sign := func(e *openpgp.Entity, c *packet.Config) []byte {
		var b bytes.Buffer
		if err := openpgp.DetachSign(&b, []*openpgp.Entity{e}, bytes.NewReader(message), c); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	good := sign(e, nil)
	made, err := k.Verify(message, good)
	if err != nil || time.Since(made) > time.Minute {
		t.Fatalf("%v, %v", made, err)
	}
	var armored bytes.Buffer
	w, err := armor.Encode(&armored, openpgp.SignatureType, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(good)
	w.Close()
	if again, err := Dearmor(armored.Bytes()); err != nil || !bytes.Equal(again, good) {
		t.Errorf("%v", err)
	}
	for want, x := range map[string][]byte{
		"did not sign this":          sign(other, nil),
		"more than one signature":    append(bytes.Clone(good), good...),
		"no detached OpenPGP":        []byte("x"),
		"is no detached OpenPGP sig": {},
	} {
		if _, err := k.Verify(message, x); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
	if _, err := k.Verify([]byte("something else"), good); err == nil {
		t.Error("a signature of something else is taken")
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 0x10
		if at, err := k.Verify(message, b); err == nil && !at.Equal(made) {
			t.Errorf("byte %d is turned: %v", i, at)
		}
	}
	// Before the key was made, nothing is signed by it.
	early := sign(e, &packet.Config{Time: func() time.Time { return time.Now().Add(time.Second) }})
	if _, err := k.Verify(message, early); err != nil {
		t.Errorf("%v", err)
	}
	for want, x := range map[string]string{
		"armor of the signature": "-----BEGIN PGP SIGNATURE-----\nx",
		"no detached signature":  strings.ReplaceAll(armored.String(), "SIGNATURE", "MESSAGE"),
		"at most":                strings.Repeat("x", MaxSignature+1),
	} {
		if _, err := Dearmor([]byte(x)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// A user ID can't pretend to be other lines of a table.
func TestOwnerIsOneLine(t *testing.T) {
	t.Parallel()
	e, err := openpgp.NewEntity("Ada", "", "", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	id := "Ada\n2  Grace\x1b[2J"
	e.Identities[id] = e.Identities["Ada"]
	delete(e.Identities, "Ada")
	if got := (&Key{entity: e}).Owner(); strings.ContainsAny(got, "\n\x1b") || !strings.HasPrefix(got, "Ada\ufffd2") {
		t.Errorf("%q", got)
	}
}

func TestScratch(t *testing.T) {
	t.Parallel()
	s, err := NewScratch("Share 1")
	if err != nil {
		t.Fatal(err)
	}
	public, err := s.Public()
	if err != nil {
		t.Fatal(err)
	}
	k := key(t, base64.StdEncoding.EncodeToString(public))
	message, err := k.Encrypt([]byte("a share"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := s.Decrypt(message); err != nil || string(plain) != "a share" {
		t.Errorf("%q, %v", plain, err)
	}
	if _, err := s.Decrypt([]byte("x")); err == nil {
		t.Error("what is no message is opened")
	}
}

func FuzzVerify(f *testing.F) {
	e, text := pair(f, &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	var good, armored bytes.Buffer
	if openpgp.DetachSign(&good, []*openpgp.Entity{e}, strings.NewReader("m"), nil) != nil ||
		openpgp.ArmoredDetachSign(&armored, []*openpgp.Entity{e}, strings.NewReader("m"), nil) != nil {
		f.Fatal("sign")
	}
	f.Add(good.Bytes())
	f.Add(armored.Bytes())
	k := key(f, text)
	f.Fuzz(func(t *testing.T, signature []byte) {
		b, err := Dearmor(signature)
		if err != nil {
			return
		}
		if _, err := k.Verify([]byte("another message"), b); err == nil {
			t.Error("a signature of something else is taken")
		}
	})
}
