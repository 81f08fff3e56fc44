package guard

import (
	"encoding/base64"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

// wraps tells whether the time for which the caller wants the answer wrapped is
// within the bounds. Answers that are never wrapped satisfy none.
func (l *limits) wraps(o *op.Operation, ttl api.Seconds) bool {
	if l.minWrap == 0 && l.maxWrap == 0 {
		return true
	}
	if o.Bare || ttl <= 0 || l.maxWrap > 0 && ttl > l.maxWrap {
		return false
	}
	// Rules of several policies may leave no time at all.
	return ttl >= l.minWrap && (l.maxWrap == 0 || l.minWrap <= l.maxWrap)
}

// permits tells whether a call may have the parameters that it has. Lists and
// deletions have none that count. sent and unknown are the names that the front
// found; what the operation got is compared, not what was written, so that no
// spelling of a value or name evades a rule.
func (l *limits) permits(verb op.Verb, request any, sent, unknown []string) bool {
	if verb != op.Read && !verb.HasBody() || len(l.allowed)+len(l.denied)+len(l.required) == 0 {
		return true
	}
	given := parametersOf(request, sent)
	for _, name := range unknown {
		name = strings.ToLower(name)
		if _, known := given[name]; !known {
			given[name] = reflect.ValueOf(nothingKnown{})
		}
	}
	for _, name := range l.required {
		if _, ok := given[name]; !ok {
			return false
		}
	}
	if _, all := l.denied[allParams]; all && len(given) > 0 {
		return false
	}
	for name, value := range given {
		if values, ok := l.denied[name]; ok && (len(values) == 0 || matchesAny(value, values)) {
			return false
		}
		if !l.allows(name, value) {
			return false
		}
	}
	return true
}

// allows tells whether allowed_parameters let a parameter pass.
func (l *limits) allows(name string, value reflect.Value) bool {
	if len(l.allowed) == 0 {
		return true
	}
	values, ok := l.allowed[name]
	if !ok {
		_, ok = l.allowed[allParams]
		return ok
	}
	return len(values) == 0 || isOneOf(value, values)
}

// nothingKnown is the value of a parameter that the operation does not have. It
// equals none and is in any list of denied values: the safe side.
type nothingKnown struct{}

// parametersOf returns the parameters of a request by their names in lower case:
// those that were sent, and those that have a value.
func parametersOf(request any, sent []string) map[string]reflect.Value {
	given := map[string]reflect.Value{}
	if whole, ok := request.(interface{ TakeBody(json.RawMessage) }); ok {
		return membersOf(whole)
	}
	v := reflect.ValueOf(request).Elem()
	for _, f := range fieldsOf(v.Type()) {
		value := v.FieldByIndex(f.index)
		wasSent := func(name string) bool { return strings.EqualFold(name, f.name) }
		if !value.IsZero() || slices.ContainsFunc(sent, wasSent) {
			given[strings.ToLower(f.name)] = value
		}
	}
	return given
}

// membersOf returns the members of a request that is an object of any form.
func membersOf(whole any) map[string]reflect.Value {
	given := map[string]reflect.Value{}
	text, err := json.Marshal(whole)
	var object map[string]any
	if err == nil {
		d := json.NewDecoder(strings.NewReader(string(text)))
		d.UseNumber()
		err = d.Decode(&object)
	}
	if err != nil { // the front checked it
		given[allParams] = reflect.ValueOf(nothingKnown{})
	}
	for name, value := range object {
		given[strings.ToLower(name)] = reflect.ValueOf(&value).Elem()
	}
	return given
}

type parameterField struct {
	name  string
	index []int
}

var parameterFields sync.Map // reflect.Type → []parameterField

// fieldsOf lists the fields of a request that are on the wire.
func fieldsOf(t reflect.Type) []parameterField {
	if known, ok := parameterFields.Load(t); ok {
		return known.([]parameterField)
	}
	var fields []parameterField
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			name = f.Name
		}
		if f.IsExported() && !f.Anonymous && name != "-" {
			fields = append(fields, parameterField{name, f.Index})
		}
	}
	parameterFields.Store(t, fields)
	return fields
}

// matchesAny tells whether a value, or one of its items if it is a list, is among
// those of a policy.
func matchesAny(v reflect.Value, values []any) bool {
	v = bare(v)
	if !v.IsValid() {
		return false
	}
	if v.Type() == reflect.TypeFor[nothingKnown]() {
		return true
	}
	if isOneOf(v, values) {
		return true
	}
	return isList(v) && slices.ContainsFunc(items(v), func(item reflect.Value) bool { return isOneOf(item, values) })
}

// isOneOf tells whether a value is among those of a policy; a list is too if all
// its items are.
func isOneOf(v reflect.Value, values []any) bool {
	v = bare(v)
	if !v.IsValid() {
		return false
	}
	if slices.ContainsFunc(values, func(want any) bool { return equals(v, want) }) {
		return true
	}
	return isList(v) && v.Len() > 0 &&
		!slices.ContainsFunc(items(v), func(item reflect.Value) bool { return !isOneOf(item, values) })
}

// equals compares a value with one of a policy, in the value's own type.
func equals(v reflect.Value, want any) bool {
	if list, ok := want.([]any); ok {
		return isList(v) && slices.EqualFunc(items(v), list, func(item reflect.Value, want any) bool {
			item = bare(item)
			return item.IsValid() && equals(item, want)
		})
	}
	text, isText := want.(string)
	switch n := want.(type) {
	case json.Number:
		text = n.String()
	case bool:
		text = strconv.FormatBool(n)
	}
	own, ok := scalarText(v)
	switch {
	case !ok:
		return false
	case own == text || isText && globsEdges(text, own):
		return true
	case v.Type() == reflect.TypeFor[api.Seconds]():
		d, ok := seconds(text)
		return ok && int64(d) == v.Int()
	case v.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(text)
		return err == nil && b == v.Bool()
	case v.CanInt():
		n, err := strconv.ParseFloat(text, 64)
		return err == nil && n == float64(v.Int())
	}
	return false
}

// scalarText is a value as a text; ok is false for lists and objects.
func scalarText(v reflect.Value) (text string, ok bool) {
	switch {
	case v.Kind() == reflect.String:
		return v.String(), true
	case v.Kind() == reflect.Bool:
		return strconv.FormatBool(v.Bool()), true
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10), true
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10), true
	case v.CanFloat():
		return strconv.FormatFloat(v.Float(), 'g', -1, 64), true
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		return base64.StdEncoding.EncodeToString(v.Bytes()), true
	}
	return "", false
}

// bare follows pointers and interfaces; the result is invalid where there is nothing.
func bare(v reflect.Value) reflect.Value {
	for v.IsValid() && (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) {
		v = v.Elem()
	}
	return v
}

func isList(v reflect.Value) bool {
	return v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8
}

func items(v reflect.Value) []reflect.Value {
	list := make([]reflect.Value, v.Len())
	for i := range list {
		list[i] = v.Index(i)
	}
	return list
}

// globsEdges matches a text with a pattern in which * at the beginning and at the
// end stands for any text, as Vault's parameter values have it.
func globsEdges(pattern, text string) bool {
	pattern, open := strings.CutPrefix(pattern, "*")
	if pattern == "" && open {
		return true
	}
	pattern, openEnd := strings.CutSuffix(pattern, "*")
	switch {
	case open && openEnd:
		return strings.Contains(text, pattern)
	case open:
		return strings.HasSuffix(text, pattern)
	case openEnd:
		return strings.HasPrefix(text, pattern)
	}
	return text == pattern
}
