package pki

import (
	"bytes"
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"math/bits"
	"net"
	"net/netip"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Extensions of RFC 5280 section 4.2 and RFC 6960.
var (
	oidSKI              = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSAN              = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNameConstraints  = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidCRLPoints        = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidPolicies         = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidAKI              = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidEKU              = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidFreshestCRL      = asn1.ObjectIdentifier{2, 5, 29, 46}
	oidAIA              = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidAIAOCSP          = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1}
	oidAIAIssuers       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 2}
)

type builder = cryptobyte.Builder

func tagged(n uint8) cbasn1.Tag      { return cbasn1.Tag(n).ContextSpecific() }
func constructed(n uint8) cbasn1.Tag { return tagged(n).Constructed() }

// extension is one of a certificate's.
type extension struct {
	oid      asn1.ObjectIdentifier
	critical bool
	value    []byte // DER
}

func (e extension) add(b *builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
		b.AddASN1ObjectIdentifier(e.oid)
		if e.critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1OctetString(e.value)
	})
}

// sequence encodes a SEQUENCE.
func sequence(fill func(*builder)) []byte {
	var b builder
	b.AddASN1(cbasn1.SEQUENCE, fill)
	return b.BytesOrPanic()
}

// keyID is the key identifier of RFC 5280 section 4.2.1.2 (1): SHA-1 of the bits
// of the public key. It is a name, not a protection.
func keyID(spki []byte) ([]byte, error) {
	var inner cryptobyte.String
	var key asn1.BitString
	s := cryptobyte.String(spki)
	if !s.ReadASN1(&inner, cbasn1.SEQUENCE) || !inner.SkipASN1(cbasn1.SEQUENCE) || !inner.ReadASN1BitString(&key) {
		return nil, invalid("the public key is no SubjectPublicKeyInfo")
	}
	sum := sha1.Sum(key.Bytes)
	return sum[:], nil
}

func skiExtension(id []byte) extension {
	var b builder
	b.AddASN1OctetString(id)
	return extension{oidSKI, false, b.BytesOrPanic()}
}

func akiExtension(id []byte) extension {
	return extension{oidAKI, false, sequence(func(b *builder) {
		b.AddASN1(tagged(0), func(b *builder) { b.AddBytes(id) })
	})}
}

func basicExtension(isCA bool, maxPath int) extension {
	return extension{oidBasicConstraints, true, sequence(func(b *builder) {
		if isCA {
			b.AddASN1Boolean(true)
		}
		if isCA && maxPath >= 0 {
			b.AddASN1Int64(int64(maxPath))
		}
	})}
}

// keyUsageExtension encodes the named bits: bit 0 is the first of the first byte.
func keyUsageExtension(u x509.KeyUsage) extension {
	raw := [2]byte{bits.Reverse8(byte(u)), bits.Reverse8(byte(u >> 8))}
	n := bits.Len16(uint16(u))
	length := (n + 7) / 8
	var b builder
	b.AddASN1(cbasn1.BIT_STRING, func(b *builder) {
		b.AddUint8(uint8(8*length - n))
		b.AddBytes(raw[:length])
	})
	return extension{oidKeyUsage, true, b.BytesOrPanic()}
}

func oidListExtension(id asn1.ObjectIdentifier, add func(b *builder)) extension {
	return extension{id, false, sequence(add)}
}

func ekuExtension(oids []asn1.ObjectIdentifier) extension {
	return oidListExtension(oidEKU, func(b *builder) {
		for _, oid := range oids {
			b.AddASN1ObjectIdentifier(oid)
		}
	})
}

// Tags of GeneralName (RFC 5280 section 4.2.1.6).
const (
	nameOther = 0
	nameEmail = 1
	nameDNS   = 2
	nameURI   = 6
	nameIP    = 7
)

func addText(b *builder, tag uint8, text string) {
	b.AddASN1(tagged(tag), func(b *builder) { b.AddBytes([]byte(text)) })
}

// sanExtension is critical where the subject is empty (RFC 5280 section 4.1.2.6).
func sanExtension(s *sans, critical bool) extension {
	return extension{oidSAN, critical, sequence(func(b *builder) {
		for _, name := range s.dns {
			addText(b, nameDNS, name)
		}
		for _, address := range s.emails {
			addText(b, nameEmail, address)
		}
		for _, ip := range s.ips {
			b.AddASN1(tagged(nameIP), func(b *builder) { b.AddBytes(ip.AsSlice()) })
		}
		for _, uri := range s.uris {
			addText(b, nameURI, uri)
		}
		for _, o := range s.others {
			addOtherName(b, o)
		}
	})}
}

func addOtherName(b *builder, o otherName) {
	b.AddASN1(constructed(nameOther), func(b *builder) {
		oid, err := parseOID(o.oid)
		if err != nil {
			b.SetError(err)
			return
		}
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1(constructed(0), func(b *builder) {
			b.AddASN1(cbasn1.UTF8String, func(b *builder) { b.AddBytes([]byte(o.value)) })
		})
	})
}

