package programs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A guide shows files and commands in fenced blocks. A block whose first line is
// a comment with an absolute path or a file's name (# /etc/nginx/nginx.conf,
// // Tls.java) is that file; blocks of sh are commands.
type block struct {
	lang string
	path string // "" of commands
	text string
}

var (
	fence    = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
	fileName = regexp.MustCompile(`^(?:#|//|;|<!--) (/\S+|[\w-]+\.\w+)(?: -->)?\n`)
)

// guide returns the blocks of a page of docs/guides, in their order.
func guide(t testing.TB, page string) []block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs/guides", page))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
		b := block{lang: m[1], text: m[2]}
		if m := fileName.FindStringSubmatch(b.text); m != nil {
			b.path = m[1]
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// file returns the block of a page that is a file.
func file(t testing.TB, page, path string) string {
	t.Helper()
	for _, b := range guide(t, page) {
		if b.path == path {
			return b.text
		}
	}
	t.Fatalf("%s shows no file %s", page, path)
	return ""
}

// commands returns the blocks of sh of a page that contain a word, as one script.
func commands(t testing.TB, page, word string) string {
	t.Helper()
	var script strings.Builder
	for _, b := range guide(t, page) {
		if b.lang == "sh" && b.path == "" && strings.Contains(b.text, word) {
			script.WriteString(b.text)
		}
	}
	if script.Len() == 0 {
		t.Fatalf("%s shows no commands with %q", page, word)
	}
	return script.String()
}

// replace replaces what is particular to the test: old, new, old, new, … Each old
// text must be there, so that a guide that changed is noticed.
func replace(t testing.TB, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%q is not in\n%s", pairs[i], text)
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// write writes a file of the test below a directory and returns its path.
func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
