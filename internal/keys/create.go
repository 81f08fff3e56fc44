package keys

import (
	"context"
	"encoding/hex"
	"errors"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

const (
	defaultType = token.AES256
	maxNameLen  = 255 // bytes
	minHMACSize = 32  // bytes
	maxHMACSize = 512 // bytes

	softwareHMACSize = 32      // bytes, default with protection software
	hsmHMACSize      = macSize // bytes, default in an HSM: fits every SHA-2 there
)

// maxTries bounds how often a change is tried again after others changed the
// same record. Each failure means that one of them succeeded.
const maxTries = 100

const (
	hintProtection = "keys are made in the HSM token or the software engine and stay there; use them through encrypt, decrypt, sign, hmac, and rewrap or datakey to hand data over"
)

func (s *Service) createExists(ctx context.Context, c *op.Call, r *api.CreateKey) (bool, error) {
	return s.exists(ctx, keyName{c.Mount, r.Name})
}

func (s *Service) exists(ctx context.Context, n keyName) (bool, error) {
	_, err := s.key(ctx, n)
	if errors.Is(err, errNoKey) {
		return false, nil
	}
	return err == nil, err
}

func (s *Service) createKey(ctx context.Context, c *op.Call, r *api.CreateKey) (*api.Key, error) {
	if r.Type == externalType || r.ExternalKeyRef != "" {
		return s.createExternal(ctx, c, r)
	}
	n := keyName{c.Mount, r.Name}
	p, err := s.planKey(ctx, n, r)
	if err != nil {
		return nil, err
	}
	k, err := s.key(ctx, n)
	existed := err == nil
	if errors.Is(err, errNoKey) {
		k, existed, err = s.create(ctx, p)
	}
	if err != nil {
		return nil, err
	}
	if existed {
		warnExists(c, k, r)
	}
	return s.describe(ctx, k)
}

// warnExists says that nothing was changed, and where the key differs from
// what was asked for.
func warnExists(c *op.Call, k *key, r *api.CreateKey) {
	c.Warn("key %s already existed", k.name.name)
	if r.Type != "" && r.Type != k.meta.Type.String() {
		c.Warn("its type is %s, not %s", k.meta.Type, r.Type)
	}
	if r.Protection != "" && r.Protection != k.meta.Protection {
		c.Warn("its protection is %s, not %s", k.meta.Protection, r.Protection)
	}
	if r.Derived != k.meta.Derived || r.ConvergentEncryption != k.meta.Convergent {
		c.Warn("its derived is %t and its convergent_encryption is %t", k.meta.Derived, k.meta.Convergent)
	}
}

// planKey checks a request and decides what to make.
func (s *Service) planKey(ctx context.Context, n keyName, r *api.CreateKey) (plan, error) {
	if err := checkName(r.Name); err != nil {
		return plan{}, err
	}
	switch {
	case r.Exportable:
		return plan{}, refuseExport("exportable")
	case r.AllowPlaintextBackup:
		return plan{}, refuseExport("allow_plaintext_backup")
	}
	if err := checkAutoRotate(r.AutoRotatePeriod); err != nil {
		return plan{}, err
	}
	t := defaultType
	if r.Type != "" {
		var err error
		if t, err = token.ParseType(r.Type); err != nil {
			return plan{}, invalid("unknown key type %s", r.Type).WithHint("the types are %s", typeNames())
		}
	}
	if err := checkDerivation(t, r); err != nil {
		return plan{}, err
	}
	return s.planType(ctx, n, t, r)
}

func (s *Service) planType(ctx context.Context, n keyName, t token.Type, r *api.CreateKey) (plan, error) {
	tok, err := s.token.Get()
	if err != nil {
		return plan{}, tokenFault(err, "make a key")
	}
	asked, err := s.askedProtection(ctx, n.mount, r.Protection)
	if err != nil {
		return plan{}, err
	}
	choose := chooseProtection
	if r.Derived {
		choose = chooseDerived
	}
	protection, err := choose(tok.Info(), t, asked)
	if err != nil {
		return plan{}, err
	}
	size, err := hmacSize(t, protection, r.KeySize)
	if err != nil {
		return plan{}, err
	}
	return plan{
		name: n, typ: t, size: size, protection: protection, fallback: asked == "",
		derived: r.Derived, convergent: r.ConvergentEncryption, autoRotate: r.AutoRotatePeriod,
	}, nil
}

func refuseExport(field string) error {
	return invalid("%s=true is refused: %s", field, msgNotExportable).WithHint(hintProtection)
}

func hmacSize(t token.Type, protection api.Protection, asked int) (int, error) {
	switch {
	case t != token.HMAC && asked != 0:
		return 0, invalid("key_size is for type hmac only; the size of %s is given by its name", t)
	case t != token.HMAC:
		return 0, nil
	case asked == 0 && protection == api.ProtectionSoftware:
		return softwareHMACSize, nil
	case asked == 0:
		return hsmHMACSize, nil
	case asked < minHMACSize || asked > maxHMACSize:
		return 0, invalid("key_size of %d bytes: it must be from %d to %d", asked, minHMACSize, maxHMACSize)
	}
	return asked, nil
}

func checkName(name string) error {
	if validName(name) {
		return nil
	}
	return invalid("%q is no name for a key: use letters, digits, '_', '-' and '.', at most %d, with a letter, digit or '_' at both ends", name, maxNameLen)
}

// validName keeps names to what fits a path segment and Vault's own rule.
func validName(name string) bool {
	for i, c := range []byte(name) {
		word := c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		inner := (c == '-' || c == '.') && i > 0 && i < len(name)-1
		if !word && !inner {
			return false
		}
	}
	return name != "" && len(name) <= maxNameLen
}

func typeNames() string { return typesText(token.Types()) }

func typesText(types []token.Type) string {
	text := ""
	for i, t := range types {
		if i > 0 {
			text += ", "
		}
		text += t.String()
	}
	return text
}

// create makes a key with its first version, or returns the one that someone
// else made meanwhile.
func (s *Service) create(ctx context.Context, p plan) (k *key, existed bool, err error) {
	m, err := s.makeMaterial(ctx, p)
	if err != nil {
		return nil, false, err
	}
	return s.place(ctx, p, m)
}

// place makes a key of its first version's material, see create.
func (s *Service) place(ctx context.Context, p plan, m *material) (k *key, existed bool, err error) {
	e := s.cache.lock(p.name)
	for range maxTries {
		if k, err = s.load(ctx, p.name, e); !errors.Is(err, errNoKey) {
			existed = err == nil
			break
		}
		if k, err = s.commitNew(ctx, p, m, e); !errors.Is(err, store.ErrConflict) {
			break
		}
	}
	s.cache.unlock(p.name, e)
	if existed || err != nil {
		s.discard(ctx, m)
	}
	return k, existed, storeFault(err, "store the key")
}

func (s *Service) commitNew(ctx context.Context, p plan, m *material, e *entry) (*key, error) {
	id := newID()
	now := s.now().UTC()
	meta := keyRecord{
		Format: recordFormat, ID: hex.EncodeToString(id[:]), Type: p.typ, Size: p.size,
		Protection: m.main.Place, Created: now, Latest: 1, MinDecryption: 1,
		Imported: p.imported, AllowRotation: p.allowRotation, Adopted: p.adopted,
		Derived: p.derived, Convergent: p.convergent, AutoRotate: p.autoRotate,
		DeletionAllowed: p.deletable, PKCS11: p.pkcs11,
	}
	put, err := s.store.Put(tableKeys, p.name.record(), 0, meta)
	if err != nil {
		return nil, err
	}
	changes, record, err := s.settle(p.name, meta.ID, 1, m)
	if err != nil {
		return nil, err
	}
	changes = append(changes, put)
	if p.autoRotate > 0 {
		if put, err = s.putAutoRotate(ctx, p.name); err != nil {
			return nil, err
		}
		changes = append(changes, put)
	}
	if meta.PKCS11.session() {
		if put, err = s.store.Put(tableSessions, p.name.record(), 0, sessionRecord{Format: recordFormat}); err != nil {
			return nil, err
		}
		changes = append(changes, put)
	}
	if err := s.store.Apply(ctx, changes...); err != nil {
		return nil, err
	}
	k := &key{name: p.name, meta: meta, rec: 1, slots: []*slot{s.filledSlot(p.name, &meta, record)}, used: s.clockOf(p.name, &meta)}
	e.key.Store(k)
	s.changed(p.name)
	return k, nil
}

// filledSlot opens a version that is in the store already. If that fails, the
// slot stays empty and the first use of the version tries again and reports.
func (s *Service) filledSlot(n keyName, meta *keyRecord, r versionRecord) *slot {
	sl := new(slot)
	if v, err := s.openVersion(n, meta, r); err == nil {
		sl.version.Store(v)
	}
	return sl
}
