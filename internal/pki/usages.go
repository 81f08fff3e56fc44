package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"strings"

	"github.com/claviger/claviger/api"
)

// usage is what an issuer may be used for.
type usage uint8

const (
	usageIssue usage = 1 << iota
	usageCRL
	usageOCSP

	usageAll = usageIssue | usageCRL | usageOCSP
)

var usageNames = []struct {
	bit  usage
	name string
}{{0, "read-only"}, {usageIssue, "issuing-certificates"}, {usageCRL, "crl-signing"}, {usageOCSP, "ocsp-signing"}}

// String is the usage as the API shows it; reading is always allowed.
func (u usage) String() string {
	var names []string
	for _, n := range usageNames {
		if u&n.bit == n.bit {
			names = append(names, n.name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

func parseUsage(names []string) (usage, error) {
	var u usage
next:
	for _, name := range names {
		for _, n := range usageNames {
			if n.name == name {
				u |= n.bit
				continue next
			}
		}
		return 0, invalid("unknown usage %q: read-only, issuing-certificates, crl-signing or ocsp-signing", name)
	}
	return u, nil
}

var keyUsages = map[string]x509.KeyUsage{
	"digitalsignature":  x509.KeyUsageDigitalSignature,
	"contentcommitment": x509.KeyUsageContentCommitment,
	"nonrepudiation":    x509.KeyUsageContentCommitment,
	"keyencipherment":   x509.KeyUsageKeyEncipherment,
	"dataencipherment":  x509.KeyUsageDataEncipherment,
	"keyagreement":      x509.KeyUsageKeyAgreement,
	"certsign":          x509.KeyUsageCertSign,
	"crlsign":           x509.KeyUsageCRLSign,
	"encipheronly":      x509.KeyUsageEncipherOnly,
	"decipheronly":      x509.KeyUsageDecipherOnly,
}

// parseKeyUsage reads names as Vault has them: "DigitalSignature", or with the
// prefix KeyUsage; case does not matter.
func parseKeyUsage(names []string) (x509.KeyUsage, error) {
	var all x509.KeyUsage
	for _, name := range names {
		if name == "" {
			continue
		}
		u, ok := keyUsages[strings.TrimPrefix(strings.ToLower(name), "keyusage")]
		if !ok {
			return 0, invalid("unknown key usage %q, it is one of DigitalSignature, ContentCommitment, KeyEncipherment, DataEncipherment, KeyAgreement, CertSign, CRLSign, EncipherOnly, DecipherOnly", name)
		}
		all |= u
	}
	return all, nil
}

// possibleUsage is what a key can be used for at all (RFC 3279 section 2.3, RFC
// 8813 section 3, RFC 8410 section 5). Roles say keyEncipherment by default,
// which no EC key can do; a certificate must not claim it.
func possibleUsage(public crypto.PublicKey) x509.KeyUsage {
	const signing = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment | x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	const agreeing = x509.KeyUsageKeyAgreement | x509.KeyUsageEncipherOnly | x509.KeyUsageDecipherOnly
	switch public.(type) {
	case *rsa.PublicKey:
		return signing | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment
	case *ecdsa.PublicKey:
		return signing | agreeing
	}
	return signing
}

// ekuArc is id-kp (RFC 5280 section 4.2.1.12).
var ekuArc = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3}

func eku(n int) asn1.ObjectIdentifier { return append(slices.Clone(ekuArc), n) }

var (
	ekuServer  = eku(1)
	ekuClient  = eku(2)
	ekuCode    = eku(3)
	ekuEmail   = eku(4)
	ekuTime    = eku(8)
	ekuOCSP    = eku(9)
	ekuAny     = asn1.ObjectIdentifier{2, 5, 29, 37, 0}
	ekuByNames = map[string]asn1.ObjectIdentifier{
		"any": ekuAny, "serverauth": ekuServer, "clientauth": ekuClient, "codesigning": ekuCode,
		"emailprotection": ekuEmail, "ipsecendsystem": eku(5), "ipsectunnel": eku(6), "ipsecuser": eku(7),
		"timestamping": ekuTime, "ocspsigning": ekuOCSP,
		"microsoftservergatedcrypto":     {1, 3, 6, 1, 4, 1, 311, 10, 3, 3},
		"netscapeservergatedcrypto":      {2, 16, 840, 1, 113730, 4, 1},
		"microsoftcommercialcodesigning": {1, 3, 6, 1, 4, 1, 311, 2, 1, 22},
		"microsoftkernelcodesigning":     {1, 3, 6, 1, 4, 1, 311, 61, 1, 1},
	}
)

// extKeyUsages are the extended key usages of a role, each once.
func extKeyUsages(role *api.PKIRole) ([]asn1.ObjectIdentifier, error) {
	var all []asn1.ObjectIdentifier
	add := func(oid asn1.ObjectIdentifier) {
		if !slices.ContainsFunc(all, oid.Equal) {
			all = append(all, oid)
		}
	}
	for _, f := range []struct {
		set bool
		oid asn1.ObjectIdentifier
	}{{role.ServerFlag, ekuServer}, {role.ClientFlag, ekuClient}, {role.CodeSigningFlag, ekuCode}, {role.EmailProtectionFlag, ekuEmail}} {
		if f.set {
			add(f.oid)
		}
	}
	for _, name := range role.ExtKeyUsage {
		if name == "" {
			continue
		}
		oid, ok := ekuByNames[strings.TrimPrefix(strings.ToLower(name), "extkeyusage")]
		if !ok {
			return nil, invalid("unknown extended key usage %q; give it by number in ext_key_usage_oids", name)
		}
		add(oid)
	}
	for _, text := range role.ExtKeyUsageOIDs {
		oid, err := parseOID(text)
		if err != nil {
			return nil, err
		}
		add(oid)
	}
	return all, nil
}
