package programs

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// groups are the curves by the names that Java knows.
var groups = map[string]string{"ecdsa-p256": "secp256r1", "ecdsa-p384": "secp384r1", "ecdsa-p521": "secp521r1"}

// keygen are the arguments by which keytool makes a kind of key.
func keygen(kind string) string {
	if g := groups[kind]; g != "" {
		return "-keyalg EC -groupname " + g
	}
	return "-keyalg RSA -keysize " + kind[len("rsa-"):]
}

// TestJava does what docs/guides/java.md says, with keys that keytool makes and
// one that it imports; then TLS with a named key.
func TestJava(t *testing.T) {
	t.Parallel()
	need(t, "keytool", "openjdk-17-jdk-headless")
	each(t, func(t *testing.T, p *provider) {
		for _, kind := range kindsOf(p) {
			t.Run(kind, func(t *testing.T) { java(t, p, kind) })
		}
	})
}

func java(t *testing.T, p *provider, kind string) {
	k := p.key(t, "named-"+kind, kind)
	_, port, _ := net.SplitHostPort(free(t))
	dir := workplace(t, p)
	brought(t, p, dir, "brought-"+kind, kind)
	printed := play(t, p, dir, "java.md", "-keyalg EC -groupname secp256r1", keygen(kind), "8443 web", port+" web-"+kind,
		"alias web", "alias web-"+kind, "app.jar web", "app.jar web-"+kind, "alias brought", "alias brought-"+kind)
	contains(t, printed, "web-"+kind+", PrivateKeyEntry", "brought-"+kind+", PrivateKeyEntry",
		"TLSv1.3: hello CN=localhost", "jar signed.", "jar verified.")
	contains(t, printed, k.name+", PrivateKeyEntry")
	if !p.direct() { // aliases are names there
		p.claviger.server.OK(t, "GET", "transit/keys/web-"+kind, nil)
		p.claviger.server.OK(t, "GET", "transit/keys/brought-"+kind, nil)
	}
	if t.Failed() {
		return
	}

	// The guide's program with a named key.
	printed, err := shell(t, p, dir, strings.NewReplacer("PORT", port, "ALIAS", k.name).Replace(`
		java -Djava.security.properties=java.security Tls server PORT ALIAS > named.log &
		until grep -q listening named.log; do sleep 0.2; done
		java -Djava.security.properties=java.security Tls client PORT ALIAS
		kill $!`))
	if err != nil {
		t.Fatalf("%v\n%s", err, printed)
	}
	contains(t, printed, "TLSv1.3: hello CN=")
	for _, program := range []string{"keytool", "Java TLS", "jarsigner"} {
		worked(t, program, k)
	}
}

// brought makes the files brought.p12 and p12.pass, a key of elsewhere.
func brought(t testing.TB, p *provider, dir, name, kind string) {
	t.Helper()
	secret := newSecret(t, kind)
	der, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	text := append(p.maker.certify(t, request(t, name, secret)), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	for file, content := range map[string][]byte{"brought.pem": text, "p12.pass": []byte("changeit")} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustRun(t, environment(), "openssl", "pkcs12", "-export", "-in", filepath.Join(dir, "brought.pem"), "-name", name,
		"-passout", "file:"+filepath.Join(dir, "p12.pass"), "-out", filepath.Join(dir, "brought.p12"))
}
