package keys

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
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

// deriver makes the keys of requests from the secret of a version of a derived
// key and from the requests' contexts. What it makes serves one request, is
// wiped, and is kept nowhere.
type deriver struct {
	expander
	engine     token.Software
	typ        token.Type
	convergent bool
}

// expander makes n bytes of secret for each context. The caller wipes them.
type expander interface {
	expand(ctx context.Context, contexts [][]byte, n int) ([][]byte, error)
}

// openDeriver takes over the secret in r.
func (s *Service) openDeriver(meta *keyRecord, r *secretRecord) (*deriver, error) {
	d := &deriver{engine: s.software, typ: meta.Type, convergent: meta.Convergent}
	if r.Place != api.ProtectionSoftware {
		prf, err := s.openSecret(r)
		d.expander = tokenExpander{prf}
		return d, err
	}
	secret, err := softwareSecret(r)
	d.expander = softwareExpander{secret}
	return d, storeFault(err, "open the key")
}

// size is how many bytes a request needs: those of its key, and with
// convergent encryption those of the key that makes nonces behind them.
func (d *deriver) size() int {
	if d.convergent {
		return d.typ.Bits()/8 + nonceKeySize
	}
	return d.typ.Bits() / 8
}

// open makes a key of derived bytes; nonceKey is a part of them.
func (d *deriver) open(okm []byte) (k token.Key, nonceKey []byte, err error) {
	if d.typ.Class() == token.ClassEd25519 {
		return &derivedSigner{ed25519.NewKeyFromSeed(okm)}, nil, nil
	}
	size := d.typ.Bits() / 8
	k, err = d.engine.Open(d.typ, okm[:size])
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
func (s *Service) withKey(ctx context.Context, n keyName, v *version, sc *scratch, at []int, do func(k token.Key, nonceKey []byte, at []int) error) error {
	if v.derive == nil {
		return do(v.main, nil, at)
	}
	groups := sc.byContext(at)
	contexts := make([][]byte, len(groups))
	for i, g := range groups {
		contexts[i] = sc.work[g[0]].context
	}
	secrets, err := v.derive.expand(ctx, contexts, v.derive.size())
	if err != nil {
		return sc.failAll(at, s.logged(tokenFault(err, "derive a key"), n))
	}
	defer wipe(secrets)
	for i, g := range groups {
		k, nonceKey, err := v.derive.open(secrets[i])
		if err == nil {
			err = do(k, nonceKey, g)
		} else {
			err = sc.failAll(g, s.logged(err, n))
		}
		if signer, ok := k.(*derivedSigner); ok {
			clear(signer.private)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// byContext splits at where the context changes from one item to the next.
func (sc *scratch) byContext(at []int) [][]int {
	var groups [][]int
	for len(at) > 0 {
		same := 1
		for same < len(at) && bytes.Equal(sc.work[at[same]].context, sc.work[at[0]].context) {
			same++
		}
		groups = append(groups, at[:same])
		at = at[same:]
	}
	return groups
}

func wipe(secrets [][]byte) {
	for _, s := range secrets {
		clear(s)
	}
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
	case r.ConvergentEncryption && t.Class() == token.ClassEd25519:
		return invalid("convergent encryption not supported for keys of type %v", t)
	case r.Derived && !derivable(t):
		return invalid("key derivation and convergent encryption not supported for keys of type %v", t)
	}
	return nil
}

// derivable tells whether a key of a type may be derived.
func derivable(t token.Type) bool {
	return t.Class() == token.ClassAEAD || t.Class() == token.ClassEd25519
}

// secretType is the type of the secret of a key's versions. In an HSM token, a
// derived key of any type is an HMAC key, which makes the keys of requests.
func secretType(t token.Type, derived bool, place api.Protection) token.Type {
	if derived && place != api.ProtectionSoftware {
		return token.HMAC
	}
	return t
}

// chooseDerived is chooseProtection for a derived key, of whatever type.
func chooseDerived(info token.Info, _ token.Type, asked api.Protection) (api.Protection, error) {
	p, err := chooseProtection(info, token.HMAC, asked)
	if err != nil {
		return "", invalid("%s, from which the keys of requests are derived", fault.Message(err)).WithHint("%s", fault.HintOf(err))
	}
	return p, nil
}

// refuseDerived refuses what needs one public key for a whole version.
func (k *key) refuseDerived() error {
	if !k.meta.Derived {
		return nil
	}
	return invalid("a derived key has another public key for each context, so this is not possible with it").
		WithHint("read the public key of a context with keys/%s?context=…", k.name.name)
}
