package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParseDifferences(t *testing.T) {
	t.Parallel()
	all, err := ParseDifferences(`# comment
a | f/one * | data.x
b | f/two | errors.*
  Because of
  this.

a | f/three | status:500
    Because of that.
`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range all {
		got = append(got, fmt.Sprint(*x))
	}
	want := []string{
		"{a f/one * data.x Because of this. false}",
		"{b f/two errors.* Because of this. false}",
		"{a f/three status:500 Because of that. false}",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	for _, text := range []string{"a | b\n  x\n", "a | b | \n  x\n", "a | b | c\n", "  x\n", "a | b | c\n  x\nd | e | f\n"} {
		if _, err := ParseDifferences(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// TestDifferencesAreOfExchanges: every expected difference is of an exchange that
// there is, and stands once.
func TestDifferencesAreOfExchanges(t *testing.T) {
	t.Parallel()
	all, err := LoadDifferences()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range load(t) {
		for _, e := range f.Exchanges {
			names = append(names, f.Name+"/"+e.Name)
		}
	}
	seen := map[string]bool{}
	for _, x := range all {
		key := x.Server + x.Exchange + x.At
		if seen[key] || !slices.ContainsFunc(names, func(n string) bool { return matches(x.Exchange, n) }) {
			t.Errorf("%s | %s | %s: no exchange has that name, or it stands twice", x.Server, x.Exchange, x.At)
		}
		seen[key] = true
		if len(x.Reason) < 20 || !strings.HasSuffix(x.Reason, ".") {
			t.Errorf("%s | %s | %s: %q is no reason", x.Server, x.Exchange, x.At, x.Reason)
		}
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	e := &Exchange{Status: 200, Form: "bare", Golden: `{"a":1,"b":["x","y"],"c":null}`}
	for _, c := range []struct {
		status int
		body   string
		want   []string
	}{
		{200, `{"c":null,"b":["x","y"],"a":1}`, nil},
		{200, `{"a":"1","b":["x","z"],"c":null}`, []string{"a", "b.1"}},
		{200, `{"a":1,"b":["x"],"d":null}`, []string{"b", "c", "d"}},
		{200, `{"errors":[]}`, []string{"form:errors"}},
		{400, `{"errors":["x"]}`, []string{"status:400"}},
	} {
		a := answerOf(c.status, "application/json", []byte(c.body), nil, nil)
		found, err := Compare(e, a, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := places(found); !slices.Equal(got, c.want) {
			t.Errorf("%s differs at %q, want %q", c.body, got, c.want)
		}
	}
}

// TestCompareOther: the texts of another server may say less.
func TestCompareOther(t *testing.T) {
	t.Parallel()
	e := &Exchange{Status: 400, Form: "errors", Golden: `["unknown type des: it is one of these","hint: use another"]`}
	for body, want := range map[string][]string{
		`{"errors":["unknown type des"]}`:                            nil,
		`{"errors":["1 error occurred:\n\t* unknown type des\n\n"]}`: nil,
		`{"errors":["type des"]}`:                                    nil,
		`{"errors":["no such type"]}`:                                {"errors"},
		`{"errors":[]}`:                                              {"errors"},
		`{"errors":[""]}`:                                            {"errors"},
		`{"errors":["unknown type des","and more"]}`:                 {"errors.1"},
	} {
		found, err := Compare(e, answerOf(400, "application/json", []byte(body), nil, nil), true)
		if err != nil {
			t.Fatal(err)
		}
		if got := places(found); !slices.Equal(got, want) {
			t.Errorf("%s differs at %q, want %q", body, got, want)
		}
	}
}

func places(found []Difference) []string {
	var list []string
	for _, d := range found {
		list = append(list, d.At)
	}
	return list
}

// TestGone: an expected difference that no answer has any more is told.
func TestGone(t *testing.T) {
	t.Parallel()
	all := []*Expected{
		{Server: "a", Exchange: "f/*", At: "data.*", Reason: "r"},
		{Server: "a", Exchange: "f/x", At: "status:500", Reason: "r"},
		{Server: "b", Exchange: "f/x", At: "status:500", Reason: "r"},
	}
	found := []Difference{{At: "data.p"}, {At: "warnings"}}
	left := Unexpected(all, "a", "f/x", slices.Clone(found))
	if len(left) != 1 || left[0].At != "warnings" {
		t.Errorf("unexpected: %v", left)
	}
	if gone := Gone(all, "a"); len(gone) != 1 || gone[0] != all[1] {
		t.Errorf("gone: %v", gone)
	}
	if left := Unexpected(all, "b", "f/x", found); len(left) != 2 {
		t.Errorf("of another server: %v", left)
	}
}
