package openapi

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

type itemRequest struct {
	Name  string      `json:"-" path:"name" doc:"name of the thing"`
	Data  []byte      `json:"data,omitzero" doc:"what to keep"`
	TTL   api.Seconds `json:"ttl,omitempty"`
	Items []part      `json:"items,omitempty" doc:"parts"`
}

type part struct {
	Value int   `json:"value"`
	More  *part `json:"more,omitempty"`
}

type itemAnswer struct {
	Kept   []byte            `json:"kept"`
	Since  *time.Time        `json:"since"`
	Names  []string          `json:"names,omitempty"`
	Labels map[string]string `json:"labels"`
	Part   *part             `json:"part"`
	Status int               `json:"-"`
}

func (*itemAnswer) HTTPStatus() int { return 0 }

type plainText struct{}

func (plainText) Raw() (string, []byte) { return "text/plain; charset=utf-8", nil }

func testTable() []*op.Operation {
	meta := func(name, path string, v op.Verb) op.Meta {
		return op.Meta{Name: "box." + name, Mount: "box", Path: path, Verb: v, Help: "Does " + name + "."}
	}
	sudo := meta("seal", "seal", op.Write)
	sudo.Sudo = true
	public := meta("state", "state", op.Read)
	public.Public, public.Bare = true, true
	metrics := meta("metrics", "metrics", op.Read)
	metrics.Bare = true
	return []*op.Operation{
		op.Define(meta("list-by-read", "items", op.Read), nothing[api.Empty, itemAnswer]),
		op.Define(meta("list", "items", op.List), nothing[api.Empty, api.Keys]),
		op.Define(meta("read", "items/{name...}", op.Read), nothing[itemRequest, itemAnswer]),
		op.WithExists(op.Define(meta("write", "items/{name...}", op.Write), nothing[itemRequest, api.Auth]),
			func(context.Context, *op.Call, *itemRequest) (bool, error) { return false, nil }),
		op.Define(metrics, nothing[api.Empty, plainText]),
		op.Define(sudo, nothing[api.Empty, api.Empty]),
		op.Define(public, nothing[api.Empty, itemAnswer]),
	}
}

func nothing[Req, Resp any](context.Context, *op.Call, *Req) (*Resp, error) { return nil, nil }

func encode(t *testing.T, d *Document) string {
	t.Helper()
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// at returns what stands at a path of keys, as JSON.
func at(t *testing.T, d *Document, keys ...string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(encode(t, d)), &v); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		m, ok := v.(map[string]any)
		if !ok || m[k] == nil {
			t.Errorf("there is no %q", keys)
			return ""
		}
		v = m[k]
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDocument(t *testing.T) {
	t.Parallel()
	d := New(testTable(), map[string]string{"box/": "box"}, "1.2.3")
	for _, c := range []struct {
		keys []string
		want string
	}{
		{[]string{"openapi"}, `"3.1.1"`},
		{[]string{"info", "version"}, `"1.2.3"`},
		{[]string{"paths", "/box/items/{name}", "parameters"},
			`[{"description":"name of the thing (may have several segments)","in":"path","name":"name","required":true,"schema":{"type":"string"}}]`},
		{[]string{"paths", "/box/items/{name}", "post", "operationId"}, `"box.write"`},
		{[]string{"paths", "/box/items/{name}", "post", "x-vault-createSupported"}, `true`},
		{[]string{"paths", "/box/items/{name}", "post", "description"}, `"Needs the capability create or update."`},
		{[]string{"paths", "/box/items/{name}", "post", "requestBody", "content", "application/json", "schema"}, `{"$ref":"#/components/schemas/itemRequest"}`},
		{[]string{"paths", "/box/items/{name}", "post", "responses", "200", "content", "application/json", "schema", "allOf"},
			`[{"$ref":"#/components/schemas/Envelope"},{"properties":{"auth":{"$ref":"#/components/schemas/Auth"}},"type":"object"}]`},
		{[]string{"paths", "/box/items/{name}", "post", "responses", "404"}, `{"$ref":"#/components/responses/NotFound"}`},
		{[]string{"paths", "/box/seal", "post", "responses", "204"}, `{"description":"Done."}`},
		{[]string{"paths", "/box/seal", "post", "x-vault-sudo"}, `true`},
		{[]string{"paths", "/box/state", "get", "security"}, `[]`},
		{[]string{"paths", "/box/metrics", "get", "responses", "200", "content"}, `{"text/plain":{"schema":{"type":"string"}}}`},
		{[]string{"paths", "/box/items", "get", "parameters"},
			`[{"description":"true lists","in":"query","name":"list","schema":{"enum":["true"],"type":"string"}}]`},
		{[]string{"components", "schemas", "itemRequest", "properties", "data"},
			`{"contentEncoding":"base64","description":"what to keep","type":"string"}`},
		{[]string{"components", "schemas", "itemRequest", "properties", "ttl", "type"}, `["integer","string"]`},
		{[]string{"components", "schemas", "itemAnswer", "required"}, `["kept","since","labels","part"]`},
		{[]string{"components", "schemas", "itemAnswer", "properties", "kept", "type"}, `["string","null"]`},
		{[]string{"components", "schemas", "itemAnswer", "properties", "names", "type"}, `"array"`},
		{[]string{"components", "schemas", "itemAnswer", "properties", "part"}, `{"anyOf":[{"$ref":"#/components/schemas/part"},{"type":"null"}]}`},
		{[]string{"components", "securitySchemes", "token", "name"}, `"X-Vault-Token"`},
	} {
		if got := at(t, d, c.keys...); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", strings.Join(c.keys, " "), got, c.want)
		}
	}
	if encode(t, d) != encode(t, New(testTable(), map[string]string{"box/": "box"}, "1.2.3")) {
		t.Error("the same table gives another document")
	}
}

