package keys

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
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

func (s *Service) importExists(ctx context.Context, c *op.Call, r *api.ImportKey) (bool, error) {
	return s.exists(ctx, keyName{c.Mount, r.Name})
}

// importKey makes a key of a secret, or of a public key, from elsewhere.
func (s *Service) importKey(ctx context.Context, c *op.Call, r *api.ImportKey) (*api.Empty, error) {
	n := keyName{c.Mount, r.Name}
	p, err := s.planImport(n, r)
	if err != nil {
		return nil, err
	}
	existed, err := s.exists(ctx, n)
	if err != nil {
		return nil, err
	}
	if existed {
		return nil, importExisting(n)
	}
	m, err := s.importMaterial(ctx, p, importFields{r.Ciphertext, r.HashFunction, r.PublicKey})
	if err != nil {
		return nil, err
	}
	p.size = m.main.Size
	if _, existed, err = s.place(ctx, p, m); err == nil && existed {
		err = importExisting(n)
	}
	return nil, err
}

func importExisting(n keyName) error {
	return invalid("the import path cannot be used with an existing key; use import-version to rotate an existing imported key").
		WithHint("import under another name, or add a version with keys/%s/import_version", n.name)
}

func (s *Service) planImport(n keyName, r *api.ImportKey) (plan, error) {
	if err := checkName(r.Name); err != nil {
		return plan{}, err
	}
	switch {
	case r.Derived:
		return plan{}, invalid("derived=true is not possible for imported keys")
	case r.AutoRotatePeriod != 0:
		return plan{}, invalid("auto_rotate_period is not possible for imported keys; leave it 0")
	case r.Exportable:
		return plan{}, refuseExport("exportable")
	case r.AllowPlaintextBackup:
		return plan{}, refuseExport("allow_plaintext_backup")
	}
	t := defaultType
	if r.Type != "" {
		var err error
		if t, err = token.ParseType(r.Type); err != nil {
			return plan{}, invalid("unknown key type %s", r.Type).WithHint("the types are %s", typeNames())
		}
	}
	var record *p11Record
	if r.PKCS11 {
		if t != token.AES128 && t != token.AES256 {
			return plan{}, invalid("pkcs11=true is for AES keys; one of type %v serves PKCS#11 without it", t)
		}
		record = &p11Record{Bare: true}
	}
	protection, err := s.importProtection(t, r)
	return plan{
		name: n, typ: t, protection: protection, fallback: r.Protection == "",
		imported: true, allowRotation: r.AllowRotation, pkcs11: record,
	}, err
}

// importProtection decides where an imported secret lives: as generated ones do,
// if the HSM token can take it in. A public key alone can be anywhere.
func (s *Service) importProtection(t token.Type, r *api.ImportKey) (api.Protection, error) {
	tok, err := s.token.Get()
	if err != nil {
		return "", tokenFault(err, "import a key")
	}
	info := tok.Info()
	protection, err := chooseProtection(info, t, r.Protection)
	switch {
	case err != nil && r.Protection == "" && r.PublicKey != "" && t.Valid():
		return api.ProtectionSoftware, nil
	case err != nil || r.PublicKey != "":
		return protection, err
	}
	return protection, canImport(info, t, protection)
}

func canImport(info token.Info, t token.Type, protection api.Protection) error {
	if protection == api.ProtectionSoftware || info.Holds[t].Import {
		return nil
	}
	return invalid("keys of type %v can't be imported into the HSM token %q", t, info.Label).
		WithHint("ask for protection=software to keep the imported secret in server memory, or make a new key in the HSM token")
}

// importFields are what both imports have in common.
type importFields struct {
	ciphertext   []byte
	hashFunction string
	public       string
}

// importMaterial makes a version's material of what is imported. Its HMAC
// secret is made here.
func (s *Service) importMaterial(ctx context.Context, p plan, f importFields) (*material, error) {
	var err error
	m := &material{}
	switch {
	case f.ciphertext == nil && f.public == "":
		return nil, invalid("one of 'ciphertext' and 'public_key' must be supplied")
	case f.ciphertext != nil && f.public != "":
		return nil, invalid("only one of 'ciphertext' and 'public_key' can be supplied")
	case f.public != "":
		m.main, err = importPublic(p.typ, f.public)
		m.main.Place = p.protection
	case p.protection == api.ProtectionSoftware:
		m.main, err = s.importSecret(ctx, p, f)
	default:
		m.main, err = s.importInside(ctx, m, p, f)
	}
	if err == nil && p.typ != token.HMAC {
		err = s.makeMAC(ctx, m, p)
	}
	if err != nil {
		s.discard(ctx, m)
		return nil, tokenFault(err, "import a key of type "+p.typ.String())
	}
	return m, nil
}

func (s *Service) importSecret(ctx context.Context, p plan, f importFields) (secretRecord, error) {
	secret, err := s.unwrap(ctx, p.name.mount, f.ciphertext, f.hashFunction)
	if err != nil {
		return secretRecord{}, err
	}
	r := secretRecord{Type: p.typ, Place: api.ProtectionSoftware, Secret: secret}
	if p.typ == token.HMAC {
		r.Size = len(secret)
	}
	if _, err := s.software.Open(p.typ, secret); err != nil {
		clear(secret)
		return secretRecord{}, invalid("the imported secret is no key of type %v", p.typ).
			WithHint("a symmetric key is raw bytes of its size, an hmac key %d to %d raw bytes, any other a private key of that type in PKCS #8 DER", minHMACSize, maxHMACSize)
	}
	if !canSign(p.typ) {
		return r, nil
	}
	private, err := x509.ParsePKCS8PrivateKey(secret)
	if err == nil {
		r.Public, err = x509.MarshalPKIXPublicKey(private.(crypto.Signer).Public())
	}
	return r, err
}

