package vault

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// everything has a field of each type that requests use.
type everything struct {
	Path    string            `json:"-" path:"path"`
	S       string            `json:"s"`
	B       []byte            `json:"b"`
	I       int               `json:"i"`
	I8      int8              `json:"i8"`
	T       bool              `json:"t"`
	D       api.Seconds       `json:"d"`
	PI      *int              `json:"pi"`
	PT      *bool             `json:"pt"`
	PD      *api.Seconds      `json:"pd"`
	L       []string          `json:"l"`
	M       map[string]string `json:"m"`
	Raw     json.RawMessage   `json:"raw"`
	Any     any               `json:"any"`
	When    time.Time         `json:"when"`
	Items   []item            `json:"items"`
	Inner   item              `json:"inner"`
	Next    *everything       `json:"next"`
	Numbers []int             `json:"numbers"`
	NoTag   string
	embedded
}

type embedded struct {
	Deep string `json:"deep"`
	S    string `json:"s"` // hidden by everything.S
}

type item struct {
	B         []byte `json:"b"`
	V         int    `json:"v"`
	Reference string `json:"reference"`
}

func ptr[T any](v T) *T { return &v }

func TestDecodeJSON(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		want everything
	}{
		{``, everything{}},
		{" \n", everything{}},
		{`null`, everything{}},
		{`{}`, everything{}},
		{`{"s":"x","Path":"no"}`, everything{S: "x"}},
		{`{"s":5}`, everything{S: "5"}},
		{`{"s":-1.5e3}`, everything{S: "-1.5e3"}},
		{`{"s":true}`, everything{S: "true"}},
		{`{"s":null,"b":null,"i":null,"t":null,"pi":null,"l":null,"m":null,"items":null,"next":null,"raw":null}`, everything{}},
		{`{"s":"a","s":"b"}`, everything{S: "b"}},
		{`{"s":"a","s":null}`, everything{}},
		{`{"\u0073":"name with an escape"}`, everything{S: "name with an escape"}},
		{`{"S":"other case"}`, everything{S: "other case"}},
		{`{"deep":"x","NoTag":"y"}`, everything{NoTag: "y", embedded: embedded{Deep: "x"}}},
		{`{"b":""}`, everything{B: []byte{}}},
		{`{"b":"aGVsbG8="}`, everything{B: []byte("hello")}},
		{`{"b":"aGVs\nbG8="}`, everything{B: []byte("hello")}},
		{`{"b":"aGVsbG8\u003d"}`, everything{B: []byte("hello")}},
		{`{"b":"\/\/\/\/"}`, everything{B: []byte{255, 255, 255}}},
		{`{"i":7}`, everything{I: 7}},
		{`{"i":"7"}`, everything{I: 7}},
		{`{"i":"0"}`, everything{}},
		{`{"i":""}`, everything{}},
		{`{"i":1.0}`, everything{I: 1}},
		{`{"i":-2e3}`, everything{I: -2000}},
		{`{"i8":-128}`, everything{I8: -128}},
		{`{"t":true}`, everything{T: true}},
		{`{"t":"true"}`, everything{T: true}},
		{`{"t":1}`, everything{T: true}},
		{`{"t":"1"}`, everything{T: true}},
		{`{"t":"","pt":"false"}`, everything{PT: ptr(false)}},
		{`{"t":false,"pt":false}`, everything{PT: ptr(false)}},
		{`{"pi":0,"pd":"0"}`, everything{PI: ptr(0), PD: ptr(api.Seconds(0))}},
		{`{"d":60}`, everything{D: 60}},
		{`{"d":"60"}`, everything{D: 60}},
		{`{"d":"1h30m"}`, everything{D: 5400}},
		{`{"d":"2d"}`, everything{D: 172800}},
		{`{"d":60.0}`, everything{D: 60}},
		{`{"l":["a","b,c",5]}`, everything{L: []string{"a", "b,c", "5"}}},
		{`{"l":"a, b"}`, everything{L: []string{"a", "b"}}},
		{`{"l":""}`, everything{L: []string{}}},
		{`{"l":[]}`, everything{L: []string{}}},
		{`{"l":7}`, everything{L: []string{"7"}}},
		{`{"m":{}}`, everything{M: map[string]string{}}},
		{`{"m":{"a":"b","c":3,"a":"d"}}`, everything{M: map[string]string{"a": "d", "c": "3"}}},
		{`{"raw":{"a": [1]},"any":{"a":[1]}}`, everything{Raw: json.RawMessage(`{"a": [1]}`), Any: map[string]any{"a": []any{1.0}}}},
		{`{"when":"2026-01-02T03:04:05.6Z"}`, everything{When: time.Date(2026, 1, 2, 3, 4, 5, 600e6, time.UTC)}},
		{`{"items":[]}`, everything{Items: []item{}}},
		{`{"items":[{},null,{"reference":"x","v":"2","b":"AA=="}]}`, everything{Items: []item{{}, {}, {B: []byte{0}, V: 2, Reference: "x"}}}},
		{`{"inner":{"v":3},"next":{"next":{"s":"x"}}}`, everything{Inner: item{V: 3}, Next: &everything{Next: &everything{S: "x"}}}},
		{`{"numbers":[1,"2"]}`, everything{Numbers: []int{1, 2}}},
	} {
		var got everything
		if _, err := decodeJSON([]byte(c.in), &got, 64); err != nil {
			t.Errorf("%s: %v", c.in, err)
		} else if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.in, got, c.want)
		}
	}
}

