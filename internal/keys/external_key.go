package keys

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

type externalKey struct {
	Format    int      `json:"format"`
	Label     string   `json:"label,omitempty"`
	ID        string   `json:"id,omitempty"` // as the caller wrote it
	Class     string   `json:"class,omitempty"`
	Mechanism string   `json:"mechanism,omitempty"`
	Grants    []string `json:"grants,omitempty"` // paths of mounts with their slash, sorted
}

func (s *Service) listExternalKeys(ctx context.Context, _ *op.Call, r *api.ExternalKeyPage) (*api.Keys, error) {
	return s.externalNames(ctx, tableExternalKeys, r.Config+"/", r.After, r.Limit)
}

func (s *Service) externalKey(ctx context.Context, config, name string) (r externalKey, version int64, err error) {
	version, err = s.store.Get(ctx, tableExternalKeys, config+"/"+name, &r)
	if errors.Is(err, store.ErrNotFound) {
		return r, 0, fault.New(fault.NotFound, "key %q not found", name)
	}
	if err == nil {
		err = checkFormat(r.Format)
	}
	return r, version, storeFault(err, "read the external key")
}

func (s *Service) readExternalKey(ctx context.Context, _ *op.Call, r *api.ExternalKeyName) (*api.ExternalKey, error) {
	k, _, err := s.externalKey(ctx, r.Config, r.Key)
	if err != nil {
		return nil, err
	}
	return &api.ExternalKey{Label: k.Label, ID: k.ID, Class: k.Class, Mechanism: k.Mechanism}, nil
}

func (s *Service) writeExternalKey(ctx context.Context, _ *op.Call, r *api.SetExternalKey) (*api.Empty, error) {
	if err := checkName(r.Key); err != nil {
		return nil, err
	}
	return s.setExternalKey(ctx, r, func(old externalKey, _ bool) (externalKey, error) {
		return externalKey{Format: recordFormat, Grants: old.Grants}, nil
	})
}

func (s *Service) patchExternalKey(ctx context.Context, _ *op.Call, r *api.SetExternalKey) (*api.Empty, error) {
	return s.setExternalKey(ctx, r, func(old externalKey, exists bool) (externalKey, error) {
		if !exists {
			return old, fault.New(fault.NotFound, "key %q not found", r.Key)
		}
		return old, nil
	})
}

// setExternalKey stores what r makes of the record that from returns for the one that is there.
func (s *Service) setExternalKey(ctx context.Context, r *api.SetExternalKey, from func(old externalKey, exists bool) (externalKey, error)) (*api.Empty, error) {
	return s.changeExternalKey(ctx, r.Config, r.Key, func(old externalKey, exists bool) (externalKey, error) {
		next, err := from(old, exists)
		if err != nil {
			return next, err
		}
		setIf(&next.Label, r.Label)
		setIf(&next.ID, r.ID)
		setIf(&next.Class, r.Class)
		setIf(&next.Mechanism, r.Mechanism)
		like, err := next.object()
		if err != nil || r.Verify != nil && !*r.Verify {
			return next, err
		}
		_, err = s.findObject(ctx, like)
		return next, err
	})
}

// object is the name of the object in the HSM token.
func (k *externalKey) object() (token.ObjectName, error) {
	digits := strings.TrimPrefix(strings.ToLower(strings.ReplaceAll(k.ID, ":", "")), "0x")
	like, err := objectName(k.Label, digits, k.Class)
	if err == nil && like.Label == "" && len(like.ID) == 0 {
		err = errNoObject()
	}
	like.Keep = true
	return like, err
}

// changeExternalKey stores what change returns for a key of a configuration that is there.
func (s *Service) changeExternalKey(ctx context.Context, config, name string, change func(old externalKey, exists bool) (externalKey, error)) (*api.Empty, error) {
	err := s.retried(func() error {
		c, configVersion, err := s.externalConfig(ctx, config)
		if fault.KindOf(err) == fault.NotFound {
			return invalid("config %q does not exist", config).WithHint("write sys/external-keys/configs/%s first", config)
		}
		if err != nil {
			return err
		}
		old, version, err := s.externalKey(ctx, config, name)
		if err != nil && fault.KindOf(err) != fault.NotFound {
			return err
		}
		next, err := change(old, version != 0)
		if err != nil {
			return err
		}
		// The configuration is written as it is, so that it can't be deleted meanwhile.
		same, err := s.store.Put(tableExternalConfigs, config, configVersion, &c)
		if err != nil {
			return err
		}
		put, err := s.store.Put(tableExternalKeys, config+"/"+name, version, &next)
		if err != nil {
			return err
		}
		return s.store.Apply(ctx, same, put)
	})
	if err != nil {
		return nil, storeFault(err, "store the external key")
	}
	return nil, nil
}

