package programs

import (
	"context"
	"crypto"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
)

// TestKeyChanges rotates, disables and deletes a key below an application that
// holds a handle of it.
func TestKeyChanges(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, p *provider) {
		root := p.claviger.root
		k := p.key(t, "app", "ecdsa-p256")
		a := ready(t, p, k)

		rotated, err := root.RotateKey(t.Context(), k.name)
		if err != nil {
			t.Fatal(err)
		}
		if rotated.LatestVersion != 2 {
			t.Fatalf("version %d", rotated.LatestVersion)
		}
		// The handle is that of a version, and stays so.
		a.signs(t, k)
		second := *k
		second.public = publicKey(t, p, k.name, 2)
		second.id = publicID(t, second.public)
		eventually(t, "the new version is not found by the label", func() bool {
			a.do(t, ckrOK, "find %s", k.name)
			return p.isOf(t, a, &second)
		})
		a.do(t, ckrOK, "version %s", k.hexID())
		a.signs(t, k)

		two := 2
		if _, err := root.ConfigKey(t.Context(), api.ConfigKey{Name: k.name, MinEncryptionVersion: &two}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the version that is disabled signs", func() bool {
			return a.do(t, ckrOK+" "+ckrNotPermitted, "sign %x", digest).code == ckrNotPermitted
		})
		a.do(t, ckrOK, "version %s", second.hexID())
		a.signs(t, &second)

		yes := true
		if _, err := root.ConfigKey(t.Context(), api.ConfigKey{Name: k.name, DeletionAllowed: &yes}); err != nil {
			t.Fatal(err)
		}
		if err := root.DeleteKey(t.Context(), k.name); err != nil {
			t.Fatal(err)
		}
		a.do(t, ckrHandleInvalid, "sign %x", digest)
		other := p.key(t, "other", "ecdsa-p256")
		eventually(t, "a new key is not found", func() bool {
			return a.do(t, ckrOK+" "+ckrHandleInvalid, "find %s", other.name).code == ckrOK
		})
		a.signs(t, other)
	})
}

// isOf tells whether the application's key is this one.
func (p *provider) isOf(t testing.TB, a *application, k *key) bool {
	t.Helper()
	got := a.do(t, ckrOK, "sign %x", digest)
	return verifies(got.rest, k)
}

func publicKey(t testing.TB, p *provider, name string, version int) crypto.PublicKey {
	t.Helper()
	public, err := p.claviger.root.PublicKey(t.Context(), name, version)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// eventually waits for what caches may delay by a few seconds.
func eventually(t testing.TB, otherwise string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !so(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(otherwise)
		}
	}
}

// TestLogin logs in with client tokens that are wrong, too weak, run out and
// revoked, where the application has its own.
func TestLogin(t *testing.T) {
	t.Parallel()
	for _, way := range loginWays {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			testLogin(t, way.start(t))
		})
	}
}

func testLogin(t *testing.T, p *provider) {
	c := p.claviger
	k := p.key(t, "app", "ecdsa-p256")
	a := newApplication(t, p)
	a.do(t, ckrOK, "open %s", tokenLabel)
	a.do(t, ckrPINIncorrect, "login s.nothingLikeAToken")
	a.do(t, ckrPINIncorrect, "login %s", strings.Repeat("x", 300))
	// Somebody who may not use the key does not see it, and who may not look sees
	// nothing.
	a.do(t, ckrOK, "login %s", c.policy(t, "nobody", `path "transit/pkcs11-find" { capabilities = ["update"] }`))
	a.do(t, ckrHandleInvalid, "find %s", k.name)
	a.do(t, ckrOK, "logout")
	a.do(t, ckrOK, "login %s", c.policy(t, "blind", `path "transit/keys/app" { capabilities = ["read"] }`))
	a.do(t, ckrNotPermitted, "find %s", k.name)
	a.do(t, ckrOK, "logout")

	token := c.policy(t, "app", keyPolicy)
	a.do(t, ckrOK, "login %s", token)
	a.do(t, ckrOK, "find %s", k.name)
	a.signs(t, k)
	if err := c.root.WithToken(token).RevokeSelf(context.Background()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a revoked client token signs", func() bool {
		return a.do(t, ckrOK+" "+ckrNotLoggedIn, "sign %x", digest).code == ckrNotLoggedIn
	})
	a.do(t, ckrOK, "logout")
	a.do(t, ckrPINIncorrect+" "+ckrPINExpired, "login %s", token)

	short, err := c.root.CreateToken(t.Context(), api.CreateToken{Policies: []string{"app"}, TTL: 2})
	if err != nil {
		t.Fatal(err)
	}
	a.do(t, ckrOK, "login %s", short.ClientToken)
	a.do(t, ckrOK, "find %s", k.name)
	a.signs(t, k)
	eventually(t, "a client token that ran out signs", func() bool {
		return a.do(t, ckrOK+" "+ckrNotLoggedIn, "sign %x", digest).code == ckrNotLoggedIn
	})
	a.do(t, ckrOK, "logout")
	a.do(t, ckrPINExpired+" "+ckrPINIncorrect, "login %s", short.ClientToken)
	// And everything works again with the next one.
	a.do(t, ckrOK, "login %s", c.policy(t, "app", keyPolicy))
	a.do(t, ckrOK, "find %s", k.name)
	a.signs(t, k)
}
