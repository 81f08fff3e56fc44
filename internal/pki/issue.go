package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

func (s *Service) issueOperations() []*op.Operation {
	return []*op.Operation{
		op.Define(meta("root.generate", "root/generate/{kind}", op.Write, "Make a self-signed authority whose key is in the HSM token."), s.generateRoot),
		op.Define(meta("root.generate.issuers", "issuers/generate/root/{kind}", op.Write, "The same as root/generate."), s.generateRoot),
		op.Define(meta("root.rotate", "root/rotate/{kind}", op.Write, "Make another self-signed authority beside those that are here; the same as root/generate."), s.generateRoot),
		op.Define(meta("intermediate.generate", "intermediate/generate/{kind}", op.Write, "Make a key and a request for an authority that another one certifies."), s.generateIntermediate),
		op.Define(meta("intermediate.generate.issuers", "issuers/generate/intermediate/{kind}", op.Write, "The same as intermediate/generate."), s.generateIntermediate),
		op.Define(meta("intermediate.cross", "intermediate/cross-sign", op.Write, "Make a request with an existing key, for another authority to sign."), s.crossSign),
		op.Define(meta("intermediate.set", "intermediate/set-signed", op.Write, "Bring the certificate that another authority made of a request."), s.setSigned),
		op.Define(meta("config.ca", "config/ca", op.Write, "Bring an authority of elsewhere: certificates and private keys in PEM."), s.importBundle),
		op.Define(meta("issuers.import.bundle", "issuers/import/bundle", op.Write, "Bring authorities of elsewhere: certificates and private keys in PEM."), s.importBundle),
		op.Define(meta("issuers.import.cert", "issuers/import/cert", op.Write, "Bring certificates of authorities, without keys."), s.importCerts),
		op.Define(meta("issue", "issue/{role}", op.Write, "Make a key and a certificate for it."), s.issue),
		op.Define(meta("issue.issuer", "issuer/{issuer}/issue/{role}", op.Write, "Make a key and a certificate for it, by a given issuer."), s.issue),
		op.Define(meta("sign", "sign/{role}", op.Write, "Certify the key of a request."), s.signRole),
		op.Define(meta("sign.issuer", "issuer/{issuer}/sign/{role}", op.Write, "Certify the key of a request, by a given issuer."), s.signRole),
		op.Define(meta("sign.verbatim", "sign-verbatim", op.Write, "Certify a request as it is."), s.signVerbatim),
		op.Define(meta("sign.verbatim.role", "sign-verbatim/{role}", op.Write, "Certify a request as it is, with the issuer and the times of a role."), s.signVerbatim),
		op.Define(meta("sign.verbatim.issuer", "issuer/{issuer}/sign-verbatim", op.Write, "Certify a request as it is, by a given issuer."), s.signVerbatim),
		op.Define(meta("sign.verbatim.issuer.role", "issuer/{issuer}/sign-verbatim/{role}", op.Write, "Certify a request as it is, by a given issuer with the times of a role."), s.signVerbatim),
		op.Define(meta("sign.intermediate", "root/sign-intermediate", op.Write, "Certify an authority."), s.signIntermediate),
		op.Define(meta("sign.intermediate.issuer", "issuer/{issuer}/sign-intermediate", op.Write, "Certify an authority, by a given issuer."), s.signIntermediate),
	}
}

// issue makes a key and a certificate for it. The key is made in server memory
// with crypto/rand and kept nowhere: it belongs to the caller.
func (s *Service) issue(ctx context.Context, c *op.Call, r *api.PKIIssue) (*api.PKICertificate, error) {
	st, role, err := s.forRole(ctx, c.Mount, r.Role)
	if err != nil {
		return nil, err
	}
	if role.KeyType == "any" {
		return nil, invalid("role key type \"any\" not allowed for issuing certificates, only signing")
	}
	form, err := checkForms(&r.PKIForm)
	if err != nil {
		return nil, err
	}
	p, err := s.roleProfile(c, role, &r.PKINames, nil, &r.PKIValidity)
	if err != nil {
		return nil, err
	}
	p.role = r.Role
	key, err := makeKey(role)
	if err != nil {
		return nil, err
	}
	if p.spki, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
		return nil, err
	}
	p.keyUsage &= possibleUsage(key.Public())
	out, err := s.certify(ctx, c.Mount, st, refOf(r.IssuerRef, role.IssuerRef), p, form, r.RemoveRootsFromChain)
	if err != nil {
		return nil, err
	}
	return out, addPrivateKey(out, key, form)
}

