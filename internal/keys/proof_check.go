package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"math/big"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// proofMAC is the hash of the codes of test ciphertexts.
const proofMAC = crypto.SHA256

// Checked is what CheckProofs found out of one version of a key.
type Checked struct {
	Mount, Name string
	Version     int
	Type        token.Type
	Protection  api.Protection
	// Proved: a test ciphertext was opened, or a signature verified with the public
	// key. Without it the key only works.
	Proved bool
	// PublicOnly: there is no secret, only a public key.
	PublicOnly bool
	Err        error // why the version can't be used
}

// CheckProofs uses every version of every key that is not trimmed, compares with
// what blobs of Proofs say of it, and tells each the outcome. It changes nothing, in
// the store or in the HSM token. The error says that it could not go on.
func (s *Service) CheckProofs(ctx context.Context, blobs [][]byte, each func(Checked) error) error {
	proofs, err := s.readProofs(blobs)
	if err != nil {
		return err
	}
	return s.eachVersion(ctx, true, func(k *key, r *versionRecord, err error) error {
		c := Checked{Mount: k.name.mount, Name: k.name.name, Type: k.meta.Type, Protection: k.meta.Protection, Err: err}
		if r != nil {
			c.Version = r.Number
		}
		if err == nil {
			c.Proved = true
			s.checkVersion(ctx, &c, k, r, proofs)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return each(c)
	})
}

func (s *Service) checkVersion(ctx context.Context, c *Checked, k *key, r *versionRecord, proofs map[proofID][]byte) {
	for _, mac := range []bool{false, true} {
		rec := secretOf(r, mac)
		switch {
		case rec == nil || c.Err != nil:
			continue
		case rec.publicOnly():
			c.PublicOnly = !mac
			continue
		case derivesInMemory(&k.meta, rec):
			var d *deriver
			d, c.Err = s.openDeriver(&k.meta, rec)
			if c.Err == nil {
				wipe([][]byte{d.expander.(softwareExpander).secret})
			}
			continue
		}
		var proved bool
		proved, c.Err = s.checkSecret(ctx, rec, r, proofs[proofID{r.KeyID, r.Number, mac}])
		c.Proved = c.Proved && proved
	}
	if c.Err != nil || c.PublicOnly {
		c.Proved = false
	}
}

var errOther = errors.New("it is another secret than the one that the snapshot was taken of")

// checkSecret uses a secret. proved: that it is the right one, too.
func (s *Service) checkSecret(ctx context.Context, rec *secretRecord, r *versionRecord, proof []byte) (proved bool, err error) {
	public := rec.Public
	k, err := s.openSecret(rec)
	if err != nil {
		return false, err
	}
	switch rec.Type.Class() {
	case token.ClassHMAC:
		code, err := makeProof(ctx, k, rec.Type, r)
		if err == nil && proof != nil && !hmac.Equal(code, proof) {
			err = errOther
		}
		return proof != nil && err == nil, err
	case token.ClassAEAD:
		return checkAEAD(ctx, k, rec.Type, r, proof)
	}
	return true, checkPair(ctx, k, rec.Type, public)
}

func checkAEAD(ctx context.Context, k token.Key, t token.Type, r *versionRecord, proof []byte) (proved bool, err error) {
	text, nonce := proofText(r.KeyID, r.Number), proofNonce(t, r.KeyID, r.Number)
	sealed := proof
	if sealed == nil {
		if sealed, err = once(ctx, k, token.Op{Kind: token.Seal}, token.Item{Nonce: nonce, In: text}); err != nil {
			return false, err
		}
	}
	opened, err := once(ctx, k, token.Op{Kind: token.Open}, token.Item{Nonce: nonce, In: sealed})
	if err == nil && !bytes.Equal(opened, text) {
		err = errOther
	}
	return proof != nil && err == nil, err
}

// checkPair signs, or where a key only decrypts, decrypts.
func checkPair(ctx context.Context, k token.Key, t token.Type, pkix []byte) error {
	public, err := x509.ParsePKIXPublicKey(pkix)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "can't read the public key")
	}
	digest := make([]byte, 32)
	rand.Read(digest)
	good := false
	switch public := public.(type) {
	case ed25519.PublicKey:
		var signature []byte
		signature, err = once(ctx, k, token.Op{Kind: token.Sign}, token.Item{In: digest})
		good = err == nil && ed25519.Verify(public, digest, signature)
	case *ecdsa.PublicKey:
		good, err = checkECDSA(ctx, k, t, public, digest)
	case *rsa.PublicKey:
		good, err = checkRSA(ctx, k, public, digest)
	}
	if err == nil && !good {
		err = errOther
	}
	return err
}

func checkECDSA(ctx context.Context, k token.Key, t token.Type, public *ecdsa.PublicKey, digest []byte) (bool, error) {
	signature, err := once(ctx, k, token.Op{Kind: token.Sign}, token.Item{In: digest})
	if err != nil || len(signature) != 2*scalarSize(t) {
		return false, err
	}
	half := scalarSize(t)
	return ecdsa.Verify(public, digest, new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])), nil
}

func checkRSA(ctx context.Context, k token.Key, public *rsa.PublicKey, digest []byte) (bool, error) {
	signature, err := once(ctx, k, token.Op{Kind: token.Sign, Scheme: token.PKCS1v15, Hash: crypto.SHA256}, token.Item{In: digest})
	if err == nil {
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, digest, signature) == nil, nil
	}
	sealed, serr := rsa.EncryptOAEP(oaep.New(), rand.Reader, public, digest, nil)
	if serr != nil {
		return false, err
	}
	opened, oerr := once(ctx, k, token.Op{Kind: token.Decrypt, Scheme: token.OAEP, Hash: oaep}, token.Item{In: sealed})
	if oerr != nil {
		return false, err
	}
	return bytes.Equal(opened, digest), nil
}