func TestDecodeJSONErrors(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`[]`:                           "expected a JSON object",
		`5`:                            "expected a JSON object",
		`"x"`:                          "expected a JSON object",
		`nul`:                          "expected a value at byte 1",
		`{"s":"x"} x`:                  "more input after the end",
		`{"s":"x"`:                     "expected , or }, but the body ends at byte 9",
		`{"s":}`:                       "expected a value at byte 6",
		`{"b":}`:                       "expected a value at byte 6",
		`{"i":}`:                       "expected a value at byte 6",
		`{"l":}`:                       "expected a value at byte 6",
		`{"m":}`:                       "expected a value at byte 6",
		`{"items":}`:                   "expected a value at byte 10",
		`{"raw":}`:                     "expected a value at byte 8",
		`{"s":"` + "\xff\"}":           "invalid UTF-8 in a string at byte 7",
		`{"s":NaN}`:                    "expected a value",
		`{"i":tru}`:                    "i: must be a whole number",
		`{"t":tru}`:                    "expected a value",
		`{"s":{}}`:                     "s: must be a text",
		`{"s":[]}`:                     "s: must be a text",
		`{"i":"x"}`:                    `i: "x" is not a whole number`,
		`{"i":1.5}`:                    `i: "1.5" is not a whole number`,
		`{"i":1e400}`:                  `i: "1e400" is not a whole number`,
		`{"i":"0x1.8p1"}`:              `is not a whole number`,
		`{"i":9223372036854775808}`:    `is not a whole number that fits`,
		`{"i8":128}`:                   `is not a whole number that fits`,
		`{"i":true}`:                   "i: must be a whole number",
		`{"i":[1]}`:                    "i: must be a whole number",
		`{"t":"maybe"}`:                `t: "maybe" is not true or false`,
		`{"t":2}`:                      `t: "2" is not true or false`,
		`{"pi":"x"}`:                   `pi: "x" is not a whole number`,
		`{"d":"soon"}`:                 `d: "soon" is not a duration`,
		`{"d":"500ms"}`:                `d: "500ms" is not a duration`,
		`{"d":-1}`:                     `d: "-1" is not a duration`,
		`{"d":"99999999999999999d"}`:   `is not a duration`,
		`{"d":9300000000}`:             `longer than 292 years`,
		`{"b":5}`:                      "b: must be a text in base64",
		`{"b":[1,2]}`:                  "b: must be a text in base64",
		`{"b":"aGVsbG8"}`:              "b: is not base64",
		`{"b":"-_8="}`:                 "b: is not base64",
		`{"b":"a"}`:                    "b: is not base64",
		`{"b":"aGVs` + "\n" + `bG8="}`: "a control character in a string",
		"{\"b\":\"\n\r\n\naGVsbG8=\"}": "a control character in a string",
		`{"b":"aGVsbG8=`:               "expected the end of a string",
		`{"b":"aGVs\x"}`:               "unknown escape",
		`{"l":{}}`:                     "l: must be a list of texts",
		`{"l":[{}]}`:                   "l[0]: must be a text",
		`{"m":5}`:                      "m: must be an object",
		`{"m":{"a":{}}}`:               "m.a: must be a text",
		`{"items":{}}`:                 "items: must be a list",
		`{"items":5}`:                  "items: must be a list",
		`{"items":[5]}`:                "items[0]: must be an object",
		`{"items":[{},{"v":"x"}]}`:     `items[1].v: "x" is not a whole number`,
		`{"items":[{},{},{"b":"x"}]}`:  `items[2].b: is not base64`,
		`{"inner":5}`:                  "inner: must be an object",
		`{"inner":{"v":"x"}}`:          `inner.v: "x"`,
		`{"next":{"next":{"items":[{"v":"x"}]}}}`:               `next.next.items[0].v: "x"`,
		`{"when":"yesterday"}`:                                  "when: is not a valid time.Time",
		`{"items":[` + strings.Repeat("{},", maxItems) + `{}]}`: "items: has more than 100000 items",
		`{"l":"` + strings.Repeat(",", maxItems) + `"}`:         "l: has more than 100000 items",
		`{"x":` + strings.Repeat(`{"x":`, 10_000):               "nested too deep",
		`{"raw":` + strings.Repeat(`[`, 10_000):                 "nested too deep",
		`{"next":` + strings.Repeat(`{"next":`, 10_000):         "nested too deep",
	} {
		_, err := decodeJSON([]byte(in), new(everything), 64)
		shown := in[:min(len(in), 60)]
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", shown, err, want)
		} else if fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: kind %v", shown, fault.KindOf(err))
		}
	}
}

