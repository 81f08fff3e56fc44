package e2e

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/test/harness"
)

// walker runs the commands of a directory.
type walker struct {
	t   *testing.T
	s   *harness.Server
	dir string
	pin string
}

func newWalker(t *testing.T, s *harness.Server, pin string) *walker {
	return &walker{t, s, t.TempDir(), pin}
}

// sh runs a command line as a person types it, with $VAULT_ADDR and $VAULT_TOKEN.
func (w *walker) sh(line string) []byte {
	w.t.Helper()
	name := strings.Fields(line)[0]
	if _, err := exec.LookPath(name); err != nil {
		w.t.Skipf("%s is not installed: scripts/install-test-packages.sh does it", name)
	}
	cmd := exec.Command("sh", "-ec", line)
	cmd.Dir = w.dir
	cmd.Env = append(append(os.Environ(), w.s.Env...), "VAULT_ADDR="+w.s.Addr, "VAULT_TOKEN="+w.s.RootToken)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		w.t.Fatalf("%s: %v\n%s%s", line, err, &out, &errs)
	}
	return out.Bytes()
}

// tool runs pkcs11-tool on the token.
func (w *walker) tool(args ...string) {
	w.t.Helper()
	tokentest.Tool(w.t, w.s.Module, "claviger-test", w.pin, w.s.Env, args...)
}

func (w *walker) path(name string) string { return filepath.Join(w.dir, name) }

// post sends a file as curl does, and returns the answer's data.
func (w *walker) post(file, path string) map[string]any {
	w.t.Helper()
	text := w.sh(`curl -sS --header "X-Vault-Token: $VAULT_TOKEN" --request POST --data "@` + file + `" $VAULT_ADDR/v1/` + path)
	var answer struct {
		Data   map[string]any
		Errors []string
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &answer); err != nil || answer.Errors != nil {
			w.t.Fatalf("%s: %s", path, text)
		}
	}
	return answer.Data
}

