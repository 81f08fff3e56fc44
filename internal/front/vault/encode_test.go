package vault

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
)

// wireTypes are all types that operations answer with.
var wireTypes = []reflect.Type{
	reflect.TypeFor[everything](),
	reflect.TypeFor[map[string]api.Mount](),
	reflect.TypeFor[map[string][]string](),
	reflect.TypeFor[api.Envelope](),
	reflect.TypeFor[api.Empty](),
	reflect.TypeFor[api.Keys](),
	reflect.TypeFor[api.InitStatus](),
	reflect.TypeFor[api.InitResult](),
	reflect.TypeFor[api.SealStatus](),
	reflect.TypeFor[api.Health](),
	reflect.TypeFor[api.Leader](),
	reflect.TypeFor[api.TokenStatus](),
	reflect.TypeFor[api.Mount](),
	reflect.TypeFor[api.Policy](),
	reflect.TypeFor[api.Policies](),
	reflect.TypeFor[api.Auth](),
	reflect.TypeFor[api.TokenInfo](),
	reflect.TypeFor[api.Key](),
	reflect.TypeFor[api.KeyVersion](),
	reflect.TypeFor[api.ExportedKey](),
	reflect.TypeFor[api.Encrypted](),
	reflect.TypeFor[api.Decrypted](),
	reflect.TypeFor[api.DataKeyResult](),
	reflect.TypeFor[api.Signature](),
	reflect.TypeFor[api.Verified](),
	reflect.TypeFor[api.HMACResult](),
	reflect.TypeFor[api.RandomBytes](),
}

var texts = []string{"", "a", "vault:v1:abcdefgh", "quote\" back\\ <&>", "line\n\r\t\b\f\x00\x7f", "é€😀\u2028", "bad \xff\xc3 utf-8", strings.Repeat("x", 100) + "\""}

// fill gives v a random value; depth bounds types that refer to themselves.
func fill(r *rand.Rand, v reflect.Value, depth int) {
	switch v.Type() {
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(r.Int64N(1<<32), r.Int64N(1e9)).UTC()))
		return
	case reflect.TypeFor[json.RawMessage]():
		raw := []string{"", "null", "5", `{"a":[1, "x"]}`}[r.IntN(4)]
		if raw != "" {
			v.SetBytes([]byte(raw))
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(texts[r.IntN(len(texts))])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int64:
		v.SetInt(r.Int64() >> r.IntN(64) * (1 - 2*r.Int64N(2)))
	case reflect.Int8:
		v.SetInt(r.Int64N(256) - 128)
	case reflect.Uint8:
		v.SetUint(r.Uint64N(256))
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(r, v.Field(i), depth)
			}
		}
	case reflect.Pointer:
		if depth > 0 && r.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem(), depth-1)
		}
	case reflect.Slice:
		if n := r.IntN(4); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n-1, n-1))
			for i := range n - 1 {
				fill(r, v.Index(i), depth-1)
			}
		}
	case reflect.Map:
		if n := r.IntN(5); n > 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range n - 1 {
				key, item := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				// Not what is no UTF-8: different names would become the same.
				key.SetString(texts[r.IntN(6)])
				fill(r, item, depth-1)
				v.SetMapIndex(key, item)
			}
		}
	case reflect.Interface:
		if x := []any{"<x>", 1.5, nil, true}[r.IntN(4)]; x != nil {
			v.Set(reflect.ValueOf(x))
		}
	}
}

func parse(t *testing.T, b []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil || d.More() {
		t.Fatalf("not one JSON value: %v: %s", err, b)
	}
	return v
}

func TestEncodeAsEncodingJSON(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for _, typ := range wireTypes {
		for range 300 {
			v := reflect.New(typ)
			fill(r, v.Elem(), 3)
			want, err := json.Marshal(v.Interface())
			if err != nil {
				t.Fatal(err)
			}
			got, err := appendJSON([]byte("["), v.Interface())
			if err != nil {
				t.Fatal(err)
			}
			if got := parse(t, append(got, ']')); !reflect.DeepEqual(got, []any{parse(t, want)}) {
				t.Fatalf("%v:\n got %v\nwant %s", typ, got, want)
			}
		}
	}
}

func TestEncodeKnown(t *testing.T) {
	t.Parallel()
	empty := []byte{}
	for _, c := range []struct {
		v    any
		want string
	}{
		{nil, `null`},
		{(*api.Keys)(nil), `null`},
		{&api.Decrypted{Plaintext: &empty}, `{"plaintext":""}`},
		{&api.Decrypted{}, `{}`},
		{&api.Encrypted{BatchResults: []api.EncryptedResult{{Error: "no"}}}, `{"batch_results":[{"error":"no","reference":""}]}`},
		{&api.Verified{Valid: new(bool)}, `{"valid":false}`},
		{&api.Keys{}, `{"keys":null}`},
		{map[string]int{"b": 1, "a": 2}, `{"a":2,"b":1}`},
		{"<a&b>\x01\n\u2028\xff", "\"<a&b>\\u0001\\n\u2028\uFFFD\""},
		{time.Date(2026, 1, 2, 3, 4, 5, 60, time.UTC), `"2026-01-02T03:04:05.00000006Z"`},
		{[]any{1.5, "<"}, `[1.5,"<"]`},
		{json.RawMessage(`{"a": 1}`), `{"a": 1}`},
		{uint8(5), `5`},
	} {
		got, err := appendJSON(nil, c.v)
		if err != nil || string(got) != c.want {
			t.Errorf("%#v: got %s, %v; want %s", c.v, got, err, c.want)
		}
	}
	for _, v := range []any{make(chan int), func() {}, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), map[string]any{"a": make(chan int)}} {
		if got, err := appendJSON(nil, v); err == nil {
			t.Errorf("%T was encoded as %s", v, got)
		}
	}
}
