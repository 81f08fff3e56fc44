package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/lint"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/claviger/claviger/internal/fault"
)

// listTBS is a TBSCertList (RFC 5280 section 5.1.2); entries are the revoked
// certificates, each in DER, one behind the other.
func listTBS(i *issuer, alg algorithm, l *signedList, entries []byte, extensions []extension) []byte {
	return sequence(func(b *builder) {
		b.AddASN1Int64(1)
		b.AddBytes(alg.der)
		b.AddBytes(i.cert.RawSubject)
		addTime(b, l.Made)
		addTime(b, l.Until)
		if len(entries) > 0 {
			b.AddASN1(cbasn1.SEQUENCE, func(b *builder) { b.AddBytes(entries) })
		}
		b.AddASN1(constructed(0), func(b *builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
				for _, e := range extensions {
					e.add(b)
				}
			})
		})
	})
}

// OfflineRevocation is a certificate on a CRL.
type OfflineRevocation struct {
	Serial *big.Int
	Time   time.Time
	Reason int // RFC 5280 section 5.3.1
}

// OfflineCRL is a complete CRL that is made without a server and its records.
type OfflineCRL struct {
	Number                 int64 // from 1
	ThisUpdate, NextUpdate time.Time
	Revoked                []OfflineRevocation

	SignatureBits  int // 0 is the usual of the issuer's key
	PSS            bool
	LintExceptions []string
}

// CRLDraft is a CRL that was prepared and in which the linter found nothing wrong;
// it lacks its signature only. DraftCRL alone makes one.
type CRLDraft struct {
	alg    algorithm
	issuer *issuer
	tbs    []byte
}

// DraftCRL prepares a CRL of an issuer.
func DraftCRL(o *OfflineCRL, by *OfflineIssuer, now time.Time) (*CRLDraft, error) {
	i := by.issuer
	l := &signedList{Base: o.Number, Made: o.ThisUpdate.UTC().Truncate(time.Second), Until: o.NextUpdate.UTC().Truncate(time.Second)}
	if err := o.check(i, l, now); err != nil {
		return nil, err
	}
	alg, err := chooseAlgorithm(i.cert.PublicKey, o.SignatureBits, o.PSS)
	if err != nil {
		return nil, err
	}
	var entries builder
	for _, r := range o.Revoked {
		addRevoked(&entries, r.Serial.Bytes(), &revokedRecord{Time: r.Time.UTC().Truncate(time.Second), Reason: r.Reason})
	}
	list, err := entries.Bytes()
	if err != nil {
		return nil, invalid("the CRL can't be encoded: %v", err)
	}
	d := &CRLDraft{alg, i, listTBS(i, alg, l, list, []extension{akiExtension(i.keyID), numberExtension(oidCRLNumber, false, l.Base)})}
	return d, d.check(o.LintExceptions)
}

func (o *OfflineCRL) check(i *issuer, l *signedList, now time.Time) error {
	switch {
	case i.cert.KeyUsage != 0 && i.cert.KeyUsage&x509.KeyUsageCRLSign == 0:
		return invalid("the key usage of the issuer %s does not allow to sign CRLs", i.title())
	case o.Number < 1:
		return invalid("the CRL has the number %d; numbers are from 1 and grow with each CRL", o.Number)
	case !l.Until.After(l.Made) || !l.Until.After(now):
		return invalid("the CRL would end at %s, before it begins or in the past", l.Until.Format(time.RFC3339))
	}
	seen := map[string]bool{}
	for _, r := range o.Revoked {
		serial := serialText(r.Serial)
		switch {
		case r.Serial.Sign() <= 0 || r.Serial.BitLen() > 8*serialSize:
			return invalid("a serial number is a positive number of at most %d bytes", serialSize)
		case seen[serial]:
			return invalid("the serial number %s is on the CRL twice", serial)
		case r.Reason < 0 || r.Reason > 10 || r.Reason >= 6 && r.Reason <= 8:
			return invalid("reason %d is none of RFC 5280 section 5.3.1: 0 to 5, 9 or 10", r.Reason)
		case r.Time.After(l.Made):
			return invalid("the certificate %s is revoked at %s, after the CRL begins", serial, r.Time.Format(time.RFC3339))
		}
		seen[serial] = true
	}
	return checkExceptions(o.LintExceptions)
}

