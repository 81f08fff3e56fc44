package openapi

import (
	"cmp"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

// Document is an OpenAPI document (OpenAPI Specification 3.1.1, section 4.8),
// made to be encoded as JSON.
type Document struct {
	OpenAPI    string                `json:"openapi"`
	Info       Info                  `json:"info"`
	Servers    []Server              `json:"servers"`
	Security   []map[string][]string `json:"security"`
	Tags       []Tag                 `json:"tags"`
	Paths      map[string]*PathItem  `json:"paths"`
	Components Components            `json:"components"`
}

// The parts of a Document, named as in the specification.
type (
	Info struct {
		Title       string  `json:"title"`
		Version     string  `json:"version"`
		Description string  `json:"description"`
		License     License `json:"license"`
	}
	License struct {
		Name       string `json:"name"`
		Identifier string `json:"identifier"`
	}
	Server struct {
		URL string `json:"url"`
	}
	Tag struct {
		Name        string `json:"name"`
		Description string `json:"description"`
	}
	PathItem struct {
		Parameters []Parameter `json:"parameters,omitempty"`
		Get        *Operation  `json:"get,omitempty"`
		Post       *Operation  `json:"post,omitempty"`
		Delete     *Operation  `json:"delete,omitempty"`
		Patch      *Operation  `json:"patch,omitempty"`
	}
	Operation struct {
		OperationID string                `json:"operationId"`
		Summary     string                `json:"summary"`
		Description string                `json:"description"`
		Tags        []string              `json:"tags"`
		Security    []map[string][]string `json:"security,omitzero"`
		Parameters  []Parameter           `json:"parameters,omitempty"`
		RequestBody *Content              `json:"requestBody,omitempty"`
		Responses   map[string]*Content   `json:"responses"`
		// The extensions of Vault's own document.
		Sudo            bool `json:"x-vault-sudo,omitempty"`
		Unauthenticated bool `json:"x-vault-unauthenticated,omitempty"`
		CreateSupported bool `json:"x-vault-createSupported,omitempty"`
	}
	Parameter struct {
		Name        string  `json:"name"`
		In          string  `json:"in"`
		Description string  `json:"description,omitempty"`
		Required    bool    `json:"required,omitempty"`
		Schema      *Schema `json:"schema"`
	}
	// Content is a request body or a response.
	Content struct {
		Ref         string               `json:"$ref,omitempty"`
		Description string               `json:"description,omitempty"`
		Content     map[string]MediaType `json:"content,omitempty"`
	}
	MediaType struct {
		Schema *Schema `json:"schema"`
	}
	Components struct {
		Schemas         map[string]*Schema        `json:"schemas"`
		Responses       map[string]*Content       `json:"responses"`
		SecuritySchemes map[string]SecurityScheme `json:"securitySchemes"`
	}
	SecurityScheme struct {
		Type        string `json:"type"`
		Description string `json:"description"`
		Name        string `json:"name,omitempty"`
		In          string `json:"in,omitempty"`
		Scheme      string `json:"scheme,omitempty"`
	}
)

const about = `Keys that live in an HSM token, used through Vault's HTTP API.

Where the document shows POST, PUT does the same; where it shows GET with list=true, the verb LIST does the same. ` +
	`Request fields are read tolerantly: numbers, booleans and durations may be strings. Unknown fields are ignored with a warning. ` +
	`Answers to calls that have warnings always have a body (200 instead of 204).`

// failures are the answers to failed calls that all operations share.
var failures = map[int]struct{ name, text string }{
	http.StatusBadRequest:            {"BadRequest", "The request is wrong; errors says what would be right."},
	http.StatusForbidden:             {"Denied", "No client token, an unknown one, or one without the capability."},
	http.StatusNotFound:              {"NotFound", "The named thing does not exist, or the list is empty (errors is empty then)."},
	http.StatusRequestEntityTooLarge: {"TooLarge", "The body is beyond the limit."},
	http.StatusUnsupportedMediaType:  {"MediaType", "A PATCH whose Content-Type is not application/merge-patch+json."},
	http.StatusInternalServerError:   {"Internal", "The server failed, or the outcome is unknown."},
	http.StatusServiceUnavailable:    {"Unavailable", "The server is sealed or not initialised, or the HSM token or the store does not answer."},
}

// DefaultMounts maps every kind of the table to a mount of its own name: the
// mounts of a new server.
func DefaultMounts(table []*op.Operation) map[string]string {
	mounts := map[string]string{}
	for _, o := range table {
		mounts[o.Mount+"/"] = o.Mount
	}
	return mounts
}

// New makes the document of the operations of table at mounts: path, with its
// trailing slash, to kind.
func New(table []*op.Operation, mounts map[string]string, version string) *Document {
	b := &builder{schemas: map[string]*Schema{}, names: map[named]string{}, paths: map[string]*PathItem{}}
	d := &Document{
		OpenAPI: "3.1.1",
		Info: Info{Title: "Claviger", Version: version, Description: about,
			License: License{"Apache License 2.0", "Apache-2.0"}},
		Servers:  []Server{{URL: "/v1"}},
		Security: []map[string][]string{{"token": {}}, {"bearer": {}}},
		Tags:     []Tag{},
		Paths:    b.paths,
		Components: Components{Schemas: b.schemas, Responses: b.failures(), SecuritySchemes: map[string]SecurityScheme{
			"token":  {Type: "apiKey", In: "header", Name: "X-Vault-Token", Description: "A client token."},
			"bearer": {Type: "http", Scheme: "bearer", Description: "A client token in the header Authorization."},
		}},
	}
	for _, mount := range slices.Sorted(maps.Keys(mounts)) {
		d.Tags = append(d.Tags, Tag{strings.TrimSuffix(mount, "/"), "The mount " + mount + " of kind " + mounts[mount] + "."})
		for _, o := range table {
			if o.Mount == mounts[mount] {
				b.add(mount, o)
			}
		}
	}
	return d
}

type builder struct {
	schemas map[string]*Schema
	names   map[named]string
	paths   map[string]*PathItem
}

// add puts an operation into the item of its path. Patterns that differ in the
// names of their parameters only would be the same path twice: the first names
// them.
func (b *builder) add(mount string, o *op.Operation) {
	path := "/" + pathOf(mount, o)
	for known := range b.paths {
		if shape(known) == shape(path) {
			path = known
		}
	}
	item := b.paths[path]
	if item == nil {
		item = &PathItem{Parameters: b.pathParameters(o)}
		b.paths[path] = item
	}
	d := b.operation(mount, o)
	switch o.Verb {
	case op.Write:
		item.Post = d
	case op.Delete:
		item.Delete = d
	case op.Patch:
		item.Patch = d
	case op.List:
		d.Parameters = append([]Parameter{listParameter(item.Get == nil)}, d.Parameters...)
		item.Get = both(d, item.Get)
	case op.Read:
		item.Get = both(item.Get, d)
	}
}

// shape is a path without the names of its parameters.
func shape(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if strings.HasPrefix(p, "{") {
			parts[i] = "{}"
		}
	}
	return strings.Join(parts, "/")
}

