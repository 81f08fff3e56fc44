package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/internal/tpm/tpmtest"
	"github.com/claviger/claviger/test/harness"
)

// unsealerProcess is a running claviger unsealer.
type unsealerProcess struct {
	dir string
	cmd *exec.Cmd
	log *lockedBuffer
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// startUnsealer runs an unsealer with an interval of a second. share is the
// section of the configuration, without its name.
func startUnsealer(t *testing.T, share string, servers ...string) *unsealerProcess {
	t.Helper()
	u := &unsealerProcess{dir: t.TempDir(), log: &lockedBuffer{}}
	text := "interval = \"1s\"\ntimeout = \"5s\"\n[share]\n" + share + "\n[metrics]\naddress = \"127.0.0.1:0\"\n[log]\nlevel = \"debug\"\n"
	for _, address := range servers {
		text += fmt.Sprintf("[[server]]\naddress = %q\n", address)
	}
	config := filepath.Join(u.dir, "unsealer.toml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	u.cmd = exec.Command(harness.Binary(t), "unsealer", "--config", config)
	u.cmd.Stdout, u.cmd.Stderr = u.log, u.log
	u.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := u.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.stop)
	eventually(t, 10*time.Second, "the unsealer runs", func() bool { return strings.Contains(u.log.String(), "The unsealer runs") })
	return u
}

func (u *unsealerProcess) stop() {
	if u.cmd.ProcessState == nil {
		u.cmd.Process.Signal(syscall.SIGTERM)
		u.cmd.Wait()
	}
}

// fromFile is the section of a share in a file.
func fromFile(t *testing.T, share string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "share")
	if err := os.WriteFile(path, []byte(share+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("file = %q", path)
}

// fromTPM enrolls a share and returns the section that claviger printed.
func fromTPM(t *testing.T, p *tpmtest.TPM, share string, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	args := append([]string{"unsealer", "enroll", "--tpm", p.Device, "--out", filepath.Join(dir, "sealed"),
		"--password-file", filepath.Join(dir, "password"), "--generate-password"}, flags...)
	cmd := exec.Command(harness.Binary(t), args...)
	cmd.Stdin = strings.NewReader(share + "\n")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("enroll: %v\n%s", err, errs.String())
	}
	return strings.TrimPrefix(out.String(), "[share]\n")
}

func eventually(t *testing.T, within time.Duration, what string, is func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !is() {
		if time.Since(began) > within {
			t.Fatalf("within %v it did not come to pass that %s", within, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(began)
}

// sealStatus returns sealed and progress.
func sealStatus(t *testing.T, s *harness.Server) (sealed bool, progress int) {
	t.Helper()
	status, body := s.Do(t, "GET", "sys/seal-status", nil)
	if status != 200 {
		t.Fatalf("sys/seal-status: %d", status)
	}
	return body["sealed"].(bool), int(body["progress"].(float64))
}

// posts returns how often the share was sent, by outcome, as the metrics say.
func (u *unsealerProcess) posts(t *testing.T, outcome string) int {
	t.Helper()
	m := regexp.MustCompile(`http://127\.0\.0\.1:\d+/metrics`).FindString(u.log.String())
	resp, err := http.Get(m)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, m := range regexp.MustCompile(`(?m)^claviger_unsealer_shares_total\{outcome="`+outcome+`",.*\} (\d+)$`).FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// checkProtection looks at what keeps the share in the process.
func (u *unsealerProcess) checkProtection(t *testing.T) {
	t.Helper()
	read := func(name string) string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", u.cmd.Process.Pid, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).MatchString(read("limits")) {
		t.Errorf("core dumps are possible:\n%s", read("limits"))
	}
	if os.Geteuid() == 0 && regexp.MustCompile(`(?m)^VmLck:\s+0 kB$`).MatchString(read("status")) {
		t.Errorf("no memory is locked:\n%s", read("status"))
	}
}

// fixed gives a server that listens on a free port that port for all its starts.
func fixed(t *testing.T, s *harness.Server) {
	t.Helper()
	rewrite(t, s.Config, "127.0.0.1:0", strings.TrimPrefix(s.Addr, "http://"))
}

func rewrite(t *testing.T, path, old, replacement string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(old)) {
		t.Fatalf("%s has no %q", path, old)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(text, []byte(old), []byte(replacement)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// noShareIn fails if one of the shares, in hex or base64, is in a text.
func noShareIn(t *testing.T, what, text string, shares []string) {
	t.Helper()
	for i, share := range shares {
		raw, err := base64.StdEncoding.DecodeString(share)
		if err != nil {
			t.Fatal(err)
		}
		// From the value on: what is before is public.
		for _, form := range []string{share[24:], hex.EncodeToString(raw)[20:84], string(raw[10:42])} {
			if strings.Contains(text, form) {
				t.Errorf("share %d is in %s", i+1, what)
			}
		}
	}
}

// TestUnsealerSharesOnce: each unsealer gives its share once to an attempt; at
// the threshold the server is unsealed; hex and base64 serve alike.
func TestUnsealerSharesOnce(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{Sealed: true})
	waiting := startUnsealer(t, fromFile(t, strings.Repeat("ab", 33)), s.Addr)
	time.Sleep(2500 * time.Millisecond)
	if got := waiting.posts(t, ".*"); got != 0 || !strings.Contains(waiting.log.String(), "not initialised") {
		t.Errorf("%d shares were given to a server that is not initialised:\n%s", got, waiting.log)
	}
	s.Init(t, 5, 3)
	// Its share is none of this server: the refusal is logged, and it goes on.
	eventually(t, 10*time.Second, "a wrong share is refused twice", func() bool { return waiting.posts(t, "refused") >= 2 })
	if _, progress := sealStatus(t, s); progress != 0 {
		t.Errorf("progress %d by a wrong share", progress)
	}
	if !strings.Contains(waiting.log.String(), `"status":400`) || strings.Contains(waiting.log.String(), "abababab") {
		t.Errorf("log of the refusal:\n%s", waiting.log)
	}
	waiting.stop()

	raw, err := base64.StdEncoding.DecodeString(s.Shares[1])
	if err != nil {
		t.Fatal(err)
	}
	var all []*unsealerProcess
	for i, share := range []string{s.Shares[0], hex.EncodeToString(raw), s.Shares[2]} {
		u := startUnsealer(t, fromFile(t, share), s.Addr)
		all = append(all, u)
		eventually(t, 10*time.Second, fmt.Sprintf("share %d was accepted", i+1), func() bool { return u.posts(t, "accepted") == 1 })
		if i == 2 {
			break
		}
		time.Sleep(2 * time.Second) // further looks, without further posts
		if sealed, progress := sealStatus(t, s); !sealed || progress != i+1 {
			t.Errorf("after share %d: sealed %t, progress %d", i+1, sealed, progress)
		}
	}
	if sealed, progress := sealStatus(t, s); sealed || progress != 0 {
		t.Errorf("at the threshold: sealed %t, progress %d", sealed, progress)
	}
	all[0].checkProtection(t)
	// Sealing asks for the shares again.
	if status, _ := s.Do(t, "PUT", "sys/seal", nil); status != 204 {
		t.Errorf("sys/seal: %d", status)
	}
	eventually(t, 10*time.Second, "the server is unsealed again", func() bool { sealed, _ := sealStatus(t, s); return !sealed })
	for i, u := range all {
		if got := u.posts(t, ".*"); got != 2 {
			t.Errorf("unsealer %d gave its share %d times in two attempts:\n%s", i+1, got, u.log)
		}
		noShareIn(t, fmt.Sprintf("the log of unsealer %d", i+1), u.log.String(), s.Shares)
	}
}

// rounds is how often each server is killed, and how long it may stay sealed. The
// full form, CLAVIGER_TEST_UNSEAL_ROUNDS=50, is for a machine without other work:
// what is beyond the interval of a second is the time of the unsealing itself.
func rounds() (int, time.Duration) {
	n, err := strconv.Atoi(os.Getenv("CLAVIGER_TEST_UNSEAL_ROUNDS"))
	if err != nil || n < 1 {
		return 3, 5 * time.Second
	}
	return n, 1500 * time.Millisecond
}

// TestUnsealersKeepServersUnsealed: a primary and its backup on a SoftHSM2 token
// each, three unsealers of which two are needed, one with its share in a TPM.
func TestUnsealersKeepServersUnsealed(t *testing.T) {
	t.Parallel()
	p := tpmtest.New(t)
	primary := harness.SoftHSM(t, harness.Options{Shares: 3, Threshold: 2})
	fixed(t, primary)
	backup := copyOf(t, primary)
	servers := []*harness.Server{primary, backup}
	for _, s := range servers {
		s.Kill()
		s.Start(t)
	}
	addresses := []string{primary.Addr, backup.Addr}

	first := startUnsealer(t, fromTPM(t, p, primary.Shares[0], "--pcr", "7"), addresses...)
	time.Sleep(3 * time.Second)
	for _, s := range servers {
		if sealed, progress := sealStatus(t, s); !sealed || progress != 1 {
			t.Fatalf("with one unsealer: sealed %t, progress %d\n%s", sealed, progress, first.log)
		}
	}
	all := []*unsealerProcess{first,
		startUnsealer(t, fromFile(t, primary.Shares[1]), addresses...), startUnsealer(t, fromFile(t, primary.Shares[2]), addresses...)}
	for _, s := range servers {
		eventually(t, 10*time.Second, "all are unsealed", func() bool { sealed, _ := sealStatus(t, s); return !sealed })
	}
	var longest, sum time.Duration
	logs := ""
	n, within := rounds()
	for range n {
		for _, s := range servers {
			logs += s.Log()
			s.Kill()
			s.Start(t)
			took := eventually(t, within, "the server is unsealed", func() bool { sealed, _ := sealStatus(t, s); return !sealed })
			longest, sum = max(longest, took), sum+took
		}
	}
	t.Logf("%d restarts: unsealed after %v on average, %v at most; the interval is 1 s", 2*n, sum/time.Duration(2*n), longest)
	if status, _ := primary.Do(t, "GET", "sys/mounts", nil); status != 200 {
		t.Errorf("the primary does not serve: %d", status)
	}
	for i, u := range all {
		u.stop()
		noShareIn(t, fmt.Sprintf("the log of unsealer %d", i+1), u.log.String(), primary.Shares)
	}
	for _, s := range servers {
		noShareIn(t, "a server's log", logs+s.Log(), primary.Shares)
		noShareIn(t, "an audit log", auditLog(t, s), primary.Shares)
	}
}

// copyOf makes the backup of a server from copies of its data and of its HSM
// token, as machines are cloned or restored. Both are stopped meanwhile.
func copyOf(t *testing.T, s *harness.Server) *harness.Server {
	t.Helper()
	module, env := tokentest.SoftHSM(t)
	b := harness.SoftHSM(t, harness.Options{Module: module, Env: env, Sealed: true})
	fixed(t, b)
	b.Kill()
	s.Kill()
	tokens := func(env []string) string {
		return filepath.Join(filepath.Dir(strings.TrimPrefix(env[0], "SOFTHSM2_CONF=")), "tokens")
	}
	for _, dirs := range [][2]string{{filepath.Join(s.Dir, "data"), filepath.Join(b.Dir, "data")}, {tokens(s.Env), tokens(env)}} {
		if err := os.RemoveAll(dirs[1]); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cp", "-a", dirs[0], dirs[1]).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	b.RootToken, b.Shares = s.RootToken, s.Shares
	for _, each := range []*harness.Server{s, b} {
		each.Start(t)
	}
	return b
}

func auditLog(t *testing.T, s *harness.Server) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.Dir, "data", "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
