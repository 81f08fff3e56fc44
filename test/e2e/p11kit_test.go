package e2e

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	pkcs11 "github.com/claviger/claviger/internal/p11"
	"github.com/claviger/claviger/test/harness"
)

var updateKit = flag.Bool("update-p11kit", false, "write the table of mechanisms of docs/guides/pkcs11.md again")

// kit is an agent that speaks p11-kit's protocol, and the module that does.
type kit struct {
	*harness.Agent
	module, door string
	address      string // of the door, as the module has it
}

// startKit starts an agent with the keys of a server; token is its own.
func startKit(t *testing.T, s *harness.Server, token string) *kit {
	t.Helper()
	found, err := filepath.Glob("/usr/lib*/{,*/}pkcs11/p11-kit-client.so")
	if err != nil || len(found) == 0 {
		found, _ = filepath.Glob("/usr/lib/*/pkcs11/p11-kit-client.so")
	}
	if len(found) == 0 {
		t.Skip("p11-kit-client.so is not installed (Debian package p11-kit-modules)")
	}
	dir := t.TempDir()
	k := &kit{Agent: &harness.Agent{Socket: filepath.Join(dir, "agent.sock"), Config: filepath.Join(dir, "agent.toml")},
		module: found[0], door: filepath.Join(dir, "p11 kit;1.sock")}
	text := fmt.Sprintf("socket = %q\np11kit_socket = %q\n[server]\naddresses = [%q]\n[log]\nlevel = \"debug\"\n", k.Socket, k.door, s.Addr)
	if token != "" {
		file := filepath.Join(dir, "token")
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("[token]\nsource = \"file\"\nfile = %q\n", file)
	}
	if err := os.WriteFile(k.Config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	k.Start(t)
	environment, err := exec.Command(harness.Binary(t), "agent", "--config", k.Config, "--print-environment").Output()
	if err != nil {
		t.Fatal(err)
	}
	address, err := exec.Command("sh", "-c", `eval "$1"; printf %s "$P11_KIT_SERVER_ADDRESS"`, "sh", string(environment)).Output()
	if err != nil || len(address) == 0 {
		t.Fatalf("the environment is %s, %v", environment, err)
	}
	k.address = string(address)
	return k
}

func (k *kit) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "P11_KIT_SERVER_ADDRESS="+k.address, "PKCS11_MODULE_PATH="+k.module)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// run runs a program that loads p11-kit-client.so.
func (k *kit) run(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	out, err := k.command(name, args...).CombinedOutput()
	return string(out), err
}

// tool runs pkcs11-tool, which must succeed.
func (k *kit) tool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := k.run(t, "pkcs11-tool", append([]string{"--module", k.module}, args...)...)
	if err != nil {
		t.Fatalf("pkcs11-tool %s: %v\n%s\n%s", strings.Join(args, " "), err, out, k.Log())
	}
	return out
}

// makeKeys makes keys of the types, named after them.
func makeKeys(t *testing.T, s *harness.Server, types ...string) {
	t.Helper()
	for _, typ := range types {
		s.OK(t, "POST", "transit/keys/"+typ, map[string]any{"type": typ})
	}
}

