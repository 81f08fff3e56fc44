package lint

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

// What breaks a rule is complained of, wherever it stands.
func TestComplaints(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "x"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now, NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	good, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c := Certificate(good); len(c) != 0 {
		t.Errorf("a certificate without a fault: %v", c)
	}
	template.Subject = pkix.Name{}
	bad, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c := Certificate(bad); !strings.Contains(strings.Join(c, " "), "e_ca_subject_field_empty") {
		t.Errorf("an authority without a name: %v", c)
	}
	answer, err := json.Marshal(map[string]any{"certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: bad}))})
	if err != nil {
		t.Fatal(err)
	}
	if c := Text(answer); len(c) == 0 {
		t.Error("a broken certificate in an answer is not found")
	}
	if c := CRL(bytes.Repeat([]byte{0x30}, 9)); len(c) == 0 {
		t.Error("what is no CRL is accepted")
	}
	if c := OCSP(good); len(c) == 0 {
		t.Error("what is no OCSP answer is accepted")
	}
}
