package vault

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
)

// codecOf chooses how values of type t are read.
func codecOf(t reflect.Type, begun map[reflect.Type]*structPlan) *codec {
	switch t {
	case reflect.TypeFor[api.Seconds]():
		return &codec{json: jsonSeconds, text: textSeconds}
	case reflect.TypeFor[json.RawMessage]():
		return &codec{json: jsonRaw, text: textJSON}
	}
	p := reflect.PointerTo(t)
	if p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return &codec{json: jsonOther, text: textOther}
	}
	switch t.Kind() {
	case reflect.String:
		return stringCodec
	case reflect.Bool:
		return &codec{json: jsonBool, text: textBool}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return &codec{json: jsonInt, text: textInt}
	case reflect.Pointer:
		return pointerCodec(codecOf(t.Elem(), begun))
	case reflect.Struct:
		return &codec{json: planStruct(t, begun).decode, text: textNo("an object; send JSON")}
	case reflect.Slice:
		return sliceCodec(t, begun)
	case reflect.Map:
		if t.Key().Kind() == reflect.String {
			return mapCodec(t, codecOf(t.Elem(), begun))
		}
	}
	return &codec{json: jsonOther, text: textOther}
}

func textNo(want string) func(reflect.Value, string) error {
	return func(reflect.Value, string) error { return wrong("must be " + want) }
}

// show quotes a short value for the caller who sent it. It is used for numbers,
// booleans and durations only, never where a secret belongs.
func show(s string) string {
	return strconv.Quote(clip(s))
}

// clip shortens a text for a message.
func clip(s string) string {
	const long = 32
	if len(s) <= long {
		return s
	}
	return strings.ToValidUTF8(s[:long], "") + "…"
}

func jsonString(d *decoder, v reflect.Value) error {
	var b []byte
	var err error
	switch c := d.peek(); {
	case c == '"':
		b, err = d.str()
	case c == '-' || '0' <= c && c <= '9':
		b, err = d.number()
	case c == 't':
		b, err = []byte("true"), d.literal("true")
	case c == 'f':
		b, err = []byte("false"), d.literal("false")
	case c == '{' || c == '[':
		err = wrong("must be a text, not an object or a list")
	default:
		err = d.fail("expected a value")
	}
	if err == nil {
		v.SetString(d.keep(b))
	}
	return err
}

func textString(v reflect.Value, s string) error {
	v.SetString(s)
	return nil
}

// jsonScalar reads a text or number and hands it to convert; bool literals too
// if they are asked for.
func (d *decoder) jsonScalar(v reflect.Value, bools bool, want string, convert func(reflect.Value, string) error) error {
	c := d.peek()
	switch {
	case c == '"':
		s, err := d.str()
		if err != nil {
			return err
		}
		return convert(v, string(s))
	case c == '-' || '0' <= c && c <= '9':
		s, err := d.number()
		if err != nil {
			return err
		}
		return convert(v, string(s))
	case bools && c == 't':
		v.SetBool(true)
		return d.literal("true")
	case bools && c == 'f':
		v.SetBool(false)
		return d.literal("false")
	case c == '{' || c == '[' || c == 't' || c == 'f':
		return wrong("must be " + want)
	}
	return d.fail("expected a value")
}

func jsonBool(d *decoder, v reflect.Value) error {
	return d.jsonScalar(v, true, "true or false", textBool)
}

// textBool takes the words of strconv.ParseBool; an empty text is false.
func textBool(v reflect.Value, s string) error {
	b, err := strconv.ParseBool(s)
	if err != nil && s != "" {
		return wrong(show(s) + " is not true or false")
	}
	v.SetBool(b)
	return nil
}

func jsonInt(d *decoder, v reflect.Value) error {
	return d.jsonScalar(v, false, "a whole number", textInt)
}

// textInt takes a decimal number; an empty text is 0.
func textInt(v reflect.Value, s string) error {
	n, err := wholeNumber(s)
	if err != nil || v.OverflowInt(n) {
		return wrong(show(s) + " is not a whole number that fits here")
	}
	v.SetInt(n)
	return nil
}

// wholeNumber reads "7", and 7.0 and 7e2 too, as long as a float64 is exact.
func wholeNumber(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil {
		return n, nil
	}
	if strings.Trim(s, "0123456789+-.eE") != "" {
		return 0, err // no hexadecimal, no NaN
	}
	const exact = 1 << 53
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f < -exact || f > exact || f != float64(int64(f)) {
		return 0, strconv.ErrSyntax
	}
	return int64(f), nil
}

