package hmacpool

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// tablePools has one poolRecord a mount whose config was written.
const tablePools = "hmac_pools"

const recordFormat = 1

// poolRecord is where the pool of a mount is.
type poolRecord struct {
	Format    int    `json:"format"`
	Directory string `json:"directory"`
	Mode      string `json:"mode"`
	Index     string `json:"index,omitempty"`
}

// record reads the settings of a mount and the version of their record, 0 if
// there is none.
func (s *Service) record(ctx context.Context, mount string) (Settings, int64, error) {
	var r poolRecord
	version, err := s.store.Get(ctx, tablePools, mount, &r)
	if errors.Is(err, store.ErrNotFound) {
		return Settings{}, 0, nil
	}
	if err != nil {
		return Settings{}, 0, storeFault(err, "read the settings of the pool")
	}
	if r.Format != recordFormat {
		return Settings{}, 0, fault.New(fault.Invalid, "the settings of the pool have format %d; this release knows %d", r.Format, recordFormat)
	}
	set, err := NewSettings(r.Directory, r.Mode, r.Index)
	return set, version, err
}

// NewSettings checks the parts of Settings: an absolute directory, the names of a
// mode and of an index. Its errors are *fault.Error of kind Invalid.
func NewSettings(dir, mode, index string) (Settings, error) {
	if !filepath.IsAbs(dir) {
		return Settings{}, fault.New(fault.Invalid, "directory %.200q: must be an absolute path", dir)
	}
	m, err := ParseMode(mode)
	if err != nil {
		return Settings{}, err
	}
	x, err := ParseIndex(index)
	if err != nil {
		return Settings{}, err
	}
	return Settings{Dir: filepath.Clean(dir), Mode: m, Index: x}, nil
}

func (s *Service) writeConfig(ctx context.Context, c *op.Call, r *api.PoolConfig) (*api.PoolConfig, error) {
	if _, ok := s.fixed[c.Mount]; ok {
		return nil, fault.New(fault.Invalid, "the pool of this mount is set in the server's configuration file")
	}
	set, err := NewSettings(r.Directory, r.Mode, r.Index)
	if err != nil {
		return nil, err
	}
	if !s.allowed(set.Dir) {
		return nil, fault.New(fault.Invalid, "directory %.200q: pools may lie in or below %s", r.Directory, strings.Join(s.dirs, ", ")).
			WithHint("dirs in the section [hmacpool] of the server's configuration allows others")
	}
	if _, err := openPool(ctx, set, s.unwrap); err != nil {
		return nil, err
	}
	if err := s.save(ctx, c.Mount, set); err != nil {
		return nil, err
	}
	s.forget(c.Mount)
	w := set.wire()
	return &w, nil
}

func (s *Service) save(ctx context.Context, mount string, set Settings) error {
	old, version, err := s.record(ctx, mount)
	if err != nil || version > 0 && old == set {
		return err
	}
	put, err := s.store.Put(tablePools, mount, version, poolRecord{recordFormat, set.Dir, set.Mode.String(), set.Index.String()})
	if err == nil {
		err = s.store.Apply(ctx, put)
	}
	return storeFault(err, "store the settings of the pool")
}

// allowed tells whether clients may name a directory, which is clean. Links are
// followed before the comparison, so that none leads out.
func (s *Service) allowed(dir string) bool {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	for _, base := range s.dirs {
		if real, err := filepath.EvalSymlinks(base); err == nil {
			base = real
		}
		if rel, err := filepath.Rel(base, dir); err == nil && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}

func (s *Settings) wire() api.PoolConfig {
	return api.PoolConfig{Directory: s.Dir, Mode: s.Mode.String(), Index: s.Index.String()}
}

func (s *Service) readConfig(ctx context.Context, c *op.Call, _ *api.Empty) (*api.PoolConfig, error) {
	set, err := s.settings(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	w := set.wire()
	return &w, nil
}

func (s *Service) status(ctx context.Context, c *op.Call, _ *api.Empty) (*api.PoolStatus, error) {
	set, err := s.settings(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	_, fixed := s.fixed[c.Mount]
	st := &api.PoolStatus{PoolConfig: set.wire(), Fixed: fixed, Secrets: int64(set.Mode.Files()) * int64(set.Mode.PerFile())}
	h, err := ReadHeader(set.Dir)
	if h != nil {
		st.Sealed, st.Key = true, strings.Trim(h.Mount, "/")+"/keys/"+h.Key
	}
	if err == nil {
		_, err = openPool(ctx, set, s.unwrap)
	}
	if err != nil {
		st.Problem = fault.Message(err)
	}
	st.Usable = err == nil
	return st, nil
}

// storeFault translates an error of the store; doing completes "can't …".
func storeFault(err error, doing string) error {
	if _, ok := errors.AsType[*fault.Error](err); ok || err == nil {
		return err
	}
	switch {
	case errors.Is(err, store.ErrSealed):
		return err // the guard has the words for it
	case errors.Is(err, store.ErrConflict):
		return fault.Wrap(fault.Conflict, err, "the settings are being changed by others; try again")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fault.Wrap(fault.Unavailable, err, "the store does not answer; try again")
	}
	return fault.Wrap(fault.Internal, err, "can't %s", doing)
}
