package guard

import (
	"testing"

	"github.com/claviger/claviger/internal/op"
)

// A judge allows what a call of the path with the verb would be allowed.
func TestJudge(t *testing.T) {
	t.Parallel()
	rules, err := parsePolicy(`
path "transit/keys/+" { capabilities = ["read"] }
path "transit/keys/own" { capabilities = ["read", "delete", "create"] }
path "transit/sign/own*" { capabilities = ["update"] }
path "transit/sign/own-not" { capabilities = ["deny"] }
path "transit/keys/" { capabilities = ["list"] }`)
	if err != nil {
		t.Fatal(err)
	}
	a := newACL(rules)
	a.generation = 7
	c := op.Call{At: "transit/", Judge: a}
	for _, test := range []struct {
		verb op.Verb
		path string
		want bool
	}{
		{op.Read, "keys/any", true},
		{op.Delete, "keys/any", false},
		{op.Delete, "keys/own", true},
		{op.Write, "keys/own", false}, // create alone makes, and does not use
		{op.Write, "sign/own-2", true},
		{op.Write, "sign/own-not", false},
		{op.Read, "sign/own", false},
		{op.List, "keys", true},
		{op.Read, "", false},
	} {
		if got := c.May(test.verb, test.path); got != test.want {
			t.Errorf("%v %s: %v", test.verb, test.path, got)
		}
	}
	if !(&op.Call{Judge: &acl{root: true}}).May(op.Delete, "x") || (&op.Call{}).May(op.Read, "x") {
		t.Error("root, or a call without policies")
	}
	if a.Stamp() != 7 {
		t.Error(a.Stamp())
	}
}