func listParameter(required bool) Parameter {
	return Parameter{Name: "list", In: "query", Required: required, Description: "true lists",
		Schema: &Schema{Type: "string", Enum: []string{"true"}}}
}

// both makes one operation of a list and a read of the same path, which are one
// method in OpenAPI.
func both(list, read *Operation) *Operation {
	if list == nil || read == nil {
		return cmp.Or(list, read)
	}
	list.Parameters[0].Required = false
	read.Summary += " With list=true: " + list.Summary
	read.Description += " With list=true: " + list.Description
	read.Parameters = append(read.Parameters, list.Parameters...)
	for status, content := range list.Responses {
		known := read.Responses[status]
		if known == nil {
			read.Responses[status] = content
			continue
		}
		one, other := known.Content["application/json"].Schema, content.Content["application/json"].Schema
		if one != nil && other != nil { // else both are failures of the common form
			read.Responses[status] = jsonContent(known.Description, &Schema{AnyOf: []*Schema{one, other}})
		}
	}
	return read
}

func (b *builder) pathParameters(o *op.Operation) []Parameter {
	var list []Parameter
	for _, f := range paramsOf(o) {
		doc := f.doc
		if strings.Contains(o.Path, "{"+f.name+"...}") {
			doc += " (may have several segments)"
		}
		list = append(list, Parameter{Name: f.name, In: "path", Required: true, Description: doc, Schema: b.schema(f.typ, request)})
	}
	return list
}