func (s *Service) deleteExternalKey(ctx context.Context, _ *op.Call, r *api.ExternalKeyName) (*api.Empty, error) {
	err := s.retried(func() error {
		_, version, err := s.externalKey(ctx, r.Config, r.Key)
		if fault.KindOf(err) == fault.NotFound {
			return nil
		}
		if err != nil {
			return err
		}
		return s.store.Apply(ctx, s.store.Remove(tableExternalKeys, r.Config+"/"+r.Key, version))
	})
	if err != nil {
		return nil, storeFault(err, "forget the external key")
	}
	return nil, nil
}

func (s *Service) listExternalGrants(ctx context.Context, _ *op.Call, r *api.ExternalKeyName) (*api.Keys, error) {
	k, _, err := s.externalKey(ctx, r.Config, r.Key)
	if err != nil {
		return nil, err
	}
	return &api.Keys{Keys: append([]string{}, k.Grants...)}, nil
}

func (s *Service) addExternalGrant(ctx context.Context, _ *op.Call, r *api.ExternalGrant) (*api.Empty, error) {
	return s.changeExternalGrant(ctx, r, true)
}

func (s *Service) removeExternalGrant(ctx context.Context, _ *op.Call, r *api.ExternalGrant) (*api.Empty, error) {
	return s.changeExternalGrant(ctx, r, false)
}

func (s *Service) changeExternalGrant(ctx context.Context, r *api.ExternalGrant, granted bool) (*api.Empty, error) {
	mount := strings.TrimSuffix(r.Mount, "/") + "/"
	return s.changeExternalKey(ctx, r.Config, r.Key, func(old externalKey, exists bool) (externalKey, error) {
		if !exists {
			return old, fault.New(fault.NotFound, "key %q not found", r.Key)
		}
		old.Grants = withGrant(old.Grants, mount, granted)
		return old, nil
	})
}

// external returns the name of the object that the reference CONFIG:KEY means, if
// the mount at the path (with its slash) was granted its use.
func (s *Service) external(ctx context.Context, ref, path string) (token.ObjectName, error) {
	config, name, ok := strings.Cut(ref, ":")
	if !ok || config == "" || name == "" || strings.Contains(name, ":") {
		return token.ObjectName{}, invalid(`invalid key reference: must be "<config name>:<key name>"`)
	}
	k, _, err := s.externalKey(ctx, config, name)
	if fault.KindOf(err) == fault.NotFound {
		return token.ObjectName{}, invalid("key %q does not exist", ref).WithHint("sys/external-keys/configs/%s/keys lists those that do", config)
	}
	if err != nil {
		return token.ObjectName{}, err
	}
	if _, granted := slices.BinarySearch(k.Grants, path); !granted {
		return token.ObjectName{}, invalid("mount %q is missing grant for key %q", path, ref).
			WithHint("write sys/external-keys/configs/%s/keys/%s/grants/%s", config, name, strings.TrimSuffix(path, "/"))
	}
	return k.object()
}

// ExternalPair returns the key pair of mount that is of the external key that ref
// (CONFIG:KEY) means; path is that of the mount, which must be granted its use. If
// there is none, one is made with the given name, and made is true. The object stays
// when the pair is removed. warnings say where it is weaker than keys that are made here.
func (s *Service) ExternalPair(ctx context.Context, mount, path, ref, name string) (p *Pair, made bool, warnings []string, err error) {
	like, err := s.external(ctx, ref, path)
	if err != nil {
		return nil, false, nil, err
	}
	stored, err := s.findObject(ctx, like)
	if err != nil {
		return nil, false, nil, err
	}
	if stored.Public == nil {
		return nil, false, nil, invalid("key %q is of type %s, which has no public half", ref, stored.Type)
	}
	owner, err := s.FindPair(ctx, mount, stored.Public)
	if err == nil && owner == "" {
		owner, made = name, true
		warnings, err = s.adoptObject(ctx, mount, name, like, stored.Public)
	}
	if err != nil {
		return nil, false, nil, err
	}
	p, err = s.Pair(ctx, mount, owner)
	return p, made, warnings, err
}

