package vault

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func scanOne(in []byte, levels int) error {
	s := scanner{in: in, levels: levels}
	s.space()
	if err := s.skip(); err != nil {
		return err
	}
	return s.finish()
}

func TestStrings(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`""`:                            "",
		`"a"`:                           "a",
		`"12345678"`:                    "12345678",
		`"1234567\"8"`:                  `1234567"8`,
		`"\"\\\/\b\f\n\r\t"`:            "\"\\/\b\f\n\r\t",
		`"\u0041\u00e9\u20AC"`:          "Aé€",
		`"\ud83d\ude00"`:                "😀",
		`"\ud83d"`:                      "\uFFFD",
		`"\ud83dx"`:                     "\uFFFDx",
		`"\ud83d\u0041"`:                "\uFFFDA",
		`"\ude00\ud83d"`:                "\uFFFD\uFFFD",
		`"é€😀 and a longer tail of it"`: "é€😀 and a longer tail of it",
		`"\u0000"`:                      "\x00",
	} {
		s := scanner{in: []byte(in)}
		got, err := s.str()
		if err != nil || string(got) != want || s.pos != len(in) {
			t.Errorf("%s: got %q, %v, at %d", in, got, err, s.pos)
		}
	}
}

func TestSyntaxErrors(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		``, ` `, `{`, `}`, `[`, `]`, `{]`, `[}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{"a" 1}`, `{a:1}`, `{'a':1}`,
		`[1,]`, `[,1]`, `[1 2]`, `1 2`, `{} {}`, `{}x`, `nul`, `nulll`, `True`, `NaN`, `Infinity`, `-`, `+1`, `01`, `1.`, `.1`, `1e`, `1e+`, `0x1`,
		`"`, `"a`, `"\`, `"\x"`, `"\u12"`, `"\u12g4"`, "\"\x00\"", "\"a\nb\"", "\"1234567\x1f9\"", "\"\xff\"", "\"12345678\xc3\"", "\"\xed\xa0\x80\"",
		"\ufeff{}", "/* */1", "1//", "\x00", "{\"\xff\":1}",
	} {
		if err := scanOne([]byte(in), 64); err == nil {
			t.Errorf("%q was taken", in)
		}
	}
}

func TestDepth(t *testing.T) {
	t.Parallel()
	nested := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	if err := scanOne(nested(64), 64); err != nil {
		t.Errorf("64 levels: %v", err)
	}
	for _, n := range []int{65, 10_000} {
		if err := scanOne(nested(n), 64); err == nil || !strings.Contains(err.Error(), "too deep") {
			t.Errorf("%d levels: %v", n, err)
		}
	}
	if err := scanOne([]byte("["+strings.Repeat("[],", 100)+"[]]"), 2); err != nil {
		t.Errorf("siblings count as levels: %v", err)
	}
}

func TestPlainPrefix(t *testing.T) {
	t.Parallel()
	for n := range 20 {
		for c := range 256 {
			b := []byte(strings.Repeat("~", 20))
			b[n] = byte(c)
			want := 20
			if c < ' ' || c == '"' || c == '\\' || c >= 0x80 {
				want = n
			}
			if got := plainPrefix(b); got != want {
				t.Fatalf("byte %#x at %d: got %d", c, n, got)
			}
			if got := plainPrefix(string(b)); got != want {
				t.Fatalf("byte %#x at %d of a string: got %d", c, n, got)
			}
		}
	}
}

// FuzzSyntax: we take exactly what encoding/json takes, but no invalid UTF-8.
func FuzzSyntax(f *testing.F) {
	for _, in := range []string{
		`{"a":[1,-2.5e+3,true,false,null,"x\u00e9\n"],"b":{}}`, `[[[]]]`, `"\ud83d\ude00"`, ` 1 `, `{"a":1}}`, "\"\xff\"", `[1,]`, `-0`, `00`,
	} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		want := json.Valid(in) && utf8.Valid(in)
		err := scanOne(in, len(in)+1)
		if (err == nil) != want {
			t.Fatalf("%q: encoding/json says %v, we %v", in, want, err)
		}
		var text string
		if want && json.Unmarshal(in, &text) == nil && len(in) > 0 {
			s := scanner{in: in}
			if s.space(); s.peek() != '"' {
				return
			}
			if got, err := s.str(); err != nil || string(got) != text {
				t.Fatalf("%q: encoding/json reads %q, we %q, %v", in, text, got, err)
			}
		}
	})
}
