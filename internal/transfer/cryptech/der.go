package cryptech

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// Algorithms of an EncryptedPrivateKeyInfo.
var (
	oidKeyWrapPad = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 48} // id-aes256-wrap-pad, RFC 5649
	oidRSA        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}      // rsaEncryption, RFC 8017
)

var errEncrypted = errors.New("it must be DER of an EncryptedPrivateKeyInfo")

// parseEncrypted returns what an EncryptedPrivateKeyInfo (RFC 5208 section 6) of an
// algorithm without parameters holds. Parameters may be absent or NULL.
func parseEncrypted(der []byte, algorithm asn1.ObjectIdentifier) ([]byte, error) {
	in := cryptobyte.String(der)
	var info, id, data cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !in.ReadASN1(&info, tags.SEQUENCE) || !in.Empty() || !info.ReadASN1(&id, tags.SEQUENCE) ||
		!info.ReadASN1(&data, tags.OCTET_STRING) || !info.Empty() || !id.ReadASN1ObjectIdentifier(&oid) {
		return nil, errEncrypted
	}
	if !oid.Equal(algorithm) {
		return nil, errors.New("the algorithm must be " + algorithm.String() + ", and is " + oid.String())
	}
	var null cryptobyte.String
	if !id.Empty() && (!id.ReadASN1(&null, tags.NULL) || !null.Empty() || !id.Empty()) {
		return nil, errors.New("the algorithm must have no parameters")
	}
	return data, nil
}

// encodeEncrypted is the reverse of parseEncrypted, without parameters.
func encodeEncrypted(algorithm asn1.ObjectIdentifier, data []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(algorithm) })
		b.AddASN1OctetString(data)
	})
	return b.Bytes()
}

// Bounds of a KEKEK's modulus in bits.
const (
	MinBits = 2048
	MaxBits = 4096
)

// minExponent is the least public exponent of a KEKEK, as NIST SP 800-56B Rev. 2 section
// 6.2 has it. With 1 a key would leave in clear, with 3 it hangs on the padding alone.
const minExponent = 65537

// parseKEKEK returns the RSA key of PKIX DER, of MinBits to MaxBits.
func parseKEKEK(der []byte) (*rsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, invalid("%s must be DER of a SubjectPublicKeyInfo: %v", fieldPublic, err)
	}
	public, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, invalid("%s must be an RSA key: unsupported key type or key length", fieldPublic)
	}
	if n := public.N.BitLen(); n < MinBits || n > MaxBits {
		return nil, invalid("%s has %d bits, and must have %d to %d: unsupported key type or key length", fieldPublic, n, MinBits, MaxBits)
	}
	if public.E < minExponent {
		return nil, invalid("%s has the public exponent %d, and must have %d or more", fieldPublic, public.E, minExponent)
	}
	return public, nil
}
