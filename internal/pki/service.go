package pki

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/claviger/claviger/internal/keys"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// Options is what a Service needs; Logger and Now may be nil.
type Options struct {
	Store  *store.Sealed
	Keys   *keys.Service
	Logger *slog.Logger
	Now    func() time.Time
}

// Service is every certificate authority of a server, one a mount. It is safe
// for concurrent use.
type Service struct {
	store  *store.Sealed
	keys   *keys.Service
	log    *slog.Logger
	now    func() time.Time
	mounts sync.Map // path to *mountSlot

	crls      sync.Mutex // held while a CRL is made
	crlKept   sync.Map   // path of a mount and id of an issuer to *keptCRL
	crlQueues sync.Map   // the same to *crlQueue
	ocsp      sync.Map   // path of a mount to *ocspCache
	acme      *acmeServer

	estClaims sync.Mutex // held while labels of EST are given to a mount

	tidies    sync.Map   // path of a mount to *tidying
	tidyStart sync.Mutex // held while one is started, or all are stopped
}

// New returns a service on a store and keys that may still be sealed.
func New(o Options) (*Service, error) {
	if o.Store == nil || o.Keys == nil {
		return nil, errors.New("pki: a store and the keys are needed")
	}
	s := &Service{store: o.Store, keys: o.Keys, log: o.Logger, now: o.Now, acme: newACMEServer()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// MountKind is the kind of mounts that are certificate authorities.
const MountKind = "pki"

func meta(name, path string, verb op.Verb, help string) op.Meta {
	return op.Meta{Name: MountKind + "." + name, Mount: MountKind, Path: path, Verb: verb, Help: help, MayMiss: true}
}

// Operations returns the table of everything this service does.
func (s *Service) Operations() []*op.Operation {
	ops := s.issuerOperations()
	ops = append(ops, s.keyOperations()...)
	ops = append(ops, s.roleOperations()...)
	ops = append(ops, s.issueOperations()...)
	ops = append(ops, s.configOperations()...)
	ops = append(ops, s.certOperations()...)
	ops = append(ops, s.revokeOperations()...)
	ops = append(ops, s.crlOperations()...)
	ops = append(ops, s.patchOperations()...)
	ops = append(ops, s.adoptOperations()...)
	ops = append(ops, s.acmeOperations()...)
	ops = append(ops, s.estOperations()...)
	ops = append(ops, s.certListOperations()...)
	ops = append(ops, s.authorityOperations()...)
	ops = append(ops, s.tidyOperations()...)
	return append(ops, s.ocspOperations()...)
}

// Reset is called at seal: everything that was read is forgotten.
func (s *Service) Reset() {
	s.stopTidies("")
	s.mounts.Clear()
	s.ocsp.Clear()
	s.forgetCRLs("")
}

// Start is called after unseal. Certificates that a crash left between intent
// and record become records of their own: whether they were signed is not
// known, nobody has them, so they count as revoked. The log has what was to be
// signed (TBSCertificate in DER, base64), to compare with what else is known.
func (s *Service) Start(ctx context.Context) error {
	return storeFault(s.each(ctx, tableIntents, "", func(n string, e store.Entry) error {
		var intent intentRecord
		if err := e.Decode(&intent); err != nil {
			return err
		}
		return s.settleInterrupted(ctx, n, e.Version, intent)
	}), "settle interrupted certificates")
}

func (s *Service) settleInterrupted(ctx context.Context, n string, version int64, intent intentRecord) error {
	mount, digits := n[:strings.LastIndex(n, "/")+1], n[strings.LastIndex(n, "/")+1:]
	now := s.now().UTC()
	cert, err := s.store.Put(tableCerts, n, 0, certRecord{
		IssuerID: intent.IssuerID, TBS: intent.TBS, NotAfter: intent.NotAfter, Role: intent.Role, Revoked: now,
	})
	if err != nil {
		return err
	}
	revoked, err := s.store.Put(tableRevoked, mount+intent.IssuerID+"/"+digits, 0, revokedRecord{Time: now, NotAfter: intent.NotAfter})
	if err != nil {
		return err
	}
	if err := s.store.Apply(ctx, cert, revoked, s.store.Remove(tableIntents, n, version)); err != nil {
		return err
	}
	serial, _ := hex.DecodeString(digits)
	s.log.Warn("a certificate was interrupted between intent and record; it counts as revoked",
		"mount", mount, "serial", colons(serial), "tbs", base64.StdEncoding.EncodeToString(intent.TBS))
	return nil
}

// Unmount deletes everything of a mount but its keys, which internal/keys
// deletes. It may be called again if it was interrupted.
func (s *Service) Unmount(ctx context.Context, mount string) error {
	s.stopTidies(mount)
	defer s.mounts.Delete(mount)
	defer s.ocsp.Delete(mount)
	defer s.forgetCRLs(mount)
	for _, table := range append([]string{tableRoles, tableIssuers, tableKeys, tableCerts, tableIntents, tableRevoked, tableCRLs, tableConfig, tableESTConfig}, acmeTables...) {
		var batch []store.Change
		err := s.each(ctx, table, mount, func(rest string, e store.Entry) error {
			batch = append(batch, s.store.Remove(table, mount+rest, e.Version))
			if len(batch) < listPage {
				return nil
			}
			err := s.store.Apply(ctx, batch...)
			batch = batch[:0]
			return err
		})
		if err == nil && len(batch) > 0 {
			err = s.store.Apply(ctx, batch...)
		}
		if err != nil {
			return storeFault(err, "delete what the authority kept")
		}
	}
	return nil
}
