package pki

import (
	"context"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"time"

	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

const tableCRLs = "pki_crls" // one crlRecord an issuer, by its id

// crlConfig are the rules of CRLs and OCSP answers; 0 is the default.
type crlConfig struct {
	Expiry        api.Seconds  `json:"expiry,omitempty"`
	Disable       bool         `json:"disable,omitempty"`
	OCSPDisable   bool         `json:"ocsp_disable,omitempty"`
	OCSPExpiry    *api.Seconds `json:"ocsp_expiry,omitempty"` // 0 holds for the moment
	AutoRebuild   bool         `json:"auto_rebuild,omitempty"`
	Grace         api.Seconds  `json:"grace,omitempty"`
	Delta         bool         `json:"delta,omitempty"`
	DeltaInterval api.Seconds  `json:"delta_interval,omitempty"`
	AllowExpired  bool         `json:"allow_expired,omitempty"`
	Shards        int          `json:"shards,omitempty"`  // of which new certificates name one; 0: none
	Sharded       []sharding   `json:"sharded,omitempty"` // all that certificates may name
}

const (
	defaultCRLExpiry     = 72 * time.Hour
	defaultOCSPExpiry    = 12 * time.Hour
	defaultGrace         = 12 * time.Hour
	defaultDeltaInterval = 15 * time.Minute
)

func or(s api.Seconds, otherwise time.Duration) time.Duration {
	if s == 0 {
		return otherwise
	}
	return s.Duration()
}

func (c *crlConfig) expiry() time.Duration   { return or(c.Expiry, defaultCRLExpiry) }
func (c *crlConfig) grace() time.Duration    { return or(c.Grace, defaultGrace) }
func (c *crlConfig) interval() time.Duration { return or(c.DeltaInterval, defaultDeltaInterval) }

func (c *crlConfig) ocspExpiry() time.Duration {
	if c.OCSPExpiry == nil {
		return defaultOCSPExpiry
	}
	return c.OCSPExpiry.Duration()
}

// crlRecord is the newest CRL of an issuer.
type crlRecord struct {
	Number int64      `json:"number"` // of the newest CRL or delta CRL, from 1
	Full   signedList `json:"full"`
	Delta  signedList `json:"delta,omitzero"`
	Stale  bool       `json:"stale,omitempty"` // something was revoked since
}

// signedList is a signed list.
type signedList struct {
	DER   []byte    `json:"der,omitempty"`
	Base  int64     `json:"base,omitempty"` // number of this list
	Made  time.Time `json:"made,omitzero"`
	Until time.Time `json:"until,omitzero"` // nextUpdate
}

func (s *Service) crlOperations() []*op.Operation {
	public := func(name, path, help string) op.Meta {
		m := meta(name, path, op.Read, help)
		m.Public = true
		return m
	}
	return []*op.Operation{
		op.Define(public("crl", "crl", "The CRL of the default issuer in DER."), crlOf(s, false, asDER)),
		op.Define(public("crl.pem", "crl/pem", "The CRL of the default issuer in PEM."), crlOf(s, false, asPEM)),
		op.Define(public("crl.delta", "crl/delta", "The delta CRL of the default issuer in DER."), crlOf(s, true, asDER)),
		op.Define(public("crl.delta.pem", "crl/delta/pem", "The delta CRL of the default issuer in PEM."), crlOf(s, true, asPEM)),
		op.Define(public("issuers.crl", "issuer/{issuer}/crl", "The CRL of an issuer in PEM, within JSON."), s.crlJSON(false)),
		op.Define(public("issuers.crl.der", "issuer/{issuer}/crl/der", "The CRL of an issuer in DER."), issuerCRL(s, false, asDER)),
		op.Define(public("issuers.crl.pem", "issuer/{issuer}/crl/pem", "The CRL of an issuer in PEM."), issuerCRL(s, false, asPEM)),
		op.Define(public("issuers.crl.delta", "issuer/{issuer}/crl/delta", "The delta CRL of an issuer in PEM, within JSON."), s.crlJSON(true)),
		op.Define(public("issuers.crl.delta.der", "issuer/{issuer}/crl/delta/der", "The delta CRL of an issuer in DER."), issuerCRL(s, true, asDER)),
		op.Define(public("issuers.crl.delta.pem", "issuer/{issuer}/crl/delta/pem", "The delta CRL of an issuer in PEM."), issuerCRL(s, true, asPEM)),
		op.Define(public("issuers.crl.shard", "issuer/{issuer}/crl/shard/{count}/{index}", "A part of the CRL of an issuer in DER: shard index of count."), s.shardCRL),
		op.Define(meta("crl.rotate", "crl/rotate", op.Read, "Make the CRLs of all issuers now."), s.rotateCRLs),
		op.Define(meta("crl.rotate.delta", "crl/rotate-delta", op.Read, "Make the delta CRLs of all issuers now."), s.rotateDeltas),
		op.Define(meta("crl.config.read", "config/crl", op.Read, "Show the rules of CRLs and OCSP answers."), s.readCRLConfig),
		op.Define(meta("crl.config.set", "config/crl", op.Write, "Change the rules of CRLs and OCSP answers."), s.setCRLConfig),
	}
}

func pemCRL(der []byte) string {
	return strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})))
}