// forRole finds a role and what is known of its mount.
func (s *Service) forRole(ctx context.Context, mount, name string) (*state, *api.PKIRole, error) {
	st, err := s.state(ctx, mount)
	if err != nil {
		return nil, nil, err
	}
	role, err := st.role(name)
	return st, role, err
}

func refOf(asked, otherwise string) string {
	if asked != "" {
		return asked
	}
	return otherwise
}

func checkForms(f *api.PKIForm) (api.PKIForm, error) {
	if err := checkFormat(f.Format); err != nil {
		return *f, err
	}
	switch f.PrivateKeyFormat {
	case "", "der", "pem", "pkcs8":
		return *f, nil
	}
	return *f, invalid("unknown private_key_format %q: it is der or pkcs8", f.PrivateKeyFormat)
}

// roleProfile is what a role certifies of the names that were asked for, by
// fields and, if there is one, by a certificate request.
func (s *Service) roleProfile(c *op.Call, role *api.PKIRole, n *api.PKINames, csr *request, v *api.PKIValidity) (*profile, error) {
	p := &profile{
		maxPath: -1, basic: role.BasicConstraintsValidForNonCA, signatureBits: role.SignatureBits, pss: role.UsePSS,
		noStore: role.NoStore, lintExceptions: role.LintExceptions,
	}
	names := *n
	if csr != nil {
		if role.UseCSRCommonName && csr.Subject.CommonName != "" {
			names.CommonName = csr.Subject.CommonName
		}
		if role.UseCSRSANs {
			names.AltNames, names.IPSANs, names.URISANs, names.OtherSANs = nil, nil, nil, nil
			p.sans = csr.sans
		}
	}
	if err := fillNames(&p.sans, &names); err != nil {
		return nil, err
	}
	if err := checkNames(rulesFor(role, c.Caller.DisplayName), &names, &p.sans); err != nil {
		return nil, err
	}
	if !names.ExcludeCNFromSANs {
		addCommonName(&p.sans, names.CommonName)
	}
	subject, err := roleSubject(role, names.CommonName, names.SerialNumber, names.UserIDs)
	if err != nil {
		return nil, err
	}
	p.emptyName = len(subject.ToRDNSequence()) == 0
	if p.subject, err = subjectName(subject); err != nil {
		return nil, err
	}
	if err := p.fillUsages(role); err != nil {
		return nil, err
	}
	p.notBefore, p.notAfter, err = validity(s.now(), v, limitsOf(role), c.Warn)
	return p, err
}

func (p *profile) fillUsages(role *api.PKIRole) (err error) {
	if p.keyUsage, err = parseKeyUsage(role.KeyUsage); err != nil {
		return err
	}
	if p.ekus, err = extKeyUsages(role); err != nil {
		return err
	}
	p.policies, err = parsePolicies(role.PolicyIdentifiers)
	return err
}

// checkNames applies the rules of a role to everything that was asked for.
func checkNames(rules *callerRules, n *api.PKINames, asked *sans) error {
	if n.CommonName == "" && rules.RequireCN {
		return invalid(`the common_name field is required, or must be provided in a CSR with "use_csr_common_name" set to true, unless "require_cn" is set to false`)
	}
	if n.CommonName != "" {
		if err := checkTextual("the common name", n.CommonName); err != nil {
			return err
		}
		if err := checkCommonName(rules, n.CommonName); err != nil {
			return err
		}
	}
	return checkSANs(rules, asked)
}

