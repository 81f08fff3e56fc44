package ceremony

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/fault"
)

// testPlan is the plan of the acts of these tests.
type testPlan struct {
	Message string `yaml:"message"`
	File    string `yaml:"file"`
}

const goodDocument = `ceremony: test
title: A test
description: |
  Two lines
  of text
custodians:
  threshold: 2
  names: [Alice Example, Bob Example, Carol Example]
token:
  soft: token
  label: t
transcript: t.transcript
plan:
  message: hello
  file: made
`

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected: %v (%s)", err, fault.HintOf(err))
	}
}

func wantError(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%v, want an error with %q", err, text)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	d, p, err := Parse[testPlan]([]byte(goodDocument), "/x/doc.yaml")
	must(t, err)
	if d.Kind != "test" || d.Custodians.Threshold != 2 || p.Message != "hello" || d.Token.TranscriptKey != defaultTranscriptKey || d.Digest() != sum([]byte(goodDocument)) {
		t.Errorf("%+v %+v", d, p)
	}
	if d.Path("a") != "/x/a" || d.Path("/b") != "/b" {
		t.Errorf("paths: %s %s", d.Path("a"), d.Path("/b"))
	}
}

// What is unknown, doubled, missing or of the wrong kind is an error that says so.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ old, new, want string }{
		{goodDocument, "", "empty"},
		{goodDocument, "[]", "can't be read"},
		{goodDocument, "just text", "can't be read"},
		{"ceremony: test\n", "", "of which kind"},
		{"title: A test\n", "", "title is missing"},
		{"title: A test", "title: \"a\\nb\"", "one line"},
		{"title: A test", "titel: A test", "no such field"},
		{"title: A test", "title: A test\ntitle: B", "already defined"},
		{"title: A test", "title: &a A test", "anchors"},
		{"title: A test", "title: [x]", "can't be read"},
		{"title: A test", "title: \xff", "UTF-8"},
		{"  Two lines", "  Two \x1b[2J", "can't be read"},
		{"description: |\n  Two lines\n  of text", `description: "a\eb"`, "control character"},
		{"threshold: 2", "threshold: 0", "from 1 to 3"},
		{"threshold: 2", "threshold: 4", "from 1 to 3"},
		{"threshold: 2", "threshold: two", "can't be read"},
		{"names: [Alice Example, Bob Example, Carol Example]", "names: []", "1 to 64"},
		{"Bob Example", "Alice Example", "named twice"},
		{"Bob Example", `""`, "custodian is missing"},
		{"Bob Example", `" Bob"`, "blanks"},
		{"  soft: token\n", "", "either module"},
		{"  soft: token\n", "  soft: token\n  module: /m\n", "either module"},
		{"  soft: token\n", "  module: m\n", "absolute"},
		{"  soft: token\n", "  module: /m\n  create: true\n", "software tokens only"},
		{"  soft: token\n", "  soft: t\n  serial: x\n", "go with module"},
		{"  label: t\n", "", "no label"},
		{"  label: t\n", "  label: t\n  transcript_key: \"a\\nb\"\n", "transcript_key"},
		{"transcript: t.transcript\n", "", "transcript is missing"},
		{"message: hello", "massage: hello", "no such field"},
		{"file: made\n", "file: made\n---\na: b\n", "something follows"},
	} {
		text := strings.Replace(goodDocument, c.old, c.new, 1)
		if text == goodDocument {
			t.Fatalf("%q is not in the document", c.old)
		}
		_, _, err := Parse[testPlan]([]byte(text), "doc.yaml")
		wantError(t, err, c.want)
		if fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: kind %v", c.want, fault.KindOf(err))
		}
	}
	_, _, err := Parse[testPlan](make([]byte, MaxDocument+1), "")
	wantError(t, err, "at most")
}

func TestRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, _, err := Parse[testPlan]([]byte(goodDocument), filepath.Join(dir, "doc.yaml"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "in"), []byte("abc"), 0o600))
	b, err := d.Read("plan: input", "in")
	must(t, err)
	// The SHA-256 of "abc" (FIPS 180-2 appendix B.1).
	if string(b) != "abc" || d.inputs[0] != (File{"in", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}) {
		t.Errorf("%q %+v", b, d.inputs)
	}
	_, err = d.Read("plan: input", "absent")
	wantError(t, err, "plan: input")
}

func TestParseConfirmations(t *testing.T) {
	t.Parallel()
	d, _, err := Parse[testPlan]([]byte(goodDocument), "doc.yaml")
	must(t, err)
	good := "document: " + d.Digest() + "\nconfirmed_by: [Alice Example, Carol Example]\nreason: a test\n"
	c, err := ParseConfirmations([]byte(good))
	must(t, err)
	all, err := c.fromFile(d)
	must(t, err)
	if len(all) != 2 || all[0].How != howFile || all[0].File != sum([]byte(good)) || all[1].Custodian != "Carol Example" {
		t.Errorf("%+v", all)
	}
	for _, x := range []struct{ old, new, want string }{
		{d.Digest(), strings.Repeat("0", 64), "another document"},
		{"Carol Example", "Alice Example", "twice"},
		{"Carol Example", "Mallory", "none of the custodians"},
		{", Carol Example", "", "1 custodians confirmed, and 2 must"},
		{"reason: a test\n", "", "reason"},
		{"reason: a test\n", "reason: a test\nx: y\n", "no such field"},
		{"reason: a test\n", "reason: a test\n---\n", "one YAML document"},
	} {
		c, err := ParseConfirmations([]byte(strings.Replace(good, x.old, x.new, 1)))
		if err == nil {
			_, err = c.fromFile(d)
		}
		wantError(t, err, x.want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(goodDocument))
	f.Add([]byte("ceremony: a\nplan: {<<: {}}"))
	f.Add([]byte("ceremony: a\nplan: !!binary x"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, _, err := Parse[testPlan](text, "doc.yaml")
		if err == nil && (d.Title == "" || d.Custodians.Threshold < 1 || len(d.Custodians.Names) < d.Custodians.Threshold) {
			t.Errorf("accepted: %+v", d)
		}
	})
}

func FuzzParseConfirmations(f *testing.F) {
	f.Add([]byte("document: aa\nconfirmed_by: [A]\nreason: x"))
	f.Fuzz(func(_ *testing.T, text []byte) { _, _ = ParseConfirmations(text) })
}
