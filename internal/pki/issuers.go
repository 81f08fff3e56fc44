package pki

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// defaultRef names the default issuer or the default key.
const defaultRef = "default"

func (s *Service) issuerOperations() []*op.Operation {
	list := meta("issuers.list", "issuers", op.List, "List the issuers.")
	list.Public = true
	return []*op.Operation{
		op.Define(list, s.listIssuers),
		op.Define(meta("issuers.read", "issuer/{issuer}", op.Read, "Show an issuer."), s.readIssuer),
		op.Define(meta("issuers.set", "issuer/{issuer}", op.Write, "Change an issuer; absent fields get their defaults."), s.setIssuer),
		op.Define(meta("issuers.delete", "issuer/{issuer}", op.Delete, "Forget an issuer; its key and the records of its certificates stay."), s.deleteIssuer),
		op.Define(meta("issuers.default.read", "config/issuers", op.Read, "Show which issuer is the default one."), s.readDefaultIssuer),
		op.Define(meta("issuers.default.set", "config/issuers", op.Write, "Choose the default issuer."), s.setDefaultIssuer),
		op.Define(meta("root.replace", "root/replace", op.Write, "Choose the default issuer; the same as config/issuers."), s.setDefaultIssuer),
	}
}

// issuer finds an issuer by name, id or "default".
func (st *state) issuer(ref string) (*issuer, error) {
	id := ref
	if ref == defaultRef || ref == "" {
		if id = st.config.DefaultIssuer; id == "" {
			return nil, fault.New(fault.NotFound, "unable to find PKI issuer for reference: no default issuer is configured").
				WithHint("make one with root/generate/internal, or import one with issuers/import/bundle")
		}
	}
	if i := st.issuers[id]; i != nil {
		return i, nil
	}
	for _, i := range st.issuers {
		if ref != "" && i.rec.Name == ref {
			return i, nil
		}
	}
	return nil, fault.New(fault.NotFound, "unable to find PKI issuer for reference: %s", ref)
}

// usable finds an issuer that may be used for what the usage says.
func (st *state) usable(ref string, u usage) (*issuer, error) {
	i, err := st.issuer(ref)
	if err != nil {
		return nil, err
	}
	switch {
	case i.rec.KeyID == "":
		return nil, invalid("the key of the issuer %s is not here: it can't sign", i.title())
	case i.rec.Usage&u != u:
		return nil, invalid("the usage of the issuer %s does not allow %s", i.title(), u)
	}
	return i, nil
}

// title is the issuer's name for people.
func (i *issuer) title() string {
	if i.rec.Name != "" {
		return i.rec.Name
	}
	return i.rec.ID
}

func (s *Service) listIssuers(ctx context.Context, c *op.Call, _ *api.Empty) (*api.PKIIssuerList, error) {
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	out := &api.PKIIssuerList{Keys: slices.Sorted(maps.Keys(st.issuers)), KeyInfo: map[string]api.PKIIssuerInfo{}}
	for id, i := range st.issuers {
		out.KeyInfo[id] = api.PKIIssuerInfo{
			IssuerName: i.rec.Name, IsDefault: id == st.config.DefaultIssuer, KeyID: i.rec.KeyID,
			SerialNumber: serialText(i.cert.SerialNumber),
		}
	}
	return out, nil
}

func (s *Service) readIssuer(ctx context.Context, c *op.Call, r *api.PKIIssuerRef) (*api.PKIIssuer, error) {
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	i, err := st.issuer(r.Issuer)
	if err != nil {
		return nil, err
	}
	return st.describe(i), nil
}

func (st *state) describe(i *issuer) *api.PKIIssuer {
	out := &api.PKIIssuer{
		IssuerID: i.rec.ID, IssuerName: i.rec.Name, KeyID: i.rec.KeyID, Certificate: i.pem,
		ManualChain: i.rec.ManualChain, CAChain: st.chainPEM(i), LeafNotAfterBehavior: notAfterErr,
		Usage: i.rec.Usage.String(), RevocationSignatureAlgorithm: i.rec.RevocationAlgorithm,
		IssuingCertificates: list(i.rec.URLs.IssuingCertificates), CRLDistributionPoints: list(i.rec.URLs.CRLDistributionPoints),
		DeltaCRLDistributionPoints: list(i.rec.URLs.DeltaCRLDistributionPoints), OCSPServers: list(i.rec.URLs.OCSPServers),
		EnableAIAURLTemplating: i.rec.URLs.EnableTemplating, Revoked: !i.rec.Revoked.IsZero(),
	}
	if i.rec.NotAfter != "" {
		out.LeafNotAfterBehavior = i.rec.NotAfter
	}
	if out.Revoked {
		out.RevocationTime, out.RevocationTimeRFC3339 = i.rec.Revoked.Unix(), i.rec.Revoked.Format(time.RFC3339Nano)
	}
	return out
}

// list turns nil into an empty list, which is [] on the wire and not null.
func list(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}

const pemCertificate = "CERTIFICATE"

// pemOf is a certificate in PEM, without the last line's end, as Vault shows it.
func pemOf(der []byte) string {
	return strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})))
}

