package pki

import (
	"context"
	"strings"
	"sync/atomic"
)

// keptCRL is the record of an issuer's CRL in memory: a CRL of 10^5 entries has
// megabytes, and reading its record takes longer than sending it.
type keptCRL struct {
	rec     *crlRecord
	version int64
}

// crlQueue counts how often the CRL of an issuer was asked for, so that several
// revocations at a time make one CRL together.
type crlQueue struct {
	asked   atomic.Uint64
	covered uint64 // the newest that a CRL answers; Service.crls is held
}

// rebuildCRL makes the CRL of an issuer, unless one was begun since the call that
// has what the call is about. Certificates of an issuer that is not here, or has
// no key here, are on no CRL: there is nobody to sign it.
func (s *Service) rebuildCRL(ctx context.Context, mount, id string) error {
	entry, _ := s.crlQueues.LoadOrStore(mount+id, new(crlQueue))
	q := entry.(*crlQueue)
	mine := q.asked.Add(1)
	s.crls.Lock()
	defer s.crls.Unlock()
	if q.covered >= mine {
		return nil
	}
	covers := q.asked.Load()
	if err := s.buildCRL(ctx, mount, crlScope{issuer: id}, false); err != nil {
		return err
	}
	q.covered = covers
	return nil
}

// putCRL stores the record of a CRL over that of a version. Service.crls is held.
func (s *Service) putCRL(ctx context.Context, key string, version int64, rec *crlRecord) error {
	put, err := s.store.Put(tableCRLs, key, version, rec)
	if err == nil {
		err = s.store.Apply(ctx, put)
	}
	if err != nil {
		s.crlKept.Delete(key) // what is in the store now is not certain
		return storeFault(err, "store the CRL")
	}
	s.crlKept.Store(key, &keptCRL{rec, version + 1})
	return nil
}

// keepCRL keeps a record that was read, unless there is a newer one.
func (s *Service) keepCRL(key string, k *keptCRL) { s.crlKept.LoadOrStore(key, k) }

func (s *Service) keptCRL(key string) *keptCRL {
	if k, ok := s.crlKept.Load(key); ok {
		return k.(*keptCRL)
	}
	return nil
}

// forgetCRLs forgets what is kept of a mount, or of all with "".
func (s *Service) forgetCRLs(mount string) {
	for _, m := range []interface {
		Range(func(key, value any) bool)
		Delete(key any)
	}{&s.crlKept, &s.crlQueues} {
		m.Range(func(key, _ any) bool {
			if strings.HasPrefix(key.(string), mount) {
				m.Delete(key)
			}
			return true
		})
	}
}