func (w *walker) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *walker) read(name string) string {
	w.t.Helper()
	b, err := os.ReadFile(w.path(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

// userCert is a request as it stands in a walk through Vault's engine: its line
// ends are escaped beside BEGIN and END only; curl drops the others.
const userCert = `{
"csr":"-----BEGIN CERTIFICATE REQUEST-----\n
MIICmzCCAYMCAQAwVjELMAkGA1UEBhMCVVMxCzAJBgNVBAgMAkNBMQwwCgYDVQQK
DANYWVoxEDAOBgNVBAMMB1hZWi5jb20xGjAYBgkqhkiG9w0BCQEWCzEyM0BYWVou
Y29tMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA6E42jttRxrcCWyAR
dgd2iNmUQpUe1DgaktFUfX4Qv7xrqXW27x270iBpWVKm05QnrDPFY/xuPMHAPhhH
BdcT8Nie2H5OoqOjsejzy4CR+UopXE5fmOwRJlxD16qfAmSjrsCTMXlSa01vhdEI
Zcd3JPO6c4fLgfJrsQdrV3w45DUFziPDDAF5BiiZDXGKmvYH/BvkLUGI5Zj6j6U7
Z4u2HcNzznBtzJa9j2S1wbBd1Z4lLEu0tHRQYymwOGWKLefAblDJGkeIPLmkmje2
r4hEi7Oy1rvi54Hm3/8GGylRONFrao0BqFunjjbd8GsnRZZZo+I5FgvJqY+N5y9D
TZ7GmQIDAQABoAAwDQYJKoZIhvcNAQELBQADggEBAENgnHcDXJ3Z0UNbYK8gAzP+
KzM8F8Zod4EOv1/i1o8rj4yuSXVcxNI6iR3ou5cpDgNn8QbPjqfL4vEy7LLmncTI
8wuhknSynsZIx/ABpmgyFsMKD9soibEyVFEBz2j9BWKNRXLYhXK+LwiJH2Dlpai/
mZMto0uFMtjWvMfLkN68QGuwjMCzu5EWusbi9KOSNN2u826YFrT3hrMzJzpOfYVR
o2vdfKx1QcIJxeh1oOhfE0jNegvgzvrFw+DxQs5Kyd19y/GnxxrXxWb7ufPmZEz8
EXd9BHLF650VnKvUkts3sYGJUDyRTEuIKXQd65iAtrnEvIrBaBvUD4zicee/AOg=\n
-----END CERTIFICATE REQUEST-----",
"common_name":"xyz.com"
}
`

// certifies makes the role, signs the request, and lets OpenSSL verify the result
// against the file root.
func (w *walker) certifies(mount, root string) {
	w.t.Helper()
	w.write("role.json", `{"allow_any_name": true, "allow_subdomains": true}`)
	w.post("role.json", mount+"/roles/xyz")
	w.write("usercert.json", userCert)
	data := w.post("usercert.json", mount+"/sign/xyz")
	w.write("usercert.pem", data["certificate"].(string)+"\n")
	if got := w.sh("openssl verify -x509_strict -CAfile " + root + " usercert.pem"); !bytes.Contains(got, []byte("usercert.pem: OK")) {
		w.t.Errorf("%s", got)
	}
	if got := w.sh("openssl x509 -noout -subject -ext subjectAltName -in usercert.pem"); !bytes.Contains(got, []byte("CN = XYZ.com")) || !bytes.Contains(got, []byte("DNS:XYZ.com")) {
		w.t.Errorf("%s", got)
	}
	if data["private_key"] != nil {
		w.t.Error("sign shows a private key")
	}
}

// TestWalkWithImportedKey: an authority made by OpenSSL is brought as certificate
// and key, and certifies; command by command. OpenSSL's -x509_strict wants the
// extension keyUsage of an authority, which its own default leaves out.
func TestWalkWithImportedKey(t *testing.T) {
	t.Parallel()
	s, pin := adopted(t)
	w := newWalker(t, s, pin)
	w.write("mount.json", `{"type":"pki"}`)
	w.post("mount.json", "sys/mounts/srini")
	w.sh("openssl genrsa -out myrootca.key 2048")
	w.sh("openssl req -x509 -new -nodes -key myrootca.key -sha256 -days 1024 -out myrootca.pem -subj /CN=Root -addext keyUsage=critical,keyCertSign,cRLSign")
	w.sh("cat myrootca.pem myrootca.key > cabundle.pem")
	bundle, err := json.Marshal(map[string]string{"pem_bundle": w.read("cabundle.pem")})
	if err != nil {
		t.Fatal(err)
	}
	w.write("cabundle.json", string(bundle))
	in := w.post("cabundle.json", "srini/config/ca")
	if len(in["imported_issuers"].([]any)) != 1 || len(in["imported_keys"].([]any)) != 1 {
		t.Fatalf("%v", in)
	}
	w.certifies("srini", "myrootca.pem")
}

// toolSigner signs with a key of the token by pkcs11-tool.
type toolSigner struct {
	*walker
	public crypto.PublicKey
}

func (s toolSigner) Public() crypto.PublicKey { return s.public }

// sha256Info is DigestInfo of SHA-256 without the digest (RFC 8017 section 9.2).
var sha256Info = []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}

func (s toolSigner) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	s.walker.write("digest", string(sha256Info)+string(digest))
	s.tool("--sign", "--mechanism", "RSA-PKCS", "--id", "2222", "--input-file", s.path("digest"), "--output-file", s.path("signature"))
	return []byte(s.read("signature")), nil
}

// ownCA makes a key in the token and certifies it by itself, without Claviger.
func (w *walker) ownCA() {
	w.t.Helper()
	w.tool("--keypairgen", "--key-type", "rsa:2048", "--label", "localca", "--id", "2222", "--usage-sign")
	w.tool("--read-object", "--type", "pubkey", "--id", "2222", "--output-file", w.path("public.der"))
	public, err := x509.ParsePKIXPublicKey([]byte(w.read("public.der")))
	if err != nil {
		w.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "Token root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(3, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SignatureAlgorithm: x509.SHA256WithRSA}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, toolSigner{w, public})
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	body, err := json.Marshal(map[string]string{"certificate": w.read("ca.pem"), "pkcs11_key_label": "localca"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("ca.json", string(body))
}

// TestWalkWithKeyOfTheToken is the same with a key that pkcs11-tool made inside
// the token. When that key is gone, issuing fails with 503, and what was signed
// before is still served.
func TestWalkWithKeyOfTheToken(t *testing.T) {
	t.Parallel()
	s, pin := adopted(t)
	w := newWalker(t, s, pin)
	w.write("mount.json", `{"type":"pki"}`)
	w.post("mount.json", "sys/mounts/hsm")
	w.ownCA()
	if in := w.post("ca.json", "hsm/config/pkcs11ca"); len(in["imported_issuers"].([]any)) != 1 {
		t.Fatalf("%v", in)
	}
	w.certifies("hsm", "ca.pem")

	serial := strings.TrimSpace(strings.TrimPrefix(string(w.sh("openssl x509 -noout -serial -in usercert.pem")), "serial="))
	w.sh("openssl ocsp -issuer ca.pem -cert usercert.pem -no_nonce -reqout request.der")
	ask := func() []byte { return w.ocsp("hsm") }
	crl, answer := raw(t, s, "hsm/crl", "application/pkix-crl"), ask()
	w.tool("--delete-object", "--type", "privkey", "--id", "2222")
	s.Kill() // a worker that has the key in use may keep it
	s.Start(t)
	s.Unseal(t, s.Shares[0])

	count := len(s.OK(t, "GET", "hsm/certs?list=true", nil)["keys"].([]any))
	status, refused := s.Do(t, "POST", "hsm/sign/xyz", map[string]any{"csr": csrIn(t, userCert), "common_name": "xyz.com"})
	if text, _ := json.Marshal(refused["errors"]); status != 503 || !bytes.Contains(text, []byte("key")) {
		t.Errorf("issuing without a key: status %d %s", status, text)
	}
	if got := len(s.OK(t, "GET", "hsm/certs?list=true", nil)["keys"].([]any)); got != count {
		t.Errorf("%d certificates, %d before", got, count)
	}
	if status, _ := s.Do(t, "GET", "hsm/cert/"+serial, nil); status != 200 {
		t.Errorf("a certificate: status %d", status)
	}
	if got := raw(t, s, "hsm/crl", "application/pkix-crl"); !bytes.Equal(got, crl) {
		t.Error("the CRL is not the one of before")
	}
	if len(answer) == 0 {
		t.Error("no OCSP answer")
	}
	w.revokedWithoutKey("hsm", serial)
}

// ocsp asks with request.der.
func (w *walker) ocsp(mount string) []byte {
	w.t.Helper()
	resp, err := http.Post(w.s.Addr+"/v1/"+mount+"/ocsp", "application/ocsp-request", strings.NewReader(w.read("request.der")))
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return body
}

// revokedWithoutKey: a revocation counts although no CRL can be made of it.
func (w *walker) revokedWithoutKey(mount, serial string) {
	w.t.Helper()
	status, answer := w.s.Do(w.t, "POST", mount+"/revoke", map[string]any{"serial_number": strings.ToLower(serial)})
	if text, _ := json.Marshal(answer["warnings"]); status != 200 || !bytes.Contains(text, []byte("can't be made now")) {
		w.t.Errorf("revoking without a key: status %d %s", status, text)
	}
	if got := w.s.OK(w.t, "GET", mount+"/cert/"+serial, nil); got["revocation_time"] == 0.0 {
		w.t.Error("it is not revoked")
	}
	if got := w.ocsp(mount); !bytes.Equal(got, []byte{0x30, 3, 0x0a, 1, 3}) { // tryLater
		w.t.Errorf("OCSP without a key: % x", got)
	}
}

// csrIn is the request of a file for curl, as curl sends it.
func csrIn(t *testing.T, text string) string {
	t.Helper()
	var r struct{ CSR string }
	if err := json.Unmarshal([]byte(strings.ReplaceAll(text, "\n", "")), &r); err != nil {
		t.Fatal(err)
	}
	return r.CSR
}
