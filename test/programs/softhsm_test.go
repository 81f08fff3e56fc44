package programs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token/tokentest"
)

var loopback = []net.IP{net.IPv4(127, 0, 0, 1)}

// softHSM returns a new token of SoftHSM2, without Claviger, and an authority in
// memory that certifies its keys.
func softHSM(t testing.TB) *provider {
	t.Helper()
	module, env := tokentest.SoftHSM(t)
	p := &provider{name: "softhsm2", module: module, env: env, pin: "user-pin", dir: t.TempDir()}
	mustRun(t, p.environ(), need(t, "softhsm2-util", "softhsm2"), "--init-token", "--free", "--label", tokenLabel, "--pin", p.pin, "--so-pin", "5678")
	a := newAuthority(t)
	a.provider = p
	p.maker = a
	p.cas = filepath.Join(p.dir, "ca.pem")
	if err := os.WriteFile(p.cas, a.pem(), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// authority certifies keys of a SoftHSM2 token.
type authority struct {
	provider *provider
	key      *ecdsa.PrivateKey
	cert     *x509.Certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key: key, cert: cert}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) certify(t testing.TB, request []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(request)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: csr.Subject, DNSNames: csr.DNSNames, IPAddresses: csr.IPAddresses,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection, x509.ExtKeyUsageCodeSigning},
	}, a.cert, csr.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), a.pem()...)
}

// generate makes the key outside and imports it, since a certificate request is
// then signed without the token.
func (a *authority) generate(t testing.TB, name, kind string) ([]byte, crypto.PublicKey, []byte) {
	t.Helper()
	p := a.provider
	secret := newSecret(t, kind)
	der, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	id := publicID(t, secret.Public())
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	mustRun(t, p.environ(), "softhsm2-util", "--import", file, "--token", tokenLabel, "--label", name, "--id", hex.EncodeToString(id), "--pin", p.pin)
	chain := a.certify(t, request(t, name, secret))
	block, _ := pem.Decode(chain)
	if err := os.WriteFile(file, block.Bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	mustRun(t, p.environ(), need(t, "pkcs11-tool", "opensc"), "--module", p.module, "--token-label", tokenLabel, "--login", "--pin", p.pin,
		"--write-object", file, "--type", "cert", "--label", name, "--id", hex.EncodeToString(id))
	return id, secret.Public(), chain
}

// newSecret makes a key in memory.
func newSecret(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "rsa-2048":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "rsa-3072":
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	case "rsa-4096":
		key, err = rsa.GenerateKey(rand.Reader, 4096)
	case "ecdsa-p256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ecdsa-p384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ecdsa-p521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	default:
		t.Fatalf("unknown kind of key %q", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}
