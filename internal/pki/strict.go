package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"time"

	"github.com/claviger/claviger/internal/fault"
)

// Strictly verifies a new certificate as strictly as relying parties may: its
// signature, its chain (its issuer first; empty if it is self-signed) at a time at
// which it is valid, and the rules of RFC 5280 that "openssl verify -x509_strict"
// applies to each certificate of the chain.
func Strictly(cert *x509.Certificate, chain []*x509.Certificate) error {
	roots, middle := x509.NewCertPool(), x509.NewCertPool()
	if len(chain) == 0 {
		roots.AddCert(cert)
	} else {
		roots.AddCert(chain[len(chain)-1])
		for _, c := range chain[:len(chain)-1] {
			middle.AddCert(c)
		}
	}
	at := time.Now()
	if at.Before(cert.NotBefore) {
		at = cert.NotBefore
	}
	_, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: middle, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "the certificate would not be accepted")
	}
	for _, c := range append([]*x509.Certificate{cert}, chain...) {
		if why := lax(c); why != "" {
			return invalid("strict verification would refuse the certificate of %q: %s", c.Subject, why)
		}
	}
	issuer := cert
	if len(chain) > 0 {
		issuer = chain[0]
	}
	if err := cert.CheckSignatureFrom(issuer); err != nil {
		return fault.Wrap(fault.Internal, err, "the signature of the certificate is wrong")
	}
	if len(cert.AuthorityKeyId) > 0 && len(issuer.SubjectKeyId) > 0 && !bytes.Equal(cert.AuthorityKeyId, issuer.SubjectKeyId) {
		return invalid("the authority key identifier is not that of the issuer")
	}
	return nil
}

// lax says which rule a certificate breaks that strict verification has, "" if none.
func lax(c *x509.Certificate) string {
	selfIssued := bytes.Equal(c.RawSubject, c.RawIssuer)
	certSign := c.KeyUsage&x509.KeyUsageCertSign != 0
	limited := c.MaxPathLen > 0 || c.MaxPathLenZero
	emptySubject := bytes.Equal(c.RawSubject, emptyName)
	switch {
	case c.Version != 3:
		return "it is not of version 3"
	case limited && (!c.IsCA || !certSign):
		return "it has a path length, and is no authority that signs certificates"
	case c.IsCA && !critical(c, oidBasicConstraints):
		return "its basic constraints are not critical"
	case c.IsCA && c.KeyUsage == 0:
		return "it is an authority without a key usage"
	case !c.IsCA && certSign:
		return "it may sign certificates, and is no authority"
	case bytes.Equal(c.RawIssuer, emptyName):
		return "its issuer has no name"
	case emptySubject && c.IsCA:
		return "it is an authority without a name"
	case emptySubject && !critical(c, oidSAN):
		return "it has no subject, and no critical alternative names"
	case c.IsCA && len(c.SubjectKeyId) == 0:
		return "it is an authority without a subject key identifier"
	case !selfIssued && len(c.AuthorityKeyId) == 0:
		return "it has no authority key identifier"
	}
	return ""
}

// emptyName is a Name without parts.
var emptyName = []byte{0x30, 0}

func critical(c *x509.Certificate, oid asn1.ObjectIdentifier) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(oid) {
			return e.Critical
		}
	}
	return false
}
