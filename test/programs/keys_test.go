package programs

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"
)

// rsa tells whether the key is one of RSA.
func (k *key) rsa() bool {
	_, ok := k.public.(*rsa.PublicKey)
	return ok
}

// certificate is the key's.
func (k *key) certificate(t testing.TB) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(k.cert)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// subject is the common name of the key's certificate.
func (k *key) subject(t testing.TB) string {
	t.Helper()
	return k.certificate(t).Subject.CommonName
}
