package vault

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/claviger/claviger/internal/fault"
)

// Limits of what one body may blow up to.
const (
	// maxItems is how many items a list or map of a request may have. The
	// smallest item takes two bytes on the wire and a hundred in memory.
	maxItems = 100_000
	// maxUnknown is how many unknown fields are reported by name.
	maxUnknown = 32
	// maxName is how many bytes of an unknown field's name are reported.
	maxName = 64
)

// codec reads values of one Go type.
type codec struct {
	// json reads the value that is next, which is not null.
	json func(d *decoder, v reflect.Value) error
	// text converts a form's or URL's parameter, or a JSON string where the
	// type is not a text.
	text func(v reflect.Value, s string) error
	// texts converts a parameter that is there several times; nil refuses that.
	texts func(v reflect.Value, s []string) error
}

// decoder fills one request.
type decoder struct {
	scanner
	unknown []string
	// noting is the plan of the request if the names of its fields that are there
	// are to be noted in sent.
	noting *structPlan
	sent   []string
	// lists counts the lists of structs that we are in: inside one, values are
	// cut from common blocks, since there are many and they live equally long.
	lists int
	text  strings.Builder
	bytes []byte
}

// valueError says which field has a wrong value and what would be right.
type valueError struct {
	field string
	msg   string
}

func (e *valueError) Error() string {
	if e.field == "" {
		return e.msg
	}
	return e.field + ": " + e.msg
}

func wrong(msg string) error { return &valueError{msg: msg} }

// inField adds the field's name to a value's error.
func inField(name string, err error) error {
	if e, ok := errors.AsType[*valueError](err); ok {
		switch {
		case e.field == "" || strings.HasPrefix(e.field, "["):
			e.field = name + e.field
		default:
			e.field = name + "." + e.field
		}
	}
	return err
}

func inItem(i int, err error) error { return inField("["+strconv.Itoa(i)+"]", err) }

// decodeJSON fills req, a pointer to a struct, from a JSON object with the weak
// types of Vault's API: where a field wants a number, a text with a number does,
// and so on. An empty body is an empty object. Nothing of req refers to in. It
// returns the names of fields that req does not have. levels is how deep the
// input may be nested.
func decodeJSON(in []byte, req any, levels int) (unknown []string, err error) {
	d := &decoder{scanner: scanner{in: in, levels: levels}}
	err = d.request(req)
	return d.unknown, err
}

// decodeNoting is decodeJSON that also returns the names of the fields of req
// that the input has.
func decodeNoting(in []byte, req any, levels int) (unknown, sent []string, err error) {
	d := &decoder{scanner: scanner{in: in, levels: levels}, noting: planOf(reflect.TypeOf(req).Elem())}
	err = d.request(req)
	return d.unknown, d.sent, err
}

func (d *decoder) request(req any) error {
	d.space()
	if d.pos == len(d.in) {
		return nil
	}
	if err := d.root(reflect.ValueOf(req).Elem()); err != nil {
		d.unknown = nil
		return invalid(err)
	}
	return nil
}

func (d *decoder) root(v reflect.Value) error {
	switch d.peek() {
	case 'n':
		if err := d.literal("null"); err != nil {
			return err
		}
	case '{':
		if err := planOf(v.Type()).decode(d, v); err != nil {
			return err
		}
	default:
		return d.fail("expected a JSON object, such as {}")
	}
	return d.finish()
}

func invalid(err error) error { return fault.New(fault.Invalid, "%s", err.Error()) }

// structPlan says how a struct is filled.
type structPlan struct {
	fields  []field
	rejects bool // pointers to it are rejecters
}

// rejecter is an item of a batch: a wrong value of it is noted in it, and the rest
// of the request is read nevertheless.
type rejecter interface{ Reject(problem string) }

type field struct {
	member
	codec *codec
}

var plans sync.Map // reflect.Type → *structPlan

func planOf(t reflect.Type) *structPlan {
	if p, ok := plans.Load(t); ok {
		return p.(*structPlan)
	}
	p := planStruct(t, map[reflect.Type]*structPlan{})
	stored, _ := plans.LoadOrStore(t, p)
	return stored.(*structPlan)
}

