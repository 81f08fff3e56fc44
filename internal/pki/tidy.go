package pki

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

func (s *Service) tidyOperations() []*op.Operation {
	return []*op.Operation{
		op.Define(meta("tidy", "tidy", op.Write, "Remove what has expired, in the background."), s.tidyNow),
		op.Define(meta("tidy.status", "tidy-status", op.Read, "Show how tidying goes or went."), s.tidyStatus),
		op.Define(meta("tidy.cancel", "tidy-cancel", op.Write, "End the tidying that is under way."), s.tidyCancel),
		op.Define(meta("tidy.auto.read", "config/auto-tidy", op.Read, "Show the rules of tidying that the server starts by itself."), s.readAutoTidy),
		op.Define(meta("tidy.auto.set", "config/auto-tidy", op.Write, "Change the rules of tidying that the server starts by itself."), s.setAutoTidy),
	}
}

const (
	defaultSafety       = 72 * time.Hour
	defaultIssuerSafety = 365 * 24 * time.Hour
	defaultTidyEvery    = 12 * time.Hour
	defaultACMESafety   = 30 * 24 * time.Hour
)

// tidyConfig is the record of config/auto-tidy; 0 is the default.
type tidyConfig struct {
	Enabled      bool        `json:"enabled,omitempty"`
	Interval     api.Seconds `json:"interval,omitempty"`
	Certs        bool        `json:"certs,omitempty"`
	Revoked      bool        `json:"revoked,omitempty"`
	Associations bool        `json:"associations,omitempty"`
	Issuers      bool        `json:"issuers,omitempty"`
	Safety       api.Seconds `json:"safety,omitempty"`
	IssuerSafety api.Seconds `json:"issuer_safety,omitempty"`
	Pause        api.Seconds `json:"pause,omitempty"`
	ACME         bool        `json:"acme,omitempty"`
	ACMESafety   api.Seconds `json:"acme_safety,omitempty"`
}

func (t *tidyConfig) interval() time.Duration { return or(t.Interval, defaultTidyEvery) }

func (t *tidyConfig) request() *api.PKITidy {
	r := &api.PKITidy{
		TidyCertStore: t.Certs, TidyRevokedCerts: t.Revoked, TidyRevokedCertIssuerAssociations: t.Associations,
		TidyExpiredIssuers: t.Issuers, PauseDuration: t.Pause, TidyACME: t.ACME,
	}
	if t.ACMESafety != 0 {
		r.ACMEAccountSafetyBuffer = &t.ACMESafety
	}
	if t.Safety != 0 {
		r.SafetyBuffer = &t.Safety
	}
	if t.IssuerSafety != 0 {
		r.IssuerSafetyBuffer = &t.IssuerSafety
	}
	return r
}

// tidying is the newest tidying of a mount.
type tidying struct {
	mu     sync.Mutex
	status api.PKITidyStatus
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
}

const (
	tidyInactive   = "Inactive"
	tidyRunning    = "Running"
	tidyCancelling = "Cancelling"
)

// count changes the status under its lock.
func (t *tidying) count(f func(status *api.PKITidyStatus)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.status)
}

func (s *Service) tidyOf(mount string) *tidying {
	if t, ok := s.tidies.Load(mount); ok {
		return t.(*tidying)
	}
	return &tidying{status: api.PKITidyStatus{State: tidyInactive, Message: "Tidying has not run since the server was unsealed"}}
}

func (s *Service) tidyNow(ctx context.Context, c *op.Call, r *api.PKITidy) (*api.Started, error) {
	out, err := s.startTidy(ctx, c.Mount, r, false)
	switch {
	case err != nil:
		return nil, err
	case out == nil:
		c.Warn("Tidy operation already in progress.")
	default:
		c.Warn("Tidy operation successfully started. Any information from the operation will be printed to the server's logs.")
	}
	return &api.Started{}, nil
}