// certify takes a profile through all steps to a certificate by an issuer.
func (s *Service) certify(ctx context.Context, mount string, st *state, ref string, p *profile, form api.PKIForm, withoutRoots bool) (*api.PKICertificate, error) {
	i, err := st.usable(ref, usageIssue)
	if err != nil {
		return nil, err
	}
	if p.notAfter, err = i.withinIssuer(p.notAfter, s.now()); err != nil {
		return nil, err
	}
	if err := i.mayCertify(p); err != nil {
		return nil, err
	}
	alg, err := chooseAlgorithm(i.cert.PublicKey, p.signatureBits, p.pss)
	if err != nil {
		return nil, err
	}
	urls, err := st.urls(i)
	if err != nil {
		return nil, err
	}
	ready, err := prepare(p, i, alg, urls)
	if err != nil {
		return nil, err
	}
	checked, err := ready.check()
	if err != nil {
		return nil, err
	}
	key, err := s.keys.Signer(ctx, mount, i.rec.KeyID)
	if err != nil {
		return nil, signFault(err)
	}
	der, err := s.sign(ctx, mount, i.rec.ID, key, checked)
	if err != nil {
		return nil, err
	}
	return st.answer(i, ready, der, form, withoutRoots), nil
}

// mayCertify applies what the issuer's own certificate says: its path length
// and its name constraints (RFC 5280 sections 4.2.1.9 and 4.2.1.10).
func (i *issuer) mayCertify(p *profile) error {
	if !i.cert.IsCA {
		return invalid("the certificate of the issuer %s is not that of an authority", i.title())
	}
	if !p.isCA {
		return i.checkConstraints(&p.sans)
	}
	if i.cert.MaxPathLen == 0 && i.cert.MaxPathLenZero {
		return invalid("the issuer %s has a path length of 0: it may not certify authorities", i.title())
	}
	if i.cert.MaxPathLen > 0 && (p.maxPath < 0 || p.maxPath >= i.cert.MaxPathLen) {
		return invalid("the issuer %s has a path length of %d: max_path_length of what it certifies is at most %d", i.title(), i.cert.MaxPathLen, i.cert.MaxPathLen-1)
	}
	return nil
}

func (st *state) answer(i *issuer, ready *prepared, der []byte, form api.PKIForm, withoutRoots bool) *api.PKICertificate {
	out := &api.PKICertificate{
		Certificate: formatted(der, form.Format), IssuingCA: i.formatted(form.Format),
		SerialNumber: ready.serial.String(), Expiration: ready.profile.notAfter.Unix(), NotBefore: ready.profile.notBefore.Unix(),
	}
	var above []string
	for _, c := range st.chain(i) {
		if withoutRoots && c.selfSigned() {
			continue
		}
		out.CAChain = append(out.CAChain, c.formatted(form.Format))
		above = append(above, c.pem)
	}
	if form.Format == "pem_bundle" {
		out.Certificate = strings.Join(append([]string{out.Certificate}, above...), "\n")
	}
	return out
}

