package conformance

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Document is a server's OpenAPI document, as far as answers are held against it:
// stricter than JSON Schema, a member that the document does not name is an error.
type Document struct {
	Paths      map[string]map[string]json.RawMessage `json:"paths"`
	Components struct {
		Schemas   map[string]*schema `json:"schemas"`
		Responses map[string]*answer `json:"responses"`
	} `json:"components"`
}

type answer struct {
	Ref     string `json:"$ref"`
	Content map[string]struct {
		Schema *schema `json:"schema"`
	} `json:"content"`
}

type operation struct {
	ID          string             `json:"operationId"`
	Description string             `json:"description"`
	Responses   map[string]*answer `json:"responses"`
}

type schema struct {
	Ref                  string             `json:"$ref"`
	Type                 any                `json:"type"`
	Format               string             `json:"format"`
	ContentEncoding      string             `json:"contentEncoding"`
	Enum                 []string           `json:"enum"`
	Items                *schema            `json:"items"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties *schema            `json:"additionalProperties"`
	Required             []string           `json:"required"`
	AllOf                []*schema          `json:"allOf"`
	AnyOf                []*schema          `json:"anyOf"`
}

// ParseDocument reads an OpenAPI document of Claviger.
func ParseDocument(text []byte) (*Document, error) {
	d := &Document{}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, fmt.Errorf("reading the OpenAPI document: %w", err)
	}
	return d, nil
}

// mounted is the mount that a file of exchanges makes.
var mounted = regexp.MustCompile(`^/v1/conformance-[a-z0-9]+/`)

// Engines are those that are not mounted from the beginning. Exchanges mount them at
// conformance- and their name.
var Engines = []string{"hmacpool", "pki"}

// Place is a request's path as the document has it: below /v1, and below the mount
// transit/ instead of one that exchanges made, or that of another engine. Requests
// for help, and those outside /v1, have none.
func Place(req *http.Request) (path string, ok bool) {
	mount := mounted.FindString(req.URL.Path)
	engine := strings.TrimSuffix(strings.TrimPrefix(mount, "/v1/conformance-"), "/")
	if !slices.Contains(Engines, engine) {
		engine = "transit"
	}
	path = req.URL.Path
	if mount != "" {
		path = "/v1/" + engine + "/" + path[len(mount):]
	}
	path, ok = strings.CutPrefix(path, "/v1")
	return path, ok && !req.URL.Query().Has("help")
}

// Wrapped tells whether wrap_info was given instead of the operation's answer.
func Wrapped(req *http.Request, resp *http.Response) bool {
	return req.Header.Get("X-Vault-Wrap-TTL") != "" && resp.StatusCode == http.StatusOK
}

// methods are the document's methods for those of requests.
var methods = map[string]string{"GET": "get", "HEAD": "get", "LIST": "get", "POST": "post", "PUT": "post", "DELETE": "delete", "PATCH": "patch"}

// Operations are all methods and paths of the document, such as "post /sys/seal".
func (d *Document) Operations() []string {
	var list []string
	for path, item := range d.Paths {
		for method := range item {
			if method != "parameters" {
				list = append(list, method+" "+path)
			}
		}
	}
	slices.Sort(list)
	return list
}

// Find returns the operation of a request, such as "post /sys/seal"; path has no
// query. Of the paths that match the one with the most literal segments is meant.
func (d *Document) Find(method, path string) (name string, ok bool) {
	best := -1
	for pattern, item := range d.Paths {
		if item[methods[method]] == nil {
			continue
		}
		if n := match(pattern, strings.TrimRight(path, "/")); n > best {
			best, name = n, methods[method]+" "+pattern
		}
	}
	return name, best >= 0
}

// several are parameters that take more than one segment.
var several = []string{"{path}", "{prefix}", "{url_lease_id}", "{request}", "{resource}"}

// OneSegment puts x for the parameters of a pattern that take more than one segment,
// which validators of OpenAPI documents do not know. It returns false if there is none.
func OneSegment(pattern string) (path string, ok bool) {
	path = pattern
	for _, p := range several {
		path = strings.ReplaceAll(path, p, "x")
	}
	return path, path != pattern
}

// match tells how many literal segments a pattern shares with a path, -1 if it
// does not match.
func match(pattern, path string) int {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	literals := 0
	for i, w := range want {
		if slices.Contains(several, w) {
			rest := len(want) - i - 1 // literals behind it
			if len(got) <= i+rest || !slices.Equal(want[i+1:], got[len(got)-rest:]) {
				return -1
			}
			return literals + rest
		}
		if i >= len(got) || got[i] == "" && w != "" {
			return -1
		}
		if strings.HasPrefix(w, "{") {
			continue
		}
		if w != got[i] {
			return -1
		}
		literals++
	}
	if len(want) != len(got) {
		return -1
	}
	return literals
}

// Check holds an answer against the document. A path that the document does not
// have is held against its form of errors.
func (d *Document) Check(method, path string, resp *http.Response, body []byte) error {
	found, ok := d.Find(method, path)
	if !ok {
		return d.refused(resp, body)
	}
	m, pattern, _ := strings.Cut(found, " ")
	var o operation
	if err := json.Unmarshal(d.Paths[pattern][m], &o); err != nil {
		return fmt.Errorf("reading the OpenAPI document: %w", err)
	}
	a, ok := o.Responses[strconv.Itoa(resp.StatusCode)]
	if !ok {
		a, ok = o.Responses["default"]
	}
	if !ok {
		return d.refused(resp, body)
	}
	if name, ok := strings.CutPrefix(a.Ref, "#/components/responses/"); ok {
		a = d.Components.Responses[name]
	}
	if method == http.MethodHead || len(body) == 0 && len(a.Content) == 0 {
		return nil
	}
	mediaType, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	content, ok := a.Content[mediaType]
	if !ok {
		return fmt.Errorf("status %d: the document knows no answer of type %q", resp.StatusCode, mediaType)
	}
	if mediaType != "application/json" {
		return nil
	}
	v, err := decode(body)
	if err != nil {
		return err
	}
	c := checker{d: d, copies: strings.Contains(o.Description, "repeats the members of data")}
	return c.whole(content.Schema, v)
}

// refused checks an answer that is of no operation, or says that the verb or the
// headers are none of an operation: an error of the common form.
func (d *Document) refused(resp *http.Response, body []byte) error {
	if !slices.Contains([]int{400, 403, 404, 405, 415}, resp.StatusCode) {
		return fmt.Errorf("status %d is not in the document", resp.StatusCode)
	}
	if resp.Request.Method == http.MethodHead {
		return nil
	}
	v, err := decode(body)
	if err != nil {
		return err
	}
	c := checker{d: d}
	return c.whole(&schema{Ref: "#/components/schemas/ErrorResponse"}, v)
}

type checker struct {
	d      *Document
	copies bool // data's members may stand beside it
}

// whole checks a body; its first object may have copies.
func (c *checker) whole(s *schema, v any) error {
	known, err := c.check(s, v, "")
	if err != nil {
		return err
	}
	o, ok := v.(map[string]any)
	if !ok || known == nil {
		return nil
	}
	if data, ok := o["data"].(map[string]any); ok && c.copies {
		for name := range data {
			known[name] = true
		}
	}
	return unknown(o, known, "")
}

// members are the names of an object's members that a schema knows, nil if it
// admits all.
type members map[string]bool

func unknown(o map[string]any, known members, at string) error {
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if !known[name] {
			return fmt.Errorf("%s is not in the document", join(at, name))
		}
	}
	return nil
}

// check holds a value against a schema. It returns which members of an object the
// schema knows, so that several schemas can know them together.
func (c *checker) check(s *schema, v any, at string) (members, error) {
	if s.Ref != "" {
		name, _ := strings.CutPrefix(s.Ref, "#/components/schemas/")
		return c.check(c.d.Components.Schemas[name], v, at)
	}
	if len(s.AnyOf) > 0 {
		return c.anyOf(s.AnyOf, v, at)
	}
	known := members{}
	for _, part := range s.AllOf {
		more, err := c.check(part, v, at)
		if err != nil {
			return nil, err
		}
		maps.Copy(known, more)
	}
	if err := typed(s, v, at); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case map[string]any:
		if s.Type == nil && len(s.AllOf) == 0 || s.Properties == nil && s.AdditionalProperties == nil && len(s.AllOf) == 0 {
			return nil, nil
		}
		if s.AdditionalProperties != nil {
			return nil, c.each(s.AdditionalProperties, v, at)
		}
		return known, c.object(s, v, at, known)
	case []any:
		for i, e := range v {
			if err := c.closed(s.Items, e, join(at, strconv.Itoa(i))); err != nil {
				return nil, err
			}
		}
	}
	return known, nil
}

// closed checks a value whose members only one schema can know.
func (c *checker) closed(s *schema, v any, at string) error {
	known, err := c.check(s, v, at)
	if o, ok := v.(map[string]any); ok && err == nil && known != nil {
		return unknown(o, known, at)
	}
	return err
}

func (c *checker) anyOf(list []*schema, v any, at string) (members, error) {
	var first error
	for _, s := range list {
		known, err := c.check(s, v, at)
		if o, ok := v.(map[string]any); ok && err == nil && known != nil && at != "" {
			err = unknown(o, known, at)
		}
		if err == nil {
			return known, nil
		}
		if first == nil || s.Type != "null" {
			first = err
		}
	}
	return nil, first
}

func (c *checker) each(s *schema, o map[string]any, at string) error {
	for name, e := range o {
		if err := c.closed(s, e, join(at, name)); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) object(s *schema, o map[string]any, at string, known members) error {
	for _, name := range s.Required {
		if _, ok := o[name]; !ok {
			return fmt.Errorf("%s is missing", join(at, name))
		}
	}
	for name, p := range s.Properties {
		known[name] = true
		e, ok := o[name]
		if !ok {
			continue
		}
		if err := c.closed(p, e, join(at, name)); err != nil {
			return err
		}
	}
	return nil
}

// typed checks type, format and enumeration.
func typed(s *schema, v any, at string) error {
	var types []string
	switch t := s.Type.(type) {
	case nil:
		return nil
	case string:
		types = []string{t}
	case []any:
		for _, e := range t {
			types = append(types, fmt.Sprint(e))
		}
	}
	if got := jsonType(v); !slices.Contains(types, got) {
		return fmt.Errorf("%s is of type %s, and %s in the document", at, got, strings.Join(types, " or "))
	}
	text, ok := v.(string)
	if !ok {
		return nil
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, text) {
		return fmt.Errorf("%s is %q, which is not in the document", at, text)
	}
	var err error
	switch {
	case s.Format == "date-time":
		_, err = time.Parse(time.RFC3339Nano, text)
	case s.ContentEncoding == "base64":
		_, err = base64.StdEncoding.DecodeString(text)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	return nil
}

func jsonType(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "boolean"
	case json.Number:
		if strings.ContainsAny(string(v), ".eE") {
			return "number"
		}
		return "integer"
	case []any:
		return "array"
	}
	return "object"
}