// startTidy begins to tidy unless that is under way, which nil tells.
func (s *Service) startTidy(ctx context.Context, mount string, r *api.PKITidy, auto bool) (*api.Started, error) {
	now := s.now().UTC()
	status := api.PKITidyStatus{
		State: tidyRunning, TimeStarted: now.Format(time.RFC3339), TidyCertStore: r.TidyCertStore, TidyRevokedCerts: r.TidyRevokedCerts,
		TidyRevokedCertIssuerAssociations: r.TidyRevokedCertIssuerAssociations, TidyExpiredIssuers: r.TidyExpiredIssuers,
		SafetyBuffer: seconds(r.SafetyBuffer, defaultSafety), IssuerSafetyBuffer: seconds(r.IssuerSafetyBuffer, defaultIssuerSafety),
		PauseDuration: r.PauseDuration.Duration().String(), TidyACME: r.TidyACME,
		ACMEAccountSafetyBuffer: seconds(r.ACMEAccountSafetyBuffer, defaultACMESafety),
	}
	switch {
	case status.SafetyBuffer < 1:
		return nil, invalid("safety_buffer must be greater than zero")
	case status.IssuerSafetyBuffer < 1:
		return nil, invalid("issuer_safety_buffer must be greater than zero")
	case status.ACMEAccountSafetyBuffer < 1:
		return nil, invalid("acme_account_safety_buffer must be greater than zero")
	case r.PauseDuration < 0:
		return nil, invalid("pause_duration must be zero or greater")
	}
	if auto {
		if err := s.noteAutoTidy(ctx, mount, now); err != nil {
			return nil, err
		}
	}
	s.tidyStart.Lock()
	defer s.tidyStart.Unlock()
	old := s.tidyOf(mount)
	old.mu.Lock()
	running := old.status.State == tidyRunning || old.status.State == tidyCancelling
	status.LastAutoTidyFinished = old.status.LastAutoTidyFinished
	old.mu.Unlock()
	if running {
		return nil, nil
	}
	t := &tidying{status: status, done: make(chan struct{})}
	ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.tidies.Store(mount, t)
	go s.tidyAll(ctx, mount, t, &status, r.PauseDuration.Duration(), auto)
	return &api.Started{}, nil
}

func seconds(s *api.Seconds, otherwise time.Duration) api.Seconds {
	if s == nil {
		return api.Seconds(otherwise / time.Second)
	}
	return *s
}

func (s *Service) noteAutoTidy(ctx context.Context, mount string, now time.Time) error {
	return s.change(ctx, mount, func(next *state) ([]store.Change, error) {
		next.config.AutoTidied = now
		put, err := s.putConfig(mount, next)
		return []store.Change{put}, err
	})
}

func (s *Service) tidyAll(ctx context.Context, mount string, t *tidying, want *api.PKITidyStatus, pause time.Duration, auto bool) {
	defer close(t.done)
	defer t.cancel()
	err := s.tidyWanted(ctx, mount, t, want, pause)
	t.count(func(status *api.PKITidyStatus) {
		status.TimeFinished = s.now().UTC().Format(time.RFC3339)
		switch {
		case err == nil:
			status.State, status.Message = "Finished", ""
			if auto {
				status.LastAutoTidyFinished = status.TimeFinished
			}
		case errors.Is(err, context.Canceled):
			status.State, status.Message = "Cancelled", "Tidying was cancelled"
		default:
			status.State, status.Error = "Error", "tidying ended early; see the server's log"
		}
		s.log.Info("certificates tidied", "mount", mount, "state", status.State, "certificates", status.CertStoreDeletedCount,
			"revocations", status.RevokedCertDeletedCount, "acme_orders", status.ACMEOrdersDeletedCount,
			"acme_accounts", status.ACMEAccountDeletedCount, "error", err)
	})
}

