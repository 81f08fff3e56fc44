package demo

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/test/harness"
)

const installer = root + "/deploy/install.sh"

func TestInstall(t *testing.T) {
	t.Parallel()
	dest := t.TempDir()
	install := func() {
		t.Helper()
		out, err := command(t, time.Minute, environment("DESTDIR="+dest, "PREFIX=/opt/claviger"), installer, harness.Binary(t)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	install()
	for path, want := range map[string]string{
		"opt/claviger/share/bash-completion/completions/claviger":    "__start_claviger",
		"opt/claviger/share/zsh/site-functions/_claviger":            "#compdef claviger",
		"opt/claviger/share/fish/vendor_completions.d/claviger.fish": "complete -c claviger",
		"opt/claviger/share/man/man1/claviger.1":                     "claviger-server(1)",
		"opt/claviger/share/man/man1/claviger-key-create.1":          "--protection",
		"etc/systemd/system/claviger.service":                        "ExecStart=/opt/claviger/bin/claviger server --config /etc/claviger/claviger.toml",
		"etc/systemd/system/claviger-agent.service":                  "ExecStart=/opt/claviger/bin/claviger agent --config /etc/claviger/agent.toml",
		"etc/systemd/system/claviger-unsealer.service":               "ExecStart=/opt/claviger/bin/claviger unsealer --config /etc/claviger/unsealer.toml",
		"etc/claviger/claviger.toml":                                 `data_dir = "/var/lib/claviger"`,
	} {
		b, err := os.ReadFile(filepath.Join(dest, path))
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(strings.ReplaceAll(string(b), `\-`, "-"), want) {
			t.Errorf("%s lacks %q:\n%.400s", path, want, b)
		}
	}
	binary := filepath.Join(dest, "opt/claviger/bin/claviger")
	config := filepath.Join(dest, "etc/claviger/claviger.toml")
	if out, err := exec.Command(binary, "config", "check", "--config", config).CombinedOutput(); err != nil {
		t.Errorf("the example is no right configuration: %v\n%s", err, out)
	}
	// An upgrade keeps the configuration.
	if err := os.WriteFile(config, []byte("# mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	install()
	if b, err := os.ReadFile(config); err != nil || string(b) != "# mine\n" {
		t.Errorf("an upgrade changes the configuration: %q, %v", b, err)
	}
}

// TestVersion checks what make build makes of git's tags.
func TestVersion(t *testing.T) {
	t.Parallel()
	need(t, "make")
	need(t, "git")
	dir := t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := command(t, time.Minute, environment("GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "MAKEFLAGS=",
			"GIT_CEILING_DIRECTORIES="+filepath.Dir(dir)), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	if err := os.WriteFile(filepath.Join(dir, "Makefile"), []byte(read(t, "Makefile")), 0o600); err != nil {
		t.Fatal(err)
	}
	commit := func() {
		run("git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-q", "--allow-empty", "-m", "x")
	}
	check := func(what, want string) {
		t.Helper()
		m := regexp.MustCompile(`internal/cli\.version=([^ ']*)'`).FindStringSubmatch(run("make", "-n", "build"))
		if m == nil || !regexp.MustCompile("^"+want+"$").MatchString(m[1]) {
			t.Errorf("%s: version %q, want %s", what, m, want)
		}
	}
	check("no repository", `0\.1\.0-dev`)
	run("git", "init", "-q")
	run("git", "add", ".")
	commit()
	run("git", "tag", "nightly")
	check("no tag of a version", `0\.1\.0-dev`)
	run("git", "tag", "v1.2.3-rc.1")
	check("tag", `1\.2\.3-rc\.1`)
	commit()
	check("commit after the tag", `1\.2\.3-rc\.1\+1\.g[0-9a-f]+`)
	run("git", "tag", "v1.2.3")
	if err := os.WriteFile(filepath.Join(dir, "Makefile"), []byte(read(t, "Makefile")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check("changed tree", `1\.2\.3\+dirty`)
}
