package audit

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// How strings and bytes of a value are shown.
type mode uint8

const (
	hashed mode = iota
	plain
)

// plan renders a value of one type. Plans are made once for each type; after
// that only the values are looked at.
type plan func(*renderer, reflect.Value)

type planKey struct {
	t reflect.Type
	m mode
}

var (
	plans    sync.Map // planKey → plan
	planning sync.Mutex
)

var (
	timeType = reflect.TypeFor[time.Time]()
	rawType  = reflect.TypeFor[json.RawMessage]()
)

func planFor(t reflect.Type, m mode) plan {
	if p, ok := plans.Load(planKey{t, m}); ok {
		return p.(plan)
	}
	planning.Lock()
	defer planning.Unlock()
	p := (&planner{open: map[reflect.Type]*structPlan{}}).plan(t, m)
	plans.Store(planKey{t, m}, p)
	return p
}

// planner makes the plan of a type; open holds structs under way, so that a
// type may contain itself.
type planner struct {
	open map[reflect.Type]*structPlan
}

func (pl *planner) plan(t reflect.Type, m mode) plan {
	switch {
	case t == timeType:
		return renderTime
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return bytesPlan(t, m)
	}
	switch t.Kind() {
	case reflect.String:
		if m == plain {
			return func(r *renderer, v reflect.Value) { r.buf = appendString(r.buf, v.String()) }
		}
		return func(r *renderer, v reflect.Value) { r.hashText(v.String()) }
	case reflect.Bool:
		return func(r *renderer, v reflect.Value) { r.buf = strconv.AppendBool(r.buf, v.Bool()) }
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(r *renderer, v reflect.Value) { r.buf = strconv.AppendInt(r.buf, v.Int(), 10) }
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return func(r *renderer, v reflect.Value) { r.buf = strconv.AppendUint(r.buf, v.Uint(), 10) }
	case reflect.Float32, reflect.Float64:
		return renderFloat
	case reflect.Pointer:
		return pointerPlan(pl.plan(t.Elem(), m))
	case reflect.Interface:
		return func(r *renderer, v reflect.Value) { renderInterface(r, v, m) }
	case reflect.Slice, reflect.Array:
		return listPlan(pl.plan(t.Elem(), m))
	case reflect.Map:
		return mapPlan(pl.plan(t.Elem(), m))
	case reflect.Struct:
		return pl.structPlan(t).render
	}
	// Channels and functions have no place in a wire type and say nothing.
	return renderNull
}

func renderNull(r *renderer, _ reflect.Value) { r.buf = append(r.buf, "null"...) }

func renderTime(r *renderer, v reflect.Value) {
	if t, ok := reflect.TypeAssert[time.Time](v); ok {
		r.buf = append(r.buf, '"')
		r.buf = t.AppendFormat(r.buf, time.RFC3339Nano)
		r.buf = append(r.buf, '"')
	}
}

func renderFloat(r *renderer, v reflect.Value) {
	f := v.Float()
	if math.IsNaN(f) || math.IsInf(f, 0) {
		renderNull(r, v)
		return
	}
	r.buf = strconv.AppendFloat(r.buf, f, 'g', -1, 64)
}

func renderInterface(r *renderer, v reflect.Value, m mode) {
	if v.IsNil() {
		renderNull(r, v)
		return
	}
	planFor(v.Elem().Type(), m)(r, v.Elem())
}

func bytesPlan(t reflect.Type, m mode) plan {
	switch {
	case m == hashed:
		return func(r *renderer, v reflect.Value) { r.hashBytes(v.Bytes()) }
	case t == rawType:
		return func(r *renderer, v reflect.Value) { r.buf = appendString(r.buf, string(v.Bytes())) }
	}
	return func(r *renderer, v reflect.Value) {
		r.buf = append(r.buf, '"')
		r.buf = base64.StdEncoding.AppendEncode(r.buf, v.Bytes())
		r.buf = append(r.buf, '"')
	}
}

func pointerPlan(elem plan) plan {
	return func(r *renderer, v reflect.Value) {
		if v.IsNil() {
			renderNull(r, v)
			return
		}
		elem(r, v.Elem())
	}
}

func listPlan(elem plan) plan {
	return func(r *renderer, v reflect.Value) {
		r.buf = append(r.buf, '[')
		for i := range v.Len() {
			if i > 0 {
				r.buf = append(r.buf, ',')
			}
			elem(r, v.Index(i))
		}
		r.buf = append(r.buf, ']')
	}
}

