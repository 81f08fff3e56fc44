package pki

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidData              = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidChallengePassword = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
	oidRSAKey            = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidECKey             = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
)

// certsOnly is a "certs-only" CMS SignedData of certificates in DER: it is signed
// by nobody (RFC 5652 section 5.1, RFC 8551 section 3.8). What signs nothing has
// version 1.
func certsOnly(certs ...[]byte) []byte {
	return sequence(func(b *builder) {
		b.AddASN1ObjectIdentifier(oidSignedData)
		b.AddASN1(constructed(0), func(b *builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
				b.AddASN1Int64(1)
				b.AddASN1(cbasn1.SET, func(*builder) {})
				b.AddASN1(cbasn1.SEQUENCE, func(b *builder) { b.AddASN1ObjectIdentifier(oidData) })
				b.AddASN1(constructed(0), func(b *builder) { addSorted(b, certs) })
				b.AddASN1(cbasn1.SET, func(*builder) {})
			})
		})
	})
}

// addSorted adds the elements of a SET OF in the order of DER (X.690 section 11.6).
func addSorted(b *builder, elements [][]byte) {
	elements = slices.Clone(elements)
	slices.SortFunc(elements, bytes.Compare)
	for _, e := range elements {
		b.AddBytes(e)
	}
}

// lineLength is how many characters a line of base64 has (RFC 2045 section 6.8).
const lineLength = 76

// base64Lines is base64 as bodies of EST have it (RFC 8951 section 3).
func base64Lines(der []byte) string {
	text := base64.StdEncoding.EncodeToString(der)
	var b strings.Builder
	for len(text) > 0 {
		n := min(len(text), lineLength)
		b.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	return b.String()
}

// estRequest reads the body of an enrolment: DER in base64, with white space
// anywhere (RFC 8951 section 3.2), or PEM. All else is as with parseRequest.
func estRequest(text string) (*request, error) {
	if len(text) > 2*maxRequest {
		return nil, invalid("the certificate request has %d characters; at most %d are taken", len(text), 2*maxRequest)
	}
	text = strings.TrimSpace(text)
	if text == "" || strings.HasPrefix(text, "-----BEGIN ") {
		return parseRequest(text)
	}
	der, err := base64.StdEncoding.Strict().DecodeString(strings.NewReplacer(" ", "", "\t", "").Replace(text))
	if err != nil {
		return nil, invalid("the certificate request is not base64 of DER: %v", err)
	}
	return parseRequestDER(der)
}

// challengePassword is the attribute of a request (RFC 2985 section 5.4.1), and
// whether it is there.
func challengePassword(csr *request) (string, bool, error) {
	wrong := invalid("the attributes of the certificate request can't be read")
	var info, list, attribute, values, value cryptobyte.String
	var tag cbasn1.Tag
	var oid asn1.ObjectIdentifier
	der := cryptobyte.String(csr.RawTBSCertificateRequest)
	if !der.ReadASN1(&info, cbasn1.SEQUENCE) || !info.SkipASN1(cbasn1.INTEGER) || !info.SkipASN1(cbasn1.SEQUENCE) || !info.SkipASN1(cbasn1.SEQUENCE) {
		return "", false, wrong
	}
	if info.Empty() {
		return "", false, nil
	}
	if !info.ReadASN1(&list, constructed(0)) {
		return "", false, wrong
	}
	for !list.Empty() {
		if !list.ReadASN1(&attribute, cbasn1.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&oid) {
			return "", false, wrong
		}
		if !oid.Equal(oidChallengePassword) {
			continue
		}
		if !attribute.ReadASN1(&values, cbasn1.SET) || !values.ReadAnyASN1(&value, &tag) || !values.Empty() ||
			tag != cbasn1.UTF8String && tag != cbasn1.PrintableString && tag != cbasn1.T61String && tag != cbasn1.IA5String {
			return "", false, invalid("challengePassword of the certificate request is not one text")
		}
		return string(value), true, nil
	}
	return "", false, nil
}

// csrAttribute is an entry of csr_attributes in DER: AttrOrOID of RFC 7030
// section 4.5.2. It is written OID, or OID=VALUE;VALUE with object identifiers
// and numbers.
func csrAttribute(text string) ([]byte, error) {
	name, list, has := strings.Cut(text, "=")
	oid, err := parseOID(strings.TrimSpace(name))
	if err != nil {
		return nil, err
	}
	if !has {
		return derOf(func(b *builder) { b.AddASN1ObjectIdentifier(oid) })
	}
	var values [][]byte
	for part := range strings.SplitSeq(list, ";") {
		value, err := attributeValue(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return derOf(func(b *builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
			b.AddASN1ObjectIdentifier(oid)
			b.AddASN1(cbasn1.SET, func(b *builder) { addSorted(b, values) })
		})
	})
}

func attributeValue(text string) ([]byte, error) {
	if n, ok := new(big.Int).SetString(text, 10); ok && len(text) <= 100 {
		return derOf(func(b *builder) { b.AddASN1BigInt(n) })
	}
	oid, err := parseOID(text)
	if err != nil {
		return nil, invalid("the value %q of csr_attributes is neither an object identifier, such as 1.3.132.0.34, nor a number", text)
	}
	return derOf(func(b *builder) { b.AddASN1ObjectIdentifier(oid) })
}

func derOf(fill func(*builder)) ([]byte, error) {
	var b builder
	fill(&b)
	der, err := b.Bytes()
	if err != nil {
		return nil, invalid("csr_attributes can't be encoded: %v", err)
	}
	return der, nil
}

// csrAttributes is CsrAttrs of RFC 7030 section 4.5.2; nil if there are none.
func csrAttributes(texts []string) ([]byte, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	var list [][]byte
	for _, text := range texts {
		der, err := csrAttribute(text)
		if err != nil {
			return nil, err
		}
		list = append(list, der)
	}
	return sequence(func(b *builder) { b.AddBytes(bytes.Join(list, nil)) }), nil
}
