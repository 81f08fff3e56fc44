package programs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// tokenLabel is the label of every provider's token.
const tokenLabel = "claviger"

// provider is a PKCS#11 module with keys, as programs see it.
type provider struct {
	name   string   // "softhsm2" or the way to Claviger
	module string   // path of the shared object
	env    []string // what programs need in their environment
	pin    string   // "" if no login is needed
	dir    string   // of the test
	cas    string   // PEM file of the authority that certified the keys
	maker  keyMaker

	claviger *claviger // nil of SoftHSM2
}

// keyMaker makes keys in a token and certifies them.
type keyMaker interface {
	// generate makes a key of a kind and returns its CKA_ID, its public key, and
	// a certificate for the names localhost, 127.0.0.1 and its own, with those
	// above it, in PEM.
	generate(t testing.TB, name, kind string) (id []byte, public crypto.PublicKey, chain []byte)
	// certify signs a certificate request for somebody else's key.
	certify(t testing.TB, request []byte) (chain []byte)
}

// direct tells whether the provider is SoftHSM2 without Claviger.
func (p *provider) direct() bool { return p.claviger == nil }

// environ is the environment of a program that loads the module.
func (p *provider) environ(changes ...string) []string {
	return environment(append(append([]string{}, p.env...), changes...)...)
}

// each runs a test with SoftHSM2's module and with Claviger's, over every way to
// the server that this run knows.
func each(t *testing.T, test func(t *testing.T, p *provider)) {
	t.Run("softhsm2", func(t *testing.T) {
		t.Parallel()
		test(t, softHSM(t))
	})
	eachWay(t, test)
}

// key is a key in a provider's token.
type key struct {
	provider *provider
	name     string // CKA_LABEL
	kind     string
	id       []byte // CKA_ID
	public   crypto.PublicKey
	cert     string // PEM file: the certificate and those above it
	uri      string // of the private key, with the PIN if one is needed
}

// key makes a key and its certificate. Certificate and key have the same label
// and CKA_ID in the token.
func (p *provider) key(t testing.TB, name, kind string) *key {
	t.Helper()
	k := &key{provider: p, name: name, kind: kind, cert: filepath.Join(p.dir, name+".pem")}
	var chain []byte
	k.id, k.public, chain = p.maker.generate(t, name, kind)
	if err := os.WriteFile(k.cert, chain, 0o644); err != nil {
		t.Fatal(err)
	}
	k.uri = "pkcs11:token=" + tokenLabel + ";object=" + name + ";type=private"
	if p.pin != "" {
		k.uri += "?pin-value=" + p.pin
	}
	return k
}

// publicID is the CKA_ID that a key has if it was given no other.
func publicID(t testing.TB, public crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return sum[:20]
}

// hexID is the key's CKA_ID as command lines want it.
func (k *key) hexID() string { return hex.EncodeToString(k.id) }

// pool holds the authority that certified the provider's keys.
func (p *provider) pool(t testing.TB) *x509.CertPool {
	t.Helper()
	b, err := os.ReadFile(p.cas)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		t.Fatalf("%s holds no certificate", p.cas)
	}
	return pool
}

// peer makes a P-256 key outside of the token, certified by the same authority,
// and returns it ready for crypto/tls and in PEM files.
func (p *provider) peer(t testing.TB, name string) (pair tls.Certificate, certFile, keyFile string) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	chain := p.maker.certify(t, request(t, name, secret))
	der, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	certFile, keyFile = filepath.Join(p.dir, name+".pem"), filepath.Join(p.dir, name+".key")
	for path, content := range map[string][]byte{certFile: chain, keyFile: text} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err = tls.X509KeyPair(chain, text)
	if err != nil {
		t.Fatal(err)
	}
	return pair, certFile, keyFile
}

// request makes a certificate request in PEM.
func request(t testing.TB, name string, signer crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name, "localhost"}, IPAddresses: loopback,
	}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// found are the cells of the table of what works with what: program, kind of
// key. Only what worked through Claviger's module is in it.
var found struct {
	sync.Mutex
	works map[[2]string]bool
}

// worked records that a program worked with a key, if that is Claviger's. Call
// it at the end of a test of one kind of key.
func worked(t testing.TB, program string, k *key) {
	if t.Failed() || k.provider.direct() {
		return
	}
	found.Lock()
	defer found.Unlock()
	if found.works == nil {
		found.works = make(map[[2]string]bool)
	}
	found.works[[2]string{program, k.kind}] = true
}