func asDER(der []byte, f freshness) *crlFile    { return &crlFile{der, f} }
func asPEM(der []byte, f freshness) *crlPEMFile { return &crlPEMFile{[]byte(pemCRL(der)), f} }

// crlOf answers with the CRL of the default issuer.
func crlOf[F any](s *Service, delta bool, form func(der []byte, f freshness) *F) func(context.Context, *op.Call, *api.Empty) (*F, error) {
	return func(ctx context.Context, c *op.Call, _ *api.Empty) (*F, error) {
		return issuerCRL(s, delta, form)(ctx, c, &api.PKIIssuerRef{Issuer: defaultRef})
	}
}

func issuerCRL[F any](s *Service, delta bool, form func(der []byte, f freshness) *F) func(context.Context, *op.Call, *api.PKIIssuerRef) (*F, error) {
	return func(ctx context.Context, c *op.Call, r *api.PKIIssuerRef) (*F, error) {
		list, cfg, err := s.currentCRL(ctx, c.Mount, r.Issuer, delta)
		if err != nil {
			return nil, err
		}
		return form(list.DER, list.fresh(cfg)), nil
	}
}

func (s *Service) crlJSON(delta bool) func(context.Context, *op.Call, *api.PKIIssuerRef) (*api.PKICRL, error) {
	return func(ctx context.Context, c *op.Call, r *api.PKIIssuerRef) (*api.PKICRL, error) {
		list, _, err := s.currentCRL(ctx, c.Mount, r.Issuer, delta)
		if err != nil {
			return nil, err
		}
		return &api.PKICRL{CRL: pemCRL(list.DER) + "\n"}, nil
	}
}

// currentCRL returns the CRL or the delta CRL of an issuer, and the rules by
// which it was made.
func (s *Service) currentCRL(ctx context.Context, mount, ref string, delta bool) (*signedList, *crlConfig, error) {
	st, i, err := s.byRef(ctx, mount, ref)
	if err != nil {
		return nil, nil, err
	}
	rec, err := s.currentList(ctx, mount, crlScope{issuer: i.rec.ID})
	if err != nil {
		return nil, nil, err
	}
	cfg := &st.config.CRL
	if !delta {
		return &rec.Full, cfg, nil
	}
	if !cfg.Delta || len(rec.Delta.DER) == 0 {
		return nil, nil, fault.New(fault.NotFound, "there is no delta CRL of this issuer").
			WithHint("enable_delta and auto_rebuild of config/crl make them; crl/rotate-delta makes one now")
	}
	return &rec.Delta, cfg, nil
}

// currentList returns a CRL, and makes it first if there is none, or it has ended,
// or it was made while the clock was ahead: nobody would take it.
// If that fails, the old one is better than nothing.
func (s *Service) currentList(ctx context.Context, mount string, scope crlScope) (*crlRecord, error) {
	rec, _, err := s.readCRL(ctx, mount, scope.record())
	if err != nil || rec != nil && len(rec.Full.DER) > 0 && !rec.Stale && rec.Full.holds(s.now()) {
		return rec, err
	}
	made := s.makeScope(ctx, mount, scope, false)
	if fresh, _, err := s.readCRL(ctx, mount, scope.record()); err == nil && fresh != nil {
		rec = fresh
	}
	if rec == nil {
		return nil, made
	}
	return rec, nil
}

func (l *signedList) holds(now time.Time) bool {
	return !now.After(l.Until) && !now.Add(overlap).Before(l.Made)
}

// readCRL returns the record of a CRL, which must not be changed, and its version;
// nil if there is none.
func (s *Service) readCRL(ctx context.Context, mount, record string) (*crlRecord, int64, error) {
	if k := s.keptCRL(mount + record); k != nil {
		return k.rec, k.version, nil
	}
	rec := new(crlRecord)
	version, err := s.store.Get(ctx, tableCRLs, mount+record, rec)
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, storeFault(err, "read the CRL")
	}
	s.keepCRL(mount+record, &keptCRL{rec, version})
	return rec, version, nil
}

