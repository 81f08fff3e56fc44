package api

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
)

// The types of Mo-Vault's keys, as its paths name them.
const (
	MoVaultRSA = "rsa"
	MoVaultAES = "aes"
)

// maxMoVaultName bounds the name of a key, in bytes.
const maxMoVaultName = 255

// MoVaultKeyName returns the name of the named key that is Mo-Vault's key of a type
// (MoVaultRSA or MoVaultAES), a path and a version: "rsa-v2-random_test.2frsa" is
// version 2 of random_test/rsa. Bytes of the path other than letters, digits, '_' and
// '-' are '.' and two hex digits; a path that is too long for a name is '.', 'x' and
// its SHA-256. Different keys have different names.
func MoVaultKeyName(typ, path string, version *big.Int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s-v%s-", typ, version)
	for i := range len(path) {
		c := path[i]
		switch {
		case c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z', c == '-' && i < len(path)-1:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, ".%02x", c)
		}
	}
	if b.Len() <= maxMoVaultName {
		return b.String()
	}
	sum := sha256.Sum256([]byte(path))
	return fmt.Sprintf("%s-v%s-.x%s", typ, version, hex.EncodeToString(sum[:]))
}

// MoVaultID returns the CKA_ID of a version: the number in two's complement, big
// endian, in the fewest whole bytes that leave a bit for the sign: 127 is 7f, 128 is
// 0080, -1 is ff.
func MoVaultID(version *big.Int) []byte {
	bits := version.BitLen()
	if version.Sign() < 0 {
		bits = new(big.Int).Add(version, big.NewInt(1)).BitLen()
	}
	id := make([]byte, (8+bits)/8)
	if version.Sign() >= 0 {
		return version.FillBytes(id)
	}
	modulus := new(big.Int).Lsh(big.NewInt(1), uint(8*len(id)))
	return modulus.Add(modulus, version).FillBytes(id)
}

// MoVaultVersion is the reverse of MoVaultID; ok is false if id is not what a version
// has.
func MoVaultVersion(id []byte) (version *big.Int, ok bool) {
	if len(id) == 0 {
		return nil, false
	}
	version = new(big.Int).SetBytes(id)
	if id[0] >= 0x80 {
		version.Sub(version, new(big.Int).Lsh(big.NewInt(1), uint(8*len(id))))
	}
	return version, string(MoVaultID(version)) == string(id)
}
