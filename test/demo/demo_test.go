package demo

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/test/harness"
)

const demoScript = root + "/scripts/demo.sh"

var steps = []string{"1. Create a key", "2. Encrypt", "3. Decrypt", "4. Rotate", "5. Rewrap", "6. Sign", "7. Verify",
	"8. HMAC", "9. Data key", "10. Random"}

// tour runs the script and checks that it leaves no file and no server.
func tour(t *testing.T, binary string, env ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	cmd := command(t, time.Minute, environment(append([]string{"TMPDIR=" + dir}, env...)...), demoScript, binary)
	out, err := cmd.CombinedOutput()
	checkGone(t, dir, string(out))
	return string(out), err
}

var address = regexp.MustCompile(`127\.0\.0\.1:\d+`)

func checkGone(t *testing.T, dir, out string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("%v is left in the temporary directory", left)
	}
	if a := address.FindString(out); a != "" {
		if conn, err := net.Dial("tcp", a); err == nil {
			conn.Close()
			t.Errorf("the server at %s still runs", a)
		}
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	curl := need(t, "curl")
	dir := t.TempDir()
	arguments := filepath.Join(dir, "arguments")
	script(t, filepath.Join(dir, "curl"), `printf '%s\n' "$@" >>'`+arguments+`'; exec '`+curl+`' "$@"`)
	start := time.Now()
	out, err := tour(t, harness.Binary(t), "PATH="+dir+":"+os.Getenv("PATH"),
		"VAULT_ADDR=http://127.0.0.1:1", "CLAVIGER_CACERT=/nowhere", "http_proxy=http://127.0.0.1:1")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("the tour takes %v", took)
	}
	for i, step := range steps {
		_, part, found := strings.Cut(out, "\n"+step+"\n")
		if i+1 < len(steps) {
			part, _, _ = strings.Cut(part, "\n"+steps[i+1]+"\n")
		}
		if !found || !strings.Contains(part, "claviger ") || !strings.Contains(part, `$ curl -sS -H "X-Vault-Token: $CLAVIGER_TOKEN"`) {
			t.Errorf("the step %q lacks a line of claviger or curl", step)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("there are colours, but no terminal")
	}
	if !strings.HasSuffix(out, "with an HSM token.\n") {
		t.Errorf("it does not end with its last line:\n%s", out)
	}
	b, err := os.ReadFile(arguments)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "/v1/transit/"); n != len(steps) {
		t.Errorf("curl was called %d times, want %d", n, len(steps))
	}
	if strings.Contains(string(b), "X-Vault-Token") {
		t.Errorf("the client token is among curl's arguments:\n%s", b)
	}
}

func TestDemoOnTerminal(t *testing.T) {
	t.Parallel()
	need(t, "script")
	for _, c := range []struct {
		env     string
		colours bool
	}{{"NO_COLOR=", true}, {"NO_COLOR=1", false}, {"TERM=dumb", false}} {
		cmd := command(t, time.Minute, environment("TMPDIR="+t.TempDir(), "TERM=xterm", c.env),
			"script", "-qec", demoScript+" "+harness.Binary(t), "/dev/null")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if got := strings.Contains(string(out), "\x1b["); got != c.colours {
			t.Errorf("%s: colours: %v, want %v", c.env, got, c.colours)
		}
	}
}

// TestDemoWithoutCurl runs the tour with only the programs that every Debian has.
func TestDemoWithoutCurl(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range strings.Fields("sh sed grep mktemp dirname basename ln mkdir rm tail cat cut base64 sleep") {
		if err := os.Symlink(need(t, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	out, err := tour(t, harness.Binary(t), "PATH="+dir)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(out, "There is no curl") || strings.Contains(out, "$ curl") {
		t.Errorf("it does not do without curl:\n%s", out)
	}
	for _, step := range steps {
		if !strings.Contains(out, "\n"+step+"\n") {
			t.Errorf("the step %q is missing", step)
		}
	}
}

func TestDemoFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, instead, want string }{
		{"wrong plaintext", `[ "$1" != decrypt ] || { echo 'Meet me at noon.'; exit; }`, `step "3. Decrypt" failed: got "Meet me at noon."`},
		{"refused", `[ "$1" != sign ] || { echo 'no hands' >&2; exit 1; }`, "step \"6. Sign\" failed: printf 'Meet me at dawn.' | claviger sign release\n\nno hands"},
		{"all is valid", `[ "$1" != verify ] || { echo valid; exit; }`, `step "7. Verify" failed: the signature is valid for another message`},
		{"key not rotated", `[ "$1 $2" != 'key rotate' ] || { echo 'Latest version  1'; exit; }`, `step "4. Rotate" failed: got "1"`},
		{"no server", `[ "$1" != server ] || { echo 'no port' >&2; exit 1; }`, "step \"start of the server\" failed: it ended: no port"},
		{"server fails at its end", `[ "$1" != server ] || { trap 'kill $!; wait $!; exit 3' TERM; "$real" "$@" & wait; }`, `step "stop of the server" failed`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			binary := filepath.Join(t.TempDir(), "claviger")
			script(t, binary, "real='"+harness.Binary(t)+"'\n"+c.instead+"\nexec \"$real\" \"$@\"\n")
			out, err := tour(t, binary)
			if err == nil || !strings.Contains(out, "demo: "+c.want) {
				t.Errorf("ended with %v, want an error and %q:\n%s", err, c.want, out)
			}
		})
	}
	out, err := tour(t, "/nowhere/claviger")
	if err == nil || !strings.Contains(out, "/nowhere/claviger is no program") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestDemoInterrupted ends the tour in its midst: by signals, and by a reader
// that goes away.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	// Where signals are ignored, as under nohup, so they would be in the tour: what
	// is caught here has its default in a program that is started.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT)
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			interrupt(t, func(cmd *exec.Cmd, out io.ReadCloser) {
				if err := cmd.Process.Signal(s); err != nil {
					t.Error(err)
				}
				if _, err := io.Copy(io.Discard, out); err != nil {
					t.Error(err)
				}
				if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 128+int(s) {
					t.Errorf("ended with %v, want status %d", cmd.ProcessState, 128+int(s))
				}
			})
		})
	}
	t.Run("reader gone", func(t *testing.T) {
		t.Parallel()
		interrupt(t, func(cmd *exec.Cmd, out io.ReadCloser) {
			out.Close()
			if cmd.Wait() == nil {
				t.Error("it ends as if all had been read")
			}
		})
	})
}

// interrupt starts the tour, lets end end it, and checks that nothing is left.
func interrupt(t *testing.T, end func(*exec.Cmd, io.ReadCloser)) {
	t.Helper()
	dir := t.TempDir()
	cmd := command(t, time.Minute, environment("TMPDIR="+dir), demoScript, harness.Binary(t))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	text := readUntil(t, bufio.NewReader(out), "2. Encrypt")
	end(cmd, out)
	checkGone(t, dir, text)
}

func readUntil(t *testing.T, r *bufio.Reader, mark string) string {
	t.Helper()
	var text strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("waiting for %q: %v\n%s", mark, err, text.String())
		}
		text.WriteString(line)
		if strings.Contains(line, mark) {
			return text.String()
		}
	}
}
