package keys

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// FuzzImport: no blob, and no text inside a blob that is wrapped as it should be,
// panics; what is refused is the caller's mistake and makes no key; what is taken
// makes a key of the type that was asked for.
func FuzzImport(f *testing.F) {
	e := newEnv(f, false)
	public := e.wrappingPublic()
	types := []string{"aes256-gcm96", "ed25519", "ecdsa-p256", "rsa-2048", "hmac"}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	must(f, err)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(f, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(f, err)
	f.Add(uint8(0), true, make([]byte, 32))
	f.Add(uint8(0), true, make([]byte, 31))
	f.Add(uint8(1), true, pkcs8(f, ed))
	f.Add(uint8(2), true, pkcs8(f, ec))
	f.Add(uint8(3), true, pkcs8(f, rsaKey))
	f.Add(uint8(1), true, pkcs8(f, ec))
	f.Add(uint8(4), true, make([]byte, 64))
	f.Add(uint8(0), false, make([]byte, wrappingSize+16))
	f.Add(uint8(0), false, []byte{})
	var made atomic.Int64
	f.Fuzz(func(t *testing.T, typ uint8, wrapped bool, secret []byte) {
		blob := secret
		if wrapped && len(secret) > 0 {
			blob = wrapFor(t, public, sha256.New, secret)
		}
		name := fmt.Sprint("fuzz", made.Add(1))
		want := types[int(typ)%len(types)]
		_, err := e.importKey(bg, call(), &api.ImportKey{Name: name, Type: want, Ciphertext: blob})
		k, readErr := e.key(bg, keyName{"transit/", name})
		if err != nil {
			if fault.KindOf(err) != fault.Invalid {
				t.Fatalf("%v is not the caller's mistake", err)
			}
			if !errors.Is(readErr, errNoKey) {
				t.Fatalf("refused with %v, and there is a key", err)
			}
			return
		}
		if readErr != nil || k.meta.Type.String() != want {
			t.Fatalf("imported as %s: %+v, %v", want, k, readErr)
		}
	})
}
