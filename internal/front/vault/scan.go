package vault

import (
	"fmt"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads JSON (RFC 8259) from a body in memory. It is strict: no
// comments, no trailing commas, no control characters in strings, and, other
// than encoding/json, no invalid UTF-8 anywhere.
type scanner struct {
	in  []byte
	pos int
	// levels is how many objects and lists may still be entered.
	levels int
	// scratch holds the last string that had escapes.
	scratch []byte
}

// syntaxError says where a body stops being JSON. It never shows the body.
type syntaxError struct {
	offset int
	msg    string
}

func (e *syntaxError) Error() string {
	return fmt.Sprintf("failed to parse JSON input: %s at byte %d", e.msg, e.offset+1)
}

func (s *scanner) fail(msg string) error {
	if s.pos >= len(s.in) {
		return &syntaxError{s.pos, msg + ", but the body ends"}
	}
	return &syntaxError{s.pos, msg}
}

// peek returns the next byte, 0 at the end. No JSON has a 0 outside a string.
func (s *scanner) peek() byte {
	if s.pos < len(s.in) {
		return s.in[s.pos]
	}
	return 0
}

func (s *scanner) space() {
	for s.pos < len(s.in) {
		switch s.in[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// begin enters the object or list whose opening bracket is next and tells
// whether it has anything in it.
func (s *scanner) begin(closing byte) (bool, error) {
	if s.levels == 0 {
		return false, &syntaxError{s.pos, "the input is nested too deep"}
	}
	s.levels--
	s.pos++
	s.space()
	if s.peek() != closing {
		return true, nil
	}
	s.pos++
	s.levels++
	return false, nil
}

// more stands behind a member of an object or list and tells whether another follows.
func (s *scanner) more(closing byte) (bool, error) {
	s.space()
	switch s.peek() {
	case ',':
		s.pos++
		s.space()
		return true, nil
	case closing:
		s.pos++
		s.levels++
		return false, nil
	}
	return false, s.fail(fmt.Sprintf("expected , or %c", closing))
}

// key reads a member's name and the colon. The result is valid until the next string.
func (s *scanner) key() ([]byte, error) {
	if s.peek() != '"' {
		return nil, s.fail("expected a name in quotes")
	}
	k, err := s.str()
	if err != nil {
		return nil, err
	}
	s.space()
	if s.peek() != ':' {
		return nil, s.fail("expected :")
	}
	s.pos++
	s.space()
	return k, nil
}

// str reads the string whose opening quote is next. The result is valid until
// the next string.
func (s *scanner) str() ([]byte, error) {
	start := s.pos + 1
	end := start + plainPrefix(s.in[start:])
	if end < len(s.in) && s.in[end] == '"' {
		s.pos = end + 1
		return s.in[start:end], nil
	}
	return s.strSlow(start, end)
}

// strSlow reads the rest of a string with escapes or letters beyond ASCII;
// everything before i is plain.
func (s *scanner) strSlow(start, i int) ([]byte, error) {
	escaped, from := false, start
	for i < len(s.in) {
		switch c := s.in[i]; {
		case c == '"':
			s.pos = i + 1
			if !escaped {
				return s.in[start:i], nil
			}
			s.scratch = append(s.scratch, s.in[from:i]...)
			return s.scratch, nil
		case c == '\\':
			if !escaped {
				s.scratch, escaped = s.scratch[:0], true
			}
			s.scratch = append(s.scratch, s.in[from:i]...)
			s.pos = i
			if err := s.escape(); err != nil {
				return nil, err
			}
			i, from = s.pos, s.pos
		case c < ' ':
			return nil, &syntaxError{i, "a control character in a string, which must be escaped,"}
		case c < utf8.RuneSelf:
			i += plainPrefix(s.in[i:])
		default:
			r, n := utf8.DecodeRune(s.in[i:])
			if r == utf8.RuneError && n == 1 {
				return nil, &syntaxError{i, "invalid UTF-8 in a string"}
			}
			i += n
		}
	}
	s.pos = i
	return nil, s.fail("expected the end of a string")
}

// escape appends to scratch what the escape at pos stands for.
func (s *scanner) escape() error {
	s.pos++
	c := s.peek()
	s.pos++
	switch c {
	case '"', '\\', '/':
		s.scratch = append(s.scratch, c)
	case 'b':
		s.scratch = append(s.scratch, '\b')
	case 'f':
		s.scratch = append(s.scratch, '\f')
	case 'n':
		s.scratch = append(s.scratch, '\n')
	case 'r':
		s.scratch = append(s.scratch, '\r')
	case 't':
		s.scratch = append(s.scratch, '\t')
	case 'u':
		return s.escapeU()
	default:
		s.pos--
		return s.fail("an unknown escape in a string")
	}
	return nil
}

// escapeU reads the digits of \u, and of a second \u where both are halves of a
// surrogate pair. A lone half becomes U+FFFD.
func (s *scanner) escapeU() error {
	r, ok := hex4(s.in[s.pos:])
	if !ok {
		return s.fail(`expected four hexadecimal digits after \u`)
	}
	s.pos += 4
	if utf16.IsSurrogate(r) {
		second, ok := rune(0), false
		if rest := s.in[s.pos:]; len(rest) >= 6 && rest[0] == '\\' && rest[1] == 'u' {
			second, ok = hex4(rest[2:])
		}
		if r = utf16.DecodeRune(r, second); ok && r != utf8.RuneError {
			s.pos += 6
		}
	}
	s.scratch = utf8.AppendRune(s.scratch, r)
	return nil
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// number reads the number that is next and returns its text.
func (s *scanner) number() ([]byte, error) {
	start := s.pos
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else if !s.digits() {
		return nil, s.fail("expected a digit")
	}
	if s.peek() == '.' {
		s.pos++
		if !s.digits() {
			return nil, s.fail("expected a digit")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if !s.digits() {
			return nil, s.fail("expected a digit")
		}
	}
	return s.in[start:s.pos], nil
}

// digits passes over digits and tells whether there was one.
func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.in) && '0' <= s.in[s.pos] && s.in[s.pos] <= '9' {
		s.pos++
	}
	return s.pos > start
}

// literal reads the word true, false or null.
func (s *scanner) literal(word string) error {
	if len(s.in)-s.pos < len(word) || string(s.in[s.pos:s.pos+len(word)]) != word {
		return s.fail("expected a value")
	}
	s.pos += len(word)
	return nil
}

// skip reads any value.
func (s *scanner) skip() error {
	var err error
	switch c := s.peek(); {
	case c == '"':
		_, err = s.str()
	case c == '{':
		err = s.skipAll('}')
	case c == '[':
		err = s.skipAll(']')
	case c == 't':
		err = s.literal("true")
	case c == 'f':
		err = s.literal("false")
	case c == 'n':
		err = s.literal("null")
	case c == '-' || '0' <= c && c <= '9':
		_, err = s.number()
	default:
		err = s.fail("expected a value")
	}
	return err
}

func (s *scanner) skipAll(closing byte) error {
	more, err := s.begin(closing)
	for more && err == nil {
		if closing == '}' {
			if _, err = s.key(); err != nil {
				break
			}
		}
		if err = s.skip(); err != nil {
			break
		}
		more, err = s.more(closing)
	}
	return err
}

// finish makes sure that nothing but white space follows.
func (s *scanner) finish() error {
	s.space()
	if s.pos < len(s.in) {
		return s.fail("more input after the end of the value")
	}
	return nil
}

// Bytes of a word with the same value each, to look at eight bytes at once.
const (
	everyByte = 0x0101010101010101
	highBits  = 0x80 * everyByte
)

// plainPrefix returns how many bytes at the start of b stand for themselves in a
// JSON string: neither quote, backslash, control character nor beyond ASCII.
func plainPrefix[T []byte | string](b T) int {
	i := 0
	for ; len(b)-i >= 8; i += 8 {
		w := word(b[i : i+8])
		quote, slash := w^'"'*everyByte, w^'\\'*everyByte
		// Subtracting borrows into the top bit of a byte that is too small; a
		// borrow can spoil only bytes above the first hit, which is all we use.
		hit := (w-' '*everyByte)&^w | (quote-everyByte)&^quote | (slash-everyByte)&^slash | w
		if hit &= highBits; hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
	}
	return i
}

// word puts eight bytes into a number, the first one lowest. The compiler makes
// one load of it.
func word[T []byte | string](b T) uint64 {
	_ = b[7]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}
