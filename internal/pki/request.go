package pki

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
)

// maxRequest is the size of a certificate request in bytes; the largest sound
// ones, with RSA-8192 and hundreds of names, are far smaller.
const maxRequest = 256 << 10

// request is a certificate request that was read and whose signature is right.
type request struct {
	*x509.CertificateRequest
	sans sans
}

// parseRequest reads a certificate request in PEM (PKCS #10, RFC 2986). Its key
// must be fit for use and its signature must be its own.
func parseRequest(text string) (*request, error) {
	if text == "" {
		return nil, invalid(`"csr" is empty`)
	}
	if len(text) > maxRequest {
		return nil, invalid("the certificate request has %d bytes; at most %d are taken", len(text), maxRequest)
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, invalid("csr contains no data or is no certificate request in PEM: it begins with -----BEGIN CERTIFICATE REQUEST-----")
	}
	return parseRequestDER(block.Bytes)
}

// parseRequestDER is parseRequest for DER.
func parseRequestDER(der []byte) (*request, error) {
	if len(der) > maxRequest {
		return nil, invalid("the certificate request has %d bytes; at most %d are taken", len(der), maxRequest)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, invalid("certificate request could not be parsed: %v", err)
	}
	if err := checkPublic(csr.PublicKey); err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, invalid("request signature invalid: the request is not signed by its own key (%v)", err)
	}
	for _, part := range csr.Subject.Names {
		if text, ok := part.Value.(string); ok {
			if err := checkTextual("the subject's", text); err != nil {
				return nil, err
			}
		}
	}
	out := &request{CertificateRequest: csr}
	for _, e := range csr.Extensions {
		if e.Id.Equal(oidSAN) {
			s, err := parseSANs(e.Value)
			if err != nil {
				return nil, err
			}
			out.sans = *s
		}
	}
	return out, nil
}

// checkTextual refuses texts that could be read in two ways: control
// characters, such as NUL and line ends.
func checkTextual(what string, texts ...string) error {
	for _, t := range texts {
		if strings.ContainsFunc(t, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '�' }) {
			return invalid("%s %q contains a control character", what, t)
		}
	}
	return nil
}

// fillNames collects the alternative names that a request's fields ask for.
func fillNames(s *sans, n *api.PKINames) error {
	if err := checkTextual("the name", slices.Concat(n.AltNames, n.URISANs, n.OtherSANs, []string{n.CommonName})...); err != nil {
		return err
	}
	for _, name := range n.AltNames {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if err := s.addName(name); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		list []string
		add  func(string) error
	}{{n.IPSANs, s.addIP}, {n.URISANs, s.addURI}, {n.OtherSANs, s.addOther}} {
		for _, text := range f.list {
			if text == "" {
				continue
			}
			if err := f.add(text); err != nil {
				return err
			}
		}
	}
	return nil
}

// addCommonName makes the common name an alternative name too, if it has the
// form of one.
func addCommonName(s *sans, cn string) {
	switch {
	case cn == "":
	case net.ParseIP(cn) != nil:
		_ = s.addIP(cn)
	case strings.Contains(cn, "@"):
		if local, domain, _ := strings.Cut(cn, "@"); local != "" && isHostname(domain) {
			_ = s.addName(cn)
		}
	case isHostname(cn) || leftWildcard.MatchString(cn):
		_ = s.addName(cn)
	}
}

// checkCommonName applies cn_validations and the role's rules to a common name.
func checkCommonName(rules *callerRules, cn string) error {
	role := rules.PKIRole
	if slices.Equal(role.CNValidations, []string{"disabled"}) {
		return nil
	}
	isEmail := strings.Contains(cn, "@")
	kind := "hostname"
	if isEmail {
		kind = "email"
	}
	if len(role.CNValidations) > 0 && !slices.Contains(role.CNValidations, kind) {
		return invalid("common name %s not allowed by this role: cn_validations does not allow a common name of the kind %s", cn, kind)
	}
	if !rules.allows(cn) {
		return invalid("common name %s not allowed by this role", cn)
	}
	return nil
}

// roleSubject is the subject that a role and a request give.
func roleSubject(role *api.PKIRole, cn, serialNumber string, userIDs []string) (pkix.Name, error) {
	if err := checkTextual("the subject's", append([]string{cn, serialNumber}, userIDs...)...); err != nil {
		return pkix.Name{}, err
	}
	if serialNumber != "" && !globAny(role.AllowedSerialNumbers, serialNumber) {
		return pkix.Name{}, invalid("serial_number %s not allowed by this role", serialNumber)
	}
	for _, id := range userIDs {
		if !globAny(role.AllowedUserIDs, id) {
			return pkix.Name{}, invalid("user_id %s is not allowed by this role", id)
		}
	}
	name := pkix.Name{
		CommonName: cn, SerialNumber: serialNumber, OrganizationalUnit: role.OU, Organization: role.Organization,
		Country: role.Country, Locality: role.Locality, Province: role.Province,
		StreetAddress: role.StreetAddress, PostalCode: role.PostalCode,
	}
	addUserIDs(&name, userIDs)
	return name, nil
}