func TestUnknownFields(t *testing.T) {
	t.Parallel()
	var r everything
	unknown, err := decodeJSON([]byte(`{"x":{"s":[1,{}]},"s":"kept","y":1,"x":2,"items":[{"z":1},{"z":2}]}`), &r, 64)
	if err != nil || r.S != "kept" || fmt.Sprint(unknown) != "[x y z]" {
		t.Errorf("got %q, %v, s=%q", unknown, err, r.S)
	}
	many := "{"
	for i := range 1000 {
		many += fmt.Sprintf(`"%d%0100d":1,`, i, 0)
	}
	many += `"end":1}`
	unknown, err = decodeJSON([]byte(many), &r, 64)
	if err != nil || len(unknown) != maxUnknown || len(unknown[0]) != maxName {
		t.Errorf("%d names of %d bytes reported, %v", len(unknown), len(unknown[0]), err)
	}
}

// Nothing that was decoded may refer to the body, which is wiped afterwards.
func TestDecodedIsIndependent(t *testing.T) {
	t.Parallel()
	in := []byte(`{"s":"text","b":"aGVsbG8=","l":["one"],"m":{"k":"v"},"raw":[1],"items":[{"b":"aGVsbG8=","reference":"r1"},{"b":"aGVsbG8=","reference":"r2"}]}`)
	var got, want everything
	if _, err := decodeJSON(in, &got, 64); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(in, &want); err != nil {
		t.Fatal(err)
	}
	clear(in)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	// Values that share a block must not run into each other.
	_ = append(got.Items[0].B, "overwritten"...)
	if string(got.Items[1].B) != "hello" {
		t.Errorf("appending to one item changed the next to %q", got.Items[1].B)
	}
}

func TestDecodeValues(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]everything{
		"":                              {},
		"list=true":                     {},
		"s=a%20b+c":                     {S: "a b c"},
		"b=aGVsbG8%3D":                  {B: []byte("hello")},
		"i=5&t=true&pi=0&pt=":           {I: 5, T: true, PI: ptr(0), PT: ptr(false)},
		"d=1h&pd=60":                    {D: 3600, PD: ptr(api.Seconds(60))},
		"l=a,b":                         {L: []string{"a", "b"}},
		"l=a,b&l=c":                     {L: []string{"a,b", "c"}},
		"m=a%3Db,c%3Dd":                 {M: map[string]string{"a": "b", "c": "d"}},
		"m=a%3Db&m=c%3Dd,e":             {M: map[string]string{"a": "b", "c": "d,e"}},
		"raw=%7B%22a%22:1%7D":           {Raw: json.RawMessage(`{"a":1}`)},
		"raw=plain":                     {Raw: json.RawMessage(`"plain"`)},
		"any=plain":                     {Any: "plain"},
		"when=2026-01-02T03:04:05.006Z": {When: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)},
	} {
		var got everything
		if _, err := decodeQuery(in, &got); err != nil {
			t.Errorf("%s: %v", in, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v", in, got)
		}
	}
	for in, want := range map[string]string{
		"s=%zz":                              "not name=value",
		"s=a;b":                              "not name=value",
		"s=a&s=b":                            "s: is given more than once",
		"i=x":                                `i: "x" is not a whole number`,
		"b=*":                                "b: is not base64",
		"items=x":                            "items: must be a list",
		"inner=x":                            "inner: must be an object",
		"m=x":                                "m: must be an object, or a text such as",
		"when=x":                             "when: is not a valid",
		"l=" + strings.Repeat(",", maxItems): "l: has more than",
		"m=" + strings.Repeat(",", maxItems): "m: has more than",
	} {
		_, err := decodeQuery(in, new(everything))
		if err == nil || !strings.Contains(err.Error(), want) || fault.KindOf(err) != fault.Invalid {
			t.Errorf("%.60s: got %v, want %s", in, err, want)
		}
	}
	unknown, err := decodeQuery("z=1&y=2&list=true&s=x", new(everything))
	if err != nil || fmt.Sprint(unknown) != "[y z]" {
		t.Errorf("unknown: %q, %v", unknown, err)
	}
}

