package pki

import (
	"bytes"
	"crypto"
	"crypto/sha1"
	_ "crypto/sha256" // for hashes of certificate identifiers
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// OCSP (RFC 6960): identifiers.
var (
	oidOCSPBasic = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidOCSPNonce = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidSHA1      = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
)

// ocspStatus is OCSPResponseStatus (RFC 6960 section 4.2.1).
type ocspStatus int64

const (
	ocspSuccessful   ocspStatus = 0
	ocspMalformed    ocspStatus = 1
	ocspInternal     ocspStatus = 2
	ocspTryLater     ocspStatus = 3
	ocspUnauthorized ocspStatus = 6
)

const (
	maxOCSPRequest = 64 << 10 // bytes
	maxOCSPIDs     = 64       // certificates of a request
	maxNonce       = 128      // bytes (RFC 9654)
)

var errOCSP = errors.New("malformed OCSP request")

// certID names a certificate by hashes of its issuer and its serial number.
type certID struct {
	raw    []byte // as it came; the answer repeats it
	hash   crypto.Hash
	name   []byte // of the issuer's name
	key    []byte // of the issuer's key
	serial []byte // without leading zeros
}

// ocspRequest is what is asked.
type ocspRequest struct {
	ids   []certID
	nonce []byte // the extension's value; nil if there is none
}

// parseOCSP reads an OCSPRequest (RFC 6960 section 4.1.1). A signature of the
// requestor is skipped: everybody may ask.
func parseOCSP(der []byte) (*ocspRequest, error) {
	input := cryptobyte.String(der)
	var outer, tbs, list, item cryptobyte.String
	if len(der) > maxOCSPRequest || !input.ReadASN1(&outer, cbasn1.SEQUENCE) || !input.Empty() || !outer.ReadASN1(&tbs, cbasn1.SEQUENCE) {
		return nil, errOCSP
	}
	if !tbs.SkipOptionalASN1(constructed(0)) || !tbs.SkipOptionalASN1(constructed(1)) || !tbs.ReadASN1(&list, cbasn1.SEQUENCE) {
		return nil, errOCSP
	}
	r := new(ocspRequest)
	for !list.Empty() {
		if !list.ReadASN1(&item, cbasn1.SEQUENCE) || len(r.ids) == maxOCSPIDs {
			return nil, errOCSP
		}
		id, err := parseCertID(&item)
		if err != nil {
			return nil, err
		}
		r.ids = append(r.ids, id)
	}
	if len(r.ids) == 0 {
		return nil, errOCSP
	}
	return r, r.readExtensions(&tbs)
}

func parseCertID(item *cryptobyte.String) (certID, error) {
	var id certID
	var raw, inner, alg, name, key, serial cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !item.ReadASN1Element(&raw, cbasn1.SEQUENCE) {
		return id, errOCSP
	}
	id.raw = bytes.Clone(raw)
	if !raw.ReadASN1(&inner, cbasn1.SEQUENCE) || !inner.ReadASN1(&alg, cbasn1.SEQUENCE) || !alg.ReadASN1ObjectIdentifier(&oid) ||
		!inner.ReadASN1(&name, cbasn1.OCTET_STRING) || !inner.ReadASN1(&key, cbasn1.OCTET_STRING) ||
		!inner.ReadASN1(&serial, cbasn1.INTEGER) || !inner.Empty() || len(serial) == 0 || len(serial) > 64 {
		return id, errOCSP
	}
	id.hash = hashOf(oid)
	id.name, id.key, id.serial = bytes.Clone(name), bytes.Clone(key), bytes.TrimLeft(bytes.Clone(serial), "\x00")
	return id, nil
}

func hashOf(oid asn1.ObjectIdentifier) crypto.Hash {
	if oid.Equal(oidSHA1) {
		return crypto.SHA1
	}
	for _, h := range hashes {
		if oid.Equal(h.oid) {
			return h.hash
		}
	}
	return 0
}

func (r *ocspRequest) readExtensions(tbs *cryptobyte.String) error {
	var wrapped, list cryptobyte.String
	var present bool
	if !tbs.ReadOptionalASN1(&wrapped, &present, constructed(2)) || !tbs.Empty() {
		return errOCSP
	}
	if !present {
		return nil
	}
	if !wrapped.ReadASN1(&list, cbasn1.SEQUENCE) || !wrapped.Empty() {
		return errOCSP
	}
	for !list.Empty() {
		var e, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !list.ReadASN1(&e, cbasn1.SEQUENCE) || !e.ReadASN1ObjectIdentifier(&oid) ||
			!e.SkipOptionalASN1(cbasn1.BOOLEAN) || !e.ReadASN1(&value, cbasn1.OCTET_STRING) || !e.Empty() {
			return errOCSP
		}
		if !oid.Equal(oidOCSPNonce) {
			continue
		}
		if len(value) > maxNonce {
			return errOCSP
		}
		r.nonce = bytes.Clone(value)
	}
	return nil
}

// of tells whether the certificate was issued by i.
func (id *certID) of(i *issuer) bool {
	own, ok := i.ids[id.hash]
	return ok && bytes.Equal(id.name, own.name) && bytes.Equal(id.key, own.key)
}

// ocspID is what an issuer is called by hashes.
type ocspID struct{ name, key []byte }

// ocspHashes are those by which issuers are called.
var ocspHashes = []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}

