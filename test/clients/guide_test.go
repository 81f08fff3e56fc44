package clients

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestGuideNamesTestedVersions holds the guide's table against the versions that
// these tests use.
func TestGuideNamesTestedVersions(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/guides/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	for client, version := range testedVersions(t) {
		found := false
		for line := range strings.Lines(string(page)) {
			if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| ") && strings.Contains(cells[0], client) {
				found = true
				if cells[1] != version {
					t.Errorf("the guide says that %s was tested in version %s; it was in %s", client, cells[1], version)
				}
			}
		}
		if !found {
			t.Errorf("the guide's table has no line for %s", client)
		}
	}
}

// testedVersions are the versions by a part of the client's cell in the table.
func testedVersions(t *testing.T) map[string]string {
	t.Helper()
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	versions := make(map[string]string)
	for client, module := range map[string]string{
		"hashicorp/vault/api": "github.com/hashicorp/vault/api", "openbao/api/v2": "github.com/openbao/openbao/api/v2",
		"tink-go-hcvault": "github.com/tink-crypto/tink-go-hcvault/v2", "SOPS": "github.com/getsops/sops/v3",
		"go-kms-wrapping": "github.com/hashicorp/go-kms-wrapping/wrappers/transit/v2",
		"hashivault":      "github.com/sigstore/sigstore/pkg/signature/kms/hashivault",
	} {
		m := regexp.MustCompile(`(?m)^\t` + regexp.QuoteMeta(module) + ` (\S+)`).FindSubmatch(mod)
		if m == nil {
			t.Fatalf("go.mod does not name %s", module)
		}
		versions[client] = string(m[1])
	}
	text, err := os.ReadFile("testdata/node-vault/package.json")
	if err != nil {
		t.Fatal(err)
	}
	var npm struct{ Dependencies map[string]string }
	if err := json.Unmarshal(text, &npm); err != nil {
		t.Fatal(err)
	}
	versions["node-vault"] = npm.Dependencies["node-vault"]
	return versions
}
