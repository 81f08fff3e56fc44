package guard

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	all := capCreate | capRead | capUpdate | capDelete | capList
	for _, c := range []struct {
		name, text string
		want       []rule
	}{
		{"empty", "", nil},
		{"comment only", "# nothing\n", nil},
		{"one", `path "a/b" { capabilities = ["read", "list"] }`, []rule{{path: "a/b", caps: capRead | capList}}},
		{"leading slash", `path "/a" { capabilities = ["create", "update", "patch", "delete", "sudo", "deny"] }`,
			[]rule{{path: "a", caps: capCreate | capUpdate | capPatch | capDelete | capSudo | capDeny}}},
		{"named", "name = \"x\"\npath \"a*\" {\n  capabilities = [\n    \"read\",\n  ]\n}\n", []rule{{path: "a*", caps: capRead}}},
		{"comment attribute", `path "a" { comment = "why" capabilities = [] }`, []rule{{path: "a", caps: 0}}},
		{"old read", `path "a" { policy = "read" }`, []rule{{path: "a", caps: capRead | capList}}},
		{"old write", `path "a" { policy = "write" }`, []rule{{path: "a", caps: all}}},
		{"old sudo", `path "a" { policy = "sudo" }`, []rule{{path: "a", caps: all | capSudo}}},
		{"old deny", `path "a" { policy = "deny" }`, []rule{{path: "a", caps: capDeny}}},
		{"quoted keys", `"path" "a" { "capabilities" = ["read"] }`, []rule{{path: "a", caps: capRead}}},
		{"two of one path", `path "a" { capabilities = ["read"] } path "a" { capabilities = ["list"] }`,
			[]rule{{path: "a", caps: capRead}, {path: "a", caps: capList}}},
		{"json", `{"path": {"a": {"capabilities": ["read"]}, "b/+": {"policy": "deny"}}}`,
			[]rule{{path: "a", caps: capRead}, {path: "b/+", caps: capDeny}}},
		{"json list", ` {"path": [{"a": {"capabilities": ["read"]}}, {"b": [{"capabilities": ["list"]}]}], "name": "n"}`,
			[]rule{{path: "a", caps: capRead}, {path: "b", caps: capList}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := parsePolicy(c.text)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(c.want) || len(got) > 0 && !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{`path "a" {`, ""},
		{`path "a" { capabilities = ["read" }`, ""},
		{"\n\npath \"a\" {\n capabilities = [\"reed\"]\n}", `line 4: path "a": unknown capability "reed": use create, delete`},
		{`path "a" { capabilities = "read" }`, "capabilities is a list of strings"},
		{`path "a" { capabilities = [1] }`, "capabilities is a list of strings"},
		{`path "a" { capabilities = [["read"]] }`, ""},
		{`path "a" { capabilities = ["read"] capabilities = ["list"] }`, ""},
		{`path "a" { capabilities = ["read"] "capabilities" = ["list"] }`, "capabilities is given twice"},
		{`path "a" { policy = "all" }`, `policy is one of "read"`},
		{"path \"a\" {\n capabilites = [\"read\"]\n}", `line 2: path "a": unknown attribute "capabilites"`},
		{`path "a" { capabilities = ["read"] mfa_methods = ["x"] }`, "mfa_methods is not supported"},
		{`path "a" { capabilities = ["read"] control_group = {} }`, "control_group is not supported"},
		{`path "a" { capabilities = ["read"] mfa "x" {} }`, `unknown block "mfa"`},
		{`role "a" { }`, `unknown key "role"`},
		{`path = "a"`, `a rule is written path "…"`},
		{`path "a" "b" { }`, `a rule is written path "…"`},
		{`path { }`, `a rule is written path "…"`},
		{`path "a/+*" { }`, `"+*" is not allowed`},
		{`path "a/*/b" { }`, `"*" is allowed only at the end`},
		{`path "a/**" { }`, `"*" is allowed only at the end`},
		{`path "` + strings.Repeat("a", maxRulePath+1) + `" { }`, "longer than"},
		{strings.Repeat("#", maxPolicySize+1), "at most 262144"},
		{strings.Repeat("[", maxPolicyOpeners+1), "opens 8193"},
		{"path \"\xff\" { }", "UTF-8"},
		{`{"path": {"a": {"capabilities": ["reed"]}}}`, `unknown capability "reed"`},
		{`{"path": {"a": {"capabilities": ["deny", 1]}}}`, "capabilities is a list"},
		{`{"path": {"a": {"capabilities": ["read"], "capabilities": ["sudo"]}}}`, "given twice"},
		{`{"path": {"a": {"capabilities": ["read"]}}} x`, "after the end"},
		{`{"path": {"a": {"capabilities": ["read"]}}`, "does not end"},
		{`{"path": "a"}`, "an object is expected"},
		{`{"paths": {}}`, `unknown key "paths"`},
		{`{path}`, "byte"},
	} {
		rules, err := parsePolicy(c.text)
		if err == nil {
			t.Errorf("%.80s: accepted as %v", c.text, rules)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80s: %v; want %q", c.text, err, c.want)
		}
	}
}

func TestDeepPolicies(t *testing.T) {
	t.Parallel()
	n := maxPolicyOpeners
	for _, text := range []string{
		strings.Repeat("a{", n), strings.Repeat("a=[", n), strings.Repeat("{", n),
		`{"path":` + strings.Repeat("[", n-1), `{"path":{"a":{"b":` + strings.Repeat(`{"c":`, n-3),
	} {
		if _, err := parsePolicy(text); err == nil {
			t.Errorf("%.20s…: accepted", text)
		}
	}
}

func TestDefaultPolicyParses(t *testing.T) {
	t.Parallel()
	rules, err := parsePolicy(defaultPolicyText)
	if err != nil || len(rules) != 11 {
		t.Errorf("%d rules, %v", len(rules), err)
	}
}

// The paths are ruled as Vault documents it: "Policies", priority matching.
func TestACLPriority(t *testing.T) {
	t.Parallel()
	type rules map[string]string // path to capabilities
	for _, c := range []struct {
		name  string
		rules rules
		path  string
		want  caps
	}{
		{"exact", rules{"a/b": "read"}, "a/b", capRead},
		{"exact does not reach below", rules{"a/b": "read"}, "a/b/c", 0},
		{"exact beats prefix", rules{"a/*": "read", "a/b": "list"}, "a/b", capList},
		{"exact beats denying prefix", rules{"a/*": "deny", "a/b": "list"}, "a/b", capList},
		{"exact beats plus", rules{"a/+": "read", "a/b": "list"}, "a/b", capList},
		{"longest prefix", rules{"*": "deny", "a*": "read", "a/b*": "list"}, "a/b/c", capList},
		{"shorter prefix", rules{"a*": "read", "a/b*": "list"}, "a/c", capRead},
		{"prefix needs no slash", rules{"a*": "read"}, "abc", capRead},
		{"prefix with slash", rules{"a/*": "read"}, "a", 0},
		{"prefix matches itself", rules{"a/*": "read"}, "a/", capRead},
		{"everything", rules{"*": "read"}, "x/y/z", capRead},
		{"plus", rules{"a/+/c": "read"}, "a/b/c", capRead},
		{"plus is one segment", rules{"a/+/c": "read"}, "a/b/b/c", 0},
		{"plus at the end", rules{"a/+": "read"}, "a/b", capRead},
		{"plus at the end is one segment", rules{"a/+": "read"}, "a/b/c", 0},
		{"plus at the start", rules{"+/b": "read"}, "a/b", capRead},
		{"plus inside a segment is a letter", rules{"a+b": "read"}, "axb", 0},
		{"plus and star", rules{"a/+/c*": "read"}, "a/b/cd/e", capRead},
		{"plus and star, other", rules{"a/+/c*": "read"}, "a/b/d", 0},
		{"plus, slash and star", rules{"a/+/*": "read"}, "a/b/c/d", capRead},
		{"plus, slash and star need the slash", rules{"a/+/*": "read"}, "a/b", 0},
		// 1: the first wildcard comes earlier
		{"earlier wildcard is weaker", rules{"a/+/c/d": "read", "a/b/+/d": "list"}, "a/b/c/d", capList},
		{"earlier plus is weaker than later star", rules{"a/+/c": "read", "a/b/*": "list"}, "a/b/c", capList},
		{"earlier star is weaker than later plus", rules{"a/*": "read", "a/b/+": "list"}, "a/b/c", capList},
		// 2: ends in *
		{"star is weaker", rules{"a/+/*": "read", "a/+/c": "list"}, "a/b/c", capList},
		{"star is weaker at the same place", rules{"a/*": "read", "a/+": "list"}, "a/b", capList},
		// 3: more +
		{"more plus is weaker", rules{"a/+/+": "read", "a/+/c": "list"}, "a/b/c", capList},
		// 4: shorter
		{"shorter is weaker", rules{"a/+/c*": "read", "a/+/cd*": "list"}, "a/b/cde", capList},
		{"plus prefix is weaker than the same plain one", rules{"a/+/*": "read", "a/*": "list"}, "a/b/c", capList},
		// 5: smaller in the order of bytes
		{"smaller is weaker", rules{"a/+/+/d": "read", "a/+/c/+": "list"}, "a/b/c/d", capList},
		// a stronger rule that allows less still rules alone
		{"stronger deny", rules{"a/*": "read", "a/b/+": "deny"}, "a/b/c", capDeny},
		// lists
		{"list with the slash", rules{"keys/": "list"}, "keys/", capList},
		{"list without the slash", rules{"keys": "list"}, "keys/", capList},
		{"list by prefix", rules{"keys/*": "list"}, "keys/", capList},
		{"the rule with the slash is only for lists", rules{"keys/": "list"}, "keys", 0},
		{"nothing", rules{}, "a", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var set []rule
			for path, cap := range c.rules {
				n, _ := capByName(cap)
				set = append(set, rule{path: path, caps: n})
			}
			// the order of rules and their spread over policies must not matter
			for range 8 {
				if got := newACL(set).allowed(c.path); got != c.want {
					t.Errorf("%s: got %b, want %b", c.path, got, c.want)
				}
				if len(set) > 1 {
					set = append(set[1:], set[0])
					if got := newACL(set[:1], set[1:]).allowed(c.path); got != c.want {
						t.Errorf("%s in two policies: got %b, want %b", c.path, got, c.want)
					}
				}
			}
		})
	}
}

