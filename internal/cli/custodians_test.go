package cli

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/server"
)

// TestCustodiansPage does what docs/operations/custodians.md tells, command by command.
func TestCustodiansPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operations/custodians.md")
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Dev(t.TempDir())
	cfg.Listeners = []config.Listener{{Address: "127.0.0.1:0"}}
	s, err := server.New(cfg, server.Options{Dev: &server.Dev{}, Version: version, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	root, share := s.DevInfo()
	p := &pageRun{t: t, dir: t.TempDir(), env: []string{"CLAVIGER_ADDR=" + s.Addresses()[0], "CLAVIGER_TOKEN=" + root, "GORACE=atexit_sleep_ms=0"}}
	self, err := os.Executable()
	if err != nil || os.Symlink(self, filepath.Join(p.dir, "claviger")) != nil {
		t.Fatal("make the command: ", err)
	}
	names := map[string]string{}
	note := func(out, label, name string) {
		if m := regexp.MustCompile(`(?m)^` + label + ` +(\S+)$`).FindStringSubmatch(out); m != nil {
			names[name] = m[1]
		}
	}
	shares := []string{share}
	done := 0
	for line := range strings.Lines(string(page)) {
		command, ok := strings.CutPrefix(line, "    claviger ")
		if !ok {
			continue
		}
		command, _, _ = strings.Cut(command, "#")
		args := strings.Fields(command)
		for i, arg := range args {
			if value, ok := names[arg]; ok {
				args[i] = value
			}
		}
		var out string
		given := shares[:1]
		if strings.HasPrefix(command, "custody rekey verify") {
			given = shares[1:]
		}
		for _, share := range given {
			out = p.run(share, args...)
		}
		note(out, "Nonce", "NONCE")
		note(out, "Verification nonce", "VERIFICATION-NONCE")
		if made := regexp.MustCompile(`(?m)^Unseal Key \d+: (\S+)$`).FindAllStringSubmatch(out, -1); made != nil {
			shares = []string{made[0][1], made[0][1], made[2][1]}
		}
		if strings.Contains(command, "verify") && !regexp.MustCompile(`Genuine: this is share 1 of 1|In force +true`).MatchString(out) {
			t.Errorf("%s: %s", command, out)
		}
		done++
	}
	if done != 5 {
		t.Errorf("%d commands, want 5", done)
	}
	if out := p.run(shares[2], "share", "verify"); !strings.Contains(out, "share 3 of 3") {
		t.Error(out)
	}
}

// pageRun runs commands of a page.
type pageRun struct {
	t   *testing.T
	dir string
	env []string
}

func (p *pageRun) run(stdin string, args ...string) string {
	p.t.Helper()
	cmd := exec.Command(filepath.Join(p.dir, "claviger"), args...)
	cmd.Dir, cmd.Env, cmd.Stdin = p.dir, append(os.Environ(), p.env...), strings.NewReader(stdin+"\n")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("claviger %s: %v: %s", strings.Join(args, " "), err, errs.String())
	}
	return string(out)
}
