package pki

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/store"
)

// state is what a mount has in memory: all but the certificates. It never
// changes; a change makes another one.
type state struct {
	config        configRecord
	configVersion int64 // of the record, 0 if there is none
	issuers       map[string]*issuer
	keyNames      map[string]named[string]
	roles         map[string]named[*api.PKIRole]
	chains        *sync.Map // issuer id to []*issuer, filled when first asked for
}

// named is a value with the version of its record.
type named[T any] struct {
	value   T
	version int64
}

// issuer is an authority that is ready for use.
type issuer struct {
	rec     issuerRecord
	version int64 // of the record
	cert    *x509.Certificate
	keyID   []byte // as the certificates of this issuer name its key
	pem     string // of the certificate, as pemOf writes it
	ids     map[crypto.Hash]ocspID
}

func newIssuer(rec issuerRecord, version int64) (*issuer, error) {
	cert, err := x509.ParseCertificate(rec.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate of the issuer %s: %w", rec.ID, err)
	}
	i := &issuer{rec: rec, version: version, cert: cert, keyID: cert.SubjectKeyId, pem: pemOf(rec.Certificate), ids: ocspIDs(cert)}
	if len(i.keyID) == 0 {
		i.keyID, err = keyID(cert.RawSubjectPublicKeyInfo)
	}
	return i, err
}

func (st *state) clone() *state {
	next := *st
	next.chains = new(sync.Map)
	next.issuers, next.keyNames, next.roles = maps.Clone(st.issuers), maps.Clone(st.keyNames), maps.Clone(st.roles)
	return &next
}

// mountSlot takes the state of one mount.
type mountSlot struct {
	change sync.Mutex // held while the state is loaded or changed
	state  atomic.Pointer[state]
}

func (s *Service) slot(mount string) *mountSlot {
	if m, ok := s.mounts.Load(mount); ok {
		return m.(*mountSlot)
	}
	m, _ := s.mounts.LoadOrStore(mount, new(mountSlot))
	return m.(*mountSlot)
}

// state returns what is known of a mount, and reads it at first use.
func (s *Service) state(ctx context.Context, mount string) (*state, error) {
	m := s.slot(mount)
	if st := m.state.Load(); st != nil {
		return st, nil
	}
	m.change.Lock()
	defer m.change.Unlock()
	return s.load(ctx, mount, m)
}

// load reads the state; m.change is held.
func (s *Service) load(ctx context.Context, mount string, m *mountSlot) (*state, error) {
	if st := m.state.Load(); st != nil {
		return st, nil
	}
	st, err := s.read(ctx, mount)
	if err != nil {
		return nil, storeFault(err, "read the authority")
	}
	m.state.Store(st)
	return st, nil
}

func (s *Service) read(ctx context.Context, mount string) (*state, error) {
	st := &state{chains: new(sync.Map), issuers: map[string]*issuer{}, keyNames: map[string]named[string]{}, roles: map[string]named[*api.PKIRole]{}}
	err := s.each(ctx, tableConfig, mount, func(_ string, e store.Entry) error {
		st.configVersion = e.Version
		return e.Decode(&st.config)
	})
	if err != nil {
		return nil, err
	}
	err = s.each(ctx, tableIssuers, mount, func(id string, e store.Entry) error {
		var rec issuerRecord
		if err := e.Decode(&rec); err != nil {
			return err
		}
		i, err := newIssuer(rec, e.Version)
		st.issuers[id] = i
		return err
	})
	if err != nil {
		return nil, err
	}
	err = s.each(ctx, tableKeys, mount, func(id string, e store.Entry) error {
		var rec keyRecord
		err := e.Decode(&rec)
		st.keyNames[id] = named[string]{rec.Name, e.Version}
		return err
	})
	if err != nil {
		return nil, err
	}
	return st, s.each(ctx, tableRoles, mount, func(name string, e store.Entry) error {
		role := new(api.PKIRole)
		err := e.Decode(role)
		st.roles[name] = named[*api.PKIRole]{role, e.Version}
		return err
	})
}

// listPage is how many records are read at a time.
const listPage = 1000

// each calls f with every record of a mount and what its key has after the mount's path.
func (s *Service) each(ctx context.Context, table, mount string, f func(rest string, e store.Entry) error) error {
	after := ""
	for {
		page, err := s.store.List(ctx, table, mount, after, listPage)
		if err != nil {
			return err
		}
		for _, e := range page {
			after = e.Key
			if err := f(strings.TrimPrefix(e.Key, mount), e); err != nil {
				return err
			}
		}
		if len(page) < listPage {
			return ctx.Err()
		}
	}
}

// change makes another state of a mount: edit changes a copy and returns what
// must change in the store. Both happen or nothing does.
func (s *Service) change(ctx context.Context, mount string, edit func(next *state) ([]store.Change, error)) error {
	m := s.slot(mount)
	m.change.Lock()
	defer m.change.Unlock()
	st, err := s.load(ctx, mount, m)
	if err != nil {
		return err
	}
	next := st.clone()
	changes, err := edit(next)
	if err != nil {
		return err
	}
	if err := s.store.Apply(ctx, changes...); err != nil {
		m.state.Store(nil) // what is in the store now is not certain
		return storeFault(err, "store the change")
	}
	m.state.Store(next)
	return nil
}

// putConfig is the change that stores next's configuration.
func (s *Service) putConfig(mount string, next *state) (store.Change, error) {
	c, err := s.store.Put(tableConfig, mount, next.configVersion, next.config)
	next.configVersion++
	return c, storeFault(err, "store the configuration")
}

// putIssuer is the change that stores an issuer in next.
func (s *Service) putIssuer(mount string, next *state, rec issuerRecord) (store.Change, error) {
	version := int64(0)
	if old := next.issuers[rec.ID]; old != nil {
		version = old.version
	}
	i, err := newIssuer(rec, version+1)
	if err != nil {
		return store.Change{}, err
	}
	next.issuers[rec.ID] = i
	c, err := s.store.Put(tableIssuers, mount+rec.ID, version, rec)
	return c, storeFault(err, "store the issuer")
}

// putKeyName is the change that names a key in next; "" removes its name.
func (s *Service) putKeyName(mount string, next *state, id, name string) ([]store.Change, error) {
	old := next.keyNames[id]
	switch {
	case name == old.value:
		return nil, nil
	case name == "":
		delete(next.keyNames, id)
		return []store.Change{s.store.Remove(tableKeys, mount+id, old.version)}, nil
	}
	next.keyNames[id] = named[string]{name, old.version + 1}
	c, err := s.store.Put(tableKeys, mount+id, old.version, keyRecord{name})
	return []store.Change{c}, storeFault(err, "store the name of the key")
}