func TestACLUnion(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"a", "a/*", "a/+", "a/+/b*"} {
		at := strings.NewReplacer("*", "x", "+", "y").Replace(path)
		read, list, deny := []rule{{path: path, caps: capRead}}, []rule{{path: path, caps: capList}}, []rule{{path: path, caps: capDeny}}
		if got := newACL(read, list).allowed(at); got != capRead|capList {
			t.Errorf("%s: union is %b", path, got)
		}
		for _, sets := range [][][]rule{{deny, read}, {read, deny}, {read, deny, list}, {append(read, deny...), list}} {
			if got := newACL(sets...).allowed(at); got != capDeny {
				t.Errorf("%s: deny does not win: %b", path, got)
			}
		}
	}
}

func TestACLTouches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path string
		cap  caps
		want bool
	}{
		{"transit/keys/a", capRead, true}, {"transit/*", capRead, true}, {"*", capRead, true}, {"tran*", capRead, true},
		{"transit/keys/a", capDeny, false}, {"*", capDeny, false}, {"other/*", capRead, false}, {"transit", capRead, false},
		{"+/keys", capRead, true}, {"+/+/b*", capRead, true}, {"transit/+/x", capRead, true}, {"other/+/x", capRead, false},
		{"+", capRead, false},
	} {
		if got := newACL([]rule{{path: c.path, caps: c.cap}}).touches("transit/"); got != c.want {
			t.Errorf("%s %b: %v", c.path, c.cap, got)
		}
	}
}