// makeKey makes the key of a certificate that is issued with one.
func makeKey(role *api.PKIRole) (crypto.Signer, error) {
	switch role.KeyType {
	case "rsa":
		bits := role.KeyBits
		if bits == 0 {
			bits = minRSABits
		}
		return rsa.GenerateKey(rand.Reader, bits)
	case "ec":
		curves := map[int]elliptic.Curve{0: elliptic.P256(), 256: elliptic.P256(), 384: elliptic.P384(), 521: elliptic.P521()}
		return ecdsa.GenerateKey(curves[role.KeyBits], rand.Reader)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
}

// addPrivateKey shows the caller its key, in the form that Vault uses: the
// traditional one of RSA and EC keys unless pkcs8 is asked for.
func addPrivateKey(out *api.PKICertificate, key crypto.Signer, form api.PKIForm) error {
	var der []byte
	var err error
	kind := "PRIVATE KEY"
	switch k := key.(type) {
	case *rsa.PrivateKey:
		out.PrivateKeyType = "rsa"
		if form.PrivateKeyFormat != "pkcs8" {
			der, kind = x509.MarshalPKCS1PrivateKey(k), "RSA PRIVATE KEY"
		}
	case *ecdsa.PrivateKey:
		out.PrivateKeyType = "ec"
		if form.PrivateKeyFormat != "pkcs8" {
			der, err = x509.MarshalECPrivateKey(k)
			kind = "EC PRIVATE KEY"
		}
	default:
		out.PrivateKeyType = "ed25519"
	}
	if der == nil && err == nil {
		der, err = x509.MarshalPKCS8PrivateKey(key)
	}
	if err != nil {
		return err
	}
	defer clear(der)
	if form.Format == "der" && form.PrivateKeyFormat != "pem" {
		out.PrivateKey = base64.StdEncoding.EncodeToString(der)
		return nil
	}
	out.PrivateKey = strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	if form.Format == "pem_bundle" {
		out.Certificate = out.PrivateKey + "\n" + out.Certificate
	}
	return nil
}

// signRole certifies the key of a request, with the names that its role allows.
func (s *Service) signRole(ctx context.Context, c *op.Call, r *api.PKISign) (*api.PKICertificate, error) {
	st, role, err := s.forRole(ctx, c.Mount, r.Role)
	if err != nil {
		return nil, err
	}
	form, err := checkForms(&r.PKIForm)
	if err != nil {
		return nil, err
	}
	csr, err := parseRequest(r.CSR)
	if err != nil {
		return nil, err
	}
	if err := checkRequestKey(role, csr.PublicKey); err != nil {
		return nil, err
	}
	p, err := s.roleProfile(c, role, &r.PKINames, csr, &r.PKIValidity)
	if err != nil {
		return nil, err
	}
	p.role, p.spki = r.Role, csr.RawSubjectPublicKeyInfo
	p.keyUsage &= possibleUsage(csr.PublicKey)
	return s.certify(ctx, c.Mount, st, refOf(r.IssuerRef, role.IssuerRef), p, form, r.RemoveRootsFromChain)
}

// checkRequestKey applies key_type and key_bits of a role to a request's key.
func checkRequestKey(role *api.PKIRole, public crypto.PublicKey) error {
	kind, bits := "ed25519", 0
	switch public := public.(type) {
	case *rsa.PublicKey:
		kind, bits = "rsa", public.N.BitLen()
	case *ecdsa.PublicKey:
		kind, bits = "ec", public.Curve.Params().BitSize
	}
	if role.KeyType == "any" {
		return nil
	}
	if role.KeyType != kind {
		return invalid("role requires keys of type %s, the request has one of type %s", role.KeyType, kind)
	}
	want := role.KeyBits
	if want == 0 {
		want = map[string]int{"rsa": minRSABits, "ec": 256}[kind]
	}
	if bits < want || kind == "ec" && role.KeyBits != 0 && bits != want {
		return invalid("role requires a key of %d bits, the request has one of %d", want, bits)
	}
	return nil
}

// signVerbatim certifies a request as it is: subject, names and extensions of
// the request, but no authority, and the issuer's own rules hold.
func (s *Service) signVerbatim(ctx context.Context, c *op.Call, r *api.PKISign) (*api.PKICertificate, error) {
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	role := verbatimRole()
	role.SignatureBits, role.UsePSS = r.SignatureBits, r.UsePSS
	if r.Role != "" {
		kept, err := st.role(r.Role)
		if err != nil {
			return nil, err
		}
		role = new(*kept) // the request changes what follows for this call only
	}
	set(&role.KeyUsage, r.KeyUsage)
	set(&role.ExtKeyUsage, r.ExtKeyUsage)
	set(&role.ExtKeyUsageOIDs, r.ExtKeyUsageOIDs)
	form, err := checkForms(&r.PKIForm)
	if err != nil {
		return nil, err
	}
	csr, err := parseRequest(r.CSR)
	if err != nil {
		return nil, err
	}
	p, err := s.verbatimProfile(c, role, csr, &r.PKIValidity)
	if err != nil {
		return nil, err
	}
	p.role = r.Role
	return s.certify(ctx, c.Mount, st, refOf(r.IssuerRef, role.IssuerRef), p, form, r.RemoveRootsFromChain)
}

// verbatimRole holds for requests that are certified as they are, by no role.
func verbatimRole() *api.PKIRole {
	role := newRole()
	role.KeyType, role.ServerFlag, role.ClientFlag = "any", false, false
	return role
}

// verbatimProfile is a request as it is, with the times of a role.
func (s *Service) verbatimProfile(c *op.Call, role *api.PKIRole, csr *request, v *api.PKIValidity) (*profile, error) {
	p := &profile{
		subject: csr.RawSubject, emptyName: len(csr.Subject.Names) == 0, spki: csr.RawSubjectPublicKeyInfo, sans: csr.sans, maxPath: -1,
		signatureBits: role.SignatureBits, pss: role.UsePSS, noStore: role.NoStore, lintExceptions: role.LintExceptions,
	}
	if err := p.takeExtensions(role, csr); err != nil {
		return nil, err
	}
	var err error
	p.notBefore, p.notAfter, err = validity(s.now(), v, limitsOf(role), c.Warn)
	return p, err
}

// takeExtensions takes what a request asks for in its extensions: key usages
// replace those of the role, what is not known is copied. Those that the issuer
// alone decides are left out; CA:TRUE is refused.
func (p *profile) takeExtensions(role *api.PKIRole, csr *request) error {
	if err := p.fillUsages(role); err != nil {
		return err
	}
	p.keyUsage &= possibleUsage(csr.PublicKey)
	for _, e := range csr.Extensions {
		switch {
		case e.Id.Equal(oidSAN), e.Id.Equal(oidSKI), e.Id.Equal(oidAKI), e.Id.Equal(oidAIA), e.Id.Equal(oidCRLPoints), e.Id.Equal(oidFreshestCRL):
		case e.Id.Equal(oidBasicConstraints):
			if isCA, ok := readBasic(e.Value); !ok || isCA {
				return invalid("the request asks for the certificate of an authority: that is what sign-intermediate is for")
			}
			p.basic = true
		case e.Id.Equal(oidNameConstraints):
			return invalid("the request asks for name constraints, which only authorities have")
		case e.Id.Equal(oidKeyUsage):
			p.keyUsage = 0
			p.more = append(p.more, extension{e.Id, true, e.Value})
		case e.Id.Equal(oidEKU):
			p.ekus = nil
			p.more = append(p.more, extension{e.Id, e.Critical, e.Value})
		case e.Id.Equal(oidPolicies):
			p.policies = nil
			p.more = append(p.more, extension{e.Id, e.Critical, e.Value})
		default:
			p.more = append(p.more, extension{e.Id, e.Critical, e.Value})
		}
	}
	return nil
}

// signIntermediate certifies an authority.
func (s *Service) signIntermediate(ctx context.Context, c *op.Call, r *api.PKISignIntermediate) (*api.PKICertificate, error) {
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	form, err := checkForms(&r.PKIForm)
	if err != nil {
		return nil, err
	}
	csr, err := parseRequest(r.CSR)
	if err != nil {
		return nil, err
	}
	p, err := intermediateProfile(r, csr)
	if err != nil {
		return nil, err
	}
	p.notBefore, p.notAfter, err = validity(s.now(), &r.PKIValidity, limits{ttl: defaultIntermediate, notBefore: beforeOf(r.NotBeforeDuration)}, c.Warn)
	if err != nil {
		return nil, err
	}
	return s.certify(ctx, c.Mount, st, refOf(r.IssuerRef, defaultRef), p, form, false)
}

// defaultIntermediate is how long the certificate of an authority is valid if
// nothing is said.
const defaultIntermediate = 5 * 365 * 24 * time.Hour

func intermediateProfile(r *api.PKISignIntermediate, csr *request) (*profile, error) {
	p := &profile{isCA: true, maxPath: -1, keyUsage: caKeyUsage, spki: csr.RawSubjectPublicKeyInfo, signatureBits: r.SignatureBits, pss: r.UsePSS}
	var err error
	if r.UseCSRValues {
		p.subject, p.sans = csr.RawSubject, csr.sans
		if len(csr.Subject.Names) == 0 {
			return nil, invalid("the request has no subject; an authority needs one")
		}
	} else {
		if r.CommonName == "" {
			return nil, invalid("the common_name field is required, unless use_csr_values takes it from the request")
		}
		name, err := caSubject(&r.PKINames, &r.PKISubject)
		if err != nil {
			return nil, err
		}
		if p.subject, err = subjectName(name); err != nil {
			return nil, err
		}
		if err := fillNames(&p.sans, &r.PKINames); err != nil {
			return nil, err
		}
	}
	if r.MaxPathLength != nil {
		p.maxPath = *r.MaxPathLength
	}
	p.constraints, err = parseConstraints(&r.PKIConstraints)
	return p, err
}