// importPublic reads a public key of type t.
func importPublic(t token.Type, text string) (secretRecord, error) {
	if !canSign(t) {
		return secretRecord{}, invalid("key type %v has no public key; import its secret with ciphertext", t)
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return secretRecord{}, invalid("public_key is no public key in PEM: it begins with -----BEGIN PUBLIC KEY-----")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return secretRecord{}, invalid("public_key can't be read: %v", err)
	}
	if !publicHasType(public, t) {
		return secretRecord{}, invalid("public_key is no key of type %v", t)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	return secretRecord{Type: t, Public: der}, err
}

func publicHasType(public crypto.PublicKey, t token.Type) bool {
	switch public := public.(type) {
	case ed25519.PublicKey:
		return t == token.Ed25519
	case *ecdsa.PublicKey:
		return t.Class() == token.ClassECDSA && public.Curve.Params().BitSize == t.Bits()
	case *rsa.PublicKey:
		return t.Class() == token.ClassRSA && public.N.BitLen() == t.Bits()
	}
	return false
}

// publicOnly is the private key of a version that has none.
type publicOnly struct{}

// Do implements token.Key.
func (publicOnly) Do(context.Context, token.Op, []token.Item) error {
	return invalid("this key version has a public key alone: it verifies and encrypts, and can't sign or decrypt").
		WithHint("add its private key with import_version and version")
}

// importVersion adds a version to an imported key, or the private key to a
// version that has only the public one.
func (s *Service) importVersion(ctx context.Context, c *op.Call, r *api.ImportKeyVersion) (*api.Empty, error) {
	k, err := s.find(ctx, c.Mount, r.Name, "no key found with name "+r.Name+"; to import a new key, use the import/ endpoint")
	if err != nil {
		return nil, err
	}
	if !k.meta.Imported {
		return nil, invalid("the import_version endpoint can only be used with an imported key")
	}
	if err := k.checkImportVersion(r); err != nil {
		return nil, err
	}
	p := plan{name: k.name, typ: k.meta.Type, protection: k.meta.Protection}
	if r.Ciphertext != nil {
		tok, err := s.token.Get()
		if err != nil {
			return nil, tokenFault(err, "import a key")
		}
		if err := canImport(tok.Info(), p.typ, p.protection); err != nil {
			return nil, err
		}
	}
	m, err := s.importMaterial(ctx, p, importFields{r.Ciphertext, r.HashFunction, r.PublicKey})
	if err != nil {
		return nil, err
	}
	if r.Version != 0 {
		defer s.discard(ctx, m)
		return nil, s.completeVersion(ctx, k, r.Version, &m.main)
	}
	if m.main.Size != k.meta.Size {
		s.discard(ctx, m)
		return nil, invalid("the imported secret has %d bytes, the versions of this key have %d", m.main.Size, k.meta.Size)
	}
	_, err = s.addVersion(ctx, k, m)
	return nil, err
}

func (k *key) checkImportVersion(r *api.ImportKeyVersion) error {
	switch {
	case r.Version == 0:
		return nil
	case r.Version < k.oldest() || r.Version > k.meta.Latest:
		return invalid("the key has no version %d that is in use: they are %d to %d", r.Version, k.oldest(), k.meta.Latest)
	case r.PublicKey != "":
		return invalid("version is for the private key of a version: give ciphertext, not public_key")
	}
	return nil
}

// completeVersion puts a private key beside its public key.
func (s *Service) completeVersion(ctx context.Context, k *key, number int, main *secretRecord) error {
	var done []store.Change
	if main.Place == api.ProtectionToken {
		done = append(done, s.store.Remove(tableIntents, main.ID, intentNew))
	}
	return s.changeVersion(ctx, k, number, func(r *versionRecord) error {
		switch {
		case !r.Main.publicOnly():
			return invalid("version %d has its private key already; leave version out to add a new one", number)
		case !bytes.Equal(r.Main.Public, main.Public):
			return invalid("the private key does not belong to the public key of version %d", number)
		}
		r.Main = *main
		r.Main.Secret = bytes.Clone(main.Secret)
		return nil
	}, done...)
}

// changeVersion changes the record of a version, with other changes or not at all.
// A change that returns an error is not made.
func (s *Service) changeVersion(ctx context.Context, k *key, number int, change func(*versionRecord) error, more ...store.Change) error {
	id := k.meta.ID
	_, err := s.update(ctx, k.name, func(k *key) (*key, []store.Change, error) {
		if k.meta.ID != id {
			return nil, nil, invalid("key not found")
		}
		if err := k.usable(); err != nil {
			return nil, nil, err
		}
		var r versionRecord
		rec, err := s.store.Get(ctx, tableVersions, k.name.version(number), &r)
		if err != nil {
			return nil, nil, storeFault(err, "read the key version")
		}
		defer r.wipe()
		if err := change(&r); err != nil {
			return nil, nil, err
		}
		put, err := s.store.Put(tableVersions, k.name.version(number), rec, r)
		if err != nil {
			return nil, nil, storeFault(err, "store the key version")
		}
		return k.withSlot(number), append([]store.Change{put}, more...), nil
	})
	return orMissing(err, "key not found")
}