// ocspIDs are computed once: each request is compared with all issuers.
func ocspIDs(cert *x509.Certificate) map[crypto.Hash]ocspID {
	ids, public := map[crypto.Hash]ocspID{}, publicBits(cert.RawSubjectPublicKeyInfo)
	for _, h := range ocspHashes {
		ids[h] = ocspID{digest(h, cert.RawSubject), digest(h, public)}
	}
	return ids
}

func digest(h crypto.Hash, data []byte) []byte {
	d := h.New()
	d.Write(data)
	return d.Sum(nil)
}

// publicBits are the bits of a public key, without the algorithm.
func publicBits(spki []byte) []byte {
	var inner cryptobyte.String
	var key asn1.BitString
	s := cryptobyte.String(spki)
	if !s.ReadASN1(&inner, cbasn1.SEQUENCE) || !inner.SkipASN1(cbasn1.SEQUENCE) || !inner.ReadASN1BitString(&key) {
		return nil
	}
	return key.Bytes
}

// ocspSingle is the state of one certificate.
type ocspSingle struct {
	id      *certID
	unknown bool
	revoked *revokedRecord // nil: good
}

// ocspError is an answer without a state.
func ocspError(status ocspStatus) []byte {
	return sequence(func(b *builder) { b.AddASN1Enum(int64(status)) })
}

// responseData is ResponseData (RFC 6960 section 4.2.1).
func responseData(i *issuer, singles []ocspSingle, nonce []byte, made, until time.Time) []byte {
	key := sha1.Sum(publicBits(i.cert.RawSubjectPublicKeyInfo))
	return sequence(func(b *builder) {
		b.AddASN1(constructed(2), func(b *builder) { b.AddASN1OctetString(key[:]) })
		b.AddASN1GeneralizedTime(made)
		b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
			for _, single := range singles {
				single.add(b, made, until)
			}
		})
		if nonce != nil {
			b.AddASN1(constructed(1), func(b *builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *builder) { extension{oidOCSPNonce, false, nonce}.add(b) })
			})
		}
	})
}

func (o ocspSingle) add(b *builder, made, until time.Time) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
		b.AddBytes(o.id.raw)
		switch {
		case o.unknown:
			b.AddASN1(tagged(2), func(*builder) {})
		case o.revoked == nil:
			b.AddASN1(tagged(0), func(*builder) {})
		default:
			b.AddASN1(constructed(1), func(b *builder) {
				b.AddASN1GeneralizedTime(o.revoked.Time)
				if o.revoked.Reason != 0 {
					b.AddASN1(constructed(0), func(b *builder) { b.AddASN1Enum(int64(o.revoked.Reason)) })
				}
			})
		}
		b.AddASN1GeneralizedTime(made)
		if until.After(made) {
			b.AddASN1(constructed(0), func(b *builder) { b.AddASN1GeneralizedTime(until) })
		}
	})
}

// ocspResponse wraps signed ResponseData.
func ocspResponse(data []byte, alg algorithm, signature []byte) []byte {
	basic := sequence(func(b *builder) {
		b.AddBytes(data)
		b.AddBytes(alg.der)
		b.AddASN1BitString(signature)
	})
	return sequence(func(b *builder) {
		b.AddASN1Enum(int64(ocspSuccessful))
		b.AddASN1(constructed(0), func(b *builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
				b.AddASN1ObjectIdentifier(oidOCSPBasic)
				b.AddASN1OctetString(basic)
			})
		})
	})
}
