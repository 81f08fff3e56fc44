package server

import (
	"os"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
)

// TestHelpIsTheReference: path-help of every operation shows the text that stands in
// docs/api.md, and no operation is without help.
func TestHelpIsTheReference(t *testing.T) {
	t.Parallel()
	s := running(t, config.Dev(t.TempDir()), Options{Dev: &Dev{RootTokenID: "root"}})
	mountEngines(t, s)
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	table, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range table {
		path := o.Mount + "/" + strings.ReplaceAll(o.Path, "...}", "}")
		var help api.PathHelp
		if status := do(t, s, "GET", path+"?help=1", "root", nil, &help); status != 200 {
			t.Errorf("help of %s: status %d", path, status)
			continue
		}
		// A path may lead to a part of another one's operations: compare by paragraphs.
		for text := range strings.SplitSeq(strings.TrimSpace(help.Help), "\n\n") {
			if !strings.Contains(page, "\n"+text+"\n") {
				t.Errorf("docs/api.md lacks what the help of %s says:\n%s", path, text)
			}
		}
		if o.Help == "" || !strings.Contains(help.Help, o.Help) {
			t.Errorf("the help of %s does not say %q:\n%s", path, o.Help, help.Help)
		}
	}
}