// planStruct makes the plan of t; begun holds those that are being made, since
// types may refer to themselves.
func planStruct(t reflect.Type, begun map[reflect.Type]*structPlan) *structPlan {
	if p, ok := begun[t]; ok {
		return p
	}
	p := &structPlan{rejects: reflect.PointerTo(t).Implements(reflect.TypeFor[rejecter]())}
	begun[t] = p
	for _, m := range members(t) {
		p.fields = append(p.fields, field{m, codecOf(m.typ, begun)})
	}
	return p
}

// find returns the field of a name. Clients send fields mostly in the same order
// as they stand in the struct, so next is tried first. As in encoding/json the
// case of letters does not matter where no field has just this name.
func (p *structPlan) find(name []byte, next int) (int, bool) {
	if next < len(p.fields) && p.fields[next].name == string(name) {
		return next, true
	}
	for i := range p.fields {
		if p.fields[i].name == string(name) {
			return i, true
		}
	}
	for i := range p.fields {
		if strings.EqualFold(p.fields[i].name, string(name)) {
			return i, true
		}
	}
	return 0, false
}

func (p *structPlan) decode(d *decoder, v reflect.Value) error {
	if err := d.expect('{', objectWanted); err != nil {
		return err
	}
	next := 0
	more, err := d.begin('}')
	for more && err == nil {
		name, err := d.key()
		if err != nil {
			return err
		}
		i, known := p.find(name, next)
		if !known {
			d.report(name)
			err = d.skip()
		} else {
			next = i + 1
			if d.noting == p {
				d.sent = append(d.sent, p.fields[i].name)
			}
			err = p.decodeField(d, i, v)
		}
		if err != nil {
			if known {
				err = inField(p.fields[i].name, err)
			}
			return err
		}
		if more, err = d.more('}'); err != nil {
			return err
		}
	}
	return err
}

// decodeField reads the value of field i. A rejecter takes note of a wrong one, if it
// is JSON, and it is passed over.
func (p *structPlan) decodeField(d *decoder, i int, v reflect.Value) error {
	start := d.pos
	err := d.value(p.fields[i].codec, p.fields[i].of(v))
	if err == nil || !p.rejects {
		return err
	}
	if _, ok := errors.AsType[*valueError](err); !ok {
		return err
	}
	d.pos = start
	if bad := d.skip(); bad != nil {
		return bad
	}
	v.Addr().Interface().(rejecter).Reject(inField(p.fields[i].name, err).Error())
	return nil
}

// value reads the next value with c; null means that there is none.
func (d *decoder) value(c *codec, v reflect.Value) error {
	if d.peek() == 'n' {
		v.SetZero()
		return d.literal("null")
	}
	return c.json(d, v)
}

func (d *decoder) report(name []byte) {
	d.unknown = report(d.unknown, string(name[:min(len(name), maxName)]))
}

func report(unknown []string, name string) []string {
	name = strings.ToValidUTF8(name[:min(len(name), maxName)], "\uFFFD")
	if len(unknown) == maxUnknown || slices.Contains(unknown, name) {
		return unknown
	}
	return append(unknown, name)
}

// blockSize is the size of the next block that values of n bytes and more are
// cut from: what the rest of the input can need, but not much at once.
func (d *decoder) blockSize(n int) int {
	return max(n, min(len(d.in)-d.pos, 32<<10))
}

// keep returns a copy of s, which refers to the input, as a text.
func (d *decoder) keep(s []byte) string {
	if d.lists == 0 || len(s) == 0 {
		return string(s)
	}
	if d.text.Cap()-d.text.Len() < len(s) {
		d.text = strings.Builder{}
		d.text.Grow(d.blockSize(len(s)))
	}
	start := d.text.Len()
	d.text.Write(s)
	return d.text.String()[start:]
}

// room returns n bytes to decode into.
func (d *decoder) room(n int) []byte {
	if d.lists == 0 || n == 0 {
		return make([]byte, n)
	}
	if len(d.bytes) < n {
		d.bytes = make([]byte, max(n, d.blockSize(0)/4*3)) // base64 shrinks by that much
	}
	b := d.bytes[:n:n]
	d.bytes = d.bytes[n:]
	return b
}
