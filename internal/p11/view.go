package p11

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"sync"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

const (
	// fresh is how long what was read of an object counts without asking.
	fresh = time.Second
	// issuersFresh is the same for the certificates of authorities.
	issuersFresh = 30 * time.Second
	// maxEntries bounds the objects that are remembered of a caller's slot.
	maxEntries = 1 << 16
	// page is how many keys one question brings.
	page = 500
)

// view is what one caller saw of a slot: the way from handles to objects. It can be
// forgotten at any time.
type view struct {
	used time.Time // Service.mu

	mu          sync.Mutex
	entries     map[uint64]*entry
	checked     map[string]checked   // by mount
	missed      map[uint64]time.Time // handles that led to nothing
	authorities []*entry
	readAt      time.Time // authorities

	scan sync.Mutex // one goroutine looks for handles that are not known
}

// checked is when a mount's counter was seen to stand at change, and whether
// somebody is asking again.
type checked struct {
	change uint64
	at     time.Time
	asking bool
}

// issuer is the certificate of an authority.
type issuer struct {
	name string // CKA_LABEL: its own, else the common name of its subject
	id   []byte // CKA_ID, of its public key
	der  []byte
}

func newView() *view {
	return &view{entries: map[uint64]*entry{}, checked: map[string]checked{}, missed: map[uint64]time.Time{}}
}

// keep remembers objects, and returns them as they are remembered.
func (v *view) keep(es []*entry) []*entry {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.entries)+len(es) > maxEntries {
		clear(v.entries)
	}
	for _, e := range es {
		if old := v.entries[e.handle]; old != nil && !old.same(e) {
			e.clash = true
		}
		v.entries[e.handle] = e
		delete(v.missed, e.handle)
	}
	return es
}

func (v *view) get(handle uint64) *entry {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.entries[handle]
}

// seen notes that nothing changed in a mount since change, and whether the entry is
// of that time.
func (v *view) seen(mount string, change uint64, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.checked[mount] = checked{change: change, at: now}
}

// isFresh tells whether an entry may be used without asking. Of many requests at
// once one has to ask; the others go on with what was known as long as it does,
// three times the time at most.
func (v *view) isFresh(e *entry, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e.issuer != nil {
		return now.Sub(v.readAt) < issuersFresh
	}
	c := v.checked[e.mount]
	age := now.Sub(c.at)
	switch {
	case c.change != e.change:
		return false
	case age < fresh, c.asking && age < 3*fresh:
		return true
	}
	c.asking = true
	v.checked[e.mount] = c
	return false
}

// notAsking notes that nobody found out whether a mount changed.
func (v *view) notAsking(mount string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := v.checked[mount]
	c.asking = false
	v.checked[mount] = c
}

func (v *view) drop(handle uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.entries, handle)
}

// dropRecord forgets the objects of a session's key, which got other handles.
func (v *view) dropRecord(e *entry) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for handle, o := range v.entries {
		if o.record == e.record && o.key != nil && o.key.Session {
			delete(v.entries, handle)
		}
	}
}

// ask looks for keys and objects of a mount.
func (s *Service) ask(ctx context.Context, c *Caller, mount string, q *api.P11Find) (*api.P11Found, error) {
	found := &api.P11Found{}
	err := s.call(ctx, c, Call{Verb: Write, Path: mount + "pkcs11-find", Repeatable: true}, q, found)
	return found, err
}

// learn remembers an answer, and returns its objects in their order.
func (v *view) learn(mount string, f *api.P11Found, now time.Time) []*entry {
	var es []*entry
	for i := range f.Keys {
		es = append(es, entriesOf(mount, &f.Keys[i], f.Change)...)
	}
	for i := range f.Objects {
		es = append(es, entryOf(mount, &f.Objects[i], f.Change))
	}
	v.keep(es)
	v.seen(mount, f.Change, now)
	return es
}

// resolve finds the object of a handle. invalid is the outcome if there is none.
func (s *Service) resolve(ctx context.Context, c *Caller, handle uint64, invalid Code) (*entry, error) {
	if _, err := s.slot(c); err != nil {
		return nil, err
	}
	v, now := s.view(c), s.now()
	e := v.get(handle)
	if e != nil && !e.gone && !v.isFresh(e, now) {
		var err error
		if e, err = s.refresh(ctx, c, v, e); err != nil {
			return nil, s.explain(ctx, c, err, invalid)
		}
	} else if e == nil {
		var err error
		if e, err = s.search(ctx, c, v, handle); err != nil {
			return nil, s.explain(ctx, c, err, invalid)
		}
	}
	switch {
	case e == nil || e.gone:
		return nil, fail(invalid, "there is no object with the handle 0x%x: it was deleted, or the client token may not see it", handle)
	case e.clash:
		s.log.Error("two objects have one handle; neither can be used", "handle", handle, "slot", c.Slot)
		return nil, fail(CKR_GENERAL_ERROR, "two objects have the handle 0x%x; make one of them anew", handle)
	}
	return e, nil
}

