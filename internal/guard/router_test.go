package guard

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/op"
)

type routeReq struct {
	A string `path:"a"`
	B string `path:"b"`
	C string `path:"c"`
	D string `path:"d"`
	E string `path:"e"`
	F string `path:"f"`
	G string `path:"g"`
}

// empty is a route whose rest may have empty segments.
func empty(o *op.Operation) *op.Operation {
	o.EmptySegments = true
	return o
}

func route(name, path string, verb op.Verb) *op.Operation {
	return op.Define(op.Meta{Name: name, Mount: "k", Path: path, Verb: verb},
		func(context.Context, *op.Call, *routeReq) (*routeReq, error) { return nil, nil })
}

func testTable(t testing.TB) *table {
	t.Helper()
	tb := newTable()
	for _, o := range []*op.Operation{
		route("list", "keys", op.List),
		route("read", "keys/{a}", op.Read),
		route("create", "keys/{a}", op.Write),
		route("import", "keys/import", op.Write),
		route("config", "keys/{a}/config", op.Write),
		route("random", "random", op.Write),
		route("random1", "random/{a}", op.Write),
		route("random2", "random/{a}/{b}", op.Write),
		route("export-public", "export/public/{a}", op.Read),
		route("export", "export/{b}/{a}", op.Read),
		route("export-version", "export/{b}/{a}/{c}", op.Read),
		route("mount", "mounts/{a...}", op.Write),
		route("tune", "mounts/{a...}/tune", op.Write),
		route("mounts", "mounts", op.Read),
		empty(route("ocsp", "ocsp/{a...}", op.Read)),
		route("ocsp-post", "ocsp/{a...}", op.Write),
		route("six", "six/{a}/{b}/{c}/{d}/{e}/{f}", op.Read),
	} {
		if err := tb.add(o); err != nil {
			t.Fatal(err)
		}
	}
	return tb
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	tb := testTable(t)
	for _, c := range []struct {
		verb   op.Verb
		path   string
		want   string
		known  bool
		params []string
	}{
		{op.List, "keys", "list", true, nil},
		{op.Read, "keys", "", true, nil},
		{op.Read, "keys/x", "read", true, []string{"x"}},
		{op.Write, "keys/x", "create", true, []string{"x"}},
		{op.Delete, "keys/x", "", true, nil},
		{op.Write, "keys/import", "import", true, nil},
		{op.Read, "keys/import", "read", true, []string{"import"}},
		{op.Write, "keys/import/config", "config", true, []string{"import"}},
		{op.Write, "random", "random", true, nil},
		{op.Write, "random/32", "random1", true, []string{"32"}},
		{op.Write, "random/all/32", "random2", true, []string{"all", "32"}},
		{op.Write, "random/all/32/x", "", false, nil},
		{op.Read, "export/public/n", "export-public", true, []string{"n"}},
		{op.Read, "export/signing/n", "export", true, []string{"signing", "n"}},
		{op.Read, "export/public/n/2", "export-version", true, []string{"public", "n", "2"}},
		{op.Write, "mounts/a", "mount", true, []string{"a"}},
		{op.Write, "mounts/a/b/c", "mount", true, []string{"a/b/c"}},
		{op.Write, "mounts/a/tune", "tune", true, []string{"a"}},
		{op.Write, "mounts/a/b/tune", "tune", true, []string{"a/b"}},
		{op.Write, "mounts/tune", "mount", true, []string{"tune"}},
		{op.Write, "mounts/tune/a", "mount", true, []string{"tune/a"}},
		{op.Write, "mounts/a//tune", "", false, nil},
		{op.Write, "mounts//tune", "", false, nil},
		{op.Read, "mounts/a/b", "", true, nil},
		{op.Write, "mounts/a//b", "", false, nil},
		{op.Write, "mounts//a", "", false, nil},
		{op.Read, "ocsp/MA/b", "ocsp", true, []string{"MA/b"}},
		{op.Read, "ocsp/MA//b///c/", "ocsp", true, []string{"MA//b///c/"}},
		{op.Read, "ocsp//MA", "", false, nil},
		{op.Write, "ocsp/MA//b", "", false, nil},
		{op.Write, "mounts/", "", false, nil},
		{op.Read, "six/1/2/3/4/5/6", "six", true, []string{"1", "2", "3", "4", "5", "6"}},
		{op.Read, "", "", false, nil},
		{op.Read, "/", "", false, nil},
		{op.Read, "keys//x", "", false, nil},
		{op.Read, "/keys/x", "", false, nil},
		{op.Read, "keys/", "", false, nil},
		{op.Read, "Keys/x", "", false, nil},
		{op.Read, "key", "", false, nil},
		{0, "keys/x", "", false, nil},
		{99, "keys/x", "", false, nil},
	} {
		var m match
		tb.find("k", c.path, c.verb, &m)
		got := ""
		if m.op != nil {
			got = m.op.Name
		}
		if got != c.want || m.known != c.known || m.op != nil && !slices.Equal(m.params[:m.n], c.params) {
			t.Errorf("%v %q: %q known %v %q; want %q known %v %q",
				c.verb, c.path, got, m.known, m.params[:m.n], c.want, c.known, c.params)
		}
	}
}

