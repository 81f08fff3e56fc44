package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

func mac(s string) string {
	m := hmac.New(sha256.New, macKey)
	m.Write([]byte(s))
	return "hmac-sha256:" + hex.EncodeToString(m.Sum(nil))
}

// rendered is the data of an entry.
func rendered(data any) string {
	r := &renderer{mac: hmac.New(sha256.New, macKey)}
	r.reset()
	r.data(data)
	return strings.TrimPrefix(string(r.buf[headroom:]), `,"data":`)
}

type embedded struct {
	Inner string `json:"inner" audit:"plain"`
}

type allKinds struct {
	embedded
	Text     string            `json:"text"`
	Plain    string            `json:"plain" audit:"plain"`
	Hidden   string            `json:"hidden" audit:"-"`
	Nameless string            `json:"-"`
	Untagged string            ``
	InPath   string            `json:"-" path:"in_path"`
	Twice    string            `json:"twice"`
	PathOne  string            `json:"-" path:"twice"`
	Bytes    []byte            `json:"bytes"`
	Shown    []byte            `json:"shown" audit:"plain"`
	Raw      json.RawMessage   `json:"raw" audit:"plain"`
	Int      int               `json:"int,omitempty"`
	Uint     uint8             `json:"uint"`
	Float    float64           `json:"float"`
	Bool     bool              `json:"bool"`
	Seconds  api.Seconds       `json:"seconds"`
	Time     time.Time         `json:"time"`
	Pointer  *int              `json:"pointer"`
	When     *time.Time        `json:"when"`
	List     []string          `json:"list"`
	Names    []string          `json:"names" audit:"plain"`
	Map      map[string]string `json:"map"`
	Meta     map[string]string `json:"meta" audit:"plain"`
	Numbers  map[int]bool      `json:"numbers"`
	Nested   *allKinds         `json:"nested"`
	Any      any               `json:"any"`
	Array    [2]int            `json:"array"`
	Chan     chan int          `json:"chan"`
	private  string
}

func TestPlan(t *testing.T) {
	t.Parallel()
	zero, when := 0, time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	h := func(s string) string { return `"` + mac(s) + `"` }
	for _, c := range []struct {
		data any
		want string
	}{
		{nil, ``},
		{(*allKinds)(nil), ``},
		{&api.Empty{}, `{}`},
		{allKinds{}, `{}`},
		{&allKinds{Text: "s"}, `{"text":` + h("s") + `}`},
		{&allKinds{Text: strings.Repeat("long", 1000)}, `{"text":` + h(strings.Repeat("long", 1000)) + `}`},
		{&allKinds{Plain: "s", Hidden: "x", Nameless: "y", private: "z"}, `{"plain":"s"}`},
		{&allKinds{embedded: embedded{"i"}, Plain: "p"}, `{"plain":"p"}`},
		{&struct{ Embedded }{Embedded{"i"}}, `{"inner":"i"}`},
		{&allKinds{Untagged: "u"}, `{"Untagged":` + h("u") + `}`},
		{&allKinds{InPath: "p"}, `{"in_path":"p"}`},
		{&allKinds{Twice: "a", PathOne: "b"}, `{"twice":` + h("a") + `,"path_twice":"b"}`},
		{&allKinds{Bytes: []byte("b")}, `{"bytes":` + h("b") + `}`},
		{&allKinds{Bytes: []byte{}}, `{"bytes":` + h("") + `}`},
		{&allKinds{Shown: []byte{0xfb, 0xff}}, `{"shown":"+/8="}`},
		{&allKinds{Raw: json.RawMessage(`{"a":1}`)}, `{"raw":"{\u0022a\u0022:1}"}`},
		{&allKinds{Int: -5, Uint: 200, Float: 1.5, Bool: true, Seconds: 60}, `{"int":-5,"uint":200,"float":1.5,"bool":true,"seconds":60}`},
		{&allKinds{Time: when, When: &when}, `{"time":"2026-01-02T03:04:05.000006Z","when":"2026-01-02T03:04:05.000006Z"}`},
		{&allKinds{Pointer: &zero}, `{"pointer":0}`},
		{&allKinds{List: []string{"a", ""}}, `{"list":[` + h("a") + `,` + h("") + `]}`},
		{&allKinds{List: []string{}}, `{"list":[]}`},
		{&allKinds{Names: []string{"a", "b"}}, `{"names":["a","b"]}`},
		{&allKinds{Map: map[string]string{"k": "v", "a": "w"}}, `{"map":{"a":` + h("w") + `,"k":` + h("v") + `}}`},
		{&allKinds{Meta: map[string]string{"k": "v"}, Numbers: map[int]bool{7: true}}, `{"meta":{"k":"v"},"numbers":{"7":true}}`},
		{&allKinds{Map: map[string]string{}}, `{"map":{}}`},
		{&allKinds{Nested: &allKinds{Plain: "in", Text: "s"}}, `{"nested":{"text":` + h("s") + `,"plain":"in"}}`},
		{&allKinds{Any: "s"}, `{"any":` + h("s") + `}`},
		{&allKinds{Any: map[string]any{"a": []any{1.0, nil, "s"}}}, `{"any":{"a":[1,null,` + h("s") + `]}}`},
		{&allKinds{Array: [2]int{1, 2}, Chan: make(chan int)}, `{"array":[1,2],"chan":null}`},
		{&api.Encrypt{Name: "app", Plaintext: []byte("p"), BatchInput: []api.EncryptItem{{Plaintext: []byte("q"), Reference: "r"}, {}}},
			`{"name":"app","plaintext":` + h("p") + `,"batch_input":[{"plaintext":` + h("q") + `,"reference":"r"},{}]}`},
		{&api.Encrypted{Ciphertext: "vault:v1:x", KeyVersion: 1, Status: 207}, `{"key_version":1}`},
		{&api.HMAC{Name: "n", URLAlgorithm: "sha2-256", Algorithm: "sha2-512"}, `{"name":"n","path_algorithm":"sha2-256","algorithm":"sha2-512"}`},
	} {
		got := rendered(c.data)
		want := strings.ReplaceAll(c.want, `\u0022`, `\"`)
		if got != want {
			t.Errorf("%#v:\n got %s\nwant %s", c.data, got, want)
		}
		if got != "" && !json.Valid([]byte(got)) {
			t.Errorf("not JSON: %s", got)
		}
	}
}