// TestReferences: every $ref leads to something, and every operationId is there once.
func TestReferences(t *testing.T) {
	t.Parallel()
	d := New(testTable(), map[string]string{"box/": "box", "team/box/": "box"}, "1.2.3")
	text := encode(t, d)
	for _, m := range regexp.MustCompile(`"\$ref":"#/components/(\w+)/(\w+)"`).FindAllStringSubmatch(text, -1) {
		at(t, d, "components", m[1], m[2])
	}
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`"operationId":"([^"]+)"`).FindAllStringSubmatch(text, -1) {
		if seen[m[1]] {
			t.Errorf("operationId %s twice", m[1])
		}
		seen[m[1]] = true
	}
	if !seen["box.write"] || !seen["team/box/box.write"] || len(seen) != 12 {
		t.Errorf("operationIds: %v", seen)
	}
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]int{
		"box.list":  {200, 400, 403, 404, 500, 503},
		"box.write": {200, 400, 403, 404, 413, 500, 503},
		"box.seal":  {200, 204, 400, 403, 413, 500, 503},
		"box.state": {0, 200, 400, 403, 500, 503},
	} {
		table := testTable()
		o := table[slices.IndexFunc(table, func(o *op.Operation) bool { return o.Name == name })]
		if got := Statuses(o); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	text := Text(testTable(), "team/box/")
	for _, want := range []string{
		"### team/box/items/{name}\n\nIn the path:\n\n- `name` string: name of the thing\n\n**GET team/box/items/{name}** (`box.read`)\n\nDoes read. Needs the capability read.\n",
		"\nQuery:\n\n- `data` base64: what to keep\n- `ttl` duration\n- `items` list of object: parts\n  - `value` integer\n  - `more` object\n",
		"**LIST team/box/items** (`box.list`)\n\nDoes list. Needs the capability list.\n\nAnswer (200), in `data`:\n\n- `keys` list of string\n",
		"Answer (200), in `auth`:\n\n- `client_token` string\n",
		"Answer (200, 204): nothing; 200 if there are warnings.\n",
		"Answer (200): text/plain; charset=utf-8, without envelope.\n",
		"Answer (200, others by state or request), without envelope:\n",
		"Needs the capability update and sudo.", "Needs no client token.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks\n%s\nit is\n%s", want, text)
		}
	}
	if n := strings.Count(text, "### "); n != 5 {
		t.Errorf("%d sections", n)
	}
	reference := Reference(testTable())
	if !strings.Contains(reference, "\n## box/\n\n"+Text(testTable(), "box/")) || !bytes.HasSuffix([]byte(reference), []byte("\n")) {
		t.Errorf("the reference does not hold the text:\n%s", reference)
	}
}
