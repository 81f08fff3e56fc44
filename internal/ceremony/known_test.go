package ceremony

import (
	"crypto"
	"crypto/x509"
	"testing"
)

// Of the plan in TestPhrase, by another implementation of the same words.
const (
	knownDigest = "f71e1592afb8b9a9785731b7286bafd79f1d799d949d2cd0c0502af794394c2c"
	knownPhrase = "zn6g-bzzv-0fpr-6gt9"
)

func spkiOf(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	return der
}