// TestP11Kit: programs with the stock module find, test and use keys.
func TestP11Kit(t *testing.T) {
	t.Parallel()
	s := harness.Dev(t)
	makeKeys(t, s, "rsa-2048", "ecdsa-p256", "ecdsa-p384", "hmac")
	k := startKit(t, s, "")
	login := []string{"--login", "--pin", s.RootToken}
	if out := k.tool(t, "-L"); !strings.Contains(out, "token label        : claviger\n") || !strings.Contains(out, "login required") {
		t.Errorf("slots:\n%s", out)
	}
	if out := k.tool(t, "-O"); strings.Contains(out, "Object") {
		t.Errorf("without a login it shows\n%s", out)
	}
	list := k.tool(t, append(login, "-O")...)
	for _, want := range []string{"label:      rsa-2048\n", "label:      ecdsa-p384\n", "Secret Key Object; Generic secret length 32", "Public Key Object; RSA 2048 bits"} {
		if !strings.Contains(list, want) {
			t.Errorf("the list lacks %q:\n%s", want, list)
		}
	}
	if out := k.tool(t, append(login, "--test")...); !strings.Contains(out, "No errors") {
		t.Errorf("--test:\n%s", out)
	}
	if out, err := k.run(t, "pkcs11-tool", "--module", k.module, "--login", "--pin", "wrong", "-O"); err == nil || !strings.Contains(out, "CKR_PIN_INCORRECT") {
		t.Errorf("a wrong PIN: %v\n%s", err, out)
	}
	k.signs(t, s, list, login)
	k.makes(t, s, login)
	out, err := k.run(t, "p11tool", "--provider", k.module, "--login", "--set-pin", s.RootToken, "--list-all", "pkcs11:token=claviger")
	if err != nil || strings.Count(out, "Object ") != 7 || !strings.Contains(out, "Type: Private key (RSA-2048)") {
		t.Errorf("p11tool --list-all: %v\n%s", err, out)
	}
	if strings.Contains(k.Log(), s.RootToken) {
		t.Error("the client token stands in the agent's log")
	}
}

// idOf finds the CKA_ID of a label in a list of pkcs11-tool.
func idOf(t *testing.T, list, label string) string {
	t.Helper()
	m := regexp.MustCompile(`label:      ` + regexp.QuoteMeta(label) + `\n\s+ID:\s+([0-9a-f]+)`).FindStringSubmatch(list)
	if m == nil {
		t.Fatalf("no ID of %s in\n%s", label, list)
	}
	return m[1]
}