func TestRouteAllocatesNothing(t *testing.T) {
	tb := testTable(t)
	var m match
	if n := testing.AllocsPerRun(100, func() {
		m = match{}
		tb.find("k", "export/public/n/2", op.Read, &m)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestRegisterRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		o    *op.Operation
		want string
	}{
		{route("read", "other", op.Read), "declared twice"},
		{route("again", "keys/{b}", op.Read), "both read"},
		{route("rest", "mounts/{b...}", op.Write), "both write"},
		{route("gap", "a//b", op.Read), "empty segment"},
		{route("end", "a/", op.Read), "empty segment"},
		{route("seven", "s/{a}/{b}/{c}/{d}/{e}/{f}/{g}", op.Read), "more than 6"},
		{route("verb", "v", 0), "verb"},
		{route("verb6", "v", op.Patch+1), "verb"},
	} {
		if err := testTable(t).add(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", c.o.Name, err, c.want)
		}
	}
}

func TestTableIsSorted(t *testing.T) {
	t.Parallel()
	tb := testTable(t)
	if !slices.IsSortedFunc(tb.ops, compareOperations) || len(tb.ops) != 17 {
		t.Errorf("%d operations, sorted %v", len(tb.ops), slices.IsSortedFunc(tb.ops, compareOperations))
	}
}

func TestLocate(t *testing.T) {
	t.Parallel()
	mt := mountTable{"sys/": {Path: "sys/"}, "a/": {Path: "a/"}, "a/b/": {Path: "a/b/"}, "auth/token/": {Path: "auth/token/"}}
	for _, c := range []struct{ path, mount, below string }{
		{"sys/health", "sys/", "health"}, {"a/x", "a/", "x"}, {"a/b/x/y", "a/b/", "x/y"}, {"a/b", "a/", "b"},
		{"a/bc/x", "a/", "bc/x"}, {"sys", "", ""}, {"system/x", "", ""}, {"", "", ""}, {"/sys/x", "", ""},
		{"auth/token/create", "auth/token/", "create"}, {"auth/x", "", ""},
		{strings.Repeat("x/", 2000), "", ""},
	} {
		m, below := mt.locate(c.path)
		got := ""
		if m != nil {
			got = m.Path
		}
		if got != c.mount || below != c.below {
			t.Errorf("%.20q: %q %q; want %q %q", c.path, got, below, c.mount, c.below)
		}
	}
}

func FuzzRoute(f *testing.F) {
	tb := testTable(f)
	f.Add("export/public/n/2", uint8(1))
	f.Add("mounts//x/", uint8(3))
	f.Fuzz(func(t *testing.T, path string, verb uint8) {
		var m match
		tb.find("k", path, op.Verb(verb), &m)
		for _, p := range m.params[:m.n] {
			if m.op != nil && (p == "" || strings.HasPrefix(p, "/") || strings.HasSuffix(p, "/") || strings.Contains(p, "//")) {
				t.Errorf("%q: parameter %q", path, p)
			}
		}
	})
}
