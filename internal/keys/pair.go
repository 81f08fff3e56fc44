package keys

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"io"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// Pair is a key pair of a mount whose engine is another service: the
// certificate authority keeps its keys here, under its own mount's path. Its
// secret never leaves the place that its protection names.
type Pair struct {
	Name       string
	Type       token.Type
	Protection api.Protection
	PKIX       []byte           // SubjectPublicKeyInfo in DER
	Public     crypto.PublicKey // the same, parsed
}

// NewPair makes a signing key under a mount and a name that are free. protection
// is as in api.CreateKey, "" for the default.
func (s *Service) NewPair(ctx context.Context, mount, name string, t token.Type, protection api.Protection) (*Pair, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if !canSign(t) {
		return nil, invalid("key type %v does not support signing", t)
	}
	p, err := s.planType(ctx, keyName{mount, name}, t, &api.CreateKey{Protection: protection})
	if err != nil {
		return nil, err
	}
	k, existed, err := s.create(ctx, p)
	if err != nil {
		return nil, err
	}
	if existed {
		return nil, fault.New(fault.Conflict, "there is a key named %s already", name)
	}
	return s.pair(ctx, k)
}

// Pair returns a key pair, or fault.NotFound.
func (s *Service) Pair(ctx context.Context, mount, name string) (*Pair, error) {
	k, err := s.key(ctx, keyName{mount, name})
	if errors.Is(err, errNoKey) {
		return nil, fault.New(fault.NotFound, "no key named %s", name)
	}
	if err != nil {
		return nil, err
	}
	return s.pair(ctx, k)
}

func (s *Service) pair(ctx context.Context, k *key) (*Pair, error) {
	v, err := s.version(ctx, k, k.meta.Latest)
	if err != nil {
		return nil, err
	}
	return &Pair{Name: k.name.name, Type: k.meta.Type, Protection: k.meta.Protection, PKIX: v.pkix, Public: v.public}, nil
}

// Pairs returns the names of a mount's keys, in their order.
func (s *Service) Pairs(ctx context.Context, mount string) ([]string, error) {
	found, err := s.store.Names(ctx, tableKeys, mount, "", 0)
	if err != nil {
		return nil, storeFault(err, "list the keys")
	}
	names := make([]string, 0, len(found))
	for _, n := range found {
		if name := strings.TrimPrefix(n, mount); !strings.Contains(name, "/") {
			names = append(names, name)
		}
	}
	return names, nil
}

// RemovePair destroys a key pair; nil if there is none. The caller has made
// sure that nothing needs it any more.
func (s *Service) RemovePair(ctx context.Context, mount, name string) error {
	n := keyName{mount, name}
	gone, err := s.removeRecords(ctx, n, nil)
	if err != nil {
		return err
	}
	s.destroy(ctx, n, gone)
	return nil
}

// Signer returns the newest version of a key pair as a crypto.Signer whose
// calls end with ctx. RSA keys sign with PKCS #1 v1.5 unless the options are
// *rsa.PSSOptions; ECDSA signatures are DER; Ed25519 signs the message itself.
// The secret stays where it is: each Sign is one operation of the HSM token.
func (s *Service) Signer(ctx context.Context, mount, name string) (crypto.Signer, error) {
	k, err := s.find(ctx, mount, name, "no key named "+name)
	if err != nil {
		return nil, err
	}
	v, err := s.version(ctx, k, k.meta.Latest)
	if err != nil {
		return nil, err
	}
	return loggedSigner{signer{ctx, k.meta.Type, v}, s, k.name}, nil
}

// loggedSigner writes to the server's log why a signature failed.
type loggedSigner struct {
	signer
	service *Service
	name    keyName
}

// Sign implements crypto.Signer.
func (l loggedSigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	out, err := l.signer.Sign(random, digest, opts)
	if err != nil {
		return nil, l.service.logged(err, l.name)
	}
	return out, nil
}

// FindPair returns the name of the mount's key pair that has this public key
// (PKIX in DER), "" if there is none.
func (s *Service) FindPair(ctx context.Context, mount string, public []byte) (string, error) {
	names, err := s.Pairs(ctx, mount)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		p, err := s.Pair(ctx, mount, name)
		if fault.KindOf(err) == fault.NotFound {
			continue
		}
		if err != nil {
			return "", err
		}
		if bytes.Equal(p.PKIX, public) {
			return name, nil
		}
	}
	return "", nil
}
