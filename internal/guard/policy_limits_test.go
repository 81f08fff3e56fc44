package guard

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func TestParseLimits(t *testing.T) {
	t.Parallel()
	want := &limits{
		allowed:  params{"type": {"aes*", json.Number("1"), json.Number("1.5"), true, []any{"a", "b"}}, "*": {}},
		denied:   params{"exportable": {}},
		required: []string{"a", "b"}, minWrap: 90, maxWrap: 3600,
	}
	for name, text := range map[string]string{
		"hcl": `path "x" {
			allowed_parameters = { "Type" = ["aes*", 1, 1.5, true, ["a", "b"]], "*" = [] }
			denied_parameters { exportable = [] }
			required_parameters = ["A", "b"]
			min_wrapping_ttl = "1m30s"
			max_wrapping_ttl = 3600
		}`,
		"json": `{"path": {"x": {"allowed_parameters": {"Type": ["aes*", 1, 1.5, true, ["a", "b"]], "*": []},
			"denied_parameters": {"exportable": []}, "required_parameters": ["A", "b"],
			"min_wrapping_ttl": "90", "max_wrapping_ttl": "1h"}}}`,
	} {
		rules, err := parsePolicy(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !reflect.DeepEqual(rules[0].limits, want) {
			t.Errorf("%s: %+v\nwant %+v", name, rules[0].limits, want)
		}
	}
}

func TestParseLimitsRefuses(t *testing.T) {
	t.Parallel()
	for attribute, want := range map[string]string{
		`allowed_parameters = ["a"]`:                          "allowed_parameters is an object of lists",
		`denied_parameters = "a"`:                             "denied_parameters is an object of lists",
		`allowed_parameters = { a = "b" }`:                    `"a" needs a list`,
		`allowed_parameters = { a = [{ b = [] }] }`:           `"a" needs a list`,
		`allowed_parameters = { a = [[["b"]]] }`:              `"a" needs a list`,
		`allowed_parameters = { a = [] A = [] }`:              `the name "a" is empty or given twice`,
		`allowed_parameters = { "" = [] }`:                    "is empty or given twice",
		`allowed_parameters = {} allowed_parameters = {}`:     "already set",
		`allowed_parameters "a" { }`:                          `unknown block "allowed_parameters"`,
		`required_parameters = "a"`:                           "required_parameters is a list of names",
		`required_parameters = [1]`:                           "required_parameters is a list of names",
		`required_parameters = [""]`:                          "required_parameters is a list of names",
		`min_wrapping_ttl = "long"`:                           "min_wrapping_ttl is a time of 0 to",
		`min_wrapping_ttl = "1.5s"`:                           "min_wrapping_ttl is a time of 0 to",
		`min_wrapping_ttl = -1`:                               "",
		`max_wrapping_ttl = ["1s"]`:                           "max_wrapping_ttl is a time of 0 to",
		`max_wrapping_ttl = "10000h"`:                         "max_wrapping_ttl is a time of 0 to",
		`min_wrapping_ttl = 400 max_wrapping_ttl = 200`:       "max_wrapping_ttl cannot be less than min_wrapping_ttl",
		`allowed_parameters = { a = [99999999999999999999] }`: "neither a proper string",
		"allowed_parameters = { a = [<<X\nb\nX\n] }":          "",
		`allowed_parameters = { "a" "b" { } }`:                `unknown block "a"`,
	} {
		rules, err := parsePolicy(`path "x" { ` + attribute + " }")
		if err == nil {
			t.Errorf("%s: accepted as %+v", attribute, rules[0].limits)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", attribute, err, want)
		}
	}
	for text, want := range map[string]string{
		`{"path": {"a": {"allowed_parameters": {"x": [], "x": ["y"]}}}}`: `the name "x" is empty or given twice`,
		`{"path": {"a": {"allowed_parameters": {"x": [null]}}}}`:         `"x" needs a list`,
		`{"path": {"a": {"allowed_parameters": null}}}`:                  "is an object of lists",
		`{"path": {"a": {"required_parameters": {"x": []}}}}`:            "is a list of names",
		`{"path": {"a": {"capabilities": {"read": []}}}}`:                "capabilities is a list",
	} {
		if _, err := parsePolicy(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		"a/{{identity.entity.id}}/*", "{{ identity.entity.name }}", "a/{{identity.entity.metadata.a.b}}",
		"x-{{identity.entity.aliases.auth_x.id}}", "{{identity.entity.aliases.auth_x.metadata.k}}",
		"{{identity.entity.aliases.auth_x.custom_metadata.k}}/{{identity.groups.ids.1-2.name}}",
		"{{identity.groups.names.admins.metadata.k}}/+", "{{identity.groups.names.admins.id}}",
	} {
		rules, err := parsePolicy(`path "` + path + `" { capabilities = ["read", "sudo"] }`)
		if err != nil || !rules[0].templated {
			t.Errorf("%s: %+v, %v", path, rules, err)
			continue
		}
		a := newACL(rules)
		for _, at := range []string{path, "a//", "a/x/x", "a/", "x", "", "x-"} {
			if got := a.allowed(at); got != 0 {
				t.Errorf("%s allows %b on %s", path, got, at)
			}
		}
		if a.touches("a/") || a.touches("x/") {
			t.Errorf("%s touches", path)
		}
	}
	for path, want := range map[string]string{
		"a/{{identity.entity.id": "{{ without }}", "a/identity.entity.id}}": "}} without {{",
		"{{a{{identity.entity.id}}": "{{ without }}", "{{}}": "unknown template", "{{identity.entity}}": "unknown template",
		"{{identity.entity.metadata}}": "unknown template", "{{identity.entity.metadata.}}": "unknown template",
		"{{identity.entity.id.x}}": "unknown template", "{{identity.entity.aliases.x}}": "unknown template",
		"{{identity.entity.aliases.x.custom_metadata}}": "unknown template", "{{identity.groups.ids.x}}": "unknown template",
		"{{identity.groups.x.y.id}}": "unknown template", "{{identity.groups.ids.x.custom_metadata.k}}": "unknown template",
		"{{token.meta.team}}": "unknown template", "{{time.now}}": "unknown template",
		"a/{{identity.entity.id}}*/b": `"*" is allowed only at the end`, "+{{identity.entity.id}}/+*": `"+*" is not allowed`,
	} {
		if _, err := parsePolicy(`path "` + path + `" { }`); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", path, err, want)
		}
	}
}

// form has a field of every kind that requests have.
type form struct {
	Name    string            `json:"-" path:"name"`
	Text    string            `json:"text"`
	N       int               `json:"n"`
	Yes     bool              `json:"yes"`
	Maybe   *bool             `json:"maybe"`
	TTL     api.Seconds       `json:"ttl"`
	Raw     []byte            `json:"raw"`
	List    []string          `json:"list"`
	Meta    map[string]string `json:"meta"`
	Batch   []thing           `json:"batch"`
	private int
}

func TestParameters(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	f := form{Name: "n", private: 1}
	for _, c := range []struct {
		rule    string
		fill    form
		sent    string
		unknown string
		want    bool
	}{
		// nothing demanded, nothing sent
		{``, form{Text: "x"}, "", "y", true},
		{`allowed_parameters = { "text" = [] }`, f, "", "", true},
		{`denied_parameters = { "*" = [] }`, f, "", "", true},
		// allowed
		{`allowed_parameters = { "text" = [] }`, form{Text: "x"}, "", "", true},
		{`allowed_parameters = { "TEXT" = [] }`, form{Text: "x"}, "", "", true},
		{`allowed_parameters = { "text" = [] }`, form{Text: "x", N: 1}, "", "", false},
		{`allowed_parameters = { "text" = [] }`, form{Text: "x"}, "n", "", false},
		{`allowed_parameters = { "text" = [] }`, form{Text: "x"}, "", "foreign", false},
		{`allowed_parameters = { "text" = [], "foreign" = [] }`, form{Text: "x"}, "", "Foreign", true},
		{`allowed_parameters = { "text" = [], "foreign" = ["x"] }`, form{Text: "x"}, "", "foreign", false},
		{`allowed_parameters = { "*" = [] }`, form{Text: "x", N: 1}, "", "foreign", true},
		{`allowed_parameters = { "text" = ["x", "y*"], "*" = [] }`, form{Text: "x", N: 1}, "", "", true},
		{`allowed_parameters = { "text" = ["x", "y*"], "*" = [] }`, form{Text: "yz"}, "", "", true},
		{`allowed_parameters = { "text" = ["x", "y*"], "*" = [] }`, form{Text: "zy"}, "", "", false},
		{`allowed_parameters = { "text" = ["x"] }`, form{}, "text", "", false},
		{`allowed_parameters = { "text" = [""] }`, form{}, "text", "", true},
		{`allowed_parameters = { "text" = ["*y", "*b*"] }`, form{Text: "xy"}, "", "", true},
		{`allowed_parameters = { "text" = ["*y", "*b*"] }`, form{Text: "abc"}, "", "", true},
		{`allowed_parameters = { "text" = ["a*c"] }`, form{Text: "abc"}, "", "", false},
		{`allowed_parameters = { "text" = [1] }`, form{Text: "1"}, "", "", true},
		// numbers, booleans, durations and bytes are compared as what they are
		{`allowed_parameters = { "n" = [5] }`, form{N: 5}, "", "", true},
		{`allowed_parameters = { "n" = ["5"] }`, form{N: 5}, "", "", true},
		{`allowed_parameters = { "n" = [5] }`, form{N: 6}, "", "", false},
		{`allowed_parameters = { "yes" = [true] }`, form{Yes: true}, "", "", true},
		{`allowed_parameters = { "yes" = ["true"] }`, form{Yes: true}, "", "", true},
		{`allowed_parameters = { "yes" = [false] }`, form{Yes: true}, "", "", false},
		{`allowed_parameters = { "maybe" = [false] }`, form{Maybe: &no}, "", "", true},
		{`allowed_parameters = { "maybe" = [false] }`, form{Maybe: &yes}, "", "", false},
		{`allowed_parameters = { "maybe" = [false] }`, form{}, "maybe", "", false},
		{`allowed_parameters = { "ttl" = ["1h"] }`, form{TTL: 3600}, "", "", true},
		{`allowed_parameters = { "ttl" = ["1h"] }`, form{TTL: 3601}, "", "", false},
		{`allowed_parameters = { "ttl" = [3600] }`, form{TTL: 3600}, "", "", true},
		{`allowed_parameters = { "raw" = ["aGk="] }`, form{Raw: []byte("hi")}, "", "", true},
		{`allowed_parameters = { "raw" = ["aGk="] }`, form{Raw: []byte("ho")}, "", "", false},
		// lists
		{`allowed_parameters = { "list" = ["a", "b*"] }`, form{List: []string{"bb", "a"}}, "", "", true},
		{`allowed_parameters = { "list" = ["a", "b*"] }`, form{List: []string{"a", "c"}}, "", "", false},
		{`allowed_parameters = { "list" = [["a", "c"]] }`, form{List: []string{"a", "c"}}, "", "", true},
		{`allowed_parameters = { "list" = [["a", "c"]] }`, form{List: []string{"c", "a"}}, "", "", false},
		{`allowed_parameters = { "list" = ["a"] }`, form{}, "list", "", false},
		{`denied_parameters = { "list" = ["a"] }`, form{List: []string{"b", "a"}}, "", "", false},
		{`denied_parameters = { "list" = [["a", "b"]] }`, form{List: []string{"b", "a"}}, "", "", true},
		{`denied_parameters = { "list" = [["b", "a"]] }`, form{List: []string{"b", "a"}}, "", "", false},
		// objects: only as a whole
		{`allowed_parameters = { "meta" = [], "batch" = [] }`, form{Meta: map[string]string{"a": "b"}, Batch: []thing{{N: 1}}}, "", "", true},
		{`allowed_parameters = { "meta" = ["*"] }`, form{Meta: map[string]string{"a": "b"}}, "", "", false},
		{`denied_parameters = { "batch" = [] }`, form{Batch: []thing{{N: 1}}}, "", "", false},
		// denied
		{`denied_parameters = { "*" = [] }`, form{Text: "x"}, "", "", false},
		{`denied_parameters = { "*" = [] }`, f, "text", "", false},
		{`denied_parameters = { "*" = [] }`, f, "", "foreign", false},
		{`denied_parameters = { "text" = [] }`, form{Text: "x"}, "", "", false},
		{`denied_parameters = { "text" = [] }`, form{N: 1}, "", "", true},
		{`denied_parameters = { "text" = ["x*"] }`, form{Text: "xy"}, "", "", false},
		{`denied_parameters = { "text" = ["x*"] }`, form{Text: "y"}, "", "", true},
		{`denied_parameters = { "yes" = ["1"] }`, form{Yes: true}, "", "", false},
		{`denied_parameters = { "yes" = [false] }`, f, "yes", "", false},
		{`denied_parameters = { "foreign" = ["x"] }`, f, "", "foreign", false},
		{`allowed_parameters = { "*" = [] } denied_parameters = { "n" = [] }`, form{N: 1}, "", "", false},
		{`allowed_parameters = { "n" = [1] } denied_parameters = { "n" = [1] }`, form{N: 1}, "", "", false},
		// required
		{`required_parameters = ["text"]`, f, "", "", false},
		{`required_parameters = ["text"]`, f, "text", "", true},
		{`required_parameters = ["text"]`, f, "Text", "", true},
		{`required_parameters = ["text", "n"]`, form{Text: "x"}, "", "", false},
		{`required_parameters = ["text", "n"]`, form{Text: "x", N: 1, Yes: true}, "", "", true},
		{`required_parameters = ["name"]`, f, "", "", false},
		{`required_parameters = ["private"]`, f, "", "", false},
	} {
		rules, err := parsePolicy(`path "x" { ` + c.rule + " }")
		if err != nil {
			t.Errorf("%s: %v", c.rule, err)
			continue
		}
		l := rules[0].limits
		if l == nil {
			l = &limits{}
		}
		if got := l.permits(op.Write, &c.fill, split(c.sent), split(c.unknown)); got != c.want {
			t.Errorf("%s: %+v, sent %q, unknown %q: %v", c.rule, c.fill, c.sent, c.unknown, got)
		}
		if !l.permits(op.List, &c.fill, split(c.sent), nil) || !l.permits(op.Delete, &c.fill, nil, nil) {
			t.Errorf("%s: counts for lists or deletions", c.rule)
		}
	}
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// Several rules on one path are united as Vault unites them.
func TestLimitsUnite(t *testing.T) {
	t.Parallel()
	of := func(attributes string) []rule {
		rules, err := parsePolicy(`path "a/+" { capabilities = ["update"] ` + attributes + " }")
		if err != nil {
			t.Fatal(err)
		}
		return rules
	}
	for _, c := range []struct {
		a, b string
		want *limits
	}{
		{"", "", nil},
		{`required_parameters = ["x"]`, "", &limits{required: []string{"x"}}},
		{`required_parameters = ["y", "x"]`, `required_parameters = ["x", "z"]`, &limits{required: []string{"x", "y", "z"}}},
		{`allowed_parameters = { x = ["1"] }`, "", &limits{allowed: params{"x": {"1"}}}},
		{`allowed_parameters = { x = ["1"] }`, `allowed_parameters = { x = ["1"] y = [] }`, &limits{allowed: params{"x": {"1", "1"}, "y": {}}}},
		{`allowed_parameters = { x = ["1"] }`, `allowed_parameters = { x = [] }`, &limits{allowed: params{"x": nil}}},
		{`denied_parameters = { x = ["1"] }`, `denied_parameters = { "*" = [] }`, &limits{denied: params{"x": {"1"}, "*": {}}}},
		{`min_wrapping_ttl = 5 max_wrapping_ttl = 60`, `min_wrapping_ttl = 3 max_wrapping_ttl = 70`, &limits{minWrap: 3, maxWrap: 60}},
		{`min_wrapping_ttl = 5`, `max_wrapping_ttl = 3`, &limits{minWrap: 5, maxWrap: 3}},
	} {
		for _, sets := range [][][]rule{{of(c.a), of(c.b)}, {append(of(c.a), of(c.b)...)}, {of(c.b), of(c.a)}} {
			a := newACL(sets...)
			got := a.rule("a/b")
			if got.caps != capUpdate || !reflect.DeepEqual(got.limits, c.want) {
				t.Errorf("%s and %s: %+v\nwant %+v", c.a, c.b, got.limits, c.want)
			}
		}
		if deny := newACL(of(c.a), []rule{{path: "a/+", caps: capDeny}}, of(c.b)).rule("a/b"); deny != (grant{caps: capDeny}) {
			t.Errorf("denied: %+v", deny)
		}
	}
	// the parsed rules are as they were
	first, second := of(`allowed_parameters = { x = ["1"] }`), of(`allowed_parameters = { x = ["2"] }`)
	newACL(first, second)
	if !reflect.DeepEqual(first[0].limits.allowed, params{"x": {"1"}}) {
		t.Errorf("%v", first[0].limits.allowed)
	}
}

func TestWrapLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		min, max, ttl api.Seconds
		want          bool
	}{
		{0, 0, 0, true}, {0, 0, 5, true}, {5, 0, 0, false}, {5, 0, 4, false}, {5, 0, 5, true}, {5, 0, 500, true},
		{0, 5, 0, false}, {0, 5, 5, true}, {0, 5, 6, false}, {2, 5, 1, false}, {2, 5, 3, true}, {5, 2, 3, false}, {5, 2, 5, false},
		{5, 2, 2, false},
	} {
		l := &limits{minWrap: c.min, maxWrap: c.max}
		if got := l.wraps(&op.Operation{}, c.ttl); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	bare := &op.Operation{Meta: op.Meta{Bare: true}}
	if (&limits{minWrap: 1}).wraps(bare, 5) || !(&limits{}).wraps(bare, 0) {
		t.Error("an answer that is never wrapped")
	}
}

// Limits count at the door, for writes, reads and wrapping tokens in the body.
func TestLimitsAtTheDoor(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	token := s.limited(`
		path "transit/encrypt/a" { capabilities = ["update"] allowed_parameters = { "n" = [1] } }
		path "transit/keys/a"    { capabilities = ["read"] required_parameters = ["n"] }
		path "transit/rotate/*"  { capabilities = ["update"] denied_parameters = { "*" = [] } }
		path "auth/token/create" { capabilities = ["update"] denied_parameters = { "no_parent" = [], "policies" = ["high*"] } }
		path "auth/token/lookup-self" { capabilities = ["read"] min_wrapping_ttl = "1m" max_wrapping_ttl = "1h" }
		path "sys/wrapping/unwrap" { capabilities = ["update"] denied_parameters = { "token" = [] } }
		path "transit/keys" { capabilities = ["list"] required_parameters = ["n"] }
	`)
	n := func(n int) func(any) { return fill(func(r *thing) { r.N = n }) }
	s.must(token, op.Write, "transit/encrypt/a", n(1))
	s.must(token, op.Write, "transit/encrypt/a", nil)
	s.must(token, op.Read, "transit/keys/a", n(1))
	s.must(token, op.List, "transit/keys", nil)
	s.done()
	s.refused(fault.Denied, "permission denied", token, op.Write, "transit/encrypt/a", n(2))
	s.refused(fault.Denied, "permission denied", token, op.Read, "transit/keys/a", nil)
	if did := s.done(); did != nil {
		t.Errorf("done %q", did)
	}
	s.token(token, func(r *api.CreateToken) { r.Policies = []string{"limited"} })
	for _, f := range []func(*api.CreateToken){
		func(r *api.CreateToken) { r.NoParent = true },
		func(r *api.CreateToken) { r.Policies = []string{"limited", "higher"} },
	} {
		s.refused(fault.Denied, "permission denied", token, op.Write, "auth/token/create", fill(f))
	}
	lookup := func(ttl api.Seconds) error {
		_, err := s.Handle(t.Context(), &Request{Verb: op.Read, Path: "auth/token/lookup-self", Token: token, WrapTTL: ttl})
		return err
	}
	for ttl, want := range map[api.Seconds]bool{0: false, 59: false, 60: true, 3600: true, 3601: false} {
		if err := lookup(ttl); (err == nil) != want {
			t.Errorf("wrapped for %d: %v", ttl, err)
		}
	}
	a, err := s.Handle(t.Context(), &Request{Verb: op.Read, Path: "transit/keys/a", Token: s.root, WrapTTL: 60})
	if err != nil {
		t.Fatal(err)
	}
	inside := a.Data.(*api.WrapInfo).Token
	s.refused(fault.Denied, "permission denied", token, op.Write, "sys/wrapping/unwrap", fill(func(r *api.WrappingToken) { r.Token = inside }))
	s.must(inside, op.Write, "sys/wrapping/unwrap", nil)
}

// The body of a request without fields of its own counts by its members.
func TestLimitsOfWholeBodies(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	token := s.limited(`path "sys/wrapping/wrap" { capabilities = ["update"] allowed_parameters = { "a" = ["x*", 1], "b" = [] } }`)
	for body, want := range map[string]bool{
		`{}`: true, `{"a":"xy","b":{"c":1}}`: true, `{"A":1}`: true, `{"a":["xa","xb"]}`: true,
		`{"a":"y"}`: false, `{"c":1}`: false, `{"a":null}`: false, `{"a":["xa","y"]}`: false, `{"a":{}}`: false,
	} {
		_, err := s.Handle(t.Context(), &Request{Verb: op.Write, Path: "sys/wrapping/wrap", Token: token, WrapTTL: 60,
			Decode: func(req any) ([]string, error) {
				req.(*api.WrapData).Data = json.RawMessage(body)
				return nil, nil
			}})
		if (err == nil) != want {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// The policies of the guide are policies.
func TestGuidePolicies(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/guides/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "```hcl\n")
	if len(parts) < 4 {
		t.Errorf("%d policies", len(parts)-1)
	}
	for _, part := range parts[1:] {
		policy, _, _ := strings.Cut(part, "```")
		if rules, err := parsePolicy(policy); err != nil || len(rules) == 0 {
			t.Errorf("%s: %v", policy, err)
		}
	}
}