// refresh asks whether an object changed, and returns what it is now; nil if it is
// no more.
func (s *Service) refresh(ctx context.Context, c *Caller, v *view, e *entry) (*entry, error) {
	if e.issuer != nil {
		_, err := s.authorities(ctx, c, v)
		return v.get(e.handle), err
	}
	now := s.now()
	found, err := s.ask(ctx, c, e.mount, &api.P11Find{Object: e.record, Changed: e.change, Limit: 1})
	if fault.KindOf(err) == fault.NotFound && err != nil {
		err, found = nil, &api.P11Found{}
	}
	if err != nil {
		v.notAsking(e.mount)
		return nil, err
	}
	if found.Unchanged {
		v.seen(e.mount, e.change, now)
		return e, nil
	}
	v.drop(e.handle)
	v.learn(e.mount, found, now)
	return v.get(e.handle), nil
}

// search looks through the whole slot for a handle that is not known here: the
// caller has it from before a restart.
func (s *Service) search(ctx context.Context, c *Caller, v *view, handle uint64) (*entry, error) {
	v.scan.Lock()
	defer v.scan.Unlock()
	if e := v.get(handle); e != nil {
		return e, nil
	}
	if s.missedLately(v, handle) {
		return nil, nil
	}
	sl := s.slots[c.Slot]
	for _, mount := range sl.Mounts {
		for after := ""; ; {
			found, err := s.ask(ctx, c, mount, &api.P11Find{After: after, Limit: page})
			if err != nil {
				return nil, err
			}
			v.learn(mount, found, s.now())
			if e := v.get(handle); e != nil {
				return e, nil
			}
			if after = found.Next; after == "" {
				break
			}
		}
	}
	if _, err := s.authorities(ctx, c, v); err != nil {
		return nil, err
	}
	if e := v.get(handle); e != nil {
		return e, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.missed) >= maxEntries {
		clear(v.missed)
	}
	v.missed[handle] = s.now()
	return nil, nil
}

func (s *Service) missedLately(v *view, handle uint64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	at, ok := v.missed[handle]
	return ok && s.now().Sub(at) < fresh
}

// authorities are the certificates of the slot's authorities. A mount whose
// issuers the caller may not see has none.
func (s *Service) authorities(ctx context.Context, c *Caller, v *view) ([]*entry, error) {
	sl := s.slots[c.Slot]
	v.mu.Lock()
	known, at := v.authorities, v.readAt
	v.mu.Unlock()
	if len(sl.Issuers) == 0 || !at.IsZero() && s.now().Sub(at) < issuersFresh {
		return known, nil
	}
	var all []*entry
	now := s.now()
	for _, mount := range sl.Issuers {
		es, err := s.issuers(ctx, c, mount)
		if err != nil && fault.KindOf(err) != fault.Denied && fault.KindOf(err) != fault.NotFound {
			return nil, err
		}
		all = append(all, es...)
	}
	for _, e := range known {
		v.drop(e.handle)
	}
	v.keep(all)
	v.mu.Lock()
	v.authorities, v.readAt = all, now
	v.mu.Unlock()
	return all, nil
}

func (s *Service) issuers(ctx context.Context, c *Caller, mount string) ([]*entry, error) {
	var list api.PKIIssuerList
	if err := s.call(ctx, c, Call{Verb: List, Path: mount + "issuers", Repeatable: true}, nil, &list); err != nil {
		return nil, err
	}
	var all []*entry
	for _, id := range list.Keys {
		var i api.PKIIssuer
		err := s.call(ctx, c, Call{Verb: Read, Path: mount + "issuer/" + id, Repeatable: true}, nil, &i)
		if kind := fault.KindOf(err); err != nil && (kind == fault.Denied || kind == fault.NotFound || kind == fault.Invalid) {
			continue // deleted meanwhile, or not for this caller
		}
		if err != nil {
			return nil, err
		}
		block, _ := pem.Decode([]byte(i.Certificate))
		if block == nil {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue
		}
		if i.IssuerName == "" {
			i.IssuerName = cert.Subject.CommonName
		}
		e := &entry{class: CKO_CERTIFICATE, mount: mount, record: id,
			issuer: &issuer{i.IssuerName, idOf(cert.RawSubjectPublicKeyInfo), block.Bytes}}
		e.handle = e.handleOf()
		all = append(all, e)
	}
	return all, nil
}
