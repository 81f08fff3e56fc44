package server

import (
	"net/http"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/pki"
)

// TestAuthoritiesAreTended: what an authority must renew is renewed by the server
// itself, as operations that are recorded, also after the mount was moved.
func TestAuthoritiesAreTended(t *testing.T) {
	t.Parallel()
	s := running(t, config.Dev(t.TempDir()), Options{Dev: &Dev{RootTokenID: "root"}})
	ok := func(path string, body any) {
		t.Helper()
		if status := do(t, s, "PUT", path, "root", body, nil); status >= 300 {
			t.Fatalf("%s: status %d", path, status)
		}
	}
	ok("sys/mounts/old", map[string]any{"type": "pki"})
	ok("old/root/generate/internal", map[string]any{"common_name": "Root", "key_type": "ec"})
	ok("old/config/crl", map[string]any{"auto_rebuild": true})
	ok("sys/remount", map[string]any{"from": "old", "to": "new"})
	ok("new/config/auto-tidy", map[string]any{"enabled": true, "tidy_cert_store": true})
	if got := s.guard.Mounted(pki.MountKind); len(got) != 1 || got["new/"] != "old/" {
		t.Fatalf("mounts %v", got)
	}
	if err := s.pki.Tend(t.Context(), s.guard.Mounted(pki.MountKind), s.guard.System); err != nil {
		t.Fatal(err)
	}
	var status struct {
		Data struct {
			TimeStarted string `json:"time_started"`
		}
	}
	if code := do(t, s, "GET", "new/tidy-status", "root", nil, &status); code != 200 || status.Data.TimeStarted == "" {
		t.Errorf("tidying: status %d, %+v", code, status)
	}
	resp, err := http.Get(s.Addresses()[0] + "/v1/new/crl")
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/pkix-crl" {
		t.Fatalf("CRL: %v %v", err, resp)
	}
	resp.Body.Close()
	metrics := readMetrics(t, s)
	for _, operation := range []string{"pki.crl.rotate", "pki.tidy"} {
		if !strings.Contains(metrics, operation) {
			t.Errorf("no metric of %s", operation)
		}
	}
}

func readMetrics(t *testing.T, s *Server) string {
	t.Helper()
	var text string
	if status := do(t, s, "GET", "sys/metrics?format=prometheus", "root", nil, &text); status != 200 {
		t.Fatalf("metrics: status %d", status)
	}
	return text
}
