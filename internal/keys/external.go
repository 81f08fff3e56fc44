package keys

import (
	"context"
	"errors"
	"slices"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// Tables of external keys: names for keys that lie in the HSM token, which mounts
// that were granted one make named keys of.
const (
	tableExternalConfigs = "external_configs" // one externalConfig a configuration
	tableExternalKeys    = "external_keys"    // one externalKey a key, as CONFIG/KEY
)

// pluginPKCS11 is the only plugin: the HSM token of the server.
const pluginPKCS11 = "pkcs11"

type externalConfig struct {
	Format     int    `json:"format"`
	Plugin     string `json:"plugin"`
	Lib        string `json:"lib,omitempty"`
	Slot       string `json:"slot,omitempty"`
	TokenLabel string `json:"token_label,omitempty"`
	Serial     string `json:"serial,omitempty"`
}

// externalOperations have the shape of OpenBao's external keys. What changes
// anything needs sudo, since it reaches every object of the HSM token.
func (s *Service) externalOperations() []*op.Operation {
	read := func(name, path string, verb op.Verb, help string) op.Meta {
		return op.Meta{Name: "sys.external." + name, Mount: "sys", Path: "external-keys/configs" + path, Verb: verb, Help: help}
	}
	sudo := func(name, path string, verb op.Verb, help string) op.Meta {
		m := read(name, path, verb, help)
		m.Sudo = true
		return m
	}
	const config, key, grant = "/{config}", "/{config}/keys/{key}", "/{config}/keys/{key}/grants"
	return []*op.Operation{
		op.Define(read("config.list", "", op.List, "List the configurations of external keys."), s.listExternalConfigs),
		op.Define(read("config.read", config, op.Read, "Show a configuration of external keys."), s.readExternalConfig),
		op.Define(sudo("config", config, op.Write, "Set a configuration of external keys."), s.writeExternalConfig),
		op.Define(sudo("config.patch", config, op.Patch, "Change a configuration of external keys; absent fields stay as they are."), s.patchExternalConfig),
		op.Define(sudo("config.delete", config, op.Delete, "Forget a configuration with the names of its keys. The keys stay in the HSM token."), s.deleteExternalConfig),
		op.Define(read("key.list", "/{config}/keys", op.List, "List the external keys of a configuration."), s.listExternalKeys),
		op.Define(read("key.read", key, op.Read, "Show an external key."), s.readExternalKey),
		op.Define(sudo("key", key, op.Write, "Give a name to a key that lies in the HSM token."), s.writeExternalKey),
		op.Define(sudo("key.patch", key, op.Patch, "Change an external key; absent fields stay as they are."), s.patchExternalKey),
		op.Define(sudo("key.delete", key, op.Delete, "Forget an external key. It stays in the HSM token."), s.deleteExternalKey),
		op.Define(read("grant.list", grant, op.List, "List the mounts that may use an external key."), s.listExternalGrants),
		op.Define(sudo("grant", grant+"/{mount...}", op.Write, "Let a mount use an external key."), s.addExternalGrant),
		op.Define(sudo("grant.delete", grant+"/{mount...}", op.Delete, "Let a mount use an external key no more. Named keys that were made of it stay."), s.removeExternalGrant),
	}
}

func (s *Service) listExternalConfigs(ctx context.Context, _ *op.Call, r *api.ExternalPage) (*api.Keys, error) {
	return s.externalNames(ctx, tableExternalConfigs, "", r.After, r.Limit)
}

// externalNames returns the names of a table that have a prefix, without it, those
// behind after, no more than limit if that is not 0.
func (s *Service) externalNames(ctx context.Context, table, prefix, after string, limit int) (*api.Keys, error) {
	if limit < 0 {
		limit = 0
	}
	if after != "" {
		after = prefix + after
	}
	out := &api.Keys{Keys: []string{}}
	for {
		page, err := s.store.Names(ctx, table, prefix, after, listPage)
		if err != nil {
			return nil, storeFault(err, "list the external keys")
		}
		for _, name := range page {
			after = name
			out.Keys = append(out.Keys, name[len(prefix):])
			if len(out.Keys) == limit {
				return out, nil
			}
		}
		if len(page) < listPage {
			return out, nil
		}
	}
}

func (s *Service) externalConfig(ctx context.Context, name string) (r externalConfig, version int64, err error) {
	version, err = s.store.Get(ctx, tableExternalConfigs, name, &r)
	if errors.Is(err, store.ErrNotFound) {
		return r, 0, fault.New(fault.NotFound, "config %q not found", name)
	}
	if err == nil {
		err = checkFormat(r.Format)
	}
	return r, version, storeFault(err, "read the configuration of external keys")
}

func (s *Service) readExternalConfig(ctx context.Context, _ *op.Call, r *api.ExternalConfigName) (*api.ExternalConfig, error) {
	c, _, err := s.externalConfig(ctx, r.Config)
	if err != nil {
		return nil, err
	}
	return &api.ExternalConfig{Plugin: c.Plugin, Lib: c.Lib, Slot: c.Slot, TokenLabel: c.TokenLabel, Serial: c.Serial}, nil
}

func (s *Service) writeExternalConfig(ctx context.Context, c *op.Call, r *api.SetExternalConfig) (*api.Empty, error) {
	if r.Plugin == nil || *r.Plugin == "" {
		return nil, invalid(`missing required field "plugin"`).WithHint("it is pkcs11")
	}
	return s.setExternalConfig(ctx, c, r, func(old externalConfig, _ bool) (externalConfig, error) {
		return externalConfig{Format: recordFormat}, nil
	})
}

func (s *Service) patchExternalConfig(ctx context.Context, c *op.Call, r *api.SetExternalConfig) (*api.Empty, error) {
	return s.setExternalConfig(ctx, c, r, func(old externalConfig, exists bool) (externalConfig, error) {
		if !exists {
			return old, fault.New(fault.NotFound, "config %q not found", r.Config)
		}
		return old, nil
	})
}

// setExternalConfig stores what r makes of the record that from returns for the one that is there.
func (s *Service) setExternalConfig(ctx context.Context, c *op.Call, r *api.SetExternalConfig, from func(old externalConfig, exists bool) (externalConfig, error)) (*api.Empty, error) {
	if err := checkName(r.Config); err != nil {
		return nil, err
	}
	err := s.retried(func() error {
		old, version, err := s.externalConfig(ctx, r.Config)
		if err != nil && fault.KindOf(err) != fault.NotFound {
			return err
		}
		next, err := from(old, version != 0)
		if err != nil {
			return err
		}
		setIf(&next.Plugin, r.Plugin)
		setIf(&next.Lib, r.Lib)
		setIf(&next.Slot, r.Slot)
		setIf(&next.TokenLabel, r.TokenLabel)
		setIf(&next.Serial, r.Serial)
		if err := s.checkExternalConfig(&next, r.Verify == nil || *r.Verify); err != nil {
			return err
		}
		put, err := s.store.Put(tableExternalConfigs, r.Config, version, &next)
		if err != nil {
			return err
		}
		return s.store.Apply(ctx, put)
	})
	if err != nil {
		return nil, storeFault(err, "store the configuration of external keys")
	}
	if r.PIN != nil {
		c.Warn("pin is not kept: the server is logged in to its HSM token by its own custody")
	}
	return nil, nil
}

func (s *Service) checkExternalConfig(c *externalConfig, verify bool) error {
	if c.Plugin != pluginPKCS11 {
		return invalid("unknown plugin %q: it is %s, the HSM token of this server", c.Plugin, pluginPKCS11)
	}
	if !verify {
		return nil
	}
	tok, err := s.token.Get()
	if err != nil {
		return tokenFault(err, "be compared")
	}
	info := tok.Info()
	if c.TokenLabel != "" && c.TokenLabel != info.Label {
		return invalid("token_label is %q, and the HSM token of this server is %q", c.TokenLabel, info.Label)
	}
	if c.Serial != "" && c.Serial != info.Serial {
		return invalid("serial is %q, and the HSM token of this server has %q", c.Serial, info.Serial)
	}
	return nil
}

// deleteExternalConfig forgets the keys first: what is interrupted can be repeated.
func (s *Service) deleteExternalConfig(ctx context.Context, _ *op.Call, r *api.ExternalConfigName) (*api.Empty, error) {
	_, version, err := s.externalConfig(ctx, r.Config)
	if fault.KindOf(err) == fault.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for {
		page, err := s.store.List(ctx, tableExternalKeys, r.Config+"/", "", listPage)
		if err != nil {
			return nil, storeFault(err, "list the external keys")
		}
		changes := make([]store.Change, 0, len(page)+1)
		for _, e := range page {
			changes = append(changes, s.store.Remove(tableExternalKeys, e.Key, e.Version))
		}
		if last := len(page) < listPage; last {
			changes = append(changes, s.store.Remove(tableExternalConfigs, r.Config, version))
		}
		if err := s.store.Apply(ctx, changes...); err != nil {
			return nil, storeFault(err, "forget the configuration of external keys")
		}
		if len(page) < listPage {
			return nil, nil
		}
	}
}

// retried calls change again as long as others changed the same record meanwhile.
func (s *Service) retried(change func() error) (err error) {
	for range maxTries {
		if err = change(); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return err
}

func setIf(to, from *string) {
	if from != nil {
		*to = *from
	}
}

// withGrant returns the sorted mounts of a key with one more, or with one less.
func withGrant(grants []string, mount string, granted bool) []string {
	at, found := slices.BinarySearch(grants, mount)
	switch {
	case granted && !found:
		return slices.Insert(slices.Clone(grants), at, mount)
	case !granted && found:
		return slices.Delete(slices.Clone(grants), at, at+1)
	}
	return grants
}
