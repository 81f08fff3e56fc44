package conformance

import (
	"testing"
)

func TestAnswerOf(t *testing.T) {
	t.Parallel()
	const id = "0b8a1f9e-3c44-4b7e-9a55-6f1f0e8a2d11"
	for _, c := range []struct {
		name, contentType, body string
		any                     []string
		form, golden            string
	}{
		{"nothing", "", "", nil, "nothing", ""},
		{"errors", "application/json", `{"errors":["a","b"]}`, nil, "errors", "[\n  \"a\",\n  \"b\"\n]"},
		{"errors and more", "application/json", `{"errors":[],"x":1}`, nil, "bare", "{\n  \"errors\": [],\n  \"x\": 1\n}"},
		{"envelope", "application/json; charset=utf-8",
			`{"request_id":"` + id + `","lease_id":"","renewable":false,"lease_duration":0,"data":{"t":1795304244},"wrap_info":null,"warnings":null,"auth":null}`,
			nil, "envelope", "{\n  \"data\": {\n    \"t\": \"<unix time>\"\n  }\n}"},
		{"envelope without a part", "application/json",
			`{"request_id":"` + id + `","lease_id":"","renewable":false,"lease_duration":0,"data":null,"wrap_info":null,"warnings":null}`,
			nil, "bare", "{\n  \"data\": null,\n  \"lease_duration\": 0,\n  \"lease_id\": \"\",\n  \"renewable\": false,\n  \"request_id\": \"<uuid>\",\n  \"warnings\": null,\n  \"wrap_info\": null\n}"},
		{"copies", "application/json",
			`{"request_id":"` + id + `","lease_id":"","renewable":false,"lease_duration":0,"data":{"x":[1]},"wrap_info":null,"warnings":null,"auth":null,"x":[1]}`,
			nil, "envelope+copies", "{\n  \"data\": {\n    \"x\": [\n      1\n    ]\n  }\n}"},
		{"a copy that differs", "application/json",
			`{"request_id":"` + id + `","lease_id":"","renewable":false,"lease_duration":0,"data":{"x":[1]},"wrap_info":null,"warnings":null,"auth":null,"x":[2]}`,
			nil, "envelope", "{\n  \"data\": {\n    \"x\": [\n      1\n    ]\n  },\n  \"x\": [\n    2\n  ]\n}"},
		{"values", "application/json",
			`["2026-11-22T03:04:05.123Z","vault:v12:aGk=","vault:v1:_-8","vault:v1:!","-----BEGIN PUBLIC KEY-----\nx","s.0123456789012345678901234","keptkeptkeptkeptkept: x"]`,
			nil, "bare", "[\n  \"<time>\",\n  \"vault:v12:<base64>\",\n  \"vault:v1:<base64url>\",\n  \"vault:v1:!\",\n  \"<PEM PUBLIC KEY>\",\n  \"<token>\",\n  \"$kept: x\"\n]"},
		{"any", "application/json", `{"a":[{"b":1},{"b":"x"},{"b":null},{"b":1.5},{"b":{}}]}`, []string{"a.*.b"},
			"bare", "{\n  \"a\": [\n    {\n      \"b\": \"<integer>\"\n    },\n    {\n      \"b\": \"<string>\"\n    },\n    {\n      \"b\": null\n    },\n    {\n      \"b\": \"<number>\"\n    },\n    {\n      \"b\": \"<object>\"\n    }\n  ]\n}"},
		{"text", "text/plain; version=0.0.4", "x 1", nil, "text/plain", ""},
		{"no type", "", "x", nil, "untyped", ""},
		{"broken", "application/json", `{"a":`, nil, "broken-JSON", ""},
		{"two values", "application/json", `{} {}`, nil, "broken-JSON", ""},
	} {
		a := answerOf(200, c.contentType, []byte(c.body), c.any, map[string]string{"keptkeptkeptkeptkept": "kept"})
		if a.Form != c.form || a.Golden() != c.golden {
			t.Errorf("%s: %s\n%s\nwant %s\n%s", c.name, a.Form, a.Golden(), c.form, c.golden)
		}
	}
}
