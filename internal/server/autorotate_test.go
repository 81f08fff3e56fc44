package server

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/keys"
	"github.com/claviger/claviger/internal/token/soft"
)

// A rotation that is due is recorded as the server's own operation, with intent
// and outcome, by the path that the mount has now. Another service on the same store and token lives in the future.
func TestAutoRotationIsRecorded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := running(t, config.Dev(dir), Options{Dev: &Dev{RootTokenID: "root"}})
	if status := do(t, s, "POST", "transit/keys/k", "root", map[string]any{"auto_rotate_period": "1h"}, nil); status != 200 {
		t.Fatalf("status %d", status)
	}
	future, err := keys.New(keys.Options{Store: s.records, Token: &s.hsm, Software: soft.Engine{},
		Now: func() time.Time { return time.Now().Add(time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	if status := do(t, s, "POST", "sys/remount", "root", map[string]any{"from": "transit", "to": "moved/here"}, nil); status >= 300 {
		t.Fatalf("status %d", status)
	}
	for range 2 {
		if err := future.RotateDue(t.Context(), s.guard.Mounted(keys.MountKind), s.guard.System); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.ReadFile(filepath.Join(dir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^.*"operation":"transit.keys.rotate".*$`).FindAll(log, -1)
	if len(lines) != 2 {
		t.Fatalf("%d records: %s", len(lines), log)
	}
	for i, want := range []string{`"type":"request"`, `"type":"response"`} {
		line := string(lines[i])
		if !regexp.MustCompile(want+`.*"path":"moved/here/keys/k/rotate","display_name":"system","data":\{"name":"k"`).MatchString(line) || regexp.MustCompile(`"accessor"|"error"|"remote"`).MatchString(line) {
			t.Errorf("%s", line)
		}
	}
}