// shadow reads what plain reads, by the rules of encoding/json. Base64 is a text
// there, since encoding/json also takes lists of numbers for []byte.
type plain struct {
	S     string            `json:"s"`
	B     []byte            `json:"b"`
	I     int               `json:"i"`
	T     bool              `json:"t"`
	PI    *int              `json:"pi"`
	L     []string          `json:"l"`
	M     map[string]string `json:"m"`
	Items []item            `json:"items"`
	Next  *plain            `json:"next"`
}

type shadow struct {
	S     string            `json:"s"`
	B     *string           `json:"b"`
	I     int               `json:"i"`
	T     bool              `json:"t"`
	PI    *int              `json:"pi"`
	L     []string          `json:"l"`
	M     map[string]string `json:"m"`
	Items []shadowItem      `json:"items"`
	Next  *shadow           `json:"next"`
}

type shadowItem struct {
	B         *string `json:"b"`
	V         int     `json:"v"`
	Reference string  `json:"reference"`
}

func shadowBytes(s *string) ([]byte, error) {
	if s == nil {
		return nil, nil
	}
	return base64.StdEncoding.DecodeString(*s)
}

func (s *shadow) plain() (*plain, error) {
	if s == nil {
		return nil, nil
	}
	p := &plain{S: s.S, I: s.I, T: s.T, PI: s.PI, L: s.L, M: s.M}
	var err error
	if p.B, err = shadowBytes(s.B); err != nil {
		return nil, err
	}
	if s.Items != nil {
		p.Items = []item{}
	}
	for _, i := range s.Items {
		b, err := shadowBytes(i.B)
		if err != nil {
			return nil, err
		}
		p.Items = append(p.Items, item{b, i.V, i.Reference})
	}
	p.Next, err = s.Next.plain()
	return p, err
}

// repeats tells whether an object has a name twice: encoding/json merges their
// values, we take the last.
func repeats(in []byte) bool {
	type level struct {
		names  map[string]bool
		isName bool
	}
	var stack []level
	d := json.NewDecoder(strings.NewReader(string(in)))
	for {
		token, err := d.Token()
		if err != nil {
			return false
		}
		top := len(stack) - 1
		if token == json.Delim('}') || token == json.Delim(']') {
			stack = stack[:top]
			continue
		}
		if name, ok := token.(string); ok && top >= 0 && stack[top].names != nil && stack[top].isName {
			name = strings.ToUpper(name)
			if stack[top].names[name] {
				return true
			}
			stack[top].names[name] = true
			stack[top].isName = false
			continue
		}
		if top >= 0 {
			stack[top].isName = true
		}
		switch token {
		case json.Delim('{'):
			stack = append(stack, level{map[string]bool{}, true})
		case json.Delim('['):
			stack = append(stack, level{})
		}
	}
}

// FuzzDecodeJSON: no input panics; what is no JSON is refused; and what
// encoding/json reads into these types we read the same.
func FuzzDecodeJSON(f *testing.F) {
	for _, in := range []string{
		`{"s":"x","b":"aGVsbG8=","i":5,"t":true,"pi":0,"l":["a"],"m":{"a":"b"},"items":[{"b":"","v":1,"reference":"r"}],"next":{"s":"y"}}`,
		`{"i":"5","t":"true","l":"a,b","items":[{},null]}`, `{"b":"aGVs\nbG8=","x":[1,{"y":null}]}`, `null`, ``, `{"I":1.0}`, `{"d":"1h"}`,
	} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		_, _ = decodeJSON(in, new(everything), 64)
		var got plain
		_, err := decodeJSON(in, &got, 1000)
		blank := strings.Trim(string(in), " \t\r\n") == ""
		if !json.Valid(in) || !utf8.Valid(in) {
			if err == nil && !blank {
				t.Fatalf("%q was taken", in)
			}
			return
		}
		var s *shadow
		if json.Unmarshal(in, &s) != nil || s == nil || repeats(in) {
			return
		}
		want, wantErr := s.plain()
		if wantErr != nil {
			if err == nil {
				t.Fatalf("%q: base64 was taken", in)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", in, err)
		}
		if !reflect.DeepEqual(&got, want) {
			t.Fatalf("%q:\n got %+v\nwant %+v", in, got, *want)
		}
	})
}

// FuzzDecodeQuery: no query or form panics.
func FuzzDecodeQuery(f *testing.F) {
	f.Add("s=a&i=5&l=a,b&m=a%3Db&raw=1&any={}&when=x&items=[]")
	f.Fuzz(func(t *testing.T, in string) {
		_, _ = decodeQuery(in, new(everything))
		_, _ = decodeForm([]byte(in), new(everything))
	})
}
