package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// algorithm is how a certificate is signed.
type algorithm struct {
	name string
	hash crypto.Hash // 0 for Ed25519: the message itself is signed
	pss  bool
	der  []byte // AlgorithmIdentifier (RFC 5280 section 4.1.1.2)
}

var (
	oidRSAPSS  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidMGF1    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}
)

var hashes = []struct {
	hash               crypto.Hash
	bits               int
	oid, rsa, ecdsaOID asn1.ObjectIdentifier
}{
	{crypto.SHA256, 256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
	{crypto.SHA384, 384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}},
	{crypto.SHA512, 512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}},
}

// chooseAlgorithm returns how a key signs: bits is the size of the hash, 0 for
// the usual one of the key; pss counts for RSA keys only.
func chooseAlgorithm(public crypto.PublicKey, bits int, pss bool) (algorithm, error) {
	switch public := public.(type) {
	case ed25519.PublicKey:
		return algorithm{name: "Ed25519", der: algorithmID(oidEd25519, nil)}, nil
	case *ecdsa.PublicKey:
		if bits == 0 {
			bits = min(max(public.Curve.Params().BitSize, 256), 512)
		}
		for _, h := range hashes {
			if h.bits == bits {
				return algorithm{fmt.Sprintf("ECDSAWithSHA%d", bits), h.hash, false, algorithmID(h.ecdsaOID, nil)}, nil
			}
		}
	case *rsa.PublicKey:
		if bits == 0 {
			bits = 256
		}
		for _, h := range hashes {
			switch {
			case h.bits == bits && pss:
				return algorithm{fmt.Sprintf("SHA%dWithRSAPSS", bits), h.hash, true, algorithmID(oidRSAPSS, pssParameters(h.oid, h.hash.Size()))}, nil
			case h.bits == bits:
				return algorithm{fmt.Sprintf("SHA%dWithRSA", bits), h.hash, false, algorithmID(h.rsa, asn1.NullBytes)}, nil
			}
		}
	default:
		return algorithm{}, invalid("a key of type %T can't sign certificates", public)
	}
	return algorithm{}, invalid("signature_bits is %d: it is 0 (the usual), 256, 384 or 512", bits)
}

// algorithmByName is chooseAlgorithm by a name such as "SHA384WithRSA" or
// "ECDSAWithSHA256"; "" takes the usual one.
func algorithmByName(public crypto.PublicKey, name string) (algorithm, error) {
	bits, pss := 0, false
	if name != "" && !strings.EqualFold(name, "Ed25519") && !strings.EqualFold(name, "PureEd25519") {
		upper := strings.ToUpper(name)
		pss = strings.HasSuffix(upper, "PSS")
		_, digits, _ := strings.Cut(upper, "SHA")
		if len(digits) >= 3 {
			bits, _ = strconv.Atoi(digits[:3])
		}
	}
	a, err := chooseAlgorithm(public, bits, pss)
	if err == nil && name != "" && !strings.EqualFold(a.name, strings.TrimPrefix(name, "Pure")) {
		return algorithm{}, invalid("the issuer's key can't sign with %s; it is a key for %s", name, a.name)
	}
	return a, err
}

func algorithmID(oid asn1.ObjectIdentifier, parameters []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddBytes(parameters)
	})
	return b.BytesOrPanic()
}

// pssParameters is RSASSA-PSS-params (RFC 4055 section 3.1) with MGF1 of the
// same hash and a salt of its size.
func pssParameters(hash asn1.ObjectIdentifier, salt int) []byte {
	id := algorithmID(hash, asn1.NullBytes)
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(id) })
		b.AddASN1(cbasn1.Tag(1).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(algorithmID(oidMGF1, id)) })
		b.AddASN1(cbasn1.Tag(2).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(salt)) })
	})
	return b.BytesOrPanic()
}

// options are what a crypto.Signer is told.
func (a algorithm) options() crypto.SignerOpts {
	if a.pss {
		return &rsa.PSSOptions{SaltLength: a.hash.Size(), Hash: a.hash}
	}
	return a.hash
}

// sign signs a message and verifies what the key made of it: a signature that
// a failing HSM got wrong could give the key away.
func (a algorithm) sign(signer crypto.Signer, message []byte) ([]byte, error) {
	digest := message
	if a.hash != 0 {
		h := a.hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}
	signature, err := signer.Sign(rand.Reader, digest, a.options())
	if err != nil {
		return nil, err
	}
	if !a.verify(signer.Public(), digest, signature) {
		return nil, fmt.Errorf("the HSM token made a %s signature that does not verify", a.name)
	}
	return signature, nil
}

func (a algorithm) verify(public crypto.PublicKey, digest, signature []byte) bool {
	switch public := public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(public, digest, signature)
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, digest, signature)
	case *rsa.PublicKey:
		if a.pss {
			return rsa.VerifyPSS(public, a.hash, digest, signature, a.options().(*rsa.PSSOptions)) == nil
		}
		return rsa.VerifyPKCS1v15(public, a.hash, digest, signature) == nil
	}
	return false
}

// placeholder is a signature's place: as many bytes as a signature of the key has.
func placeholder(public crypto.PublicKey) []byte {
	switch public := public.(type) {
	case *rsa.PublicKey:
		return make([]byte, public.Size())
	case *ecdsa.PublicKey:
		return make([]byte, 2*((public.Curve.Params().BitSize+7)/8)+8)
	}
	return make([]byte, ed25519.SignatureSize)
}

// parseOID reads a dotted object identifier.
func parseOID(text string) (asn1.ObjectIdentifier, error) {
	var oid asn1.ObjectIdentifier
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return nil, invalid("%q is no object identifier; one is written 1.3.6.1", text)
		}
		oid = append(oid, int(n))
	}
	if len(oid) < 2 || oid[0] > 2 || oid[0] < 2 && oid[1] > 39 {
		return nil, invalid("%q is no object identifier; one is written 1.3.6.1", text)
	}
	return oid, nil
}