// listLints are those of RFC 5280 about CRLs.
var listLints = sync.OnceValue(func() []*lint.RevocationListLint {
	chosen, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: lint.SourceList{lint.RFC5280}})
	if err != nil {
		chosen = lint.GlobalRegistry()
	}
	return chosen.RevocationListLints().Lints()
})

// check lints the CRL with a placeholder for its signature.
func (d *CRLDraft) check(exceptions []string) error {
	list, err := zx509.ParseRevocationList(signedObject(d.tbs, d.alg, placeholder(d.issuer.cert.PublicKey)))
	if err != nil {
		return invalid("the CRL would not be readable: %v", err)
	}
	var broken []string
	config := lint.NewEmptyConfig()
	for _, l := range listLints() {
		r := l.Execute(list, config)
		if (r.Status == lint.Error || r.Status == lint.Fatal) && !slices.Contains(exceptions, l.Name) {
			broken = append(broken, l.Name+" ("+l.Description+")")
		}
	}
	if len(broken) > 0 {
		slices.Sort(broken)
		return invalid("the CRL would break the rules for CRLs: %s", strings.Join(broken, "; "))
	}
	return nil
}

// checkExceptions refuses names of lints that do not exist: a typing error would
// except nothing.
func checkExceptions(names []string) error {
	all := lint.GlobalRegistry()
	for _, name := range names {
		if all.CertificateLints().ByName(name) == nil && all.RevocationListLints().ByName(name) == nil {
			return invalid("lint_exceptions has %q, and there is no such lint", name)
		}
	}
	return nil
}

// TBS is what will be signed: TBSCertList in DER.
func (d *CRLDraft) TBS() []byte { return bytes.Clone(d.tbs) }

// Unsigned is the CRL with a placeholder for its signature, to be looked at.
func (d *CRLDraft) Unsigned() (*x509.RevocationList, error) {
	list, err := x509.ParseRevocationList(signedObject(d.tbs, d.alg, placeholder(d.issuer.cert.PublicKey)))
	if err != nil {
		return nil, invalid("the CRL would not be readable: %v", err)
	}
	return list, nil
}

// Sign makes the CRL with the issuer's key, which must be the right one, verifies
// it, and returns it in DER.
func (d *CRLDraft) Sign(key crypto.Signer) ([]byte, error) {
	if err := sameKey(key, d.issuer.cert.PublicKey); err != nil {
		return nil, err
	}
	signature, err := d.alg.sign(key, d.tbs)
	if err != nil {
		return nil, signFault(err)
	}
	der := signedObject(d.tbs, d.alg, signature)
	list, err := x509.ParseRevocationList(der)
	if err == nil {
		err = list.CheckSignatureFrom(d.issuer.cert)
	}
	return der, fault.Wrap(fault.Internal, err, "the CRL can't be verified")
}

// ParseCRL reads a CRL in PEM or DER that an issuer signed.
func ParseCRL(text []byte, by *OfflineIssuer) (*x509.RevocationList, error) {
	der := text
	if block, rest := pem.Decode(text); block != nil {
		if block.Type != "X509 CRL" || len(bytes.TrimSpace(rest)) > 0 {
			return nil, invalid("the file is no CRL in PEM: it begins with -----BEGIN X509 CRL-----, and nothing follows it")
		}
		der = block.Bytes
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, invalid("the CRL can't be read: %v", err)
	}
	if err := list.CheckSignatureFrom(by.issuer.cert); err != nil {
		return nil, invalid("the CRL is not signed by %s: %v", by.issuer.title(), err)
	}
	return list, nil
}
