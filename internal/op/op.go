// Package op says what an operation is: a row of a typed table, declared once
// by the service that performs it. Routing, decoding, the capability check, the
// audit record, metrics, the OpenAPI document and help all read that table.
package op

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Verb is what a caller asks of a path. Fronts map their own verbs to these.
type Verb uint8

const (
	_ Verb = iota
	Read
	List
	Write // create or update; PUT and POST over HTTP
	Delete
	Patch // change what is there; fields that are absent stay as they are
)

// String returns the verb as audit records and help show it.
func (v Verb) String() string {
	switch v {
	case Read:
		return "read"
	case List:
		return "list"
	case Write:
		return "write"
	case Delete:
		return "delete"
	case Patch:
		return "patch"
	}
	return fmt.Sprintf("verb %d", uint8(v))
}

// HasBody tells whether calls with this verb carry their request in a body.
func (v Verb) HasBody() bool { return v == Write || v == Patch }

// Audit says what of an operation is recorded.
type Audit uint8

const (
	// AuditFull records intent and outcome; without them nothing happens.
	AuditFull Audit = iota
	// AuditIntent records the intent, and the outcome only if it is an error: for
	// the operation that closes the audit log itself (sys/seal), and for small
	// ones at a high rate whose success says nothing that the intent does not.
	AuditIntent
	// AuditNone is for reads of public state that must be answered even when
	// no record can be written (health, seal status).
	AuditNone
)

// Meta describes an operation. Its zero values are the safe ones.
type Meta struct {
	// Name is unique: "transit.encrypt".
	Name string
	// Mount is the kind of mount that Path is relative to: "transit", "sys", "auth/token".
	Mount string
	// Path is a pattern of segments; {name} takes one segment into the request's
	// field with the tag path:"name": "encrypt/{name}". A last {name...} takes
	// the whole rest, one segment or more: "mounts/{path...}"; one literal may
	// follow it: "mounts/{path...}/tune".
	Path string
	Verb Verb
	Help string
	// Public operations need no client token.
	Public bool
	// Sudo operations need the capability sudo as well.
	Sudo bool
	// AnyToken operations need a client token, but no capability on their path as
	// long as no policy denies it: they tell only what the caller may know.
	AnyToken bool
	// Sealed operations may run while the server is sealed or not initialised.
	Sealed bool
	Audit  Audit
	// MayMiss operations answer "not found" although their path names nothing: what
	// they look for is named in the request, or is a default that need not be there.
	MayMiss bool
	// EmptySegments lets the last {name...} take a rest with "//" in it.
	EmptySegments bool
	// Bare answers carry the response type itself, without Vault's envelope.
	Bare bool
	// TopLevel answers repeat the fields of data beside it, for old clients.
	TopLevel bool
}

// Caller is who asks, as the guard found out.
type Caller struct {
	Accessor    string // of the client token; "" for public operations
	DisplayName string
	Policies    []string
	Root        bool
}

// Call is one call of an operation.
type Call struct {
	// Mount names the mount to its engine, with a trailing slash: "transit/". The
	// keys of the engine's records begin with it; it stays when the mount is moved.
	Mount  string
	At     string // the path of the mount now, with its trailing slash
	Caller Caller
	// TokenID is the hash under which the caller's token is stored, "" if none.
	TokenID string
	// MayCreate and MayUpdate are the caller's capabilities on the path.
	MayCreate, MayUpdate bool
	// Judge knows the caller's policies; nil allows nothing more.
	Judge Judge
	// Time is when the call began.
	Time time.Time
	// Warnings are added by the service and shown with the answer.
	Warnings []string
}

// Judge tells what else the policies of a caller allow.
type Judge interface {
	// May tells whether a path, with that of its mount, may be called with a verb.
	// Which parameters a policy takes does not count.
	May(verb Verb, path string) bool
	// Stamp rises with every change of any policy.
	Stamp() uint64
}

// May tells whether the caller's policies allow a path of the same mount.
func (c *Call) May(verb Verb, path string) bool {
	return c.Judge != nil && c.Judge.May(verb, c.At+path)
}

// Warn adds a warning to the answer.
func (c *Call) Warn(format string, args ...any) {
	c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
}

// Operation is a row of the table. Make it with Define.
type Operation struct {
	Meta
	Request  reflect.Type // a struct
	Response reflect.Type // a struct
	Segments []Segment    // Path, split
	call     func(context.Context, *Call, any) (any, error)
	newReq   func() any
	exists   func(context.Context, *Call, any) (bool, error)
}

