package keys

import (
	"crypto"
	_ "crypto/sha1"   // for clients that still ask for it
	_ "crypto/sha256" // hashes register themselves
	_ "crypto/sha3"
	_ "crypto/sha512"

	"github.com/claviger/claviger/internal/token"
)

const defaultHash = "sha2-256"

// noHash is the algorithm "none": RSA PKCS #1 v1.5 without a DigestInfo.
const noHash = crypto.Hash(0)

var hashes = map[string]crypto.Hash{
	"sha1":     crypto.SHA1,
	"sha2-224": crypto.SHA224, "sha2-256": crypto.SHA256, "sha2-384": crypto.SHA384, "sha2-512": crypto.SHA512,
	"sha3-224": crypto.SHA3_224, "sha3-256": crypto.SHA3_256, "sha3-384": crypto.SHA3_384, "sha3-512": crypto.SHA3_512,
	"none": noHash,
}

const hashNames = "sha1, sha2-224, sha2-256, sha2-384, sha2-512, sha3-224, sha3-256, sha3-384 or sha3-512"

// parseHash reads a hash algorithm from the first of the names that is given:
// the one in the URL, the one in the body, the body's old name for it.
func parseHash(names ...string) (crypto.Hash, error) {
	name := defaultHash
	for _, n := range names {
		if n != "" {
			name = n
			break
		}
	}
	h, ok := hashes[name]
	if !ok {
		return 0, invalid("unsupported hash algorithm %q: it is %s", name, hashNames)
	}
	return h, nil
}

func digest(h crypto.Hash, message []byte) []byte {
	f := h.New()
	f.Write(message)
	return f.Sum(nil)
}

// truncate cuts a digest to what an ECDSA key of the type uses of it: the
// leftmost bits, as many as the order of the curve has (FIPS 186-5 section
// 6.4.1). Some modules refuse longer input instead of cutting it.
func truncate(t token.Type, d []byte) []byte {
	return d[:min(len(d), (t.Bits()+7)/8)]
}