// mapPlan shows keys plain, in their order.
func mapPlan(elem plan) plan {
	return func(r *renderer, v reflect.Value) {
		type pair struct {
			key   string
			value reflect.Value
		}
		pairs := make([]pair, 0, v.Len())
		for it := v.MapRange(); it.Next(); {
			pairs = append(pairs, pair{mapKey(it.Key()), it.Value()})
		}
		slices.SortFunc(pairs, func(a, b pair) int { return strings.Compare(a.key, b.key) })
		sep := byte('{')
		for _, p := range pairs {
			r.buf = appendString(append(r.buf, sep), p.key)
			r.buf = append(r.buf, ':')
			elem(r, p.value)
			sep = ','
		}
		if len(pairs) == 0 {
			r.buf = append(r.buf, '{')
		}
		r.buf = append(r.buf, '}')
	}
}

func mapKey(k reflect.Value) string {
	switch {
	case k.Kind() == reflect.String:
		return k.String()
	case k.CanInt():
		return strconv.FormatInt(k.Int(), 10)
	case k.CanUint():
		return strconv.FormatUint(k.Uint(), 10)
	}
	return k.Type().String()
}

type structPlan struct {
	fields []fieldPlan
}

type fieldPlan struct {
	index int
	name  string // `"name":`
	// inline fields are embedded structs, whose fields stand beside the others.
	inline *structPlan
	render plan
}

func (s *structPlan) render(r *renderer, v reflect.Value) {
	r.buf = append(r.buf, '{')
	s.renderFields(r, v, true)
	r.buf = append(r.buf, '}')
}

func (s *structPlan) renderFields(r *renderer, v reflect.Value, first bool) bool {
	for i := range s.fields {
		f := &s.fields[i]
		value := v.Field(f.index)
		if f.inline != nil {
			first = f.inline.renderFields(r, value, first)
			continue
		}
		if value.IsZero() {
			continue
		}
		if !first {
			r.buf = append(r.buf, ',')
		}
		first = false
		r.buf = append(r.buf, f.name...)
		f.render(r, value)
	}
	return first
}

func (pl *planner) structPlan(t reflect.Type) *structPlan {
	if s, ok := pl.open[t]; ok {
		return s
	}
	s := &structPlan{}
	pl.open[t] = s
	onWire := map[string]bool{}
	for i := range t.NumField() {
		onWire[jsonName(t.Field(i))] = true
	}
	for i := range t.NumField() {
		f := t.Field(i)
		audit := f.Tag.Get("audit")
		if audit == "-" || !f.IsExported() {
			continue
		}
		if f.Anonymous && f.Type.Kind() == reflect.Struct && f.Tag.Get("json") == "" {
			s.fields = append(s.fields, fieldPlan{index: i, inline: pl.structPlan(f.Type)})
			continue
		}
		name, m := jsonName(f), hashed
		if path := f.Tag.Get("path"); path != "" {
			name, m = path, plain
			if onWire[path] {
				name = "path_" + path
			}
		}
		if name == "" {
			continue
		}
		if audit == "plain" {
			m = plain
		}
		label := append(appendString(nil, name), ':')
		s.fields = append(s.fields, fieldPlan{index: i, name: string(label), render: pl.plan(f.Type, m)})
	}
	return s
}

// jsonName is a field's name on the wire, "" if it is not there.
func jsonName(f reflect.StructField) string {
	tag := f.Tag.Get("json")
	if tag == "-" {
		return ""
	}
	name, _, _ := strings.Cut(tag, ",")
	if name == "" {
		return f.Name
	}
	return name
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string (RFC 8259, section 7). Besides what
// must be, it escapes characters that a terminal or a line reader would obey:
// DEL, C1 controls, U+2028 and U+2029. Bytes that are not UTF-8 become U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		if c := s[i]; c >= 0x20 && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		c, size := utf8.DecodeRuneInString(s[i:])
		bad := c == utf8.RuneError && size == 1
		if !bad && c > 0x9f && c != 0x2028 && c != 0x2029 {
			i += size
			continue
		}
		b = append(b, s[start:i]...)
		if c == '"' || c == '\\' {
			b = append(b, '\\', byte(c))
		} else {
			b = append(b, '\\', 'u', hexDigits[c>>12&15], hexDigits[c>>8&15], hexDigits[c>>4&15], hexDigits[c&15])
		}
		i += size
		start = i
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}
