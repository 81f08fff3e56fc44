package server

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/openapi"
)

// limited makes a client token that may only encrypt with one key of team/.
func limited(t *testing.T, s *Server) string {
	t.Helper()
	if status := do(t, s, "POST", "sys/mounts/team/keys", "root", api.CreateMount{Type: "transit"}, nil); status != 204 {
		t.Fatalf("mount: status %d", status)
	}
	policy := api.WritePolicy{Policy: `path "team/keys/encrypt/app" { capabilities = ["update"] }`}
	if status := do(t, s, "POST", "sys/policies/acl/app", "root", policy, nil); status != 204 {
		t.Fatalf("policy: status %d", status)
	}
	var answer api.Envelope
	do(t, s, "POST", "auth/token/create", "root", api.CreateToken{Policies: []string{"app"}, NoDefaultPolicy: true}, &answer)
	return answer.Auth.ClientToken
}

func pathsOf(t *testing.T, text []byte) []string {
	t.Helper()
	var d openapi.Document
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for path := range d.Paths {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

// TestOpenAPIOfTheCaller: the document has the mounts of the caller and no other.
func TestOpenAPIOfTheCaller(t *testing.T) {
	t.Parallel()
	s := running(t, config.Dev(t.TempDir()), Options{Dev: &Dev{RootTokenID: "root"}})
	token := limited(t, s)
	var all, some string
	if status := do(t, s, "GET", "sys/internal/specs/openapi", "root", nil, &all); status != 200 {
		t.Fatalf("status %d: %s", status, all)
	}
	paths := pathsOf(t, []byte(all))
	for _, want := range []string{"/transit/encrypt/{name}", "/team/keys/encrypt/{name}", "/sys/health", "/auth/token/lookup-self"} {
		if !slices.Contains(paths, want) {
			t.Errorf("the document of root lacks %s", want)
		}
	}
	do(t, s, "GET", "sys/internal/specs/openapi", token, nil, &some)
	for _, path := range pathsOf(t, []byte(some)) {
		if !strings.HasPrefix(path, "/team/keys/") {
			t.Errorf("the document of a caller with one key has %s", path)
		}
	}
	if len(pathsOf(t, []byte(some))) < 10 {
		t.Errorf("the document of a caller with one key is %s", some)
	}
}

// TestHelpOfPaths: help=1 shows the text of docs/api.md, to those who may use
// something of the mount.
func TestHelpOfPaths(t *testing.T) {
	t.Parallel()
	s := running(t, config.Dev(t.TempDir()), Options{Dev: &Dev{RootTokenID: "root"}})
	token := limited(t, s)
	page, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		token, path string
		status      int
		openapi     string // a path of the document
	}{
		{"root", "transit/encrypt/app", 200, "/transit/encrypt/{name}"},
		{"root", "transit/encrypt/{name}", 200, "/transit/encrypt/{name}"},
		{"root", "transit/keys/", 200, "/transit/keys"},
		{"root", "transit", 200, "/transit/random/{source}/{bytes}"},
		{"root", "transit/", 200, "/transit/random/{source}/{bytes}"},
		{"root", "sys/mounts/a/b", 200, "/sys/mounts/{path}"},
		{"root", "sys/health", 200, "/sys/health"},
		{"root", "auth/token/create", 200, "/auth/token/create"},
		{"root", "transit/nothing", 404, ""},
		{"root", "transit//", 404, ""},
		{"root", "nowhere/at/all", 403, ""},
		{token, "team/keys/sign/x", 200, "/team/keys/sign/{name}"},
		{token, "team/keys", 200, "/team/keys/sign/{name}"},
		{token, "transit/encrypt/app", 403, ""},
		{token, "nowhere/at/all", 403, ""},
		{"", "transit/encrypt/app", 403, ""},
		{"", "sys/health", 403, ""},
	} {
		var help api.PathHelp
		if status := do(t, s, "GET", c.path+"?help=1", c.token, nil, &help); status != c.status {
			t.Errorf("%q: help of %s: status %d, want %d", c.token, c.path, status, c.status)
		}
		if c.status != 200 {
			continue
		}
		if !slices.Contains(pathsOf(t, help.OpenAPI), c.openapi) {
			t.Errorf("the document of %s is %s", c.path, help.OpenAPI)
		}
		if !strings.HasPrefix(c.path, "team/") && !strings.Contains(string(page), help.Help) {
			t.Errorf("docs/api.md lacks the help of %s:\n%s", c.path, help.Help)
		}
	}
}
