package openapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

// Schema is a JSON Schema (draft 2020-12), as far as the types of package api
// need it. The empty one admits everything.
type Schema struct {
	Ref                  string             `json:"$ref,omitempty"`
	Type                 any                `json:"type,omitempty"` // a name or a list of names
	Description          string             `json:"description,omitempty"`
	Format               string             `json:"format,omitempty"`
	ContentEncoding      string             `json:"contentEncoding,omitempty"`
	Enum                 []string           `json:"enum,omitempty"`
	Items                *Schema            `json:"items,omitempty"`
	Properties           map[string]*Schema `json:"properties,omitempty"`
	AdditionalProperties *Schema            `json:"additionalProperties,omitempty"`
	Required             []string           `json:"required,omitempty"`
	AllOf                []*Schema          `json:"allOf,omitempty"`
	AnyOf                []*Schema          `json:"anyOf,omitempty"`
}

// side tells requests, where every field may be absent, from answers, where
// fields are always there unless they are marked.
type side bool

const (
	request side = false
	answer  side = true
)

// named is what a component's name stands for.
type named struct {
	typ  reflect.Type
	side side
}

// ref returns the reference to the component of a named type, which it makes.
func (b *builder) ref(t reflect.Type, s side) string {
	key := named{t, s}
	name, ok := b.names[key]
	if !ok {
		name = t.Name()
		for b.schemas[name] != nil {
			name += "Answer"
		}
		b.names[key] = name
		b.schemas[name] = &Schema{} // takes the name, for types that hold themselves
		*b.schemas[name] = *b.composite(t, s)
	}
	return "#/components/schemas/" + name
}

// composite is the schema of a struct or of a named map.
func (b *builder) composite(t reflect.Type, s side) *Schema {
	if t.Kind() == reflect.Map {
		return &Schema{Type: "object", AdditionalProperties: b.schema(t.Elem(), s)}
	}
	c := &Schema{Type: "object"}
	for _, f := range fieldsOf(t) {
		if c.Properties == nil {
			c.Properties = map[string]*Schema{}
		}
		c.Properties[f.name] = b.fieldSchema(f, s)
		if s == answer && !f.optional {
			c.Required = append(c.Required, f.name)
		}
	}
	return c
}

// fieldSchema is the schema of a member of a struct, which may be null in an
// answer where it is not left out.
func (b *builder) fieldSchema(f field, s side) *Schema {
	c := b.schema(f.typ, s)
	c.Enum = f.enum
	switch f.typ.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		if s == answer && !f.optional {
			c = nullable(c)
		}
	}
	c.Description = f.doc
	return c
}

func nullable(c *Schema) *Schema {
	if name, ok := c.Type.(string); ok {
		c.Type = []string{name, "null"}
		return c
	}
	if c.Ref == "" {
		return c // admits everything
	}
	return &Schema{AnyOf: []*Schema{c, {Type: "null"}}}
}

// schema returns a new schema of a type.
func (b *builder) schema(t reflect.Type, s side) *Schema {
	switch t {
	case reflect.TypeFor[api.Seconds]():
		if s == request {
			return &Schema{Type: []string{"integer", "string"}}
		}
		return &Schema{Type: "integer", Format: "int64"}
	case reflect.TypeFor[json.RawMessage]():
		return &Schema{}
	case reflect.TypeFor[time.Time]():
		return &Schema{Type: "string", Format: "date-time"}
	case reflect.TypeFor[[]byte]():
		return &Schema{Type: "string", ContentEncoding: "base64"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return b.schema(t.Elem(), s)
	case reflect.String:
		return &Schema{Type: "string"}
	case reflect.Bool:
		return &Schema{Type: "boolean"}
	case reflect.Int, reflect.Int64:
		return &Schema{Type: "integer", Format: "int64"}
	case reflect.Uint8, reflect.Uint64:
		return &Schema{Type: "integer"}
	case reflect.Slice:
		return &Schema{Type: "array", Items: b.schema(t.Elem(), s)}
	case reflect.Map, reflect.Struct:
		if t.Name() != "" {
			return &Schema{Ref: b.ref(t, s)}
		}
		return b.composite(t, s)
	}
	panic(fmt.Sprintf("no schema for %v", t))
}

// answer is the schema of the body of an operation's success.
func (b *builder) answer(o *op.Operation) *Schema {
	if o.Bare {
		return b.schema(o.Response, answer)
	}
	where := "data"
	switch o.Response {
	case reflect.TypeFor[api.Auth]():
		where = "auth"
	case reflect.TypeFor[api.WrapInfo]():
		where = "wrap_info"
	}
	if o.Response == reflect.TypeFor[api.Unwrapped]() || o.Response.Kind() == reflect.Struct && len(fieldsOf(o.Response)) == 0 {
		// Its parts are the envelope's own, or it has none and data is null.
		return &Schema{Ref: b.ref(reflect.TypeFor[api.Envelope](), answer)}
	}
	return &Schema{AllOf: []*Schema{
		{Ref: b.ref(reflect.TypeFor[api.Envelope](), answer)},
		{Type: "object", Properties: map[string]*Schema{where: b.schema(o.Response, answer)}},
	}}
}

// rawSchema is the schema of an answer that is not made of a type.
func rawSchema(mediaType string) *Schema {
	if mediaType == "application/json" {
		return &Schema{Type: "object"}
	}
	return &Schema{Type: "string"}
}
