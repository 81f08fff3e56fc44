package programs

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const modulePath = "/usr/local/lib/pkcs11/libclaviger-pkcs11.so"

// engine skips the test if OpenSSL has no engine for PKCS#11.
func engine(t testing.TB) {
	t.Helper()
	need(t, "openssl", "openssl")
	found, err := filepath.Glob("/usr/lib/*/engines-3/pkcs11.so")
	if err != nil || len(found) == 0 {
		t.Skip("OpenSSL has no engine pkcs11 (Debian package libengine-pkcs11-openssl)")
	}
}

// opensslConf writes the configuration of openssl.md and returns its path.
func opensslConf(t testing.TB, p *provider, dir string) string {
	t.Helper()
	return write(t, dir, "openssl.cnf", replace(t, file(t, "openssl.md", "/etc/claviger/openssl.cnf"), modulePath, p.module))
}

// script makes a shell script of a guide's commands, for a key.
func script(t testing.TB, k *key, text ...string) string {
	t.Helper()
	set := replace(t, commands(t, "openssl.md", "export PKCS11_MODULE_PATH"),
		modulePath, k.provider.module, "pkcs11:token=claviger;object=www;type=private", k.uri)
	return "set -eu\n" + set + strings.Join(text, "")
}

// TestOpenSSL runs the commands of docs/guides/openssl.md.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	engine(t)
	each(t, func(t *testing.T, p *provider) {
		for _, kind := range kinds() {
			t.Run(kind, func(t *testing.T) {
				k := p.key(t, "www-"+kind, kind)
				dir := t.TempDir()
				notes := bytes.Repeat([]byte("what is to be signed\n"), 1000)
				for name, content := range map[string][]byte{"notes.txt": notes, "secret.txt": []byte("secret"), "www.pem": read(t, k.cert), "ca.pem": read(t, p.cas)} {
					write(t, dir, name, string(content))
				}
				text := "cd " + dir + "\n" + commands(t, "openssl.md", "openssl req")
				if strings.HasPrefix(kind, "rsa") {
					text += commands(t, "openssl.md", "openssl pkeyutl")
				}
				out, err := run(t, p.environ(), "", "sh", "-c", script(t, k, text))
				if err != nil {
					t.Fatal(err)
				}
				if n := strings.Count(out, "Verified OK"); n != 1 && n != 2 {
					t.Errorf("%d signatures are verified:\n%s", n, out)
				}
				if !strings.Contains(out, "Certificate request self-signature verify OK") {
					t.Errorf("the request is not verified:\n%s", out)
				}
				if !strings.Contains(out, "CMS Verification successful") {
					t.Errorf("the CMS is not verified:\n%s", out)
				}
				if got := read(t, filepath.Join(dir, "verified.txt")); !bytes.Equal(withoutCR(got), notes) {
					t.Error("the CMS holds something else")
				}
				if strings.HasPrefix(kind, "rsa") {
					if got := read(t, filepath.Join(dir, "secret.out")); string(got) != "secret" {
						t.Errorf("decrypted: %q", got)
					}
					if got := read(t, filepath.Join(dir, "notes.out")); !bytes.Equal(withoutCR(got), notes) {
						t.Error("the decrypted CMS holds something else")
					}
				}
				worked(t, "openssl", k)
			})
		}
	})
}

// TestOpenSSLClient runs s_client and curl of the guide with a client
// certificate, against a server that demands one.
func TestOpenSSLClient(t *testing.T) {
	t.Parallel()
	engine(t)
	need(t, "curl", "curl")
	each(t, func(t *testing.T, p *provider) {
		pair, _, _ := p.peer(t, "localhost")
		address := serve(t, pair, p.pool(t))
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range kinds() {
			t.Run(kind, func(t *testing.T) {
				k := p.key(t, "client-"+kind, kind)
				dir := t.TempDir()
				write(t, dir, "www.pem", string(read(t, k.cert)))
				write(t, dir, "ca.pem", string(read(t, p.cas)))
				request := "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | "
				for program, command := range map[string]string{
					"openssl": request + replace(t, commands(t, "openssl.md", "openssl s_client"), "www.example.com:443", address+" -ign_eof"),
					"curl":    replace(t, commands(t, "openssl.md", "curl --engine"), "www.example.com", "localhost:"+port),
				} {
					out, err := run(t, p.environ(), "", "sh", "-c", script(t, k, "cd "+dir+"\n"+command))
					if err != nil {
						t.Fatal(err)
					}
					if want := fmt.Sprintf("hello %s", k.name); !strings.Contains(out, want) {
						t.Errorf("%s: %q is not in\n%s", program, want, out)
					}
					worked(t, program, k)
				}
			})
		}
	})
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// withoutCR undoes the canonical line ends of S/MIME.
func withoutCR(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")) }
