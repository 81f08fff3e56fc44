package internal_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/claviger/claviger"

// allowed says which of our packages a package may import: the rule of
// docs/architecture.md. A pattern ending in /... stands for the packages below.
// What is not listed may import nothing of ours.
var allowed = []struct {
	pkg  string
	deps []string
}{
	{"cmd/claviger", []string{"internal/cli"}},
	{"api", nil},
	{"client", []string{"api"}},
	{"internal/fault", nil},
	{"internal/config", []string{"internal/fault"}},
	{"internal/op", []string{"api"}},
	{"internal/openapi", []string{"internal/op", "api"}},
	{"internal/conns", nil},
	{"internal/p11", []string{"api", "internal/conns", "internal/fault"}},
	{"internal/p11/p11kit", []string{"internal/p11", "api"}},
	{"internal/front/p11", []string{"internal/p11", "internal/guard", "internal/op", "api", "internal/fault"}},
	{"internal/agent", []string{"internal/p11", "internal/p11/p11kit", "client", "api", "internal/config", "internal/daemon", "internal/harden", "internal/fault"}},
	{"internal/front/...", []string{"internal/guard", "internal/op", "api", "internal/fault", "internal/conns", "internal/front/httpwire"}},
	{"internal/guard", []string{"internal/op", "api", "internal/audit", "internal/store", "internal/fault"}},
	{"internal/keys", []string{"internal/op", "api", "internal/token", "internal/store", "internal/fault"}},
	{"internal/pki/acme", []string{"api", "internal/fault"}},
	{"internal/pki", []string{"internal/pki/acme", "internal/keys", "internal/op", "api", "internal/store", "internal/token", "internal/fault"}},
	{"internal/hmacpool", []string{"internal/op", "api", "internal/store", "internal/fault"}},
	{"internal/pgp", nil},
	{"internal/custody", []string{"internal/custody/sss", "internal/pgp", "internal/op", "api", "internal/token", "internal/store", "internal/fault"}},
	{"internal/custody/sss", nil},
	{"internal/custody/provider", []string{"internal/tpm", "client", "api", "internal/fault"}},
	{"internal/ceremony", []string{"internal/keys", "internal/token", "internal/pgp", "api", "internal/fault"}},
	{"internal/ceremony/custodians", []string{"internal/ceremony", "internal/pgp", "api", "internal/fault"}},
	{"internal/ceremony/ca", []string{"internal/ceremony", "internal/pki", "internal/token", "api", "internal/fault"}},
	{"internal/transfer", []string{"internal/keys", "internal/op", "api", "internal/token", "internal/store", "internal/fault"}},
	{"internal/transfer/cryptech", []string{"internal/token", "internal/fault"}},
	{"internal/audit", []string{"internal/store", "internal/fault", "api"}},
	{"internal/token", nil},
	{"internal/token/pkcs11", []string{"internal/token"}},
	{"internal/token/soft", []string{"internal/token"}},
	// The worker's process side is the one place that drives a module.
	{"internal/token/worker", []string{"internal/token", "internal/token/pkcs11", "internal/harden"}},
	{"internal/store", []string{"internal/fault"}},
	{"internal/store/sqlite", []string{"internal/store", "internal/fault"}},
	{"internal/snapshot", []string{"internal/store", "internal/fault"}},
	{"internal/server", []string{
		"internal/snapshot", "internal/p11", "internal/daemon",
		"api", "internal/fault", "internal/config", "internal/op", "internal/guard", "internal/front/...",
		"internal/openapi", "internal/keys", "internal/pki", "internal/hmacpool", "internal/custody", "internal/custody/provider", "internal/transfer", "internal/audit", "internal/store", "internal/store/...",
		"internal/token", "internal/token/soft", "internal/token/worker", "internal/harden",
	}},
	{"internal/harden", nil},
	{"internal/daemon", []string{"internal/config", "internal/fault"}},
	{"internal/tpm", []string{"internal/fault"}},
	{"internal/unsealer", []string{"client", "api", "internal/config", "internal/daemon", "internal/tpm", "internal/harden", "internal/fault"}},
	{"internal/cli", []string{
		"client", "api", "internal/config", "internal/server", "internal/fault", "internal/openapi",
		"internal/token", "internal/token/worker", "internal/custody/sss", "internal/ceremony", "internal/ceremony/ca", "internal/ceremony/custodians",
		"internal/transfer", "internal/transfer/cryptech", "internal/unsealer", "internal/tpm", "internal/agent",
	}},
	{"bench/...", []string{"client", "api", "internal/token", "internal/token/pkcs11"}},
	// Packages that only tests import.
	{"internal/token/tokentest", []string{"internal/token"}},
	{"internal/store/storetest", []string{"internal/store"}},
	{"internal/pki/acme/dnstest", nil},
	{"internal/tpm/tpmtest", nil},
	{"internal/p11/p11test", []string{"internal/p11", "api"}},
	{"test/...", []string{"api", "client", "internal/token/tokentest", "internal/tpm/tpmtest", "internal/p11", "internal/p11/p11test", "test/lint"}},
}

var testHelpers = []string{"internal/token/tokentest", "internal/store/storetest", "internal/pki/acme/dnstest", "internal/tpm/tpmtest", "internal/p11/p11test"}

type listed struct {
	ImportPath string
	Imports    []string
	CgoFiles   []string
}

func TestImports(t *testing.T) {
	for _, p := range list(t) {
		pkg := strings.TrimPrefix(p.ImportPath, module+"/")
		rule, ok := ruleFor(pkg)
		if !ok && pkg != "internal" {
			t.Errorf("%s is in no rule: say in this test and in docs/architecture.md what it may import", pkg)
		}
		for _, imported := range p.Imports {
			dep, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			if !matchAny(rule, dep) {
				t.Errorf("%s imports %s, which the import rule does not allow", pkg, dep)
			}
			if slices.Contains(testHelpers, dep) && !strings.HasPrefix(pkg, "test/") {
				t.Errorf("%s imports %s, which is for tests only", pkg, dep)
			}
		}
	}
}

func TestStandardLibraryOnly(t *testing.T) {
	for _, p := range list(t) {
		pkg := strings.TrimPrefix(p.ImportPath, module+"/")
		if pkg != "api" && pkg != "client" && pkg != "internal/fault" {
			continue
		}
		for _, imported := range p.Imports {
			first, _, _ := strings.Cut(imported, "/")
			if strings.Contains(first, ".") && !strings.HasPrefix(imported, module) {
				t.Errorf("%s imports %s: it may import the standard library only", pkg, imported)
			}
		}
	}
}

func TestOnlyPKCS11UsesCgo(t *testing.T) {
	for _, p := range list(t) {
		if len(p.CgoFiles) > 0 && !strings.HasSuffix(p.ImportPath, "internal/token/pkcs11") {
			t.Errorf("%s uses cgo", p.ImportPath)
		}
	}
}

func list(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,CgoFiles", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); err == io.EOF {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func ruleFor(pkg string) ([]string, bool) {
	for _, r := range allowed {
		if matches(r.pkg, pkg) {
			return r.deps, true
		}
	}
	return nil, false
}

func matchAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, pkg) })
}

func matches(pattern, pkg string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return strings.HasPrefix(pkg, dir+"/")
	}
	return path.Clean(pattern) == pkg
}
