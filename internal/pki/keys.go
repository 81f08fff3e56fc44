package pki

import (
	"context"
	"encoding/pem"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/keys"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

func newUUID() string { return uuid.NewString() }

func (s *Service) keyOperations() []*op.Operation {
	return []*op.Operation{
		op.Define(meta("keys.list", "keys", op.List, "List the keys of the authority."), s.listKeys),
		op.Define(meta("keys.read", "key/{key}", op.Read, "Show a key."), s.readKey),
		op.Define(meta("keys.set", "key/{key}", op.Write, "Name a key."), s.setKey),
		op.Define(meta("keys.delete", "key/{key}", op.Delete, "Destroy a key that no issuer needs."), s.deleteKey),
		op.Define(meta("keys.generate", "keys/generate/{kind}", op.Write, "Make a key."), s.generateKey),
		op.Define(meta("keys.default.read", "config/keys", op.Read, "Show which key is the default one."), s.readDefaultKey),
		op.Define(meta("keys.default.set", "config/keys", op.Write, "Choose the default key."), s.setDefaultKey),
	}
}

// keyTypes maps key_type and key_bits to the types of the token.
var keyTypes = map[string]map[int]token.Type{
	"rsa":     {0: token.RSA2048, 2048: token.RSA2048, 3072: token.RSA3072, 4096: token.RSA4096},
	"ec":      {0: token.P256, 256: token.P256, 384: token.P384, 521: token.P521},
	"ed25519": {0: token.Ed25519},
}

// tokenType reads the type of an authority's key.
func tokenType(kind string, bits int) (token.Type, error) {
	if kind == "" {
		kind = "rsa"
	}
	sizes, ok := keyTypes[kind]
	if !ok {
		return 0, invalid("unknown key_type %q: it is rsa, ec or ed25519", kind)
	}
	if kind == "ed25519" {
		bits = 0
	}
	t, ok := sizes[bits]
	if !ok {
		return 0, invalid("key_bits %d is not possible for key_type %s: rsa has 2048, 3072 or 4096, ec 256, 384 or 521", bits, kind)
	}
	return t, nil
}

// kindName is the key_type of a type.
func kindName(t token.Type) string {
	switch t.Class() {
	case token.ClassRSA:
		return "rsa"
	case token.ClassECDSA:
		return "ec"
	}
	return "ed25519"
}

// refuseExported is the answer to everything that would hand out a private key.
func refuseExported(kind string) error {
	switch kind {
	case "internal", kindExternal:
		return nil
	case "exported":
		return invalid("exported keys are refused: the private keys of an authority are made in the HSM token and stay there").
			WithHint("use internal")
	}
	return invalid("unknown kind of key %q: it is internal, or %s for an external key", kind, kindExternal)
}

// keyByRef finds the id of a key by name, id or "default".
func (s *Service) keyByRef(ctx context.Context, mount string, st *state, ref string) (string, error) {
	if ref == "" || ref == defaultRef {
		if st.config.DefaultKey == "" {
			return "", fault.New(fault.NotFound, "unable to find PKI key for reference: no default key is configured")
		}
		return st.config.DefaultKey, nil
	}
	for id, n := range st.keyNames {
		if n.value == ref {
			return id, nil
		}
	}
	if _, err := uuid.Parse(ref); err != nil {
		return "", noKey(ref)
	}
	_, err := s.keys.Pair(ctx, mount, ref)
	if fault.KindOf(err) == fault.NotFound {
		err = noKey(ref)
	}
	return ref, err
}

func noKey(ref string) error {
	return fault.New(fault.NotFound, "unable to find PKI key for reference: %s", ref)
}

// kindExternal is an external key: one that lies in the HSM token already.
const kindExternal = "kms"

// keyOfKind makes a key, or one of an external key. made is false if that is a key
// of this mount already.
func (s *Service) keyOfKind(ctx context.Context, c *op.Call, kind string, r *api.PKINewKey) (pair *keys.Pair, made bool, err error) {
	switch {
	case kind != kindExternal && r.ExternalKeyRef != "":
		return nil, false, invalid("cannot specify %q on %q-typed generation requests", "external_key_ref", kind)
	case kind != kindExternal:
		pair, err = s.newKey(ctx, c.Mount, r)
		return pair, err == nil, err
	case r.ExternalKeyRef == "":
		return nil, false, invalid("must specify %q on %q-typed generation requests", "external_key_ref", kind)
	case r.KeyType != "" || r.KeyBits != 0 || r.Protection != "":
		return nil, false, invalid("key_type, key_bits and protection can't be asked of a key that is there already")
	}
	if err := checkRefName("a key", r.KeyName); err != nil {
		return nil, false, err
	}
	pair, made, warnings, err := s.keys.ExternalPair(ctx, c.Mount, c.At, r.ExternalKeyRef, newUUID())
	for _, w := range warnings {
		c.Warn("%s", w)
	}
	return pair, made, err
}

// newKey makes a key; naming it is a change that is returned for the caller's
// transaction, so that an interrupted call leaves a key without a name at most.
func (s *Service) newKey(ctx context.Context, mount string, r *api.PKINewKey) (*keys.Pair, error) {
	if err := checkRefName("a key", r.KeyName); err != nil {
		return nil, err
	}
	t, err := tokenType(r.KeyType, r.KeyBits)
	if err != nil {
		return nil, err
	}
	return s.keys.NewPair(ctx, mount, newUUID(), t, r.Protection)
}

// adoptKey names a new key in next and makes the first one the default.
func (s *Service) adoptKey(mount string, next *state, id, name string) ([]store.Change, error) {
	if err := next.checkKeyName(name, id); err != nil {
		return nil, err
	}
	changes, err := s.putKeyName(mount, next, id, name)
	if err != nil || next.config.DefaultKey != "" {
		return changes, err
	}
	next.config.DefaultKey = id
	put, err := s.putConfig(mount, next)
	return append(changes, put), err
}

func (st *state) checkKeyName(name, self string) error {
	if err := checkRefName("a key", name); err != nil || name == "" {
		return err
	}
	for id, n := range st.keyNames {
		if n.value == name && id != self {
			return invalid("key name already in use")
		}
	}
	return nil
}

func (s *Service) generateKey(ctx context.Context, c *op.Call, r *api.PKIGenerateKey) (*api.PKIKey, error) {
	if err := refuseExported(r.Kind); err != nil {
		return nil, err
	}
	st, err := s.state(ctx, c.Mount)
	if err == nil {
		err = st.checkKeyName(r.KeyName, "")
	}
	if err != nil {
		return nil, err
	}
	pair, made, err := s.keyOfKind(ctx, c, r.Kind, &api.PKINewKey{
		KeyType: r.KeyType, KeyBits: r.KeyBits, KeyName: r.KeyName, Protection: r.Protection, ExternalKeyRef: r.ExternalKeyRef,
	})
	if err != nil {
		return nil, err
	}
	if err := s.nameKey(ctx, c.Mount, pair.Name, r.KeyName); err != nil {
		if made {
			err = s.abandon(ctx, c.Mount, pair, err)
		}
		return nil, err
	}
	return describeKey(pair, r.KeyName), nil
}

// abandon destroys a key that was made for something that failed.
func (s *Service) abandon(ctx context.Context, mount string, pair *keys.Pair, err error) error {
	if gone := s.keys.RemovePair(context.WithoutCancel(ctx), mount, pair.Name); gone != nil {
		s.log.Warn("a new key can't be destroyed after an error", "mount", mount, "key", pair.Name, "error", gone)
	}
	return err
}

func (s *Service) nameKey(ctx context.Context, mount, id, name string) error {
	return s.change(ctx, mount, func(next *state) ([]store.Change, error) {
		return s.adoptKey(mount, next, id, name)
	})
}

func describeKey(p *keys.Pair, name string) *api.PKIKey {
	return &api.PKIKey{
		KeyID: p.Name, KeyName: name, KeyType: kindName(p.Type), Protection: p.Protection,
		PublicKey: strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: p.PKIX}))),
	}
}