func jsonSeconds(d *decoder, v reflect.Value) error {
	return d.jsonScalar(v, false, durationWanted, textSeconds)
}

const durationWanted = `a duration: a number of seconds, or a text such as "90s", "1h30m" or "30d"`

// textSeconds takes a number of seconds, a number of days with a d, or a Go duration.
func textSeconds(v reflect.Value, s string) error {
	n, err := wholeNumber(s)
	if err != nil {
		n, err = durationSeconds(s)
	}
	if err != nil || n < 0 {
		return wrong(show(s) + " is not " + durationWanted)
	}
	// Whoever turns it into a time.Duration must not overflow.
	if n > int64(1<<63-1)/int64(time.Second) {
		return wrong(show(s) + " is longer than 292 years")
	}
	v.SetInt(n)
	return nil
}

func durationSeconds(s string) (int64, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseInt(days, 10, 32)
		return n * 24 * 60 * 60, err
	}
	t, err := time.ParseDuration(s)
	if err == nil && t%time.Second != 0 {
		err = strconv.ErrSyntax // rounding 500ms to 0 would turn "short" into "for ever"
	}
	return int64(t / time.Second), err
}

const base64Wanted = "is not base64; it must have the standard alphabet (A-Z a-z 0-9 + /) and padding with ="

// jsonBytes decodes base64 straight from the input, which is most of the work of
// reading a large request, and falls back to reading the string properly.
func jsonBytes(d *decoder, v reflect.Value) error {
	if c := d.peek(); c != '"' {
		if c == 0 || c == '}' || c == ']' || c == ',' || c == ':' {
			return d.fail("expected a value")
		}
		return wrong("must be a text in base64")
	}
	text := d.in[d.pos+1:]
	if end := bytes.IndexByte(text, '"'); end >= 0 && decodeRun(d, v, text[:end]) {
		d.pos += end + 2
		return nil
	}
	s, err := d.str()
	if err != nil {
		return err
	}
	return textBytes(v, string(s))
}

// decodeRun decodes a string of base64 without escapes and tells whether it was
// one. encoding/base64 skips line breaks, which a JSON string can't hold bare;
// they show in a length that is no multiple of four or a result that is too short.
func decodeRun(d *decoder, v reflect.Value, text []byte) bool {
	padding := len(text) - len(bytes.TrimRight(text, "="))
	b := d.room(base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(b, text)
	if err != nil || len(text)%4 != 0 || n != len(b)-padding {
		return false
	}
	v.SetBytes(b[:n])
	return true
}

func textBytes(v reflect.Value, s string) error {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return wrong(base64Wanted)
	}
	v.SetBytes(b)
	return nil
}

func jsonRaw(d *decoder, v reflect.Value) error {
	start := d.pos
	if err := d.skip(); err != nil {
		return err
	}
	v.SetBytes(bytes.Clone(d.in[start:d.pos]))
	return nil
}

// textJSON takes a parameter as JSON if it is, else as a text.
func textJSON(v reflect.Value, s string) error {
	if !json.Valid([]byte(s)) {
		quoted, err := json.Marshal(s)
		if err != nil {
			return err
		}
		s = string(quoted)
	}
	v.SetBytes([]byte(s))
	return nil
}

// jsonOther leaves types that need no speed to encoding/json.
func jsonOther(d *decoder, v reflect.Value) error {
	start := d.pos
	if err := d.skip(); err != nil {
		return err
	}
	if err := json.Unmarshal(d.in[start:d.pos], v.Addr().Interface()); err != nil {
		return wrong(fmt.Sprintf("is not a valid %v", v.Type()))
	}
	return nil
}

func textOther(v reflect.Value, s string) error {
	quoted, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if json.Unmarshal([]byte(s), v.Addr().Interface()) != nil && json.Unmarshal(quoted, v.Addr().Interface()) != nil {
		return wrong(fmt.Sprintf("is not a valid %v", v.Type()))
	}
	return nil
}

func pointerCodec(elem *codec) *codec {
	return &codec{
		json: func(d *decoder, v reflect.Value) error {
			p := reflect.New(v.Type().Elem())
			err := elem.json(d, p.Elem())
			v.Set(p)
			return err
		},
		text: func(v reflect.Value, s string) error {
			p := reflect.New(v.Type().Elem())
			err := elem.text(p.Elem(), s)
			v.Set(p)
			return err
		},
	}
}