func (s *Service) tidyWanted(ctx context.Context, mount string, t *tidying, want *api.PKITidyStatus, pause time.Duration) error {
	end := s.now().Add(-want.SafetyBuffer.Duration())
	if want.TidyRevokedCerts {
		if err := s.tidyRevoked(ctx, mount, end, t, pause); err != nil {
			return err
		}
	}
	if want.TidyCertStore {
		if err := s.tidyCerts(ctx, mount, end, t, pause); err != nil {
			return err
		}
	}
	if want.TidyACME {
		if err := s.tidyACME(ctx, mount, end, want.ACMEAccountSafetyBuffer.Duration(), t, pause); err != nil {
			return err
		}
	}
	if !want.TidyExpiredIssuers {
		return nil
	}
	end = s.now().Add(-want.IssuerSafetyBuffer.Duration())
	return s.change(ctx, mount, func(next *state) ([]store.Change, error) {
		var changes []store.Change
		for id, i := range next.issuers {
			if i.cert.NotAfter.Before(end) && id != next.config.DefaultIssuer {
				changes = append(changes, s.store.Remove(tableIssuers, mount+id, i.version))
				delete(next.issuers, id)
			}
		}
		return changes, nil
	})
}

func (s *Service) tidyCerts(ctx context.Context, mount string, end time.Time, t *tidying, pause time.Duration) error {
	counted := func(n int) { t.count(func(status *api.PKITidyStatus) { status.CertStoreDeletedCount += n }) }
	return s.sweep(ctx, tableCerts, mount, pause, counted, func(_ string, e *store.Entry) ([]store.Change, error) {
		var rec certRecord
		if err := e.Decode(&rec); err != nil || !rec.NotAfter.Before(end) {
			return nil, err
		}
		return []store.Change{s.store.Remove(tableCerts, e.Key, e.Version)}, nil
	})
}

// tidyRevoked removes revocations of expired certificates, which CRLs have no more,
// and the records of the certificates with them.
func (s *Service) tidyRevoked(ctx context.Context, mount string, end time.Time, t *tidying, pause time.Duration) error {
	counted := func(n int) { t.count(func(status *api.PKITidyStatus) { status.RevokedCertDeletedCount += n }) }
	return s.sweep(ctx, tableRevoked, mount, pause, counted, func(rest string, e *store.Entry) ([]store.Change, error) {
		var rec revokedRecord
		if err := e.Decode(&rec); err != nil || !rec.NotAfter.Before(end) || rec.NotAfter.IsZero() {
			return nil, err
		}
		changes := []store.Change{s.store.Remove(tableRevoked, e.Key, e.Version)}
		key := mount + rest[strings.LastIndexByte(rest, '/')+1:]
		var cert certRecord
		version, err := s.store.Get(ctx, tableCerts, key, &cert)
		if errors.Is(err, store.ErrNotFound) {
			return changes, nil
		}
		return append(changes, s.store.Remove(tableCerts, key, version)), err
	})
}

// sweepBatch is how many records are removed in one transaction.
const sweepBatch = 200

