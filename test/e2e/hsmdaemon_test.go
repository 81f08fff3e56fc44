package e2e

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/test/harness"
)

const (
	jwtSecret = "7a7d1826-b514-4d9f-afc7-a7485084e8de"
	daemonPIN = "1234"
)

// hsmdaemon is this program under the name of hsmdaemon, with a token that
// softhsm2-util made.
type hsmdaemon struct {
	t      *testing.T
	dir    string
	link   string
	config string
	env    []string
	module string

	cmd  *exec.Cmd
	done chan error
}

func newHSMDaemon(t *testing.T, more string) *hsmdaemon {
	t.Helper()
	module, env := tokentest.SoftHSM(t)
	d := &hsmdaemon{t: t, dir: t.TempDir(), module: module, env: append(os.Environ(), env...)}
	d.link = filepath.Join(d.dir, "hsmdaemon")
	if err := os.Symlink(harness.Binary(t), d.link); err != nil {
		t.Fatal(err)
	}
	initToken(t, env, daemonPIN)
	d.config = filepath.Join(d.dir, "hsmdaemon.toml")
	d.configure(fmt.Sprintf("module = %q\n", module), "")
	slot := regexp.MustCompile(`(?m)^Slot: (\d+),$`).FindStringSubmatch(d.run("", "listslots"))
	if slot == nil {
		t.Fatal("listslots shows no slot")
	}
	d.configure(fmt.Sprintf("module = %q\npin = %q\nslot = %s\n", module, daemonPIN, slot[1]), more)
	return d
}

func (d *hsmdaemon) log() string { return filepath.Join(d.dir, "hsm.log") }

func (d *hsmdaemon) configure(pkcs11, more string) {
	d.t.Helper()
	text := fmt.Sprintf("[logger]\nlevel = \"debug\"\npath = %q\nencoding = \"json\"\n[server]\nhostname = \"localhost\"\nport = 0\nstate = %q\n[jwt]\nsecret = %q\n[pkcs11]\n%s%s",
		d.log(), filepath.Join(d.dir, "state"), jwtSecret, pkcs11, more)
	if err := os.WriteFile(d.config, []byte(text), 0o640); err != nil {
		d.t.Fatal(err)
	}
}

func (d *hsmdaemon) command(stdin string, args ...string) *exec.Cmd {
	cmd := exec.Command(d.link, append(args, "--config", d.config)...)
	cmd.Env = d.env
	cmd.Stdin = strings.NewReader(stdin)
	return cmd
}

// run runs a command that must succeed, and returns its standard output.
func (d *hsmdaemon) run(stdin string, args ...string) string {
	d.t.Helper()
	cmd := d.command(stdin, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		d.t.Fatalf("hsmdaemon %q: %v\n%s%s", args, err, out, errs.Bytes())
	}
	return string(out)
}

// ended runs a command that ends by itself, and returns its output. One that serves
// instead is asked to end after a minute.
func ended(cmd *exec.Cmd) ([]byte, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer late.Stop()
	err := cmd.Wait()
	return out.Bytes(), err
}

// fails runs a command that must fail, and returns what it says.
func (d *hsmdaemon) fails(args ...string) string {
	d.t.Helper()
	out, err := ended(d.command("", args...))
	if err == nil {
		d.t.Errorf("hsmdaemon %q succeeds: %s", args, out)
	}
	return string(out)
}

// logged returns the entries of the log that have a message.
func (d *hsmdaemon) logged(message string) []map[string]any {
	d.t.Helper()
	text, err := os.ReadFile(d.log())
	if err != nil {
		d.t.Fatal(err)
	}
	var found []map[string]any
	for line := range strings.Lines(string(text)) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			d.t.Fatalf("the log line %q: %v", line, err)
		}
		if entry["msg"] == message {
			found = append(found, entry)
		}
	}
	return found
}

// start runs the daemon in the foreground, as the service does, and returns the
// host and port at which it listens.
func (d *hsmdaemon) start() string {
	d.t.Helper()
	before := len(d.logged("Server listening"))
	d.cmd = d.command("")
	var out bytes.Buffer
	d.cmd.Stdout, d.cmd.Stderr = &out, &out
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.done = make(chan error, 1)
	go func(cmd *exec.Cmd, done chan error) { done <- cmd.Wait() }(d.cmd, d.done)
	d.t.Cleanup(func() { d.stop(syscall.SIGTERM) })
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if entries := d.logged("Server listening"); len(entries) > before {
			return strings.TrimPrefix(entries[len(entries)-1]["address"].(string), "http://")
		}
		select {
		case err := <-d.done:
			d.done <- err
			d.t.Fatalf("the daemon ended: %v\n%s", err, out.Bytes())
		default:
		}
	}
	d.t.Fatal("the daemon does not listen")
	return ""
}