// signs signs by RSA, PSS and ECDSA, and decrypts; what Go verifies is right.
func (k *kit) signs(t *testing.T, s *harness.Server, list string, login []string) {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	data := []byte("what is signed")
	digest := sha256.Sum256(data)
	for name, content := range map[string][]byte{"data": data, "digest": digest[:]} {
		if err := os.WriteFile(file(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	public := func(label string) any {
		versions := s.OK(t, "GET", "transit/keys/"+label, nil)["keys"].(map[string]any)
		block, _ := pem.Decode([]byte(versions["1"].(map[string]any)["public_key"].(string)))
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	sign := func(label, mechanism, from string, more ...string) []byte {
		k.tool(t, append(append(login, "--sign", "--id", idOf(t, list, label), "-m", mechanism, "-i", file(from), "-o", file("sig")), more...)...)
		sig, err := os.ReadFile(file("sig"))
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	r := public("rsa-2048").(*rsa.PublicKey)
	if err := rsa.VerifyPKCS1v15(r, 5, digest[:], sign("rsa-2048", "SHA256-RSA-PKCS", "data")); err != nil {
		t.Error(err)
	}
	k.tool(t, append(login, "--verify", "--id", idOf(t, list, "rsa-2048"), "-m", "SHA256-RSA-PKCS", "-i", file("data"), "--signature-file", file("sig"))...)
	if err := rsa.VerifyPSS(r, 5, digest[:], sign("rsa-2048", "RSA-PKCS-PSS", "digest", "--hash-algorithm", "SHA256"), nil); err != nil {
		t.Error(err)
	}
	for _, label := range []string{"ecdsa-p256", "ecdsa-p384"} {
		if !ecdsa.VerifyASN1(public(label).(*ecdsa.PublicKey), digest[:], sign(label, "ECDSA", "digest", "--signature-format", "openssl")) {
			t.Errorf("the signature by %s is wrong", label)
		}
	}
	k.tool(t, append(login, "--sign", "--id", idOf(t, list, "hmac"), "-m", "SHA256-HMAC", "-i", file("data"), "-o", file("mac"))...)
	if st, err := os.Stat(file("mac")); err != nil || st.Size() != 32 {
		t.Errorf("HMAC: %v", err)
	}
}

// makes makes a pair, a certificate and data, and destroys them.
func (k *kit) makes(t *testing.T, s *harness.Server, login []string) {
	t.Helper()
	k.tool(t, append(login, "--keypairgen", "--key-type", "EC:prime256v1", "--label", "made", "--id", "aabb")...)
	if typ := s.OK(t, "GET", "transit/keys/made", nil)["type"]; typ != "ecdsa-p256" {
		t.Errorf("a key of type %v was made", typ)
	}
	k.tool(t, append(login, "--delete-object", "--type", "privkey", "--id", "aabb")...)
	if status, _ := s.Do(t, "GET", "transit/keys/made", nil); status != 404 {
		t.Errorf("the key that was destroyed: %d", status)
	}
	note := filepath.Join(t.TempDir(), "note")
	if err := os.WriteFile(note, []byte("a note"), 0o600); err != nil {
		t.Fatal(err)
	}
	k.tool(t, append(login, "--write-object", note, "--type", "data", "--label", "note")...)
	back := note + ".back"
	k.tool(t, append(login, "--read-object", "--type", "data", "--label", "note", "-o", back)...)
	if b, err := os.ReadFile(back); err != nil || string(b) != "a note" {
		t.Errorf("data: %q, %v", b, err)
	}
	k.tool(t, append(login, "--delete-object", "--type", "data", "--label", "note")...)
}

// TestP11KitConnections: programs are served while a hundred others are connected and
// say nothing, half of something or nonsense.
func TestP11KitConnections(t *testing.T) {
	t.Parallel()
	s := harness.Dev(t)
	makeKeys(t, s, "ecdsa-p256")
	k := startKit(t, s, s.RootToken)
	for i := range 100 {
		conn, err := net.Dial("unix", k.door)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte{byte(i % 3), 0, 0, 0, byte(i)}[:i%6]); err != nil {
			t.Fatal(err)
		}
	}
	if out := k.tool(t, "-O", "--type", "privkey"); !strings.Contains(out, "ecdsa-p256") {
		t.Errorf("the agent's own token shows\n%s", out)
	}
}

// tlsServer is openssl s_server with a key behind the engine pkcs11.
type tlsServer struct{ address, ca string }

func (k *kit) serveTLS(t *testing.T, key string) *tlsServer {
	t.Helper()
	if found, _ := filepath.Glob("/usr/lib/*/engines-3/pkcs11.so"); len(found) == 0 {
		t.Skip("OpenSSL has no engine pkcs11 (Debian package libengine-pkcs11-openssl)")
	}
	certificate := filepath.Join(t.TempDir(), "certificate.pem")
	out, err := k.run(t, "openssl", "req", "-x509", "-new", "-engine", "pkcs11", "-keyform", "engine", "-key", key, "-subj", "/CN=localhost",
		"-addext", "subjectAltName=DNS:localhost", "-days", "2", "-out", certificate)
	if err != nil {
		t.Fatalf("openssl req: %v\n%s\n%s", err, out, k.Log())
	}
	port := fixedPort(t)
	cmd := k.command("openssl", "s_server", "-engine", "pkcs11", "-keyform", "engine", "-key", key, "-cert", certificate, "-accept", port, "-www")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", port); err == nil {
			conn.Close()
			return &tlsServer{port, certificate}
		}
		if time.Now().After(deadline) {
			t.Fatal("s_server does not listen")
		}
	}
}

// handshake lets curl connect.
func (s *tlsServer) handshake(t *testing.T) error {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	_, port, _ := net.SplitHostPort(s.address)
	out, err := exec.Command("curl", "-sS", "--max-time", "40", "--cacert", s.ca, "--resolve", "localhost:"+port+":127.0.0.1", "https://localhost:"+port+"/").CombinedOutput()
	if err == nil && !strings.Contains(string(out), "TLSv1.3") {
		err = errors.New("no answer of s_server")
	}
	if err != nil {
		return fmt.Errorf("%w: %.300s", err, out)
	}
	return nil
}

// TestP11KitTLS: OpenSSL serves TLS with keys behind the stock module. It goes on
// after a restart of the server; after one of the agent the module is of no use until
// its program starts again, which docs/guides/pkcs11.md says.
func TestP11KitTLS(t *testing.T) {
	t.Parallel()
	address := fixedPort(t)
	s := harness.SoftHSM(t, harness.Options{Address: address})
	makeKeys(t, s, "ecdsa-p256", "rsa-2048")
	k := startKit(t, s, s.RootToken)
	var servers []*tlsServer
	for _, label := range []string{"ecdsa-p256", "rsa-2048"} {
		servers = append(servers, k.serveTLS(t, "pkcs11:token=claviger;object="+label+";type=private"))
	}
	all := func(what string) {
		t.Helper()
		for _, server := range servers {
			if err := server.handshake(t); err != nil {
				t.Errorf("%s: %v\n%s", what, err, k.Log())
			}
		}
	}
	all("at first")
	s.Kill()
	ended := make(chan error, 1)
	go func() { ended <- servers[0].handshake(t) }()
	s.Start(t)
	s.Unseal(t, s.Shares...)
	if err := <-ended; err != nil {
		t.Errorf("while the server starts: %v", err)
	}
	all("after a restart of the server")
	k.Stop()
	if out, err := k.run(t, "pkcs11-tool", "--module", k.module, "-L"); !strings.Contains(out, "No slots") {
		t.Errorf("without an agent: %v\n%s", err, out)
	}
	k.Start(t)
	if err := servers[0].handshake(t); err == nil {
		t.Error("p11-kit-client.so goes on after a restart of the agent: the guide says it does not")
	}
	servers = []*tlsServer{k.serveTLS(t, "pkcs11:token=claviger;object=ecdsa-p256;type=private")}
	all("after a restart of the program")
}

// TestP11KitMechanisms compares the guide with what the stock module lets through.
func TestP11KitMechanisms(t *testing.T) {
	t.Parallel()
	const guide = "../../docs/guides/pkcs11.md"
	s := harness.Dev(t)
	k := startKit(t, s, s.RootToken)
	out, err := k.run(t, "p11tool", "--provider", k.module, "--list-mechanisms", "pkcs11:token=claviger")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	shown := map[uint64]bool{}
	for _, m := range regexp.MustCompile(`\[0x([0-9a-f]+)\]`).FindAllStringSubmatch(out, -1) {
		n, err := strconv.ParseUint(m[1], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		shown[n] = true
	}
	through, stopped := split(t, k, shown)
	text, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "| let through | mechanisms |\n|---|---|\n", "\n\n"
	before, rest, ok := strings.Cut(string(text), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the guide has no table of mechanisms")
	}
	table := "| yes | " + strings.Join(through, ", ") + " |\n| no | " + strings.Join(stopped, ", ") + " |"
	if *updateKit {
		if err := os.WriteFile(guide, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	version, _ := exec.Command("dpkg-query", "-W", "-f", "${Version}", "p11-kit-modules").Output()
	if !strings.HasPrefix(string(version), "0.24.1") {
		t.Skipf("the guide speaks of p11-kit 0.24.1, not %q; it lets through %s", version, through)
	}
	if old != table {
		t.Errorf("the guide says\n%s\nnot\n%s\n(-update-p11kit writes it)", old, table)
	}
}

// split names what the agent offers, by whether the module shows it.
func split(t *testing.T, k *kit, shown map[uint64]bool) (through, stopped []string) {
	t.Helper()
	r, err := pkcs11Dial(t, k.Socket, "").Do(pkcs11.OpInfo, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		r.Bytes()
	}
	r.Take(3, "version and flags")
	numbers := []uint64{pkcs11.CKM_SHA_1, pkcs11.CKM_SHA224, pkcs11.CKM_SHA256, pkcs11.CKM_SHA384, pkcs11.CKM_SHA512}
	for range r.U32() {
		numbers = append(numbers, r.U64())
		r.Take(16, "sizes and flags")
	}
	if err := r.End(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		name, ok := mechanismNames[n]
		switch {
		case !ok:
			t.Errorf("mechanism 0x%x has no name here", n)
		case shown[n]:
			through = append(through, name)
		default:
			stopped = append(stopped, name)
		}
		delete(shown, n)
	}
	if len(shown) > 0 {
		t.Errorf("the module shows what is not offered: %v", shown)
	}
	return through, stopped
}

var mechanismNames = map[uint64]string{
	pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN: "CKM_RSA_PKCS_KEY_PAIR_GEN", pkcs11.CKM_RSA_PKCS: "CKM_RSA_PKCS", pkcs11.CKM_RSA_PKCS_OAEP: "CKM_RSA_PKCS_OAEP",
	pkcs11.CKM_SHA1_RSA_PKCS: "CKM_SHA1_RSA_PKCS", pkcs11.CKM_SHA224_RSA_PKCS: "CKM_SHA224_RSA_PKCS", pkcs11.CKM_SHA256_RSA_PKCS: "CKM_SHA256_RSA_PKCS",
	pkcs11.CKM_SHA384_RSA_PKCS: "CKM_SHA384_RSA_PKCS", pkcs11.CKM_SHA512_RSA_PKCS: "CKM_SHA512_RSA_PKCS", pkcs11.CKM_RSA_PKCS_PSS: "CKM_RSA_PKCS_PSS",
	pkcs11.CKM_SHA1_RSA_PKCS_PSS: "CKM_SHA1_RSA_PKCS_PSS", pkcs11.CKM_SHA224_RSA_PKCS_PSS: "CKM_SHA224_RSA_PKCS_PSS",
	pkcs11.CKM_SHA256_RSA_PKCS_PSS: "CKM_SHA256_RSA_PKCS_PSS", pkcs11.CKM_SHA384_RSA_PKCS_PSS: "CKM_SHA384_RSA_PKCS_PSS",
	pkcs11.CKM_SHA512_RSA_PKCS_PSS: "CKM_SHA512_RSA_PKCS_PSS", pkcs11.CKM_EC_KEY_PAIR_GEN: "CKM_EC_KEY_PAIR_GEN",
	pkcs11.CKM_EC_EDWARDS_KEY_PAIR_GEN: "CKM_EC_EDWARDS_KEY_PAIR_GEN", pkcs11.CKM_ECDSA: "CKM_ECDSA", pkcs11.CKM_ECDSA_SHA1: "CKM_ECDSA_SHA1",
	pkcs11.CKM_ECDSA_SHA224: "CKM_ECDSA_SHA224", pkcs11.CKM_ECDSA_SHA256: "CKM_ECDSA_SHA256", pkcs11.CKM_ECDSA_SHA384: "CKM_ECDSA_SHA384",
	pkcs11.CKM_ECDSA_SHA512: "CKM_ECDSA_SHA512", pkcs11.CKM_ECDH1_DERIVE: "CKM_ECDH1_DERIVE", pkcs11.CKM_EDDSA: "CKM_EDDSA",
	pkcs11.CKM_AES_KEY_GEN: "CKM_AES_KEY_GEN", pkcs11.CKM_AES_CBC: "CKM_AES_CBC", pkcs11.CKM_AES_CBC_PAD: "CKM_AES_CBC_PAD", pkcs11.CKM_AES_GCM: "CKM_AES_GCM",
	pkcs11.CKM_GENERIC_SECRET_KEY_GEN: "CKM_GENERIC_SECRET_KEY_GEN",
	pkcs11.CKM_SHA_1:                  "CKM_SHA_1", pkcs11.CKM_SHA224: "CKM_SHA224", pkcs11.CKM_SHA256: "CKM_SHA256", pkcs11.CKM_SHA384: "CKM_SHA384",
	pkcs11.CKM_SHA512: "CKM_SHA512", pkcs11.CKM_SHA_1_HMAC: "CKM_SHA_1_HMAC", pkcs11.CKM_SHA224_HMAC: "CKM_SHA224_HMAC",
	pkcs11.CKM_SHA256_HMAC: "CKM_SHA256_HMAC", pkcs11.CKM_SHA384_HMAC: "CKM_SHA384_HMAC", pkcs11.CKM_SHA512_HMAC: "CKM_SHA512_HMAC",
	pkcs11.CKM_SHA_1_HMAC_GENERAL: "CKM_SHA_1_HMAC_GENERAL", pkcs11.CKM_SHA224_HMAC_GENERAL: "CKM_SHA224_HMAC_GENERAL",
	pkcs11.CKM_SHA256_HMAC_GENERAL: "CKM_SHA256_HMAC_GENERAL", pkcs11.CKM_SHA384_HMAC_GENERAL: "CKM_SHA384_HMAC_GENERAL",
	pkcs11.CKM_SHA512_HMAC_GENERAL: "CKM_SHA512_HMAC_GENERAL",
}
