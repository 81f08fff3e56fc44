package conformance

import (
	"net/http"
	"strings"
	"testing"
)

const document = `{
 "paths": {
  "/sys/mounts/{path}": {"parameters": [], "get": {"description": "The answer repeats the members of data beside it.", "responses": {"200": {"content": {"application/json": {"schema": {"allOf": [
    {"$ref": "#/components/schemas/Envelope"}, {"type": "object", "properties": {"data": {"$ref": "#/components/schemas/Mount"}}}]}}}}}}},
  "/sys/mounts/{path}/tune": {"post": {"responses": {"204": {"description": "Done."}}}},
  "/sys/mounts": {"get": {"responses": {"200": {"content": {"application/json": {"schema": {"allOf": [
    {"$ref": "#/components/schemas/Envelope"}, {"type": "object", "properties": {"data": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Mount"}}}}]}}}}}}}
 },
 "components": {"schemas": {
  "ErrorResponse": {"type": "object", "required": ["errors"], "properties": {"errors": {"type": "array", "items": {"type": "string"}}}},
  "Envelope": {"type": "object", "required": ["data", "auth"], "properties": {"data": {}, "auth": {"anyOf": [{"$ref": "#/components/schemas/Mount"}, {"type": "null"}]}}},
  "Mount": {"type": "object", "required": ["type"], "properties": {
    "type": {"type": "string", "enum": ["transit", "sys"]}, "n": {"type": ["integer", "null"]}, "time": {"type": "string", "format": "date-time"},
    "b": {"type": "string", "contentEncoding": "base64"}, "options": {"type": "object", "additionalProperties": {"type": "string"}}}}
 }}}`

func TestDocumentFinds(t *testing.T) {
	t.Parallel()
	d, err := ParseDocument([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/sys/mounts/a", "get /sys/mounts/{path}"},
		{"HEAD", "/sys/mounts/a/b/c/", "get /sys/mounts/{path}"},
		{"PUT", "/sys/mounts/a/b/tune", "post /sys/mounts/{path}/tune"},
		{"LIST", "/sys/mounts/", "get /sys/mounts"},
		{"GET", "/sys/mounts", "get /sys/mounts"},
		{"DELETE", "/sys/mounts/a", ""},
		{"GET", "/sys", ""},
		{"POST", "/sys/mounts/tune", ""},
	} {
		if got, ok := d.Find(c.method, c.path); got != c.want || ok != (c.want != "") {
			t.Errorf("%s %s: %q", c.method, c.path, got)
		}
	}
}

func TestDocumentChecks(t *testing.T) {
	t.Parallel()
	d, err := ParseDocument([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path   string
		status int
		body   string
		want   string
	}{
		{"/sys/mounts/a", 200, `{"data":{"type":"sys"},"auth":null}`, ""},
		{"/sys/mounts/a", 200, `{"data":{"type":"sys","n":1,"time":"2026-11-22T03:04:05Z","b":"aGk=","options":{"x":"y"}},"auth":{"type":"transit"},"type":"sys","n":1}`, ""},
		{"/sys/mounts/a", 200, `{"data":{"type":"sys"}}`, "auth is missing"},
		{"/sys/mounts/a", 200, `{"data":{},"auth":null}`, "data.type is missing"},
		{"/sys/mounts/a", 200, `{"data":null,"auth":null}`, "data is of type null, and object in the document"},
		{"/sys/mounts/a", 200, `{"data":{"type":1},"auth":null}`, "data.type is of type integer, and string"},
		{"/sys/mounts/a", 200, `{"data":{"type":"kv"},"auth":null}`, `data.type is "kv"`},
		{"/sys/mounts/a", 200, `{"data":{"type":"sys","n":1.5},"auth":null}`, "data.n is of type number"},
		{"/sys/mounts/a", 200, `{"data":{"type":"sys","time":"noon"},"auth":null}`, "data.time:"},
		{"/sys/mounts/a", 200, `{"data":{"type":"sys","b":"!"},"auth":null}`, "data.b:"},
		{"/sys/mounts/a", 200, `{"data":{"type":"sys","options":{"x":1}},"auth":null}`, "data.options.x is of type integer"},
		{"/sys/mounts/a", 200, `{"data":{"type":"sys","more":1},"auth":null}`, "data.more is not in the document"},
		{"/sys/mounts/a", 200, `{"data":{"type":"sys"},"auth":{"type":"sys","more":1}}`, "auth.more is not in the document"},
		{"/sys/mounts/a", 200, `{"data":{"type":"sys"},"auth":null,"more":1}`, "more is not in the document"},
		{"/sys/mounts", 200, `{"data":{"a/":{"type":"sys"}},"auth":null}`, ""},
		{"/sys/mounts", 200, `{"data":{"a/":{"type":"sys","more":1}},"auth":null}`, "data.a/.more is not in the document"},
		{"/sys/mounts", 200, `{"data":{"a/":{"type":"sys"}},"auth":null,"a/":{"type":"sys"}}`, "a/ is not in the document"},
		{"/sys/mounts", 403, `{"errors":["permission denied"]}`, ""},
		{"/sys/mounts", 403, `{"errors":"permission denied"}`, "errors is of type string"},
		{"/sys/mounts", 403, `{"errors":[],"x":1}`, "x is not in the document"},
		{"/sys/mounts", 500, `{"errors":[]}`, "status 500 is not in the document"},
		{"/nowhere", 404, `{"errors":[]}`, ""},
	} {
		resp := &http.Response{StatusCode: c.status, Header: http.Header{"Content-Type": {"application/json"}}, Request: &http.Request{Method: "GET"}}
		err := d.Check("GET", c.path, resp, []byte(c.body))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %d %s: %v, want %q", c.path, c.status, c.body, err, c.want)
		}
	}
}

func TestOneSegment(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		"/sys/mounts/{path}/tune":           "/sys/mounts/x/tune",
		"/sys/leases/revoke-force/{prefix}": "/sys/leases/revoke-force/x",
		"/sys/renew/{url_lease_id}":         "/sys/renew/x",
		"/transit/keys/{name}":              "",
	} {
		if got, ok := OneSegment(pattern); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %s %v, want %s", pattern, got, ok, want)
		}
	}
}
