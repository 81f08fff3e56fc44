package keys

import (
	"crypto"
	"crypto/rsa"
	"strconv"
	"strings"

	"github.com/claviger/claviger/internal/token"
)

// scheme is how a request wants its signatures made or checked.
type scheme struct {
	typ       token.Type
	hash      crypto.Hash
	prehashed bool
	rsa       token.Scheme // RSA keys only
	salt      int          // RSA-PSS: bytes, or rsa.PSSSaltLengthAuto, or rsa.PSSSaltLengthEqualsHash, or saltNone
	jws       bool
}

// schemeFields are the fields that sign and verify have in common.
type schemeFields struct {
	urlHash, hash, algorithm          string
	prehashed                         bool
	signature, marshaling, saltLength string
}

// parseScheme reads the fields for a key of type t. Fields that mean nothing
// to the type are not looked at: clients send them for every key.
func parseScheme(t token.Type, f schemeFields) (scheme, error) {
	sch := scheme{typ: t, prehashed: f.prehashed}
	var err error
	if sch.hash, err = parseHash(f.urlHash, f.hash, f.algorithm); err != nil {
		return sch, err
	}
	if sch.hash == noHash && (!f.prehashed || f.signature != "pkcs1v15") {
		return sch, invalid("hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15")
	}
	switch f.marshaling {
	case "", "asn1":
	case "jws":
		sch.jws = true
	default:
		return sch, invalid("unknown marshaling_algorithm %q: it is asn1 or jws", f.marshaling)
	}
	switch t.Class() {
	case token.ClassRSA:
		err = sch.parseRSA(f)
	case token.ClassECDSA:
		if sch.hash == noHash {
			err = invalid("hash_algorithm=none is for RSA keys only, this key is of type %v", t)
		}
	}
	return sch, err
}

func (sch *scheme) parseRSA(f schemeFields) error {
	switch f.signature {
	case "", "pss":
		sch.rsa = token.PSS
	case "pkcs1v15":
		sch.rsa = token.PKCS1v15
		return nil
	default:
		return invalid("unsupported rsa signature algorithm %q: it is pss or pkcs1v15", f.signature)
	}
	var err error
	sch.salt, err = parseSalt(f.saltLength)
	if err != nil {
		return err
	}
	if sch.salt > sch.maxSalt() {
		return invalid("salt_length %d is too long: with this key and hash it is at most %d", sch.salt, sch.maxSalt())
	}
	if sch.maxSalt() < 0 {
		return invalid("the key is too small for RSA-PSS with this hash")
	}
	return nil
}

// saltNone is a salt of no bytes, for which neither Vault nor crypto/rsa has a number.
const saltNone = -2

// parseSalt reads salt_length. As in Vault, 0 is auto and -1 is hash.
func parseSalt(s string) (int, error) {
	switch s = strings.ToLower(s); s {
	case "", "auto":
		return rsa.PSSSaltLengthAuto, nil
	case "hash":
		return rsa.PSSSaltLengthEqualsHash, nil
	case "none":
		return saltNone, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < rsa.PSSSaltLengthEqualsHash {
		return 0, invalid("salt_length %q is not valid: it is auto, hash, none or a number of bytes", s)
	}
	return n, nil
}

// maxSalt is the longest PSS salt in bytes: emLen - hLen - 2 (RFC 8017 section
// 9.1.1), where emLen is one bit short of the modulus, in whole bytes.
func (sch *scheme) maxSalt() int {
	emLen := (sch.typ.Bits() - 1 + 7) / 8
	return emLen - sch.hash.Size() - 2
}

// op is the operation that signs.
func (sch *scheme) op() token.Op {
	o := token.Op{Kind: token.Sign}
	if sch.typ.Class() != token.ClassRSA {
		return o
	}
	o.Scheme, o.Hash = sch.rsa, sch.hash
	if sch.rsa == token.PSS {
		switch sch.salt {
		case rsa.PSSSaltLengthAuto:
			o.Salt = sch.maxSalt()
		case rsa.PSSSaltLengthEqualsHash:
			o.Salt = sch.hash.Size()
		case saltNone:
			o.Salt = 0
		default:
			o.Salt = sch.salt
		}
	}
	return o
}

// toSign is what the key signs of an input: the message itself with Ed25519,
// which hashes on its own and ignores prehashed, else the digest.
func (sch *scheme) toSign(input []byte) ([]byte, error) {
	if input == nil {
		return nil, invalid("missing input")
	}
	if sch.typ.Class() == token.ClassEd25519 {
		return input, nil
	}
	d := input
	switch {
	case !sch.prehashed:
		d = digest(sch.hash, input)
	case sch.hash == noHash:
		if most := (sch.typ.Bits()+7)/8 - 11; len(input) > most { // RFC 8017 section 9.2
			return nil, invalid("input of %d bytes is too long: a key of type %v signs at most %d bytes without a hash", len(input), sch.typ, most)
		}
	case len(input) != sch.hash.Size():
		return nil, invalid("input of %d bytes is no digest: with prehashed=true and this hash_algorithm it has %d bytes", len(input), sch.hash.Size())
	}
	if sch.typ.Class() == token.ClassECDSA {
		d = truncate(sch.typ, d)
	}
	return d, nil
}
