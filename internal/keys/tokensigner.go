package keys

import (
	"context"
	"crypto"
	"crypto/x509"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// TokenSigner returns a key pair of an open token as a crypto.Signer, for work
// without a store. It signs as Service.Signer does; its calls end with ctx.
func TokenSigner(ctx context.Context, tok token.Token, stored token.Stored) (crypto.Signer, error) {
	if !canSign(stored.Type) || len(stored.Public) == 0 {
		return nil, invalid("the key in the HSM token is %v, with which nothing can be signed", stored.Type)
	}
	public, err := x509.ParsePKIXPublicKey(stored.Public)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "the public key in the HSM token can't be read")
	}
	key, err := tok.Key(stored)
	if err != nil {
		return nil, tokenFault(err, "use the key")
	}
	return signer{ctx, stored.Type, &version{main: key, pkix: stored.Public, public: public}}, nil
}
