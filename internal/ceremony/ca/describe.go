package ca

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"strconv"
	"strings"
	"time"
)

// writer makes lines of a name and a value; a further value of the same name stands
// below it.
type writer struct{ strings.Builder }

func (w *writer) field(name string, values ...string) {
	if len(values) == 0 {
		return
	}
	for i, v := range values {
		if i > 0 {
			name = ""
		}
		fmt.Fprintf(w, "%-30s %s\n", name, quoted(v))
	}
}

// quoted escapes what could make a line look like another one.
func quoted(text string) string {
	q := strconv.Quote(text)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func hexColons(b []byte) string {
	var parts []string
	for _, c := range b {
		parts = append(parts, hex.EncodeToString([]byte{c}))
	}
	return strings.Join(parts, ":")
}

func serialText(n *big.Int) string { return hexColons(n.Bytes()) }

// publicKey is kind and fingerprint of a key.
func publicKey(public any, spki []byte) []string {
	kind := fmt.Sprintf("%T", public)
	switch k := public.(type) {
	case *rsa.PublicKey:
		kind = fmt.Sprintf("RSA, %d bits, exponent %d", k.N.BitLen(), k.E)
	case *ecdsa.PublicKey:
		kind = "ECDSA, " + k.Curve.Params().Name
	default:
		kind = strings.TrimSuffix(strings.TrimPrefix(kind, "ed25519."), ".PublicKey")
		if kind == "PublicKey" {
			kind = "Ed25519"
		}
	}
	return []string{kind, "SHA-256 " + digest(spki)}
}

func digest(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// describeCertificate is all that a certificate will say, read from its bytes.
func describeCertificate(c *x509.Certificate) string {
	w := new(writer)
	w.WriteString("Certificate\n")
	w.field("  Subject", c.Subject.String())
	w.field("  Issuer", c.Issuer.String())
	w.field("  Serial number", serialText(c.SerialNumber))
	w.field("  Valid from", when(c.NotBefore))
	w.field("  Valid until", when(c.NotAfter))
	w.field("  Public key", publicKey(c.PublicKey, c.RawSubjectPublicKeyInfo)...)
	w.field("  Signed with", c.SignatureAlgorithm.String())
	for _, e := range c.Extensions {
		w.field("  "+extensionName(e), extensionText(c, e)...)
	}
	return w.String()
}

// describeIssuer says by whom.
func describeIssuer(c *x509.Certificate) string {
	w := new(writer)
	w.WriteString("Issuer\n")
	w.field("  Subject", c.Subject.String())
	w.field("  Valid", when(c.NotBefore)+" to "+when(c.NotAfter))
	w.field("  Public key", publicKey(c.PublicKey, c.RawSubjectPublicKeyInfo)...)
	w.field("  Certificate", "SHA-256 "+digest(c.Raw))
	return w.String()
}

// extensionNames are those that are shown in words; others are shown in bytes.
var extensionNames = map[string]string{
	"2.5.29.14": "Subject key id", "2.5.29.15": "Key usage", "2.5.29.17": "Alternative names", "2.5.29.19": "Basic constraints",
	"2.5.29.30": "Name constraints", "2.5.29.31": "CRLs at", "2.5.29.32": "Policies", "2.5.29.35": "Authority key id",
	"2.5.29.37": "Extended key usage", "1.3.6.1.5.5.7.1.1": "Authority information", "1.3.6.1.5.5.7.48.1.5": "OCSP no check",
}

func extensionName(e pkix.Extension) string {
	name, ok := extensionNames[e.Id.String()]
	if !ok {
		name = e.Id.String()
	}
	if e.Critical {
		name += ", critical"
	}
	return name
}

func extensionText(c *x509.Certificate, e pkix.Extension) []string {
	switch e.Id.String() {
	case "2.5.29.14":
		return []string{hexColons(c.SubjectKeyId)}
	case "2.5.29.35":
		return []string{hexColons(c.AuthorityKeyId)}
	case "2.5.29.15":
		return []string{strings.Join(keyUsages(c.KeyUsage), ", ")}
	case "2.5.29.37":
		return []string{strings.Join(extendedUsages(c), ", ")}
	case "2.5.29.19":
		return []string{basicText(c)}
	case "2.5.29.30":
		return constraintLines(c)
	case "2.5.29.31":
		return c.CRLDistributionPoints
	case "2.5.29.32":
		return []string{policyText(c)}
	case "1.3.6.1.5.5.7.1.1":
		return append(prefixed("OCSP ", c.OCSPServer), prefixed("issuer ", c.IssuingCertificateURL)...)
	case "1.3.6.1.5.5.7.48.1.5":
		return []string{"a responder's certificate is not looked up itself"}
	}
	return []string{hex.EncodeToString(e.Value)}
}

func prefixed(prefix string, list []string) (out []string) {
	for _, s := range list {
		out = append(out, prefix+s)
	}
	return out
}

var usageNames = []struct {
	bit  x509.KeyUsage
	name string
}{
	{x509.KeyUsageDigitalSignature, "digital signature"}, {x509.KeyUsageContentCommitment, "content commitment"},
	{x509.KeyUsageKeyEncipherment, "key encipherment"}, {x509.KeyUsageDataEncipherment, "data encipherment"},
	{x509.KeyUsageKeyAgreement, "key agreement"}, {x509.KeyUsageCertSign, "sign certificates"},
	{x509.KeyUsageCRLSign, "sign CRLs"}, {x509.KeyUsageEncipherOnly, "encipher only"}, {x509.KeyUsageDecipherOnly, "decipher only"},
}

func keyUsages(u x509.KeyUsage) (names []string) {
	for _, n := range usageNames {
		if u&n.bit != 0 {
			names = append(names, n.name)
		}
	}
	return names
}

func extendedUsages(c *x509.Certificate) (names []string) {
	for _, u := range c.ExtKeyUsage {
		if u == x509.ExtKeyUsageOCSPSigning {
			names = append(names, "sign OCSP answers")
		} else {
			names = append(names, fmt.Sprintf("usage %d", u))
		}
	}
	for _, oid := range c.UnknownExtKeyUsage {
		names = append(names, oid.String())
	}
	return names
}

func basicText(c *x509.Certificate) string {
	switch {
	case !c.IsCA:
		return "no authority"
	case c.MaxPathLen > 0 || c.MaxPathLenZero:
		return fmt.Sprintf("authority, path length %d", c.MaxPathLen)
	}
	return "authority, path length not limited"
}

func constraintLines(c *x509.Certificate) []string {
	networks := func(list []*net.IPNet) (out []string) {
		for _, n := range list {
			out = append(out, n.String())
		}
		return out
	}
	var out []string
	for _, l := range [][]string{
		prefixed("permitted DNS ", c.PermittedDNSDomains), prefixed("excluded DNS ", c.ExcludedDNSDomains),
		prefixed("permitted IP ", networks(c.PermittedIPRanges)), prefixed("excluded IP ", networks(c.ExcludedIPRanges)),
	} {
		out = append(out, l...)
	}
	return out
}

func policyText(c *x509.Certificate) string {
	var out []string
	for _, p := range c.Policies {
		out = append(out, p.String())
	}
	return strings.Join(out, ", ")
}

// describeCRL is all that a CRL will say, read from its bytes.
func describeCRL(l *x509.RevocationList) string {
	w := new(writer)
	w.WriteString("CRL\n")
	w.field("  Issuer", l.Issuer.String())
	w.field("  Number", l.Number.String())
	w.field("  Begins", when(l.ThisUpdate))
	w.field("  Next one until", when(l.NextUpdate))
	w.field("  Signed with", l.SignatureAlgorithm.String())
	w.field("  Revoked", fmt.Sprintf("%d certificates", len(l.RevokedCertificateEntries)))
	for _, e := range l.RevokedCertificateEntries {
		reason := reasons[0]
		if e.ReasonCode > 0 && e.ReasonCode < len(reasons) {
			reason = reasons[e.ReasonCode]
		}
		w.field("", serialText(e.SerialNumber)+"  "+when(e.RevocationTime)+"  "+reason)
	}
	for _, e := range l.Extensions {
		switch e.Id.String() {
		case "2.5.29.20": // the number
		case "2.5.29.35":
			w.field("  "+extensionName(e), hexColons(l.AuthorityKeyId))
		default:
			w.field("  "+extensionName(e), hex.EncodeToString(e.Value))
		}
	}
	return w.String()
}

// describeRequest is all that a certificate request will say, read from its bytes.
func describeRequest(r *x509.CertificateRequest) string {
	w := new(writer)
	w.WriteString("Certificate request\n")
	w.field("  Subject", r.Subject.String())
	w.field("  Public key", publicKey(r.PublicKey, r.RawSubjectPublicKeyInfo)...)
	w.field("  Signed with", r.SignatureAlgorithm.String())
	for _, e := range r.Extensions {
		text := hex.EncodeToString(e.Value)
		if e.Id.String() == "2.5.29.19" {
			text = "authority"
		}
		w.field("  "+extensionName(e), text)
	}
	return w.String()
}
