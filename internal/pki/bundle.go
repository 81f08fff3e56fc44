package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// maxBundle is the size of an imported bundle in bytes.
const maxBundle = 1 << 20

// bundle is what an import brings.
type bundle struct {
	certs []*x509.Certificate
	keys  []privateKey
}

// privateKey is a key of elsewhere. Whoever has it wipes pkcs8.
type privateKey struct {
	typ    token.Type
	pkcs8  []byte
	public []byte // PKIX DER
}

func (b *bundle) wipe() {
	for _, k := range b.keys {
		clear(k.pkcs8)
	}
}

// parseBundle reads certificates and private keys in PEM. Everything in it must
// be understood, so that nothing is dropped unnoticed.
func parseBundle(text string) (*bundle, error) {
	if len(text) > maxBundle {
		return nil, invalid("the bundle has %d bytes; at most %d are taken", len(text), maxBundle)
	}
	b := new(bundle)
	rest := []byte(text)
	for len(bytes.TrimSpace(rest)) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			b.wipe()
			return nil, invalid("the bundle is not PEM: certificates begin with -----BEGIN CERTIFICATE-----, keys with -----BEGIN PRIVATE KEY-----")
		}
		if err := b.add(block); err != nil {
			b.wipe()
			return nil, err
		}
		clear(block.Bytes)
	}
	if len(b.certs)+len(b.keys) == 0 {
		return nil, invalid("the bundle is empty")
	}
	return b, nil
}

func (b *bundle) add(block *pem.Block) error {
	switch block.Type {
	case pemCertificate:
		cert, err := x509.ParseCertificate(bytes.Clone(block.Bytes))
		if err != nil {
			return invalid("certificate %d of the bundle can't be read: %v", len(b.certs)+1, err)
		}
		b.certs = append(b.certs, cert)
		return nil
	case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
		k, err := parsePrivate(block)
		if err != nil {
			return err
		}
		b.keys = append(b.keys, k)
		return nil
	case "EC PARAMETERS":
		return nil // OpenSSL writes them before the key, which repeats them
	case "ENCRYPTED PRIVATE KEY":
		return invalid("the private key of the bundle is encrypted: decrypt it first")
	}
	return invalid("the bundle has a %q, which is neither a certificate nor a private key", block.Type)
}

// parsePrivate reads a private key. What is wrong with it is not said in
// detail, so that nothing of the key gets into an answer.
func parsePrivate(block *pem.Block) (privateKey, error) {
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return privateKey{}, invalid("a private key of the bundle can't be read: it is RSA, EC or Ed25519 in PKCS #1, SEC 1 or PKCS #8")
	}
	t, err := typeOf(signer.Public())
	if err != nil {
		return privateKey{}, err
	}
	out := privateKey{typ: t}
	if out.public, err = x509.MarshalPKIXPublicKey(signer.Public()); err == nil {
		out.pkcs8, err = x509.MarshalPKCS8PrivateKey(key)
	}
	return out, err
}

func typeOf(public crypto.PublicKey) (token.Type, error) {
	var t token.Type
	ok := false
	switch public := public.(type) {
	case *rsa.PublicKey:
		t, ok = keyTypes["rsa"][public.N.BitLen()]
	case *ecdsa.PublicKey:
		t, ok = keyTypes["ec"][public.Curve.Params().BitSize]
	case ed25519.PublicKey:
		t, ok = token.Ed25519, true
	}
	if !ok {
		return 0, invalid("the key is of a kind that authorities do not have here: RSA with 2048, 3072 or 4096 bits, P-256, P-384, P-521 and Ed25519 are")
	}
	return t, nil
}

// importBundle brings authorities with their private keys.
func (s *Service) importBundle(ctx context.Context, c *op.Call, r *api.PKIBundle) (*api.PKIImported, error) {
	b, err := parseBundle(r.PEMBundle)
	if err != nil {
		return nil, err
	}
	defer b.wipe()
	return s.bring(ctx, c, b, r)
}

// importCerts brings authorities of which the keys are elsewhere.
func (s *Service) importCerts(ctx context.Context, c *op.Call, r *api.PKIBundle) (*api.PKIImported, error) {
	b, err := parseBundle(r.PEMBundle)
	if err != nil {
		return nil, err
	}
	defer b.wipe()
	if len(b.keys) > 0 {
		return nil, invalid("private keys found in the PEM bundle but not allowed by the path; use issuers/import/bundle")
	}
	return s.bring(ctx, c, b, r)
}

// setSigned brings the certificate that another authority made of a request.
func (s *Service) setSigned(ctx context.Context, c *op.Call, r *api.PKIBundle) (*api.PKIImported, error) {
	text := r.Certificate
	if text == "" {
		text = r.PEMBundle
	}
	if text == "" {
		return nil, invalid(`no certificate provided in the "certificate" parameter`)
	}
	b, err := parseBundle(text)
	if err != nil {
		return nil, err
	}
	defer b.wipe()
	if len(b.keys) > 0 {
		return nil, invalid("a private key is among the certificates; the key of the request is here already")
	}
	out, err := s.bring(ctx, c, b, r)
	if err == nil && len(out.Mapping) > 0 && out.Mapping[firstIssuer(out)] == "" {
		c.Warn("the key of the first certificate is not here; use intermediate/generate on this mount to make the request")
	}
	return out, err
}