// What an issuer does with a certificate that would outlive it.
const (
	notAfterErr      = "err"
	notAfterTruncate = "truncate"
	notAfterPermit   = "permit"
)

func (s *Service) setIssuer(ctx context.Context, c *op.Call, r *api.SetPKIIssuer) (*api.PKIIssuer, error) {
	return s.editIssuer(ctx, c.Mount, r, func(rec *issuerRecord) {
		rec.Name, rec.NotAfter, rec.ManualChain, rec.Usage = "", "", nil, usageAll
		rec.RevocationAlgorithm, rec.URLs = "", api.PKIURLs{}
	})
}

// editIssuer changes an issuer by a request; reset says what absent fields become.
func (s *Service) editIssuer(ctx context.Context, mount string, r *api.SetPKIIssuer, reset func(*issuerRecord)) (*api.PKIIssuer, error) {
	var out *api.PKIIssuer
	err := s.change(ctx, mount, func(next *state) ([]store.Change, error) {
		i, err := next.issuer(r.Issuer)
		if err != nil {
			return nil, err
		}
		rec := i.rec
		reset(&rec)
		if err := next.edit(&rec, i, r); err != nil {
			return nil, err
		}
		put, err := s.putIssuer(mount, next, rec)
		if err != nil {
			return nil, err
		}
		out = next.describe(next.issuers[rec.ID])
		return []store.Change{put}, nil
	})
	return out, err
}

func (st *state) edit(rec *issuerRecord, i *issuer, r *api.SetPKIIssuer) error {
	if r.IssuerName != nil {
		if err := st.checkIssuerName(*r.IssuerName, rec.ID); err != nil {
			return err
		}
		rec.Name = *r.IssuerName
	}
	if r.LeafNotAfterBehavior != nil {
		switch *r.LeafNotAfterBehavior {
		case notAfterErr, notAfterTruncate, notAfterPermit:
			rec.NotAfter = *r.LeafNotAfterBehavior
		default:
			return invalid("unknown leaf_not_after_behavior %q: it is err, truncate or permit", *r.LeafNotAfterBehavior)
		}
	}
	if r.Usage != nil {
		u, err := parseUsage(*r.Usage)
		if err != nil {
			return err
		}
		rec.Usage = u
	}
	if !rec.Revoked.IsZero() {
		if r.Usage != nil && rec.Usage&usageIssue != 0 {
			return invalid("This issuer was revoked; unable to modify its usage to add certificate signing again. Reissue this certificate (preferably with a new key) and modify that entry instead.")
		}
		rec.Usage &^= usageIssue
	}
	if r.RevocationSignatureAlgorithm != nil {
		if _, err := algorithmByName(i.cert.PublicKey, *r.RevocationSignatureAlgorithm); err != nil {
			return err
		}
		rec.RevocationAlgorithm = *r.RevocationSignatureAlgorithm
	}
	if r.ManualChain != nil {
		chain, err := st.manualChain(rec.ID, *r.ManualChain)
		if err != nil {
			return err
		}
		rec.ManualChain = chain
	}
	return editURLs(&rec.URLs, r)
}

func editURLs(u *api.PKIURLs, r *api.SetPKIIssuer) error {
	return setURLs(u, &api.SetPKIURLs{
		IssuingCertificates: r.IssuingCertificates, CRLDistributionPoints: r.CRLDistributionPoints,
		DeltaCRLDistributionPoints: r.DeltaCRLDistributionPoints, OCSPServers: r.OCSPServers, EnableTemplating: r.EnableAIAURLTemplating,
	})
}

// manualChain turns references into ids; the issuer itself stands first.
func (st *state) manualChain(self string, refs []string) ([]string, error) {
	var ids []string
	for _, ref := range refs {
		i, err := st.issuer(ref)
		if err != nil {
			return nil, err
		}
		ids = append(ids, i.rec.ID)
	}
	if len(ids) > 0 && ids[0] != self {
		return nil, invalid("manual_chain begins with the issuer itself, not with %s", refs[0])
	}
	return ids, nil
}

// names are what issuers and keys may be called.
var nameRule = regexp.MustCompile(`^[a-zA-Z0-9_]([a-zA-Z0-9_.-]{0,126}[a-zA-Z0-9_])?$`)

func checkRefName(what, name string) error {
	if name == "" || nameRule.MatchString(name) && name != defaultRef {
		return nil
	}
	return invalid("%q is no name for %s: letters, digits, '_', '-' and '.', at most 128, and not default", name, what)
}

func (st *state) checkIssuerName(name, self string) error {
	if err := checkRefName("an issuer", name); err != nil || name == "" {
		return err
	}
	for id, i := range st.issuers {
		if i.rec.Name == name && id != self {
			return invalid("issuer name already in use")
		}
	}
	return nil
}

