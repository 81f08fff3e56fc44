package keys

import (
	"context"
	"crypto"
	"crypto/ed25519"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/token"
)

// derivedSigner is the Ed25519 key of one context, for one request.
type derivedSigner struct{ private ed25519.PrivateKey }

// Do implements token.Key.
func (k *derivedSigner) Do(_ context.Context, o token.Op, items []token.Item) error {
	if o.Kind != token.Sign {
		return token.ErrUnsupported
	}
	for i := range items {
		items[i].Out = append(items[i].Out, ed25519.Sign(k.private, items[i].In)...)
	}
	return nil
}

func (k *derivedSigner) public() ed25519.PublicKey {
	return ed25519.PublicKey(append([]byte(nil), k.private[ed25519.SeedSize:]...))
}

// takeContexts moves the contexts of a request to sign into its work. Other
// keys than derived ones ignore them.
func (sc *scratch) takeContexts(k *key, r *api.Sign) {
	if !k.meta.Derived {
		return
	}
	for i := range sc.work {
		w := &sc.work[i]
		if w.context = r.Context; r.BatchInput != nil {
			w.context = r.BatchInput[i].Context
		}
		if w.err == nil {
			w.err = k.checkContext(w.context)
		}
	}
}

// publicFor returns the public key of a version, of a derived key the one for
// a context.
func (s *Service) publicFor(ctx context.Context, n keyName, v *version, keyContext []byte) (crypto.PublicKey, error) {
	if v.derive == nil {
		return v.public, nil
	}
	secrets, err := v.derive.expand(ctx, [][]byte{keyContext}, v.derive.size())
	if err != nil {
		return nil, s.logged(tokenFault(err, "derive a key"), n)
	}
	defer wipe(secrets)
	k := &derivedSigner{ed25519.NewKeyFromSeed(secrets[0])}
	defer clear(k.private)
	return k.public(), nil
}
