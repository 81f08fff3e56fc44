package keys

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// Texts that Vault's clients and their tests match.
const (
	msgNoContext    = "missing 'context' for key derivation; the key was created using a derived key, which means additional, per-request information must be included in order to perform operations with the key"
	msgMixedContext = "context should be set either in all the request blocks or in none"
)

const (
	kdfName           = "hkdf_sha256"
	convergentVersion = 3  // of Vault's ways to make nonces; the older two are weaker
	nonceKeySize      = 32 // bytes
)

// deriver is the secret of a version of a derived key. It makes the key of a
// request from the request's context. The secret is in server memory for as
// long as the version is loaded; what is derived from it is not kept.
type deriver struct {
	engine     token.Software
	typ        token.Type
	secret     []byte
	convergent bool
}

// openDeriver takes over the secret in r.
func (s *Service) openDeriver(meta *keyRecord, r *secretRecord) (*deriver, error) {
	if r.Place != api.ProtectionSoftware || r.Type.Class() != token.ClassAEAD || len(r.Secret) != r.Type.Bits()/8 {
		err := fmt.Errorf("a secret of %d bytes, type %v and protection %s derives no keys: %w", len(r.Secret), r.Type, r.Place, store.ErrCorrupt)
		return nil, storeFault(err, "open the key")
	}
	d := &deriver{engine: s.software, typ: r.Type, secret: r.Secret, convergent: meta.Convergent}
	r.Secret = nil
	return d, nil
}

// key returns the key for a context: the first bytes of HKDF-SHA256 (RFC 5869)
// with the version's secret, no salt, and the context for info. With convergent
// encryption the next nonceKeySize bytes are the key that makes nonces; the
// caller wipes them.
func (d *deriver) key(context []byte) (k token.Key, nonceKey []byte, err error) {
	size := d.typ.Bits() / 8
	n := size
	if d.convergent {
		n += nonceKeySize
	}
	okm, err := hkdf.Key(sha256.New, d.secret, nil, string(context), n)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Internal, err, "can't derive a key")
	}
	k, err = d.engine.Open(d.typ, okm[:size])
	clear(okm[:size])
	if d.convergent {
		nonceKey = okm[size:]
	}
	return k, nonceKey, tokenFault(err, "derive a key")
}

// convergentNonce fills nonce with the first bytes of HMAC-SHA256 of the
// plaintext.
func convergentNonce(nonce, key, plaintext []byte) {
	mac := hmac.New(sha256.New, key)
	mac.Write(plaintext)
	copy(nonce, mac.Sum(nil))
}

// withKey calls do with the key that the work at at needs: the version's own,
// or one for each context, with the items that have it.
func (s *Service) withKey(n keyName, v *version, sc *scratch, at []int, do func(k token.Key, nonceKey []byte, at []int) error) error {
	if v.derive == nil {
		return do(v.main, nil, at)
	}
	for len(at) > 0 {
		context, same := sc.work[at[0]].context, 1
		for same < len(at) && bytes.Equal(sc.work[at[same]].context, context) {
			same++
		}
		k, nonceKey, err := v.derive.key(context)
		if err == nil {
			err = do(k, nonceKey, at[:same])
		} else {
			err = sc.failAll(at[:same], s.logged(err, n))
		}
		clear(nonceKey)
		if err != nil {
			return err
		}
		at = at[same:]
	}
	return nil
}

// checkContext refuses work for a derived key without a context. Other keys
// ignore it.
func (k *key) checkContext(context []byte) error {
	if k.meta.Derived && len(context) == 0 {
		return invalid(msgNoContext)
	}
	return nil
}

// checkSealed refuses what must not be encrypted with this key.
func (k *key) checkSealed(w *work) error {
	if err := noAAD(k.meta.Type, w.aad); err != nil {
		return err
	}
	if k.meta.Convergent && len(w.aad) > 0 {
		// The nonce comes from the plaintext alone: the same one with other
		// associated data would give away GCM's authentication key.
		return invalid("associated_data is not possible with convergent encryption; use a key without convergent_encryption")
	}
	return k.checkContext(w.context)
}

// mixedContext refuses a batch of n items of which some have a context and
// some have none.
func mixedContext(n int, context func(i int) []byte) error {
	for i := 1; i < n; i++ {
		if (len(context(i)) == 0) != (len(context(0)) == 0) {
			return invalid(msgMixedContext)
		}
	}
	return nil
}

// checkDerivation checks what a request for a new key says of derivation.
func checkDerivation(t token.Type, r *api.CreateKey) error {
	switch {
	case r.ConvergentEncryption && !r.Derived:
		return invalid("convergent encryption requires derivation to be enabled")
	case !r.Derived || t.Class() == token.ClassAEAD:
		return nil
	case t.Class() == token.ClassEd25519 && r.ConvergentEncryption:
		return invalid("convergent encryption not supported for keys of type %v", t)
	case t.Class() == token.ClassEd25519:
		return invalid("key derivation is not supported for keys of type %v in this release", t)
	}
	return invalid("key derivation and convergent encryption not supported for keys of type %v", t)
}

// derivable tells whether a key may be made derived.
func derivable(t token.Type, p api.Protection) bool {
	return t.Class() == token.ClassAEAD && p == api.ProtectionSoftware
}

func refuseDerived(p api.Protection) error {
	return invalid("derived keys need protection=software in this release, not %s: the secret of a %s key does not leave the HSM token, where keys are not derived", p, p).
		WithHint("make the key with derived=true and protection=software, or use a key that is not derived and leave context out")
}