func (b *builder) operation(mount string, o *op.Operation) *Operation {
	d := &Operation{
		OperationID: o.Name, Summary: o.Help, Description: "Needs " + Capability(o) + ".",
		Tags: []string{strings.TrimSuffix(mount, "/")}, Responses: b.responses(o),
		Sudo: o.Sudo, Unauthenticated: o.Public, CreateSupported: o.HasExists(),
	}
	if mount != o.Mount+"/" {
		d.OperationID = mount + o.Name
	}
	if o.TopLevel {
		d.Description += " The answer repeats the members of data beside it."
	}
	if o.Public {
		d.Security = []map[string][]string{}
	}
	fields := fieldsOf(o.Request)
	switch {
	case len(fields) == 0:
	case o.Verb == op.Patch:
		d.RequestBody = &Content{Content: map[string]MediaType{"application/merge-patch+json": {b.schema(o.Request, request)}}}
	case o.Verb == op.Write:
		d.RequestBody = jsonContent("", b.schema(o.Request, request))
	default:
		for _, f := range fields {
			d.Parameters = append(d.Parameters, Parameter{Name: f.name, In: "query", Description: f.doc, Schema: b.fieldSchema(f, request)})
		}
	}
	return d
}

func jsonContent(description string, s *Schema) *Content {
	return &Content{Description: description, Content: map[string]MediaType{"application/json": {s}}}
}

// Statuses are what an operation may answer with, in ascending order; 0 stands
// for any other status, which the caller chose in the request.
func Statuses(o *op.Operation) []int {
	// 403 also where no client token is needed: the configuration may forbid it.
	list := []int{http.StatusOK, http.StatusBadRequest, http.StatusForbidden, http.StatusInternalServerError, http.StatusServiceUnavailable}
	if saysNothing(o.Response) || is[optional](o.Response) {
		list = append(list, http.StatusNoContent)
	}
	if len(paramsOf(o)) > 0 || is[listed](o.Response) || o.MayMiss {
		list = append(list, http.StatusNotFound)
	}
	if o.Verb.HasBody() {
		list = append(list, http.StatusRequestEntityTooLarge)
	}
	if is[fresh](o.Response) && o.Verb == op.Read {
		list = append(list, http.StatusNotModified)
	}
	if o.Verb == op.Patch {
		list = append(list, http.StatusUnsupportedMediaType)
	}
	if is[statused](o.Response) {
		list = append(list, 0)
	}
	slices.Sort(list)
	return list
}

func (b *builder) responses(o *op.Operation) map[string]*Content {
	answers := map[string]*Content{}
	for _, status := range Statuses(o) {
		key := strconv.Itoa(status)
		switch f, failed := failures[status]; {
		case rawType(o.Response) != "" && is[statused](o.Response) && (status == 0 || status == http.StatusBadRequest):
			answers[cmp.Or(map[int]string{0: "default"}[status], key)] = b.rawOrFailure(o)
		case status == 0:
			answers["default"] = jsonContent("A status that the state of the server or the request asks for.", b.answer(o))
		case failed && is[statused](o.Response):
			answers[key] = jsonContent(f.text+" Or the answer, with a status that says that not all is well.",
				&Schema{AnyOf: []*Schema{{Ref: "#/components/schemas/ErrorResponse"}, b.answer(o)}})
		case failed:
			answers[key] = &Content{Ref: "#/components/responses/" + f.name}
		case status == http.StatusNotModified:
			answers[key] = &Content{Description: "The answer is the one that If-None-Match names, or has not changed since If-Modified-Since."}
		case status == http.StatusNoContent:
			answers[key] = &Content{Description: "Done."}
		case rawType(o.Response) != "":
			answers[key] = rawContent(o)
		case saysNothing(o.Response):
			answers[key] = jsonContent("Done, with warnings.", &Schema{Ref: b.ref(reflect.TypeFor[api.Envelope](), answer)})
		default:
			answers[key] = jsonContent("The answer.", b.answer(o))
		}
	}
	return answers
}

func rawContent(o *op.Operation) *Content {
	mediaType, _, _ := strings.Cut(rawType(o.Response), ";")
	return &Content{Description: "The answer.", Content: map[string]MediaType{mediaType: {rawSchema(mediaType)}}}
}

// rawOrFailure is an answer that may be an error in the operation's own terms.
func (b *builder) rawOrFailure(o *op.Operation) *Content {
	c := rawContent(o)
	c.Description = "The answer, with a status that says that not all is well; or an error of the common form."
	c.Content["application/json"] = MediaType{&Schema{Ref: "#/components/schemas/ErrorResponse"}}
	return c
}

// failures makes the components that failed calls share.
func (b *builder) failures() map[string]*Content {
	all := map[string]*Content{}
	schema := &Schema{Ref: b.ref(reflect.TypeFor[api.ErrorResponse](), answer)}
	for _, f := range failures {
		all[f.name] = jsonContent(f.text, schema)
	}
	return all
}