func (d *hsmdaemon) stop(signal syscall.Signal) {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Signal(signal)
	select {
	case <-d.done:
	case <-time.After(20 * time.Second):
		d.t.Error("the daemon does not end")
		_ = d.cmd.Process.Kill()
		<-d.done
	}
	d.cmd = nil
}

// php runs the client's side.
func (d *hsmdaemon) php(server, secret, stdin string, args ...string) (status, body string) {
	d.t.Helper()
	cmd := exec.Command(needPHP(d.t), append([]string{"testdata/owncloud.php", server, secret}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Fatalf("php %q: %v\n%s", args, err, out)
	}
	status, body, _ = strings.Cut(string(out), "\n")
	return status, body
}

func needPHP(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("php")
	if err != nil {
		t.Skip("PHP is not installed (Debian package php-cli)")
	}
	return path
}

var idLine = regexp.MustCompile(`^Id: ([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}), label: (.*)$`)

// TestHSMDaemonCommands runs the commands that hsmdaemon's documents show.
func TestHSMDaemonCommands(t *testing.T) {
	t.Parallel()
	d := newHSMDaemon(t, "")
	slots := d.run("", "listslots")
	for _, line := range []string{"Available slots:\nSlot: ", "\nSlot info:\nDescription: SoftHSM slot ID ", "\nToken info:\nManufacturer ID: SoftHSM project\n",
		"\nLabel: claviger-test\n", "\nMaxPinLen: 255\n", "\nFlags: CKF_RNG CKF_LOGIN_REQUIRED"} {
		if !strings.Contains(slots, line) {
			t.Errorf("listslots lacks %q:\n%s", line, slots)
		}
	}
	made := d.run("", "genkey", "test")
	first, public, _ := strings.Cut(made, "\n")
	m := idLine.FindStringSubmatch(first)
	if m == nil || m[2] != "test" {
		t.Fatalf("genkey prints %q", made)
	}
	id := m[1]
	block, rest := pem.Decode([]byte(public))
	if block == nil || len(rest) != 0 {
		t.Fatalf("genkey prints %q", made)
	}
	if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil || len(block.Bytes) != 294 {
		t.Errorf("public key of %d bytes: %v", len(block.Bytes), err)
	}
	if got := d.run("", "showkey", id); got != public {
		t.Errorf("showkey prints %q, genkey %q", got, public)
	}
	logged := d.logged("generated keypair")
	if len(logged) != 1 || logged[0]["tokenID"] != id || logged[0]["level"] != "debug" {
		t.Errorf("the log says %v", logged)
	}
	for _, text := range []string{"Zm9vYmFy", "SGVsbG8sIHdvcmxkIQo="} {
		ciphertext := strings.TrimSuffix(d.run("", "encrypt", id, text), "\n")
		if len(ciphertext) != 344 {
			t.Errorf("a ciphertext has %d characters", len(ciphertext))
		}
		if got := d.run("", "decrypt", id, ciphertext); got != text+"\n" {
			t.Errorf("decrypt prints %q", got)
		}
		if got := d.run(ciphertext+"\n", "decrypt", id, "-"); got != text+"\n" {
			t.Errorf("decrypt of standard input prints %q", got)
		}
	}
	objects := d.tool("-O")
	if !strings.Contains(objects, "ID:         "+strings.ReplaceAll(id, "-", "")) || !strings.Contains(objects, "label:      test") {
		t.Errorf("the token shows %s", objects)
	}
	const nobody = "11111111-1111-4111-8111-111111111111"
	for _, args := range [][]string{{"showkey", nobody}, {"encrypt", nobody, "Zm9v"}, {"decrypt", nobody, "Zm9v"}} {
		if said := d.fails(args...); !strings.Contains(said, "there is no key "+nobody) {
			t.Errorf("%q: %s", args, said)
		}
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{"must be base64", []string{"encrypt", id, "no base64"}},
		{"must be base64", []string{"decrypt", id, "Zm9vYmFy="}},
		{"LABEL", []string{"genkey"}},
		{"at most 245", []string{"encrypt", id, base64.StdEncoding.EncodeToString(make([]byte, 246))}},
	} {
		if said := d.fails(c.args...); !strings.Contains(said, c.want) {
			t.Errorf("%q: %s, want %q", c.args, said, c.want)
		}
	}
}

func (d *hsmdaemon) tool(args ...string) string {
	d.t.Helper()
	return string(tokentest.Tool(d.t, d.module, "claviger-test", daemonPIN, d.env, args...))
}

// TestHSMDaemonPHP drives the daemon with requests built as the PHP client does.
func TestHSMDaemonPHP(t *testing.T) {
	t.Parallel()
	needPHP(t)
	d := newHSMDaemon(t, "")
	server := d.start()
	status, body := d.php(server, jwtSecret, "", "new")
	var pair struct{ PublicKey, PrivateKeyID string }
	if err := json.Unmarshal([]byte(body), &pair); err != nil || status != "200" || len(pair.PrivateKeyID) != 36 {
		t.Fatalf("new key: %s %s", status, body)
	}
	if status, body := d.php(server, jwtSecret, "", "roundtrip"); status != "200" || body != "same 256 193" {
		t.Errorf("round trip: %s %q", status, body)
	}
	// The command works beside the running daemon, on the same keys.
	hello := base64.StdEncoding.EncodeToString([]byte("Hello, world!\n"))
	ciphertext := strings.TrimSpace(d.run("", "encrypt", pair.PrivateKeyID, hello))
	if status, body := d.php(server, jwtSecret, ciphertext, "occ", pair.PrivateKeyID); status != "200" || body != "decrypted string (base64 encoded): '"+hello+"'" {
		t.Errorf("occ: %s %s", status, body)
	}
	raw, err := base64.StdEncoding.DecodeString(ciphertext)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := d.php(server, jwtSecret, string(raw), "decrypt", pair.PrivateKeyID); status != "200" || body != "Hello, world!\n" {
		t.Errorf("decrypt: %s %q", status, body)
	}
	for name, c := range map[string]struct{ secret, body, key, status string }{
		"other secret":   {"secret", string(raw), pair.PrivateKeyID, "401"},
		"unknown key":    {jwtSecret, string(raw), "11111111-1111-4111-8111-111111111111", "404"},
		"no ciphertext":  {jwtSecret, "short", pair.PrivateKeyID, "500"},
		"above modulus":  {jwtSecret, strings.Repeat("\xff", 256), pair.PrivateKeyID, "500"},
		"oversized body": {jwtSecret, strings.Repeat("x", 1<<17), pair.PrivateKeyID, "413"},
	} {
		if status, body := d.php(server, c.secret, c.body, "decrypt", c.key); status != c.status {
			t.Errorf("%s: %s %s", name, status, body)
		}
	}
	for _, message := range []string{"Got uuid", "Decrypted", "generated keypair"} {
		if len(d.logged(message)) == 0 {
			t.Errorf("the log lacks %q", message)
		}
	}
}

// TestHSMDaemonKeepsKeys: what was acknowledged is there after kill -9.
func TestHSMDaemonKeepsKeys(t *testing.T) {
	t.Parallel()
	needPHP(t)
	d := newHSMDaemon(t, "")
	server := d.start()
	_, body := d.php(server, jwtSecret, "", "new")
	d.stop(syscall.SIGKILL)
	var pair struct{ PrivateKeyID string }
	if err := json.Unmarshal([]byte(body), &pair); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	ciphertext := strings.TrimSpace(d.run("", "encrypt", pair.PrivateKeyID, "Zm9vYmFy"))
	if status, body := d.php(d.start(), jwtSecret, ciphertext, "occ", pair.PrivateKeyID); status != "200" || !strings.Contains(body, "'Zm9vYmFy'") {
		t.Errorf("%s %s", status, body)
	}
}

// TestHSMDaemonForeignKey: a key as the original makes it, with the UUID's bytes
// for CKA_ID, is usable at once. Key and ciphertext are published test data.
func TestHSMDaemonForeignKey(t *testing.T) {
	t.Parallel()
	needPHP(t)
	d := newHSMDaemon(t, "")
	const id = "1262668f-d09b-11eb-b283-960000c05f34"
	block, _ := pem.Decode(readFile(t, "testdata/published-test-key.pem"))
	der := filepath.Join(d.dir, "key.der")
	if err := os.WriteFile(der, block.Bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	d.tool("--write-object", der, "--type", "privkey", "--id", strings.ReplaceAll(id, "-", ""), "--label", "master", "--usage-decrypt")
	const ciphertext = "JuTg6tQ3R6Yxvu/wzmRX/lJY5V44/MqYDw6dMhoyK1gde5zDqBWQookOWgcJziypZjMYMigHvxVeDbgr4kovse2kHvXFDgKSrCOVR1o/po38y56I/1eKByQ+3GTp2fuD5sr91JL7xk71vlj7KL+YKbb0A2XGXTQZcCk5tVDff3igIs1tm0jHINlBLHBLE059pqsPRmyaR0xDXMovmwZZUZBK2hsX/iQVQ4J0qYQQ1R8N52hFZTIKyFh8jWV4wIPL4291wtB5hoBfR1aVzD4Tt4fuFU0tniVoKLW2OTVFmhNfU97MtgkJdBK0h5eZMwAsBYLfBEvSyESVi1YDrmIj6A=="
	server := d.start()
	raw, err := base64.StdEncoding.DecodeString(ciphertext)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := d.php(server, jwtSecret, string(raw), "decrypt", id); status != "200" || body != "foobar" {
		t.Errorf("%s %q", status, body)
	}
	if found := d.logged("found object"); len(found) != 1 || !strings.HasPrefix(found[0]["id"].(string), "\u0012bf") {
		t.Errorf("the log says %v", found)
	}
	if got := d.run("", "decrypt", id, ciphertext); got != "Zm9vYmFy\n" {
		t.Errorf("decrypt prints %q", got)
	}
	if got := d.run("", "showkey", id); !strings.HasPrefix(got, "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAyBwd") {
		t.Errorf("showkey prints %s", got)
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestHSMDaemonLines: the line protocol on a unix and a TCP socket, with the
// section of docs/migrate/hsmdaemon.md.
func TestHSMDaemonLines(t *testing.T) {
	t.Parallel()
	d := newHSMDaemon(t, "")
	m := idLine.FindStringSubmatch(strings.SplitN(d.run("", "genkey", "master"), "\n", 2)[0])
	if m == nil {
		t.Fatal("genkey prints no id")
	}
	ciphertext := strings.TrimSpace(d.run("", "encrypt", m[1], "Zm9vYmFy"))
	socket, token := filepath.Join(d.dir, "line.sock"), filepath.Join(d.dir, "token")
	section := configurationOf(t, "../../docs/migrate/hsmdaemon.md", "line")
	shown := regexp.MustCompile(`(?m)^key = "(.*)"$`).FindStringSubmatch(section)
	if shown == nil {
		t.Fatalf("the guide names no key:\n%s", section)
	}
	section = strings.NewReplacer("/run/hsmdaemon/line.sock", socket, shown[1], m[1]).Replace(section)
	text := string(readFile(t, d.config)) + section + fmt.Sprintf("address = \"127.0.0.1:0\"\ntoken_file = %q\n", token)
	if err := os.WriteFile(d.config, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	d.start()
	var tcp string
	for _, entry := range d.logged("listening") {
		if entry["front"] == "hsmdaemon.line[1]" {
			tcp = strings.TrimPrefix(entry["address"].(string), "http://")
		}
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	secret := strings.TrimSpace(string(readFile(t, token)))
	for network, address := range map[string]string{"unix": socket, "tcp": tcp} {
		stranger, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer stranger.Close()
		fmt.Fprintf(stranger, "%s\r\n%s\r\n", strings.Repeat("x", len(secret)), ciphertext)
		if got, err := bufio.NewReader(stranger).ReadString('\n'); got != "ERROR wrong token\r\n" {
			t.Errorf("%s, another token: %q %v", network, got, err)
		}
		conn, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "%s\r\n%s\r\n", secret, ciphertext)
		r := bufio.NewReader(conn)
		for _, want := range []string{"OK\r\n", "Zm9vYmFy\r\n"} {
			if got, err := r.ReadString('\n'); got != want {
				t.Errorf("%s: %q %v, want %q", network, got, err, want)
			}
		}
	}
}

// TestHSMDaemonRefusesToStart: settings that can't be used are errors that say so.
func TestHSMDaemonRefusesToStart(t *testing.T) {
	t.Parallel()
	d := newHSMDaemon(t, "")
	good := string(readFile(t, d.config))
	for _, c := range []struct{ old, new, want string }{
		{jwtSecret, "secret", "everybody knows it"},
		{`secret = "` + jwtSecret + `"`, "", "no JWT secret"},
		{"port = 0", "prot = 0", `unknown key "server.prot"; did you mean "port"?`},
		{`pin = "1234"`, `pin = "4321"`, "refuses this PIN"},
		{`pin = "1234"`, `pin = "4321"`, "refused this PIN on"}, // it is not tried again
		{`pin = "1234"`, "", "has no PIN"},
		{"slot = ", "slot = 9", "has no slot 9"},
		{"libsofthsm2.so", "libnothing.so", "libnothing.so"},
	} {
		if err := os.WriteFile(d.config, []byte(strings.Replace(good, c.old, c.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if said := d.fails(); !strings.Contains(said, c.want) {
			t.Errorf("%s: says %s, want %q", c.new, said, c.want)
		}
	}
	if err := os.WriteFile(d.config, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	d.start()
}