// externalType is the key type with which an external key is made a named key.
const externalType = "external-key"

// createExternal makes a named key of an external key.
func (s *Service) createExternal(ctx context.Context, c *op.Call, r *api.CreateKey) (*api.Key, error) {
	switch {
	case r.Type != externalType:
		return nil, invalid("must provide type=%s to use external_key_ref", externalType)
	case r.ExternalKeyRef == "":
		return nil, invalid("must provide external_key_ref to create policy of type %s", externalType).
			WithHint("it is CONFIG:KEY, as sys/external-keys/configs has them")
	case r.AutoRotatePeriod != 0:
		return nil, invalid("cannot enable auto-rotation with external keys")
	case r.Derived || r.ConvergentEncryption || r.KeySize != 0 || r.Exportable || r.AllowPlaintextBackup:
		return nil, invalid("derived, convergent_encryption, key_size, exportable and allow_plaintext_backup can't be asked of a key that is there already")
	case r.Protection != "" && r.Protection != api.ProtectionToken:
		return nil, invalid("protection %s: a key that lies in the HSM token has protection %s", r.Protection, api.ProtectionToken)
	}
	like, err := s.external(ctx, r.ExternalKeyRef, c.At)
	if err != nil {
		return nil, err
	}
	return s.adoptAs(ctx, c, r.Name, like)
}

// rotateExternal adds a version whose secret is an external key of the same type.
func (s *Service) rotateExternal(ctx context.Context, c *op.Call, r *api.RotateKey) (*api.Key, error) {
	k, err := s.find(ctx, c.Mount, r.Name, "key not found")
	if err != nil {
		return nil, err
	}
	if !k.meta.Adopted {
		return nil, invalid("cannot use external_key_ref on key of type %s", k.meta.Type).
			WithHint("only a key that was made of a key in the HSM token gets versions from there")
	}
	like, err := s.external(ctx, r.ExternalKeyRef, c.At)
	if err != nil {
		return nil, err
	}
	stored, err := s.findObject(ctx, like)
	if err != nil {
		return nil, err
	}
	if stored.Type != k.meta.Type || stored.Size != k.meta.Size {
		return nil, invalid("the external key is of type %s, and all versions of %s are %s", stored.Type, r.Name, k.meta.Type)
	}
	if n, err := s.versionOf(ctx, k, stored.Name); err != nil || n != 0 {
		return nil, orInvalid(err, "version %d of %s is of this object already", n, r.Name)
	}
	tok, err := s.token.Get()
	if err != nil {
		return nil, tokenFault(err, "adopt a key")
	}
	m, err := s.objectMaterial(ctx, plan{name: k.name, typ: stored.Type, size: stored.Size, protection: api.ProtectionToken, adopted: true}, tok, stored)
	if err != nil {
		return nil, err
	}
	if k, err = s.addVersion(ctx, k, m); err != nil {
		return nil, err
	}
	for _, w := range weaknesses(ctx, tok, stored) {
		c.Warn("%s", w)
	}
	return s.describe(ctx, k)
}

// versionOf returns the number of the version of k that is of an object, 0 if none is.
func (s *Service) versionOf(ctx context.Context, k *key, object *token.ObjectName) (int, error) {
	for v := k.meta.Latest; v >= max(k.meta.MinAvailable, 1); v-- {
		var r versionRecord
		if _, err := s.stored(ctx, tableVersions, k.name.version(v), &r); err != nil {
			return 0, err
		}
		same := r.Main.Object != nil && r.Main.Object.name().Same(object)
		r.wipe()
		if same {
			return v, nil
		}
	}
	return 0, nil
}

func orInvalid(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return invalid(format, args...)
}
