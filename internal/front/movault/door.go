package movault

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/guard"
	"github.com/claviger/claviger/internal/op"
)

// Options are what a front needs. Door, As and Mount are required.
type Options struct {
	Door guard.Door
	// As is who the front is before the guard; its policy is Policy(Mount).
	As *guard.Identity
	// Mount is the transit engine with the keys, with its slash: "transit/".
	Mount string
	// Token is what callers have to show; empty: nothing.
	Token []byte
	// Timeout bounds a call; default 90 s.
	Timeout time.Duration
	Logger  *slog.Logger
}

// New makes a front.
func New(o Options) (*Front, error) {
	if o.Door == nil || o.As == nil || o.Mount == "" {
		return nil, errors.New("the front movault needs a door, an identity and a mount")
	}
	if o.Timeout == 0 {
		o.Timeout = 90 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return newFront(&guarded{o.Door, o.As, o.Mount}, o.Token, o.Timeout, o.Logger), nil
}

// Policy is what a front may do that has its keys in a mount.
func Policy(mount string) string {
	var b strings.Builder
	for _, path := range []string{"legacy/keys/+", "legacy/encrypt/+", "legacy/decrypt/+", "sign/+", "verify/+"} {
		fmt.Fprintf(&b, "path %q {\n  capabilities = [\"update\"]\n}\n", mount+path)
	}
	fmt.Fprintf(&b, "path %q {\n  capabilities = [\"update\", \"sudo\"]\n}\n", mount+"keys/+/adopt")
	return b.String()
}

// guarded are the keys behind the guard.
type guarded struct {
	door  guard.Door
	as    *guard.Identity
	mount string
}

func (g *guarded) create(ctx context.Context, remote string, k *key) error {
	typ := "rsa-2048"
	if k.typ == api.MoVaultAES {
		typ = "aes128-gcm96"
	}
	_, err := guard.Call[api.LegacyKey](ctx, g.door, g.as, op.Write, g.mount+"legacy/keys/"+k.name(), remote,
		&api.CreateLegacyKey{Type: typ, Label: k.path, ID: hex.EncodeToString(api.MoVaultID(k.version))})
	return err
}

// use calls with a key, and adopts one that the original made in the HSM token.
func (g *guarded) use(ctx context.Context, remote string, k *key, call func() error) error {
	if !k.possible() {
		return noKey(k)
	}
	err := call()
	if fault.KindOf(err) != fault.NotFound && !noSigningKey(err) {
		return err
	}
	class := "private"
	if k.typ == api.MoVaultAES {
		class = "secret"
	}
	_, err = guard.Call[api.Key](ctx, g.door, g.as, op.Write, g.mount+"keys/"+k.name()+"/adopt", remote,
		&api.AdoptKey{Label: k.path, ID: hex.EncodeToString(api.MoVaultID(k.version)), Class: class, DeleteObject: true})
	if kind := fault.KindOf(err); err != nil && (kind == fault.NotFound || kind == fault.Invalid) {
		return noKey(k)
	}
	if err != nil {
		return err
	}
	return call()
}

// noSigningKey tells whether an operation of transit says that there is no such key,
// which for Vault's clients is a wrong request.
func noSigningKey(err error) bool {
	return fault.KindOf(err) == fault.Invalid && strings.Contains(fault.Message(err), "not found")
}

func scheme(k *key) string {
	if k.typ == api.MoVaultAES {
		return "aes-cbc"
	}
	return "rsa-oaep-sha1"
}

func (g *guarded) encrypt(ctx context.Context, remote string, k *key, iv, plaintext []byte) (out []byte, err error) {
	err = g.use(ctx, remote, k, func() error {
		e, err := guard.Call[api.LegacyEncrypted](ctx, g.door, g.as, op.Write, g.mount+"legacy/encrypt/"+k.name(), remote,
			&api.LegacyEncrypt{Plaintext: plaintext, Scheme: scheme(k), IV: iv})
		if err == nil {
			out = e.Ciphertext
		}
		return err
	})
	return out, err
}

func (g *guarded) decrypt(ctx context.Context, remote string, k *key, iv, ciphertext []byte) (out []byte, err error) {
	err = g.use(ctx, remote, k, func() error {
		d, err := guard.Call[api.LegacyDecrypted](ctx, g.door, g.as, op.Write, g.mount+"legacy/decrypt/"+k.name(), remote,
			&api.LegacyDecrypt{Ciphertext: ciphertext, Scheme: scheme(k), IV: iv})
		if err == nil {
			out = d.Plaintext
		}
		return err
	})
	return out, err
}

// Signatures are those of transit, whose version 1 is the key of the original.
const (
	hash      = "sha2-256"
	padding   = "pkcs1v15"
	signature = "vault:v1:"
)

func (g *guarded) sign(ctx context.Context, remote string, k *key, digest []byte) (out []byte, err error) {
	err = g.use(ctx, remote, k, func() error {
		s, err := guard.Call[api.Signature](ctx, g.door, g.as, op.Write, g.mount+"sign/"+k.name(), remote,
			&api.Sign{Input: digest, Prehashed: true, HashAlgorithm: hash, SignatureAlgorithm: padding, KeyVersion: 1})
		if err != nil {
			return err
		}
		out, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(s.Signature, signature))
		return err
	})
	return out, err
}

func (g *guarded) verify(ctx context.Context, remote string, k *key, digest, sig []byte) (valid bool, err error) {
	if len(sig) == 0 {
		sig = []byte{0} // no signature of any key, and still a request that is whole
	}
	err = g.use(ctx, remote, k, func() error {
		v, err := guard.Call[api.Verified](ctx, g.door, g.as, op.Write, g.mount+"verify/"+k.name(), remote,
			&api.Verify{Input: digest, Prehashed: true, HashAlgorithm: hash, SignatureAlgorithm: padding, Signature: signature + base64.StdEncoding.EncodeToString(sig)})
		if err == nil && v.Valid != nil {
			valid = *v.Valid
		}
		return err
	})
	return valid, err
}