func (s *Service) listKeys(ctx context.Context, c *op.Call, _ *api.Empty) (*api.PKIKeyList, error) {
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	ids, err := s.keys.Pairs(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	out := &api.PKIKeyList{Keys: ids, KeyInfo: map[string]api.PKIKeyInfo{}}
	slices.Sort(out.Keys)
	for _, id := range ids {
		out.KeyInfo[id] = api.PKIKeyInfo{KeyName: st.keyNames[id].value, IsDefault: id == st.config.DefaultKey}
	}
	return out, nil
}

func (s *Service) readKey(ctx context.Context, c *op.Call, r *api.PKIKeyRef) (*api.PKIKey, error) {
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	id, err := s.keyByRef(ctx, c.Mount, st, r.Key)
	if err != nil {
		return nil, err
	}
	pair, err := s.keys.Pair(ctx, c.Mount, id)
	if err != nil {
		return nil, err
	}
	return describeKey(pair, st.keyNames[id].value), nil
}

func (s *Service) setKey(ctx context.Context, c *op.Call, r *api.SetPKIKey) (*api.PKIKey, error) {
	var id string
	err := s.change(ctx, c.Mount, func(next *state) (changes []store.Change, err error) {
		if id, err = s.keyByRef(ctx, c.Mount, next, r.Key); err != nil {
			return nil, err
		}
		if err := next.checkKeyName(r.KeyName, id); err != nil {
			return nil, err
		}
		return s.putKeyName(c.Mount, next, id, r.KeyName)
	})
	if err != nil {
		return nil, err
	}
	return s.readKey(ctx, c, &api.PKIKeyRef{Key: id})
}

func (s *Service) deleteKey(ctx context.Context, c *op.Call, r *api.PKIKeyRef) (*api.Empty, error) {
	var id string
	err := s.change(ctx, c.Mount, func(next *state) (changes []store.Change, err error) {
		if id, err = s.keyByRef(ctx, c.Mount, next, r.Key); err != nil {
			return nil, err
		}
		for _, i := range next.issuers {
			if i.rec.KeyID == id {
				return nil, invalid("the key %s belongs to the issuer %s: delete that first", r.Key, i.title())
			}
		}
		if changes, err = s.putKeyName(c.Mount, next, id, ""); err != nil || next.config.DefaultKey != id {
			return changes, err
		}
		next.config.DefaultKey = ""
		c.Warn("Deleted key %s (via key_ref %s); this was configured as the default key. Operations without an explicit key will not work until a new default is configured.", id, r.Key)
		put, err := s.putConfig(c.Mount, next)
		return append(changes, put), err
	})
	if fault.KindOf(err) == fault.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, s.keys.RemovePair(ctx, c.Mount, id)
}

func (s *Service) readDefaultKey(ctx context.Context, c *op.Call, _ *api.Empty) (*api.PKIDefaultKey, error) {
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	return &api.PKIDefaultKey{Default: st.config.DefaultKey}, nil
}

func (s *Service) setDefaultKey(ctx context.Context, c *op.Call, r *api.PKIDefaultKey) (*api.PKIDefaultKey, error) {
	out := new(api.PKIDefaultKey)
	err := s.change(ctx, c.Mount, func(next *state) ([]store.Change, error) {
		if r.Default == "" {
			return nil, invalid("default is empty: it is the name or the id of a key")
		}
		id, err := s.keyByRef(ctx, c.Mount, next, r.Default)
		if err != nil {
			return nil, err
		}
		next.config.DefaultKey, out.Default = id, id
		put, err := s.putConfig(c.Mount, next)
		return []store.Change{put}, err
	})
	return out, err
}