// sweep removes what remove says of every record of a table, and counts the
// records with counted. A record that is changed meanwhile is left for the next time.
func (s *Service) sweep(ctx context.Context, table, mount string, pause time.Duration, counted func(n int), remove func(rest string, e *store.Entry) ([]store.Change, error)) error {
	n := 0
	var batch [][]store.Change
	flush := func() error {
		done, err := s.removeAll(ctx, batch)
		counted(done)
		batch = batch[:0]
		return err
	}
	err := s.each(ctx, table, mount, func(rest string, e store.Entry) error {
		if n++; n%listPage == 0 && pause > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		changes, err := remove(rest, &e)
		if err != nil || len(changes) == 0 {
			return err
		}
		if batch = append(batch, changes); len(batch) < sweepBatch {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// removeAll makes changes in one transaction, or each in one of its own if one of
// them comes too late. It returns how many were made.
func (s *Service) removeAll(ctx context.Context, batch [][]store.Change) (int, error) {
	err := s.store.Apply(ctx, slices.Concat(batch...)...)
	if err == nil {
		return len(batch), nil
	}
	if !errors.Is(err, store.ErrConflict) {
		return 0, err
	}
	done := 0
	for _, changes := range batch {
		err := s.store.Apply(ctx, changes...)
		if err == nil {
			done++
		} else if !errors.Is(err, store.ErrConflict) {
			return done, err
		}
	}
	return done, nil
}

func (s *Service) tidyStatus(_ context.Context, c *op.Call, _ *api.Empty) (*api.PKITidyStatus, error) {
	t := s.tidyOf(c.Mount)
	t.mu.Lock()
	defer t.mu.Unlock()
	return new(t.status), nil
}

func (s *Service) tidyCancel(ctx context.Context, c *op.Call, r *api.Empty) (*api.PKITidyStatus, error) {
	t := s.tidyOf(c.Mount)
	t.mu.Lock()
	running := t.status.State == tidyRunning
	if running {
		t.status.State = tidyCancelling
		t.cancel()
	}
	t.mu.Unlock()
	if !running {
		c.Warn("Tidy operation cannot be cancelled as none is currently running.")
	}
	return s.tidyStatus(ctx, c, r)
}

// stopTidies ends the tidying of a mount, or of all with "", and waits for it.
func (s *Service) stopTidies(mount string) {
	s.tidyStart.Lock()
	defer s.tidyStart.Unlock()
	s.tidies.Range(func(key, value any) bool {
		if t := value.(*tidying); mount == "" || key == mount {
			t.cancel()
			<-t.done
			s.tidies.Delete(key)
		}
		return true
	})
}

func (t *tidyConfig) describe() *api.PKIAutoTidy {
	return &api.PKIAutoTidy{
		Enabled: t.Enabled, IntervalDuration: api.Seconds(t.interval() / time.Second), TidyCertStore: t.Certs, TidyRevokedCerts: t.Revoked,
		TidyRevokedCertIssuerAssociations: t.Associations, TidyExpiredIssuers: t.Issuers,
		SafetyBuffer:       api.Seconds(or(t.Safety, defaultSafety) / time.Second),
		IssuerSafetyBuffer: api.Seconds(or(t.IssuerSafety, defaultIssuerSafety) / time.Second), PauseDuration: t.Pause.Duration().String(),
		TidyACME: t.ACME, ACMEAccountSafetyBuffer: api.Seconds(or(t.ACMESafety, defaultACMESafety) / time.Second),
	}
}

func (s *Service) readAutoTidy(ctx context.Context, c *op.Call, _ *api.Empty) (*api.PKIAutoTidy, error) {
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	return st.config.AutoTidy.describe(), nil
}

func (s *Service) setAutoTidy(ctx context.Context, c *op.Call, r *api.SetPKIAutoTidy) (*api.PKIAutoTidy, error) {
	var out *api.PKIAutoTidy
	err := s.change(ctx, c.Mount, func(next *state) ([]store.Change, error) {
		t := &next.config.AutoTidy
		set(&t.Enabled, r.Enabled)
		set(&t.Interval, r.IntervalDuration)
		set(&t.Certs, r.TidyCertStore)
		set(&t.Revoked, r.TidyRevokedCerts)
		set(&t.Associations, r.TidyRevokedCertIssuerAssociations)
		set(&t.Issuers, r.TidyExpiredIssuers)
		set(&t.Safety, r.SafetyBuffer)
		set(&t.IssuerSafety, r.IssuerSafetyBuffer)
		set(&t.Pause, r.PauseDuration)
		set(&t.ACME, r.TidyACME)
		set(&t.ACMESafety, r.ACMEAccountSafetyBuffer)
		if err := t.check(); err != nil {
			return nil, err
		}
		out = t.describe()
		put, err := s.putConfig(c.Mount, next)
		return []store.Change{put}, err
	})
	return out, err
}

func (t *tidyConfig) check() error {
	switch {
	case min(t.Interval, t.Safety, t.IssuerSafety, t.Pause, t.ACMESafety) < 0:
		return invalid("a duration is negative")
	case t.Enabled && !t.Certs && !t.Revoked && !t.Associations && !t.Issuers && !t.ACME:
		return invalid("Auto-tidy enabled but no tidy operations were requested. Enable at least one tidy operation to be run (tidy_cert_store, tidy_revoked_certs, tidy_expired_issuers, tidy_acme)")
	}
	return nil
}
