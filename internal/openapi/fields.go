package openapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

// field is a member of a request or answer as it stands on the wire.
type field struct {
	name     string
	doc      string
	typ      reflect.Type
	optional bool // an answer leaves it out where it is empty
	enum     []string
}

// enums are the fields whose values package api has constants for.
var enums = map[reflect.Type]map[string][]string{
	reflect.TypeFor[api.CreateKey](): {"protection": protections},
	reflect.TypeFor[api.Key]():       {"protection": protections},
}

var protections = []string{api.ProtectionToken, api.ProtectionWrapped, api.ProtectionSoftware}

// fieldsOf lists the members of struct type t, without those that are taken
// from the path.
func fieldsOf(t reflect.Type) []field {
	var list []field
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || f.Anonymous && name == "" || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		list = append(list, field{
			name: name, doc: f.Tag.Get("doc"), typ: f.Type, enum: enums[t][name],
			optional: strings.Contains(options, "omit"),
		})
	}
	return list
}

// paramsOf lists the parameters of an operation's path, in their order.
func paramsOf(o *op.Operation) []field {
	var list []field
	for _, s := range o.Segments {
		if s.Param == "" {
			continue
		}
		f := o.Request.FieldByIndex(s.Field)
		list = append(list, field{name: s.Param, doc: f.Tag.Get("doc"), typ: f.Type})
	}
	return list
}

// pathOf is an operation's pattern below a mount as OpenAPI writes it. A
// parameter that takes several segments looks like one that takes one.
func pathOf(mount string, o *op.Operation) string {
	return mount + strings.ReplaceAll(o.Path, "...}", "}")
}

// What an answer's type may say of itself; the same as the front asks.
type (
	statused interface{ HTTPStatus() int }
	listed   interface{ IsEmpty() bool }
	optional interface{ Optional() } // it may be 204, without a body
	fresh    interface {
		Fresh() (made, until time.Time)
	}
	raw interface {
		Raw() (contentType string, body []byte)
	}
)

func is[T any](t reflect.Type) bool { return reflect.PointerTo(t).Implements(reflect.TypeFor[T]()) }

// rawType is the media type of an answer that is no JSON of its type, else "".
func rawType(t reflect.Type) string {
	r, ok := reflect.New(t).Interface().(raw)
	if !ok {
		return ""
	}
	contentType, _ := r.Raw()
	return contentType
}

// saysNothing tells whether a success has no body.
func saysNothing(t reflect.Type) bool { return t == reflect.TypeFor[api.Empty]() }

// word names a type for people.
func word(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[api.Seconds]():
		return "duration"
	case reflect.TypeFor[json.RawMessage]():
		return "any JSON"
	case reflect.TypeFor[time.Time]():
		return "time"
	case reflect.TypeFor[[]byte]():
		return "base64"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return word(t.Elem())
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64, reflect.Uint8, reflect.Uint64:
		return "integer"
	case reflect.Slice:
		return "list of " + word(t.Elem())
	case reflect.Map:
		return "object of " + word(t.Elem())
	case reflect.Struct:
		return "object"
	}
	panic(fmt.Sprintf("no word for %v", t))
}

// structIn is the struct that a value of type t is or holds, nil if there is none.
func structIn(t reflect.Type) reflect.Type {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return structIn(t.Elem())
	case reflect.Struct:
		if t != reflect.TypeFor[time.Time]() {
			return t
		}
	}
	return nil
}

// Capability says what a caller needs for an operation.
func Capability(o *op.Operation) string {
	if o.Public {
		return "no client token"
	}
	if o.AnyToken {
		return "any client token"
	}
	name := map[op.Verb]string{op.Read: "read", op.List: "list", op.Write: "update", op.Delete: "delete", op.Patch: "patch"}[o.Verb]
	if o.HasExists() {
		name = "create or update"
	}
	if o.Sudo {
		name += " and sudo"
	}
	return "the capability " + name
}