func TestPolicyNames(t *testing.T) {
	t.Parallel()
	if got, err := policyName(" Team.A-1 "); err != nil || got != "team.a-1" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"", "a b", "a/b", "a,b", "ä", strings.Repeat("a", maxPolicyName+1)} {
		if _, err := policyName(bad); err == nil {
			t.Errorf("%.20q is accepted", bad)
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add(defaultPolicyText)
	f.Add(`{"path": [{"a": {"capabilities": ["read"]}}, {"b": [{"policy": "deny"}]}]}`)
	f.Add(`path "a/+/b*" { policy = "write" } name = <<X` + "\n a\nX\n")
	f.Add(`path "${"a"}" { capabilities = ["read"] /* c */ }`)
	f.Add(`path "a" { allowed_parameters = { "*" = [] "x" = ["a*", 1, 1.5, true, ["b"]] } denied_parameters { x = [] } }`)
	f.Add(`path "a" { required_parameters = ["x"] min_wrapping_ttl = 017 max_wrapping_ttl = "1h" } path "a" { policy = "read" }`)
	f.Add(`{"path": {"a/{{identity.entity.metadata.k}}/*": {"denied_parameters": {"x": [[], "y"]}, "min_wrapping_ttl": 5}}}`)
	f.Add(`path "{{identity.groups.ids.a.name}}+" { capabilities = ["deny"] } path "{{ identity.entity.aliases.b.custom_metadata.c.d }}" {}`)
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := parsePolicy(text)
		if err != nil {
			return
		}
		a := newACL(rules)
		rules = slices.DeleteFunc(rules, func(r rule) bool { return r.templated })
		for _, r := range rules {
			if r.limits != nil {
				r.limits.permits(op.Write, &api.CreateToken{TTL: 5, Policies: []string{"x"}, Meta: map[string]string{}}, nil, []string{"y"})
				r.limits.wraps(&op.Operation{}, 5)
			}
			at := strings.ReplaceAll(strings.TrimSuffix(r.path, "*"), "+", "x")
			a.allowed(at)
			a.touches("transit/")
			if hasPlus(r.path) || strings.HasSuffix(r.path, "*") {
				continue
			}
			got := a.allowed(r.path)
			if r.caps&capDeny != 0 && got != capDeny {
				t.Errorf("%q: denied, but %b", r.path, got)
			}
			if got != capDeny && got&r.caps != r.caps {
				t.Errorf("%q: allows %b, but %b", r.path, r.caps, got)
			}
		}
	})
}
