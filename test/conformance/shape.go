package conformance

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Answer is what a server answered, without what changes from run to run.
type Answer struct {
	Status int
	// Form says what the body is:
	//
	//	nothing   there is none
	//	envelope  Vault's envelope; the shape has the parts that are not empty
	//	envelope+copies  the same, and data's members are beside it as well
	//	errors    {"errors":[…]} and nothing else; the shape is the list
	//	bare      any other JSON
	//	text/…    a media type that is not JSON; untyped if there is none
	Form string
	// Shape is the body as json.Unmarshal gives it, with markers such as <uuid>
	// for values that change, nil if there is nothing to compare.
	Shape any
}

// Golden is the text of a shape.
func (a *Answer) Golden() string {
	if a.Shape == nil {
		return ""
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(a.Shape); err != nil {
		panic(fmt.Sprintf("a shape that is no JSON: %v", err)) // it came from JSON
	}
	return strings.TrimSpace(b.String())
}

// decode reads JSON; numbers stay as they were written.
func decode(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, fmt.Errorf("more than one value")
	}
	return v, nil
}

// answerOf makes an answer of a status and a body. anyOf are paths whose values
// do not count, known the values that stand for a name.
func answerOf(status int, contentType string, body []byte, anyOf []string, known map[string]string) *Answer {
	a := &Answer{Status: status, Form: "nothing"}
	if len(body) == 0 {
		return a
	}
	mediaType, _, _ := mime.ParseMediaType(contentType)
	if mediaType != "application/json" {
		a.Form = cmp.Or(mediaType, "untyped")
		return a
	}
	v, err := decode(body)
	if err != nil {
		a.Form = "broken-JSON"
		return a
	}
	for _, at := range anyOf {
		v = replace(v, strings.Split(at, "."), typeOf)
	}
	a.Form, a.Shape = form(mark(v, "", known))
	return a
}

// emptyParts are the members of Vault's envelope, and what they are when empty.
var emptyParts = map[string]any{
	"request_id": "<uuid>", "lease_id": "", "renewable": false, "lease_duration": json.Number("0"),
	"data": nil, "wrap_info": nil, "warnings": nil, "auth": nil,
}

func form(v any) (string, any) {
	o, ok := v.(map[string]any)
	if !ok {
		return "bare", v
	}
	if list, ok := o["errors"]; ok && len(o) == 1 {
		return "errors", list
	}
	rest := map[string]any{}
	for name, value := range o {
		if empty, ours := emptyParts[name]; !ours || empty != value {
			rest[name] = value
		}
	}
	for name := range emptyParts {
		if _, ok := o[name]; !ok {
			return "bare", v
		}
	}
	data, ok := rest["data"].(map[string]any)
	if !ok || !copied(data, rest) {
		return "envelope", rest
	}
	for name := range data {
		if _, ours := emptyParts[name]; !ours {
			delete(rest, name)
		}
	}
	return "envelope+copies", rest
}

// copied tells whether all members of data are in rest too.
func copied(data, rest map[string]any) bool {
	for name, value := range data {
		if _, ours := emptyParts[name]; ours {
			continue
		}
		beside, ok := rest[name]
		if !ok || len(differences("", value, beside)) > 0 {
			return false
		}
	}
	return len(data) > 0
}

var (
	uuid        = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	timestamp   = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$`)
	serial      = regexp.MustCompile(`^[0-9a-f]{2}(:[0-9a-f]{2}){19}$`)
	ciphertext  = regexp.MustCompile(`^(vault:v\d+:)([A-Za-z0-9+/_=-]+)$`)
	pemText     = regexp.MustCompile(`^-----BEGIN ([A-Z0-9 ]+)-----\n`)
	clientToken = regexp.MustCompile(`^(s|b|hvs|hvb)\.[A-Za-z0-9_-]{20,}$`)
)

// opaque are the members whose text is the server's own choice.
var opaque = []string{"accessor", "wrapped_accessor"}

// mark replaces what changes from run to run.
func mark(v any, name string, known map[string]string) any {
	switch v := v.(type) {
	case map[string]any:
		marked := make(map[string]any, len(v))
		for n, e := range v {
			marked[markName(n, known)] = mark(e, n, known)
		}
		return marked
	case []any:
		for i, e := range v {
			v[i] = mark(e, name, known)
		}
	case string:
		return markText(v, name, known)
	case json.Number:
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil && 1_500_000_000 < n && n < 1<<32 {
			return "<unix time>"
		}
	}
	return v
}

// markName is markText for the name of a member: names of things that are kept,
// and their identifiers.
func markName(s string, known map[string]string) string {
	if n, ok := known[s]; ok {
		return "$" + n
	}
	if uuid.MatchString(s) || serial.MatchString(s) {
		return "<id>"
	}
	return s
}

func markText(s, name string, known map[string]string) string {
	for text, n := range known {
		s = strings.ReplaceAll(s, text, "$"+n)
	}
	switch {
	case s != "" && slices.Contains(opaque, name):
		return "<opaque>"
	case uuid.MatchString(s):
		return "<uuid>"
	case serial.MatchString(s):
		return "<serial number>"
	case timestamp.MatchString(s):
		return "<time>"
	case clientToken.MatchString(s):
		return "<token>"
	}
	if m := pemText.FindStringSubmatch(s); m != nil {
		return "<PEM " + m[1] + ">"
	}
	if m := ciphertext.FindStringSubmatch(s); m != nil {
		if _, err := base64.StdEncoding.DecodeString(m[2]); err == nil {
			return m[1] + "<base64>"
		}
		if _, err := base64.RawURLEncoding.DecodeString(m[2]); err == nil {
			return m[1] + "<base64url>"
		}
	}
	return s
}

// typeOf names the type of a value that does not count. Null stays null.
func typeOf(v any) any {
	switch v := v.(type) {
	case string:
		if v == "" {
			return v
		}
		return "<string>"
	case json.Number:
		if strings.ContainsAny(string(v), ".eE") {
			return "<number>"
		}
		return "<integer>"
	case bool:
		return "<boolean>"
	case []any:
		return "<array>"
	case map[string]any:
		return "<object>"
	}
	return v
}

// replace puts f(value) where at leads to; * stands for every member.
func replace(v any, at []string, f func(any) any) any {
	if len(at) == 0 {
		return f(v)
	}
	switch v := v.(type) {
	case map[string]any:
		for n, e := range v {
			if at[0] == "*" || at[0] == n {
				v[n] = replace(e, at[1:], f)
			}
		}
	case []any:
		for i, e := range v {
			if at[0] == "*" || at[0] == strconv.Itoa(i) {
				v[i] = replace(e, at[1:], f)
			}
		}
	}
	return v
}

// textAt is the text or number that at leads to.
func textAt(v any, at string) (string, bool) {
	var text string
	found := false
	replace(v, strings.Split(at, "."), func(v any) any {
		switch s := v.(type) {
		case string:
			text, found = s, true
		case json.Number:
			text, found = string(s), true
		}
		return v
	})
	return text, found
}