// Segment is one part of a path pattern: a literal, or a parameter with the
// request field that takes it.
type Segment struct {
	Literal string
	Param   string
	Rest    bool  // the parameter takes all segments that are left
	Field   []int // index of the field in the request struct
}

// Define makes an operation of a function. A nil response means "done, nothing
// to say". It panics if the pattern and the request type do not agree: that is
// a mistake in the program, found by any test that builds the table.
func Define[Req, Resp any](m Meta, call func(context.Context, *Call, *Req) (*Resp, error)) *Operation {
	o := &Operation{
		Meta:     m,
		Request:  reflect.TypeFor[Req](),
		Response: reflect.TypeFor[Resp](),
		newReq:   func() any { return new(Req) },
	}
	o.call = func(ctx context.Context, c *Call, req any) (any, error) {
		resp, err := call(ctx, c, req.(*Req))
		if err != nil || resp == nil {
			return nil, err
		}
		return resp, nil
	}
	segments, err := parsePath(m.Path, o.Request)
	if err != nil {
		panic(fmt.Sprintf("operation %s: %v", m.Name, err))
	}
	o.Segments = segments
	return o
}

// WithExists adds an existence check to a write: where the thing does not exist
// the caller needs the capability create, else update. Without a check a write
// needs update.
func WithExists[Req any](o *Operation, exists func(context.Context, *Call, *Req) (bool, error)) *Operation {
	o.exists = func(ctx context.Context, c *Call, req any) (bool, error) {
		return exists(ctx, c, req.(*Req))
	}
	return o
}

// NewRequest returns a pointer to an empty request.
func (o *Operation) NewRequest() any { return o.newReq() }

// Invoke performs the operation. Only the guard calls it. The answer is nil or
// a pointer to the response type.
func (o *Operation) Invoke(ctx context.Context, c *Call, req any) (any, error) {
	return o.call(ctx, c, req)
}

// HasExists tells whether the operation has an existence check.
func (o *Operation) HasExists() bool { return o.exists != nil }

// Exists runs the existence check.
func (o *Operation) Exists(ctx context.Context, c *Call, req any) (bool, error) {
	return o.exists(ctx, c, req)
}

// SetParams writes the values of the path's parameters, in their order, into
// req. They overrule what the body said.
func (o *Operation) SetParams(req any, values []string) error {
	v := reflect.ValueOf(req).Elem()
	i := 0
	for _, s := range o.Segments {
		if s.Param == "" {
			continue
		}
		if err := setText(v.FieldByIndex(s.Field), values[i]); err != nil {
			return fmt.Errorf("%s in the path: %w", s.Param, err)
		}
		i++
	}
	return nil
}

func parsePath(path string, req reflect.Type) ([]Segment, error) {
	var segments []Segment
	for part := range strings.SplitSeq(path, "/") {
		name, ok := strings.CutPrefix(part, "{")
		if n := len(segments); n > 0 && segments[n-1].Rest && ok || n > 1 && segments[n-2].Rest {
			return nil, fmt.Errorf("%q: at most one literal may follow the segment that takes the rest", path)
		}
		if !ok {
			segments = append(segments, Segment{Literal: part})
			continue
		}
		name = strings.TrimSuffix(name, "}")
		name, rest := strings.CutSuffix(name, "...")
		field, ok := fieldByPathTag(req, name)
		if !ok {
			return nil, fmt.Errorf(`no field of %v has the tag path:%q`, req, name)
		}
		segments = append(segments, Segment{Param: name, Rest: rest, Field: field.Index})
	}
	return segments, nil
}

func fieldByPathTag(t reflect.Type, name string) (reflect.StructField, bool) {
	for _, f := range reflect.VisibleFields(t) {
		if f.Tag.Get("path") == name {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

func setText(v reflect.Value, s string) error {
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
		return nil
	case reflect.Int, reflect.Int64:
		n, err := parseInt(s)
		if err != nil {
			return err
		}
		v.SetInt(n)
		return nil
	}
	panic(fmt.Sprintf("a path parameter can't fill a %v", v.Type()))
}

func parseInt(s string) (int64, error) {
	var n int64
	if _, err := fmt.Sscanf(s, "%d", &n); err != nil || fmt.Sprint(n) != s {
		return 0, fmt.Errorf("%q is not a whole number", s)
	}
	return n, nil
}
