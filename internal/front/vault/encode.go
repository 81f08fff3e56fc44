package vault

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// encodeFunc appends a value as JSON to b.
type encodeFunc func(b []byte, v reflect.Value) ([]byte, error)

var encoders sync.Map // reflect.Type → encodeFunc

// appendJSON appends v as JSON, as encoding/json would without HTML escapes,
// but bytes are taken as they are from json.RawMessage.
func appendJSON(b []byte, v any) ([]byte, error) {
	if v == nil {
		return append(b, "null"...), nil
	}
	r := reflect.ValueOf(v)
	return encoderOf(r.Type())(b, r)
}

func encoderOf(t reflect.Type) encodeFunc {
	if f, ok := encoders.Load(t); ok {
		return f.(encodeFunc)
	}
	f, _ := encoders.LoadOrStore(t, makeEncoder(t, map[reflect.Type]*answerPlan{}))
	return f.(encodeFunc)
}

// makeEncoder chooses how values of type t are written; begun holds the struct
// plans that are being made, since types may refer to themselves.
func makeEncoder(t reflect.Type, begun map[reflect.Type]*answerPlan) encodeFunc {
	switch t {
	case reflect.TypeFor[time.Time]():
		return encodeTime
	case reflect.TypeFor[json.RawMessage]():
		return encodeRaw
	}
	if t.Implements(reflect.TypeFor[json.Marshaler]()) || t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) ||
		reflect.PointerTo(t).Implements(reflect.TypeFor[json.Marshaler]()) && t.Kind() != reflect.Pointer {
		return encodeOther
	}
	switch t.Kind() {
	case reflect.String:
		return encodeString
	case reflect.Bool:
		return func(b []byte, v reflect.Value) ([]byte, error) { return strconv.AppendBool(b, v.Bool()), nil }
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(b []byte, v reflect.Value) ([]byte, error) { return strconv.AppendInt(b, v.Int(), 10), nil }
	case reflect.Pointer:
		return pointerEncoder(makeEncoder(t.Elem(), begun))
	case reflect.Struct:
		return planAnswer(t, begun).encode
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return encodeBytes
		}
		return sliceEncoder(makeEncoder(t.Elem(), begun))
	case reflect.Map:
		if t.Key().Kind() == reflect.String {
			return mapEncoder(makeEncoder(t.Elem(), begun))
		}
	}
	return encodeOther
}

// answerPlan says how a struct is written.
type answerPlan struct {
	fields []answerField
}

type answerField struct {
	member
	lead   string // the name and the colon
	encode encodeFunc
}

func planAnswer(t reflect.Type, begun map[reflect.Type]*answerPlan) *answerPlan {
	if p, ok := begun[t]; ok {
		return p
	}
	p := &answerPlan{}
	begun[t] = p
	for _, m := range members(t) {
		lead := string(appendString(nil, m.name)) + ":"
		p.fields = append(p.fields, answerField{m, lead, makeEncoder(m.typ, begun)})
	}
	return p
}

func (p *answerPlan) encode(b []byte, v reflect.Value) ([]byte, error) {
	b = append(b, '{')
	start := len(b)
	for i := range p.fields {
		f := &p.fields[i]
		value := f.of(v)
		if f.omitEmpty && isEmpty(value) {
			continue
		}
		if len(b) > start {
			b = append(b, ',')
		}
		b = append(b, f.lead...)
		var err error
		if b, err = f.encode(b, value); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

// isEmpty is encoding/json's rule for omitempty.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String, reflect.Slice, reflect.Map, reflect.Array:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

func encodeTime(b []byte, v reflect.Value) ([]byte, error) {
	t := v.Interface().(time.Time)
	if y := t.Year(); y < 0 || y > 9999 {
		return b, fmt.Errorf("the year %d is beyond RFC 3339", y)
	}
	b = append(b, '"')
	b = t.AppendFormat(b, time.RFC3339Nano)
	return append(b, '"'), nil
}

func encodeRaw(b []byte, v reflect.Value) ([]byte, error) {
	if v.Len() == 0 {
		return append(b, "null"...), nil
	}
	return append(b, v.Bytes()...), nil
}

func encodeBytes(b []byte, v reflect.Value) ([]byte, error) {
	if v.IsNil() {
		return append(b, "null"...), nil
	}
	b = append(b, '"')
	b = base64.StdEncoding.AppendEncode(b, v.Bytes())
	return append(b, '"'), nil
}

// encodeOther leaves types that need no speed to encoding/json.
func encodeOther(b []byte, v reflect.Value) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if v.CanAddr() && v.Kind() != reflect.Pointer {
		v = v.Addr() // for methods with a pointer receiver
	}
	if err := e.Encode(v.Interface()); err != nil {
		return b, fmt.Errorf("encoding a %v: %w", v.Type(), err)
	}
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...), nil
}

func pointerEncoder(elem encodeFunc) encodeFunc {
	return func(b []byte, v reflect.Value) ([]byte, error) {
		if v.IsNil() {
			return append(b, "null"...), nil
		}
		return elem(b, v.Elem())
	}
}

func sliceEncoder(elem encodeFunc) encodeFunc {
	return func(b []byte, v reflect.Value) ([]byte, error) {
		if v.IsNil() {
			return append(b, "null"...), nil
		}
		b = append(b, '[')
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ',')
			}
			var err error
			if b, err = elem(b, v.Index(i)); err != nil {
				return b, err
			}
		}
		return append(b, ']'), nil
	}
}

func mapEncoder(elem encodeFunc) encodeFunc {
	return func(b []byte, v reflect.Value) ([]byte, error) {
		if v.IsNil() {
			return append(b, "null"...), nil
		}
		keys := v.MapKeys()
		slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(x.String(), y.String()) })
		b = append(b, '{')
		for i, k := range keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, k.String()), ':')
			var err error
			if b, err = elem(b, v.MapIndex(k)); err != nil {
				return b, err
			}
		}
		return append(b, '}'), nil
	}
}

func encodeString(b []byte, v reflect.Value) ([]byte, error) { return appendString(b, v.String()), nil }

// appendString appends s in quotes. What is no UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for {
		n := plainPrefix(s)
		b = append(b, s[:n]...)
		if s = s[n:]; s == "" {
			return append(b, '"')
		}
		b, s = appendSpecial(b, s)
	}
}

// appendSpecial appends the first letter of s, which is none that stands for
// itself, and returns what follows it.
func appendSpecial(b []byte, s string) ([]byte, string) {
	const hex = "0123456789abcdef"
	switch c := s[0]; {
	case c == '"' || c == '\\':
		return append(b, '\\', c), s[1:]
	case c == '\n':
		return append(b, `\n`...), s[1:]
	case c == '\r':
		return append(b, `\r`...), s[1:]
	case c == '\t':
		return append(b, `\t`...), s[1:]
	case c < ' ':
		return append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15]), s[1:]
	}
	r, n := utf8.DecodeRuneInString(s)
	return utf8.AppendRune(b, r), s[n:]
}