// makeCRL makes the CRL or the delta CRL of an issuer.
func (s *Service) makeCRL(ctx context.Context, mount, id string, delta bool) error {
	return s.makeScope(ctx, mount, crlScope{issuer: id}, delta)
}

func (s *Service) makeScope(ctx context.Context, mount string, scope crlScope, delta bool) error {
	s.crls.Lock()
	defer s.crls.Unlock()
	return s.buildCRL(ctx, mount, scope, delta)
}

// buildCRL is makeScope while Service.crls is held.
func (s *Service) buildCRL(ctx context.Context, mount string, scope crlScope, delta bool) error {
	st, err := s.state(ctx, mount)
	if err != nil {
		return err
	}
	i := st.issuers[scope.issuer]
	if i == nil {
		return nil
	}
	if st.config.CRL.Disable {
		return fault.New(fault.NotFound, "CRLs are disabled").WithHint("config/crl with disable=false enables them")
	}
	rec, version, err := s.readCRL(ctx, mount, scope.record())
	if err != nil {
		return err
	}
	if rec == nil {
		rec = new(crlRecord)
	}
	now := s.now().UTC().Truncate(time.Second)
	next := *rec
	next.Number++
	made := signedList{Base: next.Number, Made: now, Until: now.Add(st.config.CRL.expiry())}
	made.DER, err = s.signCRL(ctx, mount, i, &toSign{scope, st.shardURLs(scope), &made, rec.Full, delta})
	if err != nil {
		return err
	}
	if delta {
		next.Delta = made
	} else {
		next.Full, next.Delta, next.Stale = made, signedList{}, false
	}
	return s.putCRL(ctx, mount+scope.record(), version, &next)
}

// Extensions of CRLs and their entries (RFC 5280 section 5.2 and 5.3).
var (
	oidCRLNumber = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidReason    = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidDeltaCRL  = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidCRLScope  = asn1.ObjectIdentifier{2, 5, 29, 28} // IssuingDistributionPoint
)

// overlap is how far a delta CRL reaches back before its base: a revocation
// may have been on its way to the store while the base was made.
const overlap = time.Minute

// toSign is a CRL that is about to be signed.
type toSign struct {
	crlScope
	points []string // of a shard, its distribution points
	*signedList
	base  signedList // the CRL before it
	delta bool
}

// signCRL makes a CertificateList (RFC 5280 section 5.1). A delta CRL has what
// was revoked since its base.
func (s *Service) signCRL(ctx context.Context, mount string, i *issuer, l *toSign) ([]byte, error) {
	key, alg, err := s.signerOf(ctx, mount, i, usageCRL)
	if err != nil {
		return nil, err
	}
	var entries builder
	err = s.revokedIn(ctx, mount, l.crlScope, func(serial []byte, r *revokedRecord) error {
		if l.delta && r.Time.Before(l.base.Made.Add(-overlap)) || r.NotAfter.Before(l.Made) && !r.NotAfter.IsZero() && r.Time.Before(l.Made.Add(-24*time.Hour)) {
			return nil
		}
		addRevoked(&entries, serial, r)
		return nil
	})
	if err != nil {
		return nil, storeFault(err, "read the revoked certificates")
	}
	list, err := entries.Bytes()
	if err != nil {
		return nil, err
	}
	more := []extension{akiExtension(i.keyID), numberExtension(oidCRLNumber, false, l.Base)}
	if l.delta {
		more = append(more, numberExtension(oidDeltaCRL, true, l.base.Base))
	}
	if l.count > 0 {
		more = append(more, scopeExtension(l.points))
	}
	tbs := listTBS(i, alg, l.signedList, list, more)
	signature, err := alg.sign(key, tbs)
	if err != nil {
		return nil, signFault(err)
	}
	return signedObject(tbs, alg, signature), nil
}

func addRevoked(b *builder, serial []byte, r *revokedRecord) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(serial))
		addTime(b, r.Time)
		if r.Reason == 0 {
			return // RFC 5280 section 5.3.1: leave "unspecified" out
		}
		b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
			var value builder
			value.AddASN1Enum(int64(r.Reason))
			extension{oidReason, false, value.BytesOrPanic()}.add(b)
		})
	})
}

func numberExtension(oid asn1.ObjectIdentifier, critical bool, n int64) extension {
	var value builder
	value.AddASN1Int64(n)
	return extension{oid, critical, value.BytesOrPanic()}
}

