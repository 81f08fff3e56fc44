package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// ImportPair keeps a private key from elsewhere, PKCS #8 in DER, under a name
// that is free. protection is as in api.ImportKey: with "" the secret goes into
// the HSM token, and is refused if the token's module can't take it. The caller
// wipes secret.
func (s *Service) ImportPair(ctx context.Context, mount, name string, t token.Type, secret []byte, protection api.Protection) (*Pair, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	place, err := s.importProtection(t, &api.ImportKey{Protection: protection})
	if err != nil {
		return nil, err
	}
	p := plan{name: keyName{mount, name}, typ: t, protection: place, fallback: protection == "", imported: true}
	m := &material{}
	if m.main, err = s.takePair(ctx, m, p, secret); err == nil {
		err = s.makeMAC(ctx, m, p)
	}
	if err != nil {
		s.discard(ctx, m)
		return nil, tokenFault(err, "import a key of type "+t.String())
	}
	k, existed, err := s.place(ctx, p, m)
	if err != nil {
		return nil, err
	}
	if existed {
		return nil, fault.New(fault.Conflict, "there is a key named %s already", name)
	}
	return s.pair(ctx, k)
}

// takePair is the secret where it is to live. On its way into the HSM token it is
// wrapped as secrets of callers are.
func (s *Service) takePair(ctx context.Context, m *material, p plan, secret []byte) (secretRecord, error) {
	if p.protection == api.ProtectionSoftware {
		private, err := x509.ParsePKCS8PrivateKey(secret)
		if err != nil {
			return secretRecord{}, invalid("the private key can't be read: %v", err)
		}
		public, err := x509.MarshalPKIXPublicKey(private.(crypto.Signer).Public())
		return secretRecord{Type: p.typ, Place: p.protection, Secret: bytes.Clone(secret), Public: public}, err
	}
	blob, err := s.wrapForImport(ctx, p.name.mount, secret)
	if err != nil {
		return secretRecord{}, err
	}
	return s.importInside(ctx, m, p, importFields{ciphertext: blob})
}

// wrapForImport is what a caller of keys/:name/import does: see token.Package.
func (s *Service) wrapForImport(ctx context.Context, mount string, secret []byte) ([]byte, error) {
	wrapping, err := s.wrappingKey(ctx, mount)
	if err != nil {
		return nil, err
	}
	clear(wrapping.Secret)
	public, err := x509.ParsePKIXPublicKey(wrapping.Public)
	if err != nil {
		return nil, err
	}
	between := make([]byte, token.ImportAES)
	defer clear(between)
	rand.Read(between)
	first, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), between, nil)
	if err != nil {
		return nil, err
	}
	second, err := s.software.Wrap(between, secret)
	return append(first, second...), err
}

// AdoptPair makes a key pair of the one private key of the HSM token that has the
// label and the CKA_ID (either may be empty, not both), if its public key is the
// given one (PKIX in DER). The object stays when the pair is removed. warnings say where it is weaker than keys that are made here.
func (s *Service) AdoptPair(ctx context.Context, mount, name, label string, id, public []byte) (p *Pair, warnings []string, err error) {
	like := token.ObjectName{Class: token.PrivateObject, Label: label, ID: id, Keep: true}
	warnings, err = s.adoptObject(ctx, mount, name, like, public)
	if err != nil {
		return nil, nil, err
	}
	p, err = s.Pair(ctx, mount, name)
	return p, warnings, err
}
