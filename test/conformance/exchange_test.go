package conformance

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

const sample = `About the file.

== a write
POST a/b?c=d
@token $tok
@keep id = data.id
@any data.time
@loose
X-Vault-Wrap-TTL: 60s
{"a":
  "b"}
-- 200 envelope
{
  "data": {}
}

== a read
GET a/b
-- 204 nothing

== not played yet
DELETE a/b
`

func TestParse(t *testing.T) {
	t.Parallel()
	f, err := Parse("sample", sample)
	if err != nil {
		t.Fatal(err)
	}
	want := []*Exchange{
		{
			Name: "a write", Method: "POST", Path: "a/b?c=d", Headers: []string{"X-Vault-Wrap-TTL: 60s"}, Token: "$tok",
			Keep: []Kept{{"id", "data.id"}}, Any: []string{"data.time"}, Loose: true, Body: "{\"a\":\n  \"b\"}",
			Status: 200, Form: "envelope", Golden: "{\n  \"data\": {}\n}",
		},
		{Name: "a read", Method: "GET", Path: "a/b", Status: 204, Form: "nothing"},
		{Name: "not played yet", Method: "DELETE", Path: "a/b"},
	}
	if f.About != "About the file." || !reflect.DeepEqual(f.Exchanges, want) {
		t.Errorf("%q %+v", f.About, f.Exchanges)
	}
	if f.Text() != sample {
		t.Errorf("written again:\n%s", f.Text())
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"== a\n":                       "no request",
		"== a\nFETCH x\n":              "no request",
		"== a\nGET x\n@wait 5\n":       "want @token",
		"== a\nGET x\n@keep data.id\n": "want @keep NAME = PATH",
		"== a\nGET x\n-- fine\n":       "no answer",
		"== a\nGET x\n\n== a\nGET y\n": "second exchange",
	} {
		if _, err := Parse("f", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// TestFilesAreWrittenAsTheyAre: -update changes nothing but answers.
func TestFilesAreWrittenAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, f := range load(t) {
		text, err := exchanges.ReadFile(Dir + "/" + f.Name + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		if f.Text() != string(text) {
			t.Errorf("%s is not written as Text writes it: run go test ./test/conformance -run TestOurs -update", f.Name)
		}
		if f.About == "" || slices.ContainsFunc(f.Exchanges, func(e *Exchange) bool { return e.Form == "" }) {
			t.Errorf("%s has no text at its beginning, or exchanges without an answer", f.Name)
		}
	}
}

// FuzzParse: what is read and written again is read as the same.
func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("== a\nGET x")
	f.Add("\n== a\nPOST x\n\n\n-- 400 errors\n\n[]\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		first, err := Parse("f", text)
		if err != nil {
			return
		}
		again, err := Parse("f", first.Text())
		if err != nil {
			t.Fatalf("%q is written as %q: %v", text, first.Text(), err)
		}
		if len(again.Exchanges) != len(first.Exchanges) {
			t.Fatalf("%q is written as %q", text, first.Text())
		}
	})
}
