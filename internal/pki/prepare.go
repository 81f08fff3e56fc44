package pki

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// profile is what is to be certified: everything of a certificate but what its
// issuer adds.
type profile struct {
	subject   []byte // Name in DER
	emptyName bool   // the subject is empty
	spki      []byte // SubjectPublicKeyInfo in DER
	notBefore time.Time
	notAfter  time.Time

	isCA        bool
	maxPath     int  // -1: no limit
	basic       bool // say in the certificate that it is no authority
	keyUsage    x509.KeyUsage
	ekus        []asn1.ObjectIdentifier
	sans        sans
	policies    []policy
	constraints constraints
	more        []extension // of the request, with sign-verbatim

	signatureBits  int
	pss            bool
	role           string
	noStore        bool
	lintExceptions []string
}

// serialSize is the length of a serial number in bytes: the longest that RFC
// 5280 section 4.1.2.2 allows. The first two bits are fixed, 158 are random.
const serialSize = 20

// serial is the serial number of a certificate, a positive number.
type serial [serialSize]byte

func newSerial() (s serial) {
	rand.Read(s[:])
	s[0] = s[0]&0x3f | 0x40
	return s
}

// String is how Vault writes a serial number: "4a:0f:…".
func (s serial) String() string { return colons(s[:]) }

func colons(b []byte) string {
	text := make([]byte, 0, 3*len(b))
	for i, c := range b {
		if i > 0 {
			text = append(text, ':')
		}
		text = hex.AppendEncode(text, []byte{c})
	}
	return string(text)
}

// serialText is the serial number of a parsed certificate in the same form.
func serialText(n *big.Int) string { return colons(n.Bytes()) }

// serialRecord turns a serial number as callers write it into the form of
// primary keys: hexadecimal digits, lower case.
func serialRecord(text string) (string, error) {
	digits := strings.ToLower(strings.NewReplacer(":", "", "-", "").Replace(text))
	if _, err := hex.DecodeString(digits); err != nil || digits == "" || len(digits) > 2*64 {
		return "", invalid("%q is no serial number; one is written 4a:0f:12 or 4a-0f-12", text)
	}
	return digits, nil
}

// prepared is a certificate that could be signed: the bytes are final.
type prepared struct {
	profile *profile
	issuer  *issuer
	alg     algorithm
	serial  serial
	tbs     []byte // TBSCertificate in DER (RFC 5280 section 4.1)
}

// prepare makes the bytes that an issuer will sign. With a nil issuer the
// certificate is self-signed by the key of which p.spki is the public one.
func prepare(p *profile, iss *issuer, alg algorithm, urls resolvedURLs) (*prepared, error) {
	out := &prepared{profile: p, issuer: iss, alg: alg, serial: newSerial()}
	own, err := keyID(p.spki)
	if err != nil {
		return nil, err
	}
	issuerName, authority := p.subject, own
	if iss != nil {
		issuerName, authority = iss.cert.RawSubject, iss.keyID
	}
	if urls.point != nil {
		urls.crls, urls.deltas = []string{urls.point(out.serial)}, nil
	}
	extensions := p.extensions(own, authority, urls)
	b := cryptobyte.NewBuilder(make([]byte, 0, 1024)) // more than most have
	b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
		b.AddASN1(constructed(0), func(b *builder) { b.AddASN1Int64(2) })
		b.AddASN1(cbasn1.INTEGER, func(b *builder) { b.AddBytes(out.serial[:]) })
		b.AddBytes(alg.der)
		b.AddBytes(issuerName)
		b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
			addTime(b, p.notBefore)
			addTime(b, p.notAfter)
		})
		b.AddBytes(p.subject)
		b.AddBytes(p.spki)
		b.AddASN1(constructed(3), func(b *builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
				for _, e := range extensions {
					e.add(b)
				}
			})
		})
	})
	out.tbs, err = b.Bytes()
	if err != nil {
		return nil, invalid("the certificate can't be encoded: %v", err)
	}
	return out, nil
}

// addTime is UTCTime until 2049, then GeneralizedTime (RFC 5280 section 4.1.2.5).
func addTime(b *builder, t time.Time) {
	t = t.UTC()
	if t.Year() >= 1950 && t.Year() < 2050 {
		b.AddASN1UTCTime(t)
		return
	}
	b.AddASN1GeneralizedTime(t)
}

func (p *profile) extensions(own, authority []byte, urls resolvedURLs) []extension {
	var list []extension
	if p.keyUsage != 0 {
		list = append(list, keyUsageExtension(p.keyUsage))
	}
	if len(p.ekus) > 0 {
		list = append(list, ekuExtension(p.ekus))
	}
	if p.isCA || p.basic {
		list = append(list, basicExtension(p.isCA, p.maxPath))
	}
	list = append(list, skiExtension(own), akiExtension(authority))
	if len(urls.ocsp)+len(urls.issuers) > 0 {
		list = append(list, aiaExtension(urls.ocsp, urls.issuers))
	}
	if !p.sans.empty() {
		list = append(list, sanExtension(&p.sans, p.emptyName))
	}
	if len(p.policies) > 0 {
		list = append(list, policiesExtension(p.policies))
	}
	if p.isCA && !p.constraints.empty() {
		list = append(list, constraintsExtension(&p.constraints))
	}
	if len(urls.crls) > 0 {
		list = append(list, pointsExtension(oidCRLPoints, urls.crls))
	}
	if len(urls.deltas) > 0 {
		list = append(list, pointsExtension(oidFreshestCRL, urls.deltas))
	}
	return append(list, p.more...)
}

// seal puts a signature to the bytes: Certificate of RFC 5280 section 4.1.
func (p *prepared) seal(signature []byte) []byte {
	return signedObject(p.tbs, p.alg, signature)
}

// signedObject is the SIGNED form of X.509: what was signed, how, the signature.
func signedObject(tbs []byte, alg algorithm, signature []byte) []byte {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(alg.der)+len(signature)+16))
	b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
		b.AddBytes(tbs)
		b.AddBytes(alg.der)
		b.AddASN1BitString(signature)
	})
	return b.BytesOrPanic()
}

// subjectName encodes a subject. An empty one is an empty sequence.
func subjectName(name pkix.Name) ([]byte, error) {
	der, err := asn1.Marshal(name.ToRDNSequence())
	if err != nil {
		return nil, invalid("the subject can't be encoded: %v", err)
	}
	return der, nil
}

var oidUserID = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}

// addUserIDs puts user ids into a subject (RFC 4519 section 2.39).
func addUserIDs(name *pkix.Name, ids []string) {
	for _, id := range ids {
		name.ExtraNames = append(name.ExtraNames, pkix.AttributeTypeAndValue{Type: oidUserID, Value: id})
	}
}
