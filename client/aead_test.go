package client_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/claviger/claviger/api"
)

func TestAEAD(t *testing.T) {
	t.Parallel()
	c := connect()
	for _, typ := range []string{"aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305"} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			name := key(t, c, typ)
			a, err := c.Sealer(name).AEAD(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if a.NonceSize() != 0 {
				t.Errorf("a nonce of %d bytes", a.NonceSize())
			}
			for _, plain := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("long "), 1000)} {
				sealed := a.Seal([]byte("before"), nil, plain, []byte("ad"))
				if len(sealed) != len("before")+len(plain)+a.Overhead() {
					t.Fatalf("%d bytes became %d with an overhead of %d", len(plain), len(sealed), a.Overhead())
				}
				if got, err := a.Open([]byte("b"), nil, sealed[6:], []byte("ad")); err != nil || !bytes.Equal(got[1:], plain) {
					t.Errorf("%q, %v", got, err)
				}
				for _, bad := range [][]byte{sealed[6 : len(sealed)-1], append(bytes.Clone(sealed[6:]), 0), nil, sealed[6:20]} {
					if _, err := a.Open(nil, nil, bad, []byte("ad")); err == nil {
						t.Error("a wrong ciphertext opens")
					}
				}
				_, err := a.Open(nil, nil, sealed[6:], []byte("other"))
				if e, ok := errors.AsType[*api.Error](err); !ok || e.Status != 400 {
					t.Errorf("with other associated data: %v", err)
				}
			}
			old := a.Seal(nil, nil, []byte("old"), nil)
			if _, err := c.RotateKey(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			if got, err := a.Open(nil, nil, old, nil); err != nil || string(got) != "old" {
				t.Errorf("after a rotation: %q, %v", got, err)
			}
		})
	}
	if _, err := c.Sealer(key(t, c, "ed25519")).AEAD(t.Context()); err == nil {
		t.Error("an Ed25519 key is an AEAD")
	}
	a, err := c.Sealer(key(t, c, "aes256-gcm96")).AEAD(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a nonce of the caller's is taken")
		}
	}()
	a.Seal(nil, make([]byte, 12), nil, nil)
}