func (s *Service) deleteIssuer(ctx context.Context, c *op.Call, r *api.PKIIssuerRef) (*api.Empty, error) {
	return nil, s.change(ctx, c.Mount, func(next *state) ([]store.Change, error) {
		i, err := next.issuer(r.Issuer)
		if fault.KindOf(err) == fault.NotFound {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		delete(next.issuers, i.rec.ID)
		changes := []store.Change{s.store.Remove(tableIssuers, c.Mount+i.rec.ID, i.version)}
		if next.config.DefaultIssuer != i.rec.ID {
			return changes, nil
		}
		next.config.DefaultIssuer = ""
		c.Warn("Deleted issuer %s (via issuer_ref %s); this was configured as the default issuer. Operations without an explicit issuer will not work until a new default is configured.", i.rec.ID, r.Issuer)
		put, err := s.putConfig(c.Mount, next)
		return append(changes, put), err
	})
}

func (s *Service) readDefaultIssuer(ctx context.Context, c *op.Call, _ *api.Empty) (*api.PKIDefaultIssuer, error) {
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	return &api.PKIDefaultIssuer{Default: st.config.DefaultIssuer, DefaultFollowsLatestIssuer: st.config.FollowLatest}, nil
}

func (s *Service) setDefaultIssuer(ctx context.Context, c *op.Call, r *api.PKIDefaultIssuer) (*api.PKIDefaultIssuer, error) {
	var out api.PKIDefaultIssuer
	err := s.change(ctx, c.Mount, func(next *state) ([]store.Change, error) {
		i, err := next.issuer(r.Default)
		if err != nil {
			return nil, err
		}
		if r.Default == "" || r.Default == defaultRef {
			return nil, invalid("default is empty: it is the name or the id of an issuer")
		}
		if i.rec.KeyID == "" {
			c.Warn("This selected default issuer has no key associated with it. Some operations like issuing certificates and signing CRLs will be unavailable with the requested default issuer until a key is imported or the default issuer is changed.")
		}
		next.config.DefaultIssuer, next.config.FollowLatest = i.rec.ID, r.DefaultFollowsLatestIssuer
		out = api.PKIDefaultIssuer{Default: i.rec.ID, DefaultFollowsLatestIssuer: r.DefaultFollowsLatestIssuer}
		put, err := s.putConfig(c.Mount, next)
		return []store.Change{put}, err
	})
	return &out, err
}

// chain returns the certificates from an issuer up to its root, as far as they
// are known here.
func (st *state) chain(i *issuer) []*issuer {
	if known, ok := st.chains.Load(i.rec.ID); ok {
		return known.([]*issuer)
	}
	out := st.findChain(i)
	st.chains.Store(i.rec.ID, out)
	return out
}

func (st *state) findChain(i *issuer) []*issuer {
	if len(i.rec.ManualChain) > 0 {
		var out []*issuer
		for _, id := range i.rec.ManualChain {
			if known := st.issuers[id]; known != nil {
				out = append(out, known)
			}
		}
		return out
	}
	out := []*issuer{i}
	for last := i; !last.selfSigned() && len(out) <= len(st.issuers); {
		above := st.parent(last)
		if above == nil || slices.Contains(out, above) {
			break
		}
		out = append(out, above)
		last = above
	}
	return out
}

func (i *issuer) selfSigned() bool {
	return bytes.Equal(i.cert.RawSubject, i.cert.RawIssuer) && i.cert.CheckSignatureFrom(i.cert) == nil
}

// parent returns the issuer that signed i; a root is preferred, then the newest.
func (st *state) parent(i *issuer) *issuer {
	var best *issuer
	for _, id := range slices.Sorted(maps.Keys(st.issuers)) {
		p := st.issuers[id]
		if p == i || !bytes.Equal(p.cert.RawSubject, i.cert.RawIssuer) || i.cert.CheckSignatureFrom(p.cert) != nil {
			continue
		}
		if best == nil || p.selfSigned() && !best.selfSigned() || p.selfSigned() == best.selfSigned() && p.rec.Created.After(best.rec.Created) {
			best = p
		}
	}
	return best
}

func (st *state) chainPEM(i *issuer) []string {
	var out []string
	for _, c := range st.chain(i) {
		out = append(out, c.pem)
	}
	return out
}

// addIssuer is what stores a certificate as an issuer in next. It returns the
// issuer that is there already if there is one with the same certificate.
func (s *Service) addIssuer(mount string, next *state, cert *x509.Certificate, name, key string) (*issuer, bool, []store.Change, error) {
	for _, i := range next.issuers {
		if bytes.Equal(i.rec.Certificate, cert.Raw) {
			return i, true, nil, nil
		}
	}
	if err := next.checkIssuerName(name, ""); err != nil {
		return nil, false, nil, err
	}
	rec := issuerRecord{ID: newUUID(), Name: name, KeyID: key, Certificate: cert.Raw, Created: s.now().UTC(), Usage: usageAll}
	put, err := s.putIssuer(mount, next, rec)
	if err != nil {
		return nil, false, nil, err
	}
	changes := []store.Change{put}
	if next.config.DefaultIssuer == "" || next.config.FollowLatest && key != "" {
		next.config.DefaultIssuer = rec.ID
		if put, err = s.putConfig(mount, next); err != nil {
			return nil, false, nil, err
		}
		changes = append(changes, put)
	}
	return next.issuers[rec.ID], false, changes, nil
}