// Embedded is exported, unlike embedded.
type Embedded struct {
	Inner string `json:"inner" audit:"plain"`
}

// Every string and byte of a request or answer that is not marked plain stays
// out of the record, whatever the type.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	const secret = "TOP-SECRET"
	for _, v := range []any{
		&api.Encrypt{}, &api.Encrypted{}, &api.Decrypt{}, &api.Decrypted{}, &api.Rewrap{}, &api.DataKeyResult{},
		&api.Sign{}, &api.Signature{}, &api.Verify{}, &api.HMAC{}, &api.HMACResult{}, &api.RandomBytes{},
		&api.Init{}, &api.InitResult{}, &api.Unseal{}, &api.CreateToken{}, &api.Auth{}, &api.TokenInfo{}, &api.RenewToken{},
	} {
		fillSecrets(reflect.ValueOf(v).Elem(), "", secret)
		got := rendered(v)
		if strings.Contains(got, secret) || strings.Contains(got, "VE9QLVNFQ1JFV") || !json.Valid([]byte(got)) {
			t.Errorf("%T: %s", v, got)
		}
	}
}

// fillSecrets fills all strings and bytes whose field is not marked plain.
func fillSecrets(v reflect.Value, audit, secret string) {
	switch v.Kind() {
	case reflect.String:
		if audit != "plain" {
			v.SetString(secret)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(secret))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fillSecrets(v.Index(i), audit, secret)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.IsExported() && f.Tag.Get("path") == "" {
				fillSecrets(v.Field(i), f.Tag.Get("audit"), secret)
			}
		}
	}
}

func TestEntry(t *testing.T) {
	t.Parallel()
	r := &renderer{mac: hmac.New(sha256.New, macKey)}
	for _, c := range []struct {
		e    Entry
		want string
	}{
		{Entry{Type: Request}, `,"type":"request"`},
		{Entry{Type: Response, RequestID: "i", Operation: "o", Verb: "v", Path: "p", Remote: "r", Accessor: "a", DisplayName: "d",
			Policies: []string{"x", "y"}, Data: &api.KeyName{Name: "k"}, Kind: fault.Denied, Error: "no", Warnings: []string{"w"}},
			`,"type":"response","request_id":"i","operation":"o","verb":"v","path":"p","remote":"r","accessor":"a","display_name":"d",` +
				`"policies":["x","y"],"data":{"name":"k"},"kind":"denied","error":"no","warnings":["w"]`},
		{Entry{Type: Response, Kind: fault.Denied}, `,"type":"response"`},
		{Entry{Type: Request, Path: "a\"b\\c\nd\x00\xff\u2028\u0085é"}, `,"type":"request","path":"a\"b\\c\u000ad\u0000\ufffd\u2028\u0085é"`},
	} {
		r.entry(&c.e)
		if got := string(r.buf[headroom:]); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// The documented format of a line, computed here by other means.
func TestLineFormat(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	l := mustOpen(t, cfg)
	mustWrite(t, l, 0, 3)
	l.Close()
	prev := make([]byte, 32)
	for i, line := range readLines(t, cfg.Path) {
		line = strings.TrimSuffix(line, "\n")
		body, tail, ok := strings.Cut(line, `,"chain":"`)
		sum := sha256.Sum256(append(prev, body...))
		if !ok || tail != hex.EncodeToString(sum[:])+`"}` {
			t.Fatalf("line %d: %s", i+1, line)
		}
		prev = sum[:]
		var fields struct {
			Seq  int
			Time time.Time
			Type string
		}
		if err := json.Unmarshal([]byte(line), &fields); err != nil || fields.Seq != i+1 || time.Since(fields.Time) > time.Minute {
			t.Errorf("line %d: %+v, %v", i+1, fields, err)
		}
	}
	if got, want := l.Hash([]byte("value")), mac("value"); got != want {
		t.Errorf("Hash gives %s, want %s", got, want)
	}
}

// What is signed, against a known answer: SHA-256 of the text, 7 and a hash.
func TestCheckpointDigest(t *testing.T) {
	t.Parallel()
	var head [32]byte
	copy(head[:], bytes.Repeat([]byte{0xab}, 32))
	want := sha256.Sum256([]byte("claviger audit checkpoint 1\n\x00\x00\x00\x00\x00\x00\x00\x07" + strings.Repeat("\xab", 32)))
	if got := checkpointDigest(7, head); got != want {
		t.Errorf("got %x", got)
	}
}

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "a", "\"\\\n", "\xff\xc3", "日本\u2028\U0010ffff", "\u0080\u009f\u00a0\x7f", "\ufffd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := appendString(nil, s)
		var got string
		if err := json.Unmarshal(b, &got); err != nil || got != strings.ToValidUTF8(replaceBad(s), "") {
			t.Errorf("%q became %s: %v", s, b, err)
		}
		if bytes.ContainsFunc(b, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 }) {
			t.Errorf("%q became %q", s, b)
		}
	})
}

// replaceBad puts U+FFFD for every byte that is not UTF-8.
func replaceBad(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		b.WriteRune(r)
		s = s[n:]
	}
	return b.String()
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(killVariable); dir != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}