// parseSANs reads the alternative names of a request's extension. Names of kinds
// that this authority does not certify are an error, so that none is dropped.
func parseSANs(der []byte) (*sans, error) {
	input := cryptobyte.String(der)
	var list cryptobyte.String
	if !input.ReadASN1(&list, cbasn1.SEQUENCE) || !input.Empty() {
		return nil, invalid("the alternative names of the request can't be read")
	}
	s := new(sans)
	for !list.Empty() {
		var value cryptobyte.String
		var tag cbasn1.Tag
		if !list.ReadAnyASN1(&value, &tag) {
			return nil, invalid("the alternative names of the request can't be read")
		}
		if err := s.addParsed(tag, value); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *sans) addParsed(tag cbasn1.Tag, value cryptobyte.String) error {
	switch tag {
	case tagged(nameDNS):
		if !isASCIIText(string(value)) || bytes.ContainsRune(value, '@') {
			return invalid("the request has the alternative name %q, which is no host name", value)
		}
		return s.addName(string(value))
	case tagged(nameEmail):
		if !isASCIIText(string(value)) || !containsOne(value, '@') {
			return invalid("the request has the alternative name %q, which is no e-mail address", value)
		}
		return s.addName(string(value))
	case tagged(nameURI):
		return s.addURI(string(value))
	case tagged(nameIP):
		ip, ok := netip.AddrFromSlice(value)
		if !ok {
			return invalid("the request has an IP address of %d bytes", len(value))
		}
		return addOnce(&s.ips, ip)
	case constructed(nameOther):
		var oid asn1.ObjectIdentifier
		var inner, text cryptobyte.String
		if !value.ReadASN1ObjectIdentifier(&oid) || !value.ReadASN1(&inner, constructed(0)) ||
			!inner.ReadASN1(&text, cbasn1.UTF8String) || !inner.Empty() || !value.Empty() {
			return invalid("the request has another name that is no UTF-8 text")
		}
		return s.addOther(oid.String() + ";UTF8:" + string(text))
	}
	return invalid("the request has an alternative name of a kind (tag %#x) that is not certified here", uint8(tag))
}

func containsOne(b []byte, c byte) bool {
	n := 0
	for _, x := range b {
		if x == c {
			n++
		}
	}
	return n == 1
}

func aiaExtension(ocsp, issuers []string) extension {
	return extension{oidAIA, false, sequence(func(b *builder) {
		for _, l := range []struct {
			oid  asn1.ObjectIdentifier
			urls []string
		}{{oidAIAOCSP, ocsp}, {oidAIAIssuers, issuers}} {
			for _, u := range l.urls {
				b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
					b.AddASN1ObjectIdentifier(l.oid)
					addText(b, nameURI, u)
				})
			}
		}
	})}
}

// pointsExtension is CRLDistributionPoints, or FreshestCRL, which is alike.
func pointsExtension(oid asn1.ObjectIdentifier, urls []string) extension {
	return extension{oid, false, sequence(func(b *builder) {
		for _, u := range urls {
			b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
				b.AddASN1(constructed(0), func(b *builder) {
					b.AddASN1(constructed(0), func(b *builder) { addText(b, nameURI, u) })
				})
			})
		}
	})}
}

// constraints limit what an authority may certify (RFC 5280 section 4.2.1.10).
type constraints struct {
	permittedDNS, excludedDNS []string
	permittedIP, excludedIP   []*net.IPNet
}

func (c *constraints) empty() bool {
	return len(c.permittedDNS)+len(c.excludedDNS)+len(c.permittedIP)+len(c.excludedIP) == 0
}

func constraintsExtension(c *constraints) extension {
	subtrees := func(b *builder, tag uint8, dns []string, ips []*net.IPNet) {
		if len(dns)+len(ips) == 0 {
			return
		}
		b.AddASN1(constructed(tag), func(b *builder) {
			for _, name := range dns {
				b.AddASN1(cbasn1.SEQUENCE, func(b *builder) { addText(b, nameDNS, name) })
			}
			for _, n := range ips {
				b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
					b.AddASN1(tagged(nameIP), func(b *builder) {
						b.AddBytes(n.IP)
						b.AddBytes(n.Mask)
					})
				})
			}
		})
	}
	return extension{oidNameConstraints, true, sequence(func(b *builder) {
		subtrees(b, 0, c.permittedDNS, c.permittedIP)
		subtrees(b, 1, c.excludedDNS, c.excludedIP)
	})}
}

var oidExtensionRequest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}

// requestInfo is CertificationRequestInfo (RFC 2986 section 4.1) with the
// extensions as RFC 2985 section 5.4.2 has them.
func requestInfo(subject, spki []byte, extensions []extension) []byte {
	return sequence(func(b *builder) {
		b.AddASN1Int64(0)
		b.AddBytes(subject)
		b.AddBytes(spki)
		b.AddASN1(constructed(0), func(b *builder) {
			if len(extensions) == 0 {
				return
			}
			b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
				b.AddASN1ObjectIdentifier(oidExtensionRequest)
				b.AddASN1(cbasn1.SET, func(b *builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
						for _, e := range extensions {
							e.add(b)
						}
					})
				})
			})
		})
	})
}