// caSubject is the subject of an authority.
func caSubject(n *api.PKINames, s *api.PKISubject) (pkix.Name, error) {
	if err := checkTextual("the subject's", slices.Concat([]string{n.CommonName, n.SerialNumber}, n.UserIDs, s.OU, s.Organization,
		s.Country, s.Locality, s.Province, s.StreetAddress, s.PostalCode)...); err != nil {
		return pkix.Name{}, err
	}
	name := pkix.Name{
		CommonName: n.CommonName, SerialNumber: n.SerialNumber, OrganizationalUnit: s.OU, Organization: s.Organization,
		Country: s.Country, Locality: s.Locality, Province: s.Province, StreetAddress: s.StreetAddress, PostalCode: s.PostalCode,
	}
	addUserIDs(&name, n.UserIDs)
	return name, nil
}

func parseConstraints(r *api.PKIConstraints) (constraints, error) {
	c := constraints{permittedDNS: r.PermittedDNSDomains, excludedDNS: r.ExcludedDNSDomains}
	for _, name := range slices.Concat(c.permittedDNS, c.excludedDNS) {
		if !isHostname(strings.TrimPrefix(name, ".")) {
			return c, invalid("%q is no domain for a name constraint; one is written example.com or .example.com", name)
		}
	}
	for _, f := range []struct {
		to    *[]*net.IPNet
		texts []string
	}{{&c.permittedIP, r.PermittedIPRanges}, {&c.excludedIP, r.ExcludedIPRanges}} {
		for _, text := range f.texts {
			_, network, err := net.ParseCIDR(text)
			if err != nil {
				return c, invalid("%q is no network for a name constraint; one is written 10.0.0.0/8", text)
			}
			*f.to = append(*f.to, network)
		}
	}
	return c, nil
}

// Validity of what nothing else is said about.
const (
	defaultTTL = 32 * 24 * time.Hour // a mount's default, as for leases
	rootTTL    = 10 * 365 * 24 * time.Hour
)

// limits say for how long a certificate may be valid.
type limits struct {
	ttl, max  time.Duration // 0: the mount's
	notAfter  string
	notBefore time.Duration // how far in the past it begins

	begin                string // fixed
	beginBound, endBound string // of a role; "" permits
}

// usual is the validity for which nothing is asked.
func (l *limits) usual() time.Duration {
	switch {
	case l.ttl != 0:
		return l.ttl
	case l.max != 0:
		return min(defaultTTL, l.max)
	}
	return defaultTTL
}

// validity decides from when until when a certificate is valid.
func validity(now time.Time, r *api.PKIValidity, l limits, warn func(string, ...any)) (from, until time.Time, err error) {
	now = now.UTC().Truncate(time.Second)
	from = now.Add(-l.notBefore)
	if begin := refOf(r.NotBefore, l.begin); begin != "" {
		if from, err = parseTime("not_before", begin); err != nil {
			return from, until, err
		}
	}
	if err := l.permits(now, from, r); err != nil {
		return from, until, err
	}
	ttl := l.usual()
	fixed := r.NotAfter
	if fixed == "" && r.TTL == 0 {
		fixed = l.notAfter
	}
	switch {
	case r.NotAfter != "" && r.TTL != 0:
		return from, until, invalid("either ttl or not_after should be provided. Both should not be provided in the same request.")
	case r.TTL < 0:
		return from, until, invalid("ttl is negative; it is how long the certificate is valid")
	case fixed != "":
		if until, err = parseTime("not_after", fixed); err != nil {
			return from, until, err
		}
	default:
		if r.TTL != 0 {
			ttl = r.TTL.Duration()
		}
		if l.max != 0 && ttl > l.max {
			warn("TTL %q is longer than permitted maxTTL %q, so maxTTL is being used", ttl, l.max)
			ttl = l.max
		}
		until = now.Add(ttl)
	}
	if err := l.permitsEnd(now, until, ttl, r.NotAfter != ""); err != nil {
		return from, until, err
	}
	if l.max != 0 && until.After(now.Add(l.max)) {
		warn("not_after is later than max_ttl permits, so max_ttl is being used")
		until = now.Add(l.max)
	}
	if !until.After(from) || !until.After(now) {
		return from, until, invalid("the certificate would end at %s, before it begins or in the past", until.Format(time.RFC3339))
	}
	return from, until, nil
}

// withinIssuer applies leaf_not_after_behavior.
func (i *issuer) withinIssuer(until time.Time, now time.Time) (time.Time, error) {
	end := i.cert.NotAfter
	if now.After(end) {
		return until, invalid("the certificate of the issuer %s expired at %s", i.title(), end.Format(time.RFC3339))
	}
	if now.Before(i.cert.NotBefore) {
		return until, invalid("the certificate of the issuer %s is not valid before %s", i.title(), i.cert.NotBefore.Format(time.RFC3339))
	}
	if !until.After(end) || i.rec.NotAfter == notAfterPermit {
		return until, nil
	}
	if i.rec.NotAfter == notAfterTruncate {
		return end, nil
	}
	return until, invalid("cannot satisfy request, as TTL would result in notAfter of %s that is beyond the expiration of the CA certificate at %s",
		until.Format(time.RFC3339Nano), end.Format(time.RFC3339Nano))
}
