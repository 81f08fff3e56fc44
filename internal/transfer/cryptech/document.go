package cryptech

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/claviger/claviger/internal/fault"
)

// MaxDocument bounds a file in bytes: some 50,000 RSA keys.
const MaxDocument = 256 << 20

// Names of fields. Their order in a file is that of the alphabet.
const (
	fieldComment = "comment"
	fieldKDF     = "kekek_kdf"
	fieldPKCS8   = "kekek_pkcs8"
	fieldPublic  = "kekek_pubkey"
	fieldSalt    = "kekek_salt"
	fieldUUID    = "kekek_uuid"
	fieldKeys    = "keys"
)

// Comments of a file.
const (
	commentHSM     = "KEKEK public key"
	commentSoft    = "KEKEK software keypair"
	commentBackup  = "Cryptech Alpha encrypted key backup"
	commentPrivate = "Encrypted private key"
	commentPublic  = "Public key"
)

// document is a file: a JSON object. Fields that are not known here stay in it.
type document map[string]any

func invalid(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, format, args...)
}

// parseDocument reads a file of at most MaxDocument bytes.
func parseDocument(b []byte) (document, error) {
	if len(b) > MaxDocument {
		return nil, invalid("the file has more than %d bytes", MaxDocument)
	}
	if !utf8.Valid(b) {
		return nil, invalid("the file is no JSON: it must be UTF-8 text, as setup and export write it")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var doc document
	err := d.Decode(&doc)
	if err == nil && doc == nil {
		err = fmt.Errorf("it is null")
	}
	if err == nil {
		if _, extra := d.Token(); extra != io.EOF {
			err = fmt.Errorf("there is something behind the object")
		}
	}
	if err != nil {
		return nil, invalid("the file must be one JSON object, as setup and export write it: %v", err)
	}
	return doc, nil
}

// binary returns a field of base64: a list of lines, or one string. What is absent is empty.
func (d document) binary(name string) ([]byte, error) {
	var text strings.Builder
	switch v := d[name].(type) {
	case nil:
		return nil, nil
	case string:
		text.WriteString(v)
	case []any:
		for _, line := range v {
			s, ok := line.(string)
			if !ok {
				return nil, invalid("%s must be a list of base64 strings", name)
			}
			text.WriteString(s)
		}
	default:
		return nil, invalid("%s must be a list of base64 strings", name)
	}
	blank := strings.NewReplacer("\n", "", "\r", "", " ", "", "\t", "")
	b, err := base64.StdEncoding.Strict().DecodeString(blank.Replace(text.String()))
	if err != nil {
		return nil, invalid("%s is no base64: %v", name, err)
	}
	return b, nil
}

// text returns a field of text, "" if it is absent.
func (d document) text(name string) (string, error) {
	v, ok := d[name]
	if !ok {
		return "", nil
	}
	s, ok := v.(string)
	if !ok {
		return "", invalid("%s must be a string", name)
	}
	return s, nil
}

// number returns a whole number from 0 to 2^32-1, 0 if it is absent.
func (d document) number(name string) (uint32, error) {
	v, ok := d[name]
	if !ok {
		return 0, nil
	}
	n, _ := v.(json.Number)
	i, err := strconv.ParseUint(string(n), 10, 32)
	if err != nil {
		return 0, invalid("%s must be a whole number from 0 to 4294967295", name)
	}
	return uint32(i), nil
}

// lines is a binary value as the file has it: one string of base64 in a list.
func lines(b []byte) []any {
	if len(b) == 0 {
		return []any{}
	}
	return []any{base64.StdEncoding.EncodeToString(b)}
}

// bytes returns the file as Python's json.dump(indent=4, sort_keys=True) writes
// it, and a newline.
func (d document) bytes() ([]byte, error) {
	b, err := appendValue(nil, map[string]any(d), 0)
	return append(b, '\n'), err
}

// maxDepth bounds the nesting of a file, whose indentation grows with its square.
const maxDepth = 64

func appendValue(b []byte, v any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, invalid("the file is nested deeper than %d levels", maxDepth)
	}
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case int:
		return strconv.AppendInt(b, int64(v), 10), nil
	case json.Number:
		return append(b, v...), nil
	case string:
		return appendString(b, v), nil
	case []any:
		return appendList(b, v, depth)
	case document:
		return appendObject(b, v, depth)
	case map[string]any:
		return appendObject(b, v, depth)
	}
	return nil, fmt.Errorf("a value of type %T has no form in JSON", v)
}

func appendList(b []byte, list []any, depth int) (_ []byte, err error) {
	if len(list) == 0 {
		return append(b, "[]"...), nil
	}
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendValue(newLine(b, depth+1), v, depth+1); err != nil {
			return nil, err
		}
	}
	return append(newLine(b, depth), ']'), nil
}

func appendObject(b []byte, fields map[string]any, depth int) (_ []byte, err error) {
	if len(fields) == 0 {
		return append(b, "{}"...), nil
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	// Of UTF-8 the order of the bytes is that of the code points.
	slices.Sort(names)
	b = append(b, '{')
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(newLine(b, depth+1), name), ": "...)
		if b, err = appendValue(b, fields[name], depth+1); err != nil {
			return nil, err
		}
	}
	return append(newLine(b, depth), '}'), nil
}

func newLine(b []byte, depth int) []byte {
	b = append(b, '\n')
	for range depth {
		b = append(b, "    "...)
	}
	return b
}

// appendString writes all but printable ASCII as \u escapes, beyond U+FFFF as two.
func appendString(b []byte, s string) []byte {
	short := map[rune]string{'"': `\"`, '\\': `\\`, '\n': `\n`, '\r': `\r`, '\t': `\t`, '\f': `\f`, '\b': `\b`}
	b = append(b, '"')
	for _, r := range s {
		switch e, ok := short[r]; {
		case ok:
			b = append(b, e...)
		case r >= ' ' && r <= '~':
			b = append(b, byte(r))
		case r > 0xFFFF:
			r -= 0x10000
			b = fmt.Appendf(b, `\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return append(b, '"')
}
