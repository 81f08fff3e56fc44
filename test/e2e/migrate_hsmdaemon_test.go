package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

var shellBlock = regexp.MustCompile(`(?m)^(?:    [^\n]*\n)+`)

// commandsOf returns the blocks of commands of a document, as one script.
func commandsOf(t *testing.T, document string) string {
	t.Helper()
	var script strings.Builder
	for _, block := range shellBlock.FindAllString(string(readFile(t, document)), -1) {
		if !strings.HasPrefix(block, "    [") { // a configuration
			script.WriteString(strings.ReplaceAll("\n"+block, "\n    ", "\n"))
		}
	}
	return script.String()
}

// program writes a shell script that plays a program of the system.
func program(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestMigrateHSMDaemon runs the commands of docs/migrate/hsmdaemon.md, with the
// directories of the system below a temporary one.
func TestMigrateHSMDaemon(t *testing.T) {
	t.Parallel()
	php := needPHP(t)
	d := newHSMDaemon(t, "")
	bin := filepath.Join(d.dir, "bin")
	for _, dir := range []string{bin, filepath.Join(d.dir, "units")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	client, err := filepath.Abs("testdata/owncloud.php")
	if err != nil {
		t.Fatal(err)
	}
	pid, told := filepath.Join(d.dir, "pid"), filepath.Join(d.dir, "told")
	program(t, filepath.Join(bin, "sudo"), `[ "$1" != -u ] || shift 2; exec "$@"`)
	program(t, filepath.Join(bin, "systemctl"), `echo "systemctl $*" >> `+told)
	// The service runs whatever hsmdaemon is now, and waits until it listens.
	program(t, filepath.Join(bin, "service"), `echo "service $*" >> `+told+`
case $2 in
start) before=$(grep -c '"Server listening"' `+d.log()+`)
	hsmdaemon > /dev/null 2>&1 & echo $! > `+pid+`
	[ -L `+bin+`/hsmdaemon ] || { wait; exit 0; }
	for i in $(seq 200); do [ "$(grep -c '"Server listening"' `+d.log()+`)" = "$before" ] || exit 0; sleep 0.1; done; exit 1;;
stop) [ ! -f `+pid+` ] || { kill $(cat `+pid+`); while kill -0 $(cat `+pid+`) 2>/dev/null; do sleep 0.1; done; rm `+pid+`; };;
esac`)
	t.Cleanup(func() {
		if b, err := os.ReadFile(pid); err == nil {
			_ = exec.Command("kill", strings.TrimSpace(string(b))).Run()
		}
	})
	program(t, filepath.Join(bin, "hsmdaemon"), `echo "original $*" >> `+told)
	program(t, filepath.Join(d.dir, "occ"), `[ "$1 $2" = "encryption:hsmdaemon:decrypt --keyId" ] || exit 1
server=$(sed -n 's/.*"Server listening".*"address":"http:..\([^"]*\)".*/\1/p' `+d.log()+` | tail -1)
echo "$4" | `+php+` `+client+` "$server" `+jwtSecret+` occ "$3"`)
	if err := os.Symlink(harness.Binary(t), filepath.Join(d.dir, "claviger")); err != nil {
		t.Fatal(err)
	}
	script := strings.NewReplacer("/etc/hsmdaemon/hsmdaemon.toml", d.config, "/usr/local/bin", bin, "/etc/systemd/system", filepath.Join(d.dir, "units"),
		"/var/lib/hsmdaemon", filepath.Join(d.dir, "state")).Replace(commandsOf(t, "../../docs/migrate/hsmdaemon.md"))
	script = "set -eux\n" + script
	cmd := exec.Command("sh")
	cmd.Dir = d.dir
	cmd.Stdin = strings.NewReader(script)
	cmd.Env = append(d.env, "PATH="+bin+":"+os.Getenv("PATH"), "HSMDAEMON_CONFIG="+d.config)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"BEGIN PUBLIC KEY", "\nSGVsbG8sIHdvcmxkIQo=\n", "decrypted string (base64 encoded): 'SGVsbG8sIHdvcmxkIQo='", "Install HSM Daemon:"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the commands do not print %q:\n%s", want, out)
		}
	}
	if _, err := os.Stat(filepath.Join(d.dir, "units", "hsmdaemon.service")); err != nil {
		t.Error(err)
	}
	calls := string(readFile(t, told))
	for _, want := range []string{"original listslots\n", "systemctl daemon-reload\n", "service hsmdaemon start\noriginal \n"} {
		if !strings.Contains(calls, want) {
			t.Errorf("%q was not called:\n%s", want, calls)
		}
	}
}
