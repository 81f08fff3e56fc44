package clients

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// outcomes are what a client got at each of its steps: a word, or "refused" with
// the types of the problems that it shows.
type outcomes struct {
	t     *testing.T
	who   string
	names []string
	of    map[string]string
}

var problemType = regexp.MustCompile(`urn:ietf:params:acme:error:(\w+)`)

// step notes the outcome of a step; good is the word for success.
func (o *outcomes) step(name, good, out string, err error) bool {
	o.t.Helper()
	result := good
	if err != nil {
		kinds := map[string]bool{}
		for _, m := range problemType.FindAllStringSubmatch(out+" "+err.Error(), -1) {
			kinds[m[1]] = true
		}
		result = strings.Join(append([]string{"refused"}, slices.Sorted(maps.Keys(kinds))...), " ")
	}
	if o.of[name] != "" {
		o.t.Fatalf("two steps are %q", name)
	}
	o.names, o.of[name] = append(o.names, name), result
	o.t.Logf("%s: %s: %s", o.who, name, result)
	if err != nil && testing.Verbose() {
		o.t.Logf("%v\n%s", err, tail(out))
	}
	return err == nil
}

// difference is a step whose outcomes are not the same, and why that is right.
type difference struct{ claviger, pebble, why string }

// onBoth runs a client against both authorities, which must treat it the same
// but for known differences. want has the outcomes at ours.
func onBoth(t *testing.T, w *acmeWorld, want map[string]string, known map[string]difference, use func(a *authority, o *outcomes)) {
	t.Helper()
	all := map[string]*outcomes{}
	for _, a := range []*authority{w.claviger(), w.pebble(nil)} {
		o := &outcomes{t: t, who: a.name, of: map[string]string{}}
		use(a, o)
		all[a.name] = o
	}
	ours, theirs := all["claviger"], all["pebble"]
	if !slices.Equal(ours.names, theirs.names) {
		t.Errorf("the steps are not the same: %q, %q", ours.names, theirs.names)
	}
	if len(want) != len(ours.names) {
		t.Errorf("%d steps, %d are expected", len(ours.names), len(want))
	}
	for _, name := range ours.names {
		d, differs := known[name]
		if !differs {
			d = difference{claviger: want[name], pebble: want[name]}
		}
		if ours.of[name] != d.claviger || theirs.of[name] != d.pebble || want[name] != d.claviger {
			t.Errorf("%s: %q here, %q at pebble; expected %q and %q", name, ours.of[name], theirs.of[name], d.claviger, d.pebble)
		}
	}
	for name := range known {
		if ours.of[name] == "" {
			t.Errorf("no step %q", name)
		}
	}
}
