package demo

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

// TestAgentUnit checks the agent's unit as TestUnsealerUnit does the other.
func TestAgentUnit(t *testing.T) {
	t.Parallel()
	need(t, "systemd-analyze")
	text := strings.ReplaceAll(read(t, "deploy/claviger-agent.service"), "/usr/local/bin/claviger", harness.Binary(t))
	for name, unit := range map[string]string{
		"as it is": text,
		"with what is commented out": strings.NewReplacer("#LoadCredential", "LoadCredential", "#Supplementary", "Supplementary",
			"#IPAddress", "IPAddress").Replace(text),
	} {
		path := filepath.Join(t.TempDir(), "claviger-agent.service")
		if err := os.WriteFile(path, []byte(unit), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%.3000s", name, err, out)
		}
	}
}
