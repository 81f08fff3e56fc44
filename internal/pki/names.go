package pki

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/idna"

	"github.com/claviger/claviger/api"
)

// hostname is a host name of LDH labels (RFC 1123), the first of which may be
// "*" or contain one asterisk; underscores are taken as Vault takes them.
var hostname = regexp.MustCompile(`^(\*\.)?([a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?\.)*[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?\.?$`)

// leftWildcard is a first label with one asterisk in it: "*.", "a*.", "*b.".
var leftWildcard = regexp.MustCompile(`^(([a-zA-Z0-9]([a-zA-Z0-9-]*))?\*(([a-zA-Z0-9-]*)[a-zA-Z0-9])?)\.(.+)$`)

// allowsName tells whether a role allows a DNS name or an e-mail address as
// common name or alternative name.
func allowsName(role *api.PKIRole, name string) bool {
	host, isEmail := name, false
	if _, domain, ok := strings.Cut(name, "@"); ok {
		if strings.Contains(domain, "@") || strings.Contains(name, "*") {
			return false
		}
		host, isEmail = domain, true
	}
	base, isWildcard := host, false
	if strings.Contains(host, "*") {
		m := leftWildcard.FindStringSubmatch(host)
		if m == nil || strings.Contains(m[6], "*") || !role.AllowWildcardCertificates {
			return false
		}
		base, isWildcard = m[6], true
	}
	if role.EnforceHostnames && !isHostname(base) {
		return false
	}
	return role.AllowAnyName || role.AllowLocalhost && isLocalhost(role, host, base, isEmail) ||
		slices.ContainsFunc(role.AllowedDomains, func(domain string) bool {
			return inDomain(role, strings.ToLower(domain), strings.ToLower(host), strings.ToLower(base), isWildcard)
		})
}

func isHostname(name string) bool {
	ascii, err := toASCII(name)
	return err == nil && hostname.MatchString(ascii)
}

// toASCII is the form of a host name in a certificate: A-labels (RFC 5890).
func toASCII(name string) (string, error) {
	isASCII := !strings.ContainsFunc(name, func(r rune) bool { return r > 0x7e || r < 0x21 })
	if isASCII {
		return name, nil
	}
	return idna.Lookup.ToASCII(name)
}

func isLocalhost(role *api.PKIRole, host, base string, isEmail bool) bool {
	if isEmail {
		return false
	}
	if host == "localhost" || host == "localdomain" {
		return true
	}
	return role.AllowSubdomains && (base == "localhost" || base == "localdomain" ||
		strings.HasSuffix(base, ".localhost") || strings.HasSuffix(base, ".localdomain"))
}

func inDomain(role *api.PKIRole, domain, host, base string, isWildcard bool) bool {
	if domain == "" {
		return false
	}
	if role.AllowBareDomains && host == domain {
		return true
	}
	if role.AllowSubdomains && (strings.HasSuffix(base, "."+domain) || isWildcard && base == domain) {
		return true
	}
	return role.AllowGlobDomains && strings.Contains(domain, "*") && glob(domain, host)
}

// glob matches text with a pattern in which * stands for any text.
func glob(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	rest, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}

func globAny(patterns []string, text string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return glob(p, text) })
}

// sans are the alternative names of a certificate.
type sans struct {
	dns    []string
	emails []string
	ips    []netip.Addr
	uris   []string
	others []otherName
}

// otherName is an alternative name of a type of its own (RFC 5280 section 4.2.1.6).
type otherName struct {
	oid   string // dotted
	value string // UTF8String
}

func (s *sans) empty() bool {
	return len(s.dns)+len(s.emails)+len(s.ips)+len(s.uris)+len(s.others) == 0
}

// addName adds a host name or an e-mail address, once. IP addresses that were
// given as names count as addresses.
func (s *sans) addName(name string) error {
	if strings.Contains(name, "@") {
		local, domain, _ := strings.Cut(name, "@")
		ascii, err := toASCII(domain)
		if err != nil || local == "" || !isASCIIText(local) || strings.Contains(domain, "@") {
			return invalid("%q is no e-mail address that a certificate can carry", name)
		}
		return addOnce(&s.emails, local+"@"+ascii)
	}
	ascii, err := toASCII(name)
	if err != nil {
		return invalid("%q is no host name: %v", name, err)
	}
	return addOnce(&s.dns, ascii)
}

func isASCIIText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= 0x20 || r > 0x7e })
}

func addOnce[T comparable](list *[]T, v T) error {
	if !slices.Contains(*list, v) {
		*list = append(*list, v)
	}
	return nil
}

func (s *sans) addIP(text string) error {
	ip, err := netip.ParseAddr(strings.TrimSpace(text))
	if err != nil || ip.Zone() != "" {
		return invalid("the value %q is not a valid IP address", text)
	}
	return addOnce(&s.ips, ip.Unmap())
}

func (s *sans) addURI(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || !isASCIIText(text) {
		return invalid("%q is no absolute URI", text)
	}
	return addOnce(&s.uris, text)
}

// addOther takes "OID;UTF8:text"; the type may be written UTF8, UTF-8 or utf8.
func (s *sans) addOther(text string) error {
	oid, value, ok := strings.Cut(text, ";")
	kind, value, ok2 := strings.Cut(value, ":")
	if !ok || !ok2 || !strings.EqualFold(kind, "utf8") && !strings.EqualFold(kind, "utf-8") {
		return invalid("other_sans entry %q: it is written OID;UTF8:text", text)
	}
	if _, err := parseOID(oid); err != nil {
		return err
	}
	return addOnce(&s.others, otherName{oid, value})
}

// checkSANs tells which alternative name a role does not allow.
func checkSANs(rules *callerRules, s *sans) error {
	role := rules.PKIRole
	for _, name := range slices.Concat(s.dns, s.emails) {
		if !rules.allows(name) {
			return invalid("subject alternate name %s not allowed by this role", name)
		}
	}
	if len(s.ips) > 0 && !role.AllowIPSANs {
		return invalid("IP Subject Alternative Names are not allowed in this role, but was provided %v", s.ips)
	}
	for _, ip := range s.ips {
		if !allowsIP(role, ip) {
			return invalid("IP Subject Alternative Name %v not allowed by this role", ip)
		}
	}
	for _, uri := range s.uris {
		if !globAny(role.AllowedURISANs, uri) {
			return invalid("URI Subject Alternative Name %s not allowed by this role", uri)
		}
	}
	for _, o := range s.others {
		if !allowsOther(role, o) {
			return invalid("other SAN %s;UTF8:%s not allowed by this role", o.oid, o.value)
		}
	}
	return nil
}

func allowsIP(role *api.PKIRole, ip netip.Addr) bool {
	if len(role.AllowedIPSANsCIDR) == 0 {
		return true
	}
	return slices.ContainsFunc(role.AllowedIPSANsCIDR, func(cidr string) bool {
		_, network, err := net.ParseCIDR(cidr)
		return err == nil && network.Contains(ip.AsSlice())
	})
}

func allowsOther(role *api.PKIRole, o otherName) bool {
	return slices.ContainsFunc(role.AllowedOtherSANs, func(rule string) bool {
		if rule == "*" {
			return true
		}
		oid, value, _ := strings.Cut(rule, ";")
		_, pattern, ok := strings.Cut(value, ":")
		return ok && oid == o.oid && glob(pattern, o.value)
	})
}