func firstIssuer(out *api.PKIImported) string {
	if len(out.ImportedIssuers) > 0 {
		return out.ImportedIssuers[0]
	}
	return out.ExistingIssuers[0]
}

// bring stores what a bundle holds: keys first, then all issuers in one
// transaction. If that fails, the new keys are destroyed again.
func (s *Service) bring(ctx context.Context, c *op.Call, b *bundle, r *api.PKIBundle) (*api.PKIImported, error) {
	if err := checkAuthorities(b); err != nil {
		return nil, err
	}
	made, existing, err := s.bringKeys(ctx, c.Mount, b, r.Protection)
	if err != nil {
		return nil, s.dropKeys(ctx, c.Mount, made, err)
	}
	out, err := s.bringTo(ctx, c.Mount, b, r.IssuerName, made)
	if err == nil {
		out.ExistingKeys = existing
	}
	return out, err
}

func checkAuthorities(b *bundle) error {
	for _, cert := range b.certs {
		if err := checkAuthority(cert); err != nil {
			return err
		}
	}
	return nil
}

// bringTo stores the issuers of a checked bundle whose keys are here now; made are those
// that are new. If that fails, these are destroyed again.
func (s *Service) bringTo(ctx context.Context, mount string, b *bundle, name string, made []string) (*api.PKIImported, error) {
	out := &api.PKIImported{ImportedIssuers: []string{}, ImportedKeys: made, ExistingIssuers: []string{}, ExistingKeys: []string{}, Mapping: map[string]string{}}
	var err error
	owners := make([]string, len(b.certs))
	for n, cert := range b.certs {
		if err == nil {
			owners[n], err = s.keys.FindPair(ctx, mount, cert.RawSubjectPublicKeyInfo)
		}
	}
	if err == nil {
		err = s.change(ctx, mount, func(next *state) ([]store.Change, error) {
			return s.bringIssuers(mount, next, b, owners, name, out)
		})
	}
	if err != nil {
		return nil, s.dropKeys(ctx, mount, made, err)
	}
	return out, nil
}

// checkAuthority refuses certificates that are not an authority's.
func checkAuthority(cert *x509.Certificate) error {
	if !cert.BasicConstraintsValid || !cert.IsCA {
		return invalid("the certificate of %q is not that of an authority: it does not say CA:TRUE", cert.Subject)
	}
	if cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return invalid("the key usage of the certificate of %q does not allow to sign certificates", cert.Subject)
	}
	return checkPublic(cert.PublicKey)
}

// bringKeys takes the keys of a bundle. On an error those that were made before it
// are returned too.
func (s *Service) bringKeys(ctx context.Context, mount string, b *bundle, protection api.Protection) (made, existing []string, err error) {
	made, existing = []string{}, []string{}
	for _, k := range b.keys {
		id, err := s.keys.FindPair(ctx, mount, k.public)
		if err != nil {
			return made, existing, err
		}
		if id != "" {
			existing = append(existing, id)
			continue
		}
		pair, err := s.keys.ImportPair(ctx, mount, newUUID(), k.typ, k.pkcs8, protection)
		if err != nil {
			return made, existing, err
		}
		made = append(made, pair.Name)
	}
	return made, existing, nil
}

func (s *Service) dropKeys(ctx context.Context, mount string, ids []string, err error) error {
	for _, id := range ids {
		if gone := s.keys.RemovePair(context.WithoutCancel(ctx), mount, id); gone != nil {
			s.log.Warn("an imported key can't be destroyed after an error", "mount", mount, "key", id, "error", gone)
		}
	}
	return err
}

func (s *Service) bringIssuers(mount string, next *state, b *bundle, owners []string, name string, out *api.PKIImported) ([]store.Change, error) {
	var all []store.Change
	for n, cert := range b.certs {
		i, existed, changes, err := s.addIssuer(mount, next, cert, name, owners[n])
		if err != nil {
			return nil, err
		}
		name = "" // of the first one only
		if existed {
			out.ExistingIssuers = append(out.ExistingIssuers, i.rec.ID)
			if i.rec.KeyID == "" && owners[n] != "" {
				rec := i.rec
				rec.KeyID = owners[n]
				put, err := s.putIssuer(mount, next, rec)
				if err != nil {
					return nil, err
				}
				changes = []store.Change{put}
			}
		} else {
			out.ImportedIssuers = append(out.ImportedIssuers, i.rec.ID)
		}
		out.Mapping[i.rec.ID] = owners[n]
		all = append(all, changes...)
	}
	if next.config.DefaultKey == "" && len(out.ImportedKeys) > 0 {
		next.config.DefaultKey = out.ImportedKeys[0]
		put, err := s.putConfig(mount, next)
		if err != nil {
			return nil, err
		}
		all = append(all, put)
	}
	return all, nil
}

// crossSign makes a request with a key that is here, for another authority to sign.
func (s *Service) crossSign(ctx context.Context, c *op.Call, r *api.PKIGenerateIntermediate) (*api.PKICSR, error) {
	again := *r
	again.Kind = "existing"
	if again.KeyRef == "" {
		again.KeyRef = defaultRef
	}
	if r.KeyType != "" || r.KeyBits != 0 {
		return nil, fault.New(fault.Invalid, "cross-sign takes a key that is here: name it in key_ref, without key_type and key_bits")
	}
	return s.generateIntermediate(ctx, c, &again)
}
