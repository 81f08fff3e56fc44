package server

import (
	"flag"
	"os"
	"testing"

	"github.com/claviger/claviger/internal/openapi"
)

var update = flag.Bool("update", false, "rewrite docs/api.md")

// TestReference: docs/api.md is what the table says.
// go test ./internal/server -run TestReference -update makes it so.
func TestReference(t *testing.T) {
	t.Parallel()
	const page = "../../docs/api.md"
	table, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	want := openapi.Reference(table)
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil || string(got) != want {
		t.Errorf("docs/api.md is not what the table of operations says (%v): run go test ./internal/server -run TestReference -update", err)
	}
}
