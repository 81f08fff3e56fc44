package pki

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// checkConstraints tells which name the issuer's own name constraints forbid:
// relying parties would refuse the certificate.
func (i *issuer) checkConstraints(s *sans) error {
	for _, name := range s.dns {
		if !permitted(name, i.cert.PermittedDNSDomains, i.cert.ExcludedDNSDomains, inSubtree) {
			return i.forbids(name)
		}
	}
	for _, address := range s.emails {
		if !permitted(address, i.cert.PermittedEmailAddresses, i.cert.ExcludedEmailAddresses, emailInSubtree) {
			return i.forbids(address)
		}
	}
	for _, ip := range s.ips {
		if !permitted(ip, i.cert.PermittedIPRanges, i.cert.ExcludedIPRanges, ipInSubtree) {
			return i.forbids(ip.String())
		}
	}
	return nil
}

func (i *issuer) forbids(name string) error {
	return invalid("the name constraints of the issuer %s do not permit %s", i.title(), name)
}

func permitted[N, C any](name N, allow, deny []C, in func(N, C) bool) bool {
	match := func(c C) bool { return in(name, c) }
	if slices.ContainsFunc(deny, match) {
		return false
	}
	return len(allow) == 0 || slices.ContainsFunc(allow, match)
}

// inSubtree: a DNS constraint holds for the name itself and everything below it.
func inSubtree(name, domain string) bool {
	name, domain = strings.ToLower(name), strings.ToLower(domain)
	if below, ok := strings.CutPrefix(domain, "."); ok {
		return strings.HasSuffix(name, "."+below)
	}
	return domain == "" || name == domain || strings.HasSuffix(name, "."+domain)
}

// emailInSubtree: a constraint is an address, a host, or a domain with a dot before it.
func emailInSubtree(address, constraint string) bool {
	if strings.Contains(constraint, "@") {
		return address == constraint
	}
	_, host, _ := strings.Cut(address, "@")
	if strings.HasPrefix(constraint, ".") {
		return inSubtree(host, constraint)
	}
	return strings.EqualFold(host, constraint)
}

func ipInSubtree(ip netip.Addr, network *net.IPNet) bool { return network.Contains(ip.AsSlice()) }

// readBasic reads BasicConstraints.
func readBasic(der []byte) (isCA, ok bool) {
	input := cryptobyte.String(der)
	var inner cryptobyte.String
	if !input.ReadASN1(&inner, cbasn1.SEQUENCE) || !input.Empty() {
		return false, false
	}
	if inner.PeekASN1Tag(cbasn1.BOOLEAN) && !inner.ReadASN1Boolean(&isCA) {
		return false, false
	}
	return isCA, true
}