// scopeExtension is IssuingDistributionPoint with a list of full names (RFC 5280
// section 5.2.5), each of which may stand in certificates.
func scopeExtension(points []string) extension {
	return extension{oidCRLScope, true, sequence(func(b *builder) {
		b.AddASN1(constructed(0), func(b *builder) {
			b.AddASN1(constructed(0), func(b *builder) {
				for _, u := range points {
					addText(b, nameURI, u)
				}
			})
		})
	})}
}

func (s *Service) rotateCRLs(ctx context.Context, c *op.Call, _ *api.Empty) (*api.PKISuccess, error) {
	return s.rotateAll(ctx, c, false)
}

func (s *Service) rotateDeltas(ctx context.Context, c *op.Call, _ *api.Empty) (*api.PKISuccess, error) {
	return s.rotateAll(ctx, c, true)
}

func (s *Service) rotateAll(ctx context.Context, c *op.Call, delta bool) (*api.PKISuccess, error) {
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	if delta && !st.config.CRL.Delta {
		return nil, invalid("delta CRLs are not enabled: set enable_delta and auto_rebuild in config/crl")
	}
	for id, i := range st.issuers {
		if i.rec.KeyID == "" || i.rec.Usage&usageCRL == 0 {
			continue
		}
		if err := s.makeCRL(ctx, c.Mount, id, delta); err != nil {
			return nil, err
		}
		if delta {
			continue
		}
		shards, err := s.keptShards(ctx, c.Mount, id)
		if err != nil {
			return nil, err
		}
		for _, scope := range shards {
			if err := s.makeScope(ctx, c.Mount, scope, false); err != nil {
				return nil, err
			}
		}
	}
	return &api.PKISuccess{Success: true}, nil
}

func (s *Service) readCRLConfig(ctx context.Context, c *op.Call, _ *api.Empty) (*api.PKICRLConfig, error) {
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	return st.config.CRL.describe(), nil
}

// describe shows durations as Vault does: "72h".
func (c *crlConfig) describe() *api.PKICRLConfig {
	return &api.PKICRLConfig{
		Expiry: hours(c.expiry()), Disable: c.Disable, OCSPDisable: c.OCSPDisable, OCSPExpiry: hours(c.ocspExpiry()),
		AutoRebuild: c.AutoRebuild, AutoRebuildGracePeriod: hours(c.grace()), EnableDelta: c.Delta,
		DeltaRebuildInterval: hours(c.interval()), AllowExpiredCertRevocation: c.AllowExpired, Shards: c.Shards,
	}
}

func hours(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func (s *Service) setCRLConfig(ctx context.Context, c *op.Call, r *api.SetPKICRLConfig) (*api.PKICRLConfig, error) {
	var out *api.PKICRLConfig
	err := s.change(ctx, c.Mount, func(next *state) ([]store.Change, error) {
		cfg := &next.config.CRL
		set(&cfg.Expiry, r.Expiry)
		set(&cfg.Disable, r.Disable)
		set(&cfg.OCSPDisable, r.OCSPDisable)
		if r.OCSPExpiry != nil {
			cfg.OCSPExpiry = r.OCSPExpiry
		}
		set(&cfg.AutoRebuild, r.AutoRebuild)
		set(&cfg.Grace, r.AutoRebuildGracePeriod)
		set(&cfg.Delta, r.EnableDelta)
		set(&cfg.DeltaInterval, r.DeltaRebuildInterval)
		set(&cfg.AllowExpired, r.AllowExpiredCertRevocation)
		set(&cfg.Shards, r.Shards)
		if err := cfg.check(); err != nil {
			return nil, err
		}
		if err := next.noteSharding(); err != nil {
			return nil, err
		}
		out = cfg.describe()
		put, err := s.putConfig(c.Mount, next)
		return []store.Change{put}, err
	})
	return out, err
}

func (c *crlConfig) check() error {
	switch {
	case c.AutoRebuild && c.grace() >= c.expiry():
		return invalid("CRL auto-rebuild grace period (%s) must be strictly shorter than CRL expiry (%s) value when auto-rebuilding of CRLs is enabled", hours(c.grace()), hours(c.expiry()))
	case c.Delta && !c.AutoRebuild:
		return invalid("Delta CRLs cannot be enabled when auto rebuilding is disabled as the complete CRL is always regenerated!")
	case c.Delta && c.interval() >= c.expiry():
		return invalid("delta_rebuild_interval (%s) must be shorter than expiry (%s)", hours(c.interval()), hours(c.expiry()))
	}
	return nil
}
