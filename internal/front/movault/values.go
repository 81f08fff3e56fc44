package movault

import (
	"encoding/json"
	"math/big"
	"strings"
	"unicode/utf8"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// key is a key as callers name it.
type key struct {
	typ     string // api.MoVaultRSA or api.MoVaultAES
	path    string
	version *big.Int
}

func (k *key) name() string { return api.MoVaultKeyName(k.typ, k.path, k.version) }

// possible tells whether an object of the HSM token can be this key's.
func (k *key) possible() bool {
	return k.path != "" && len(k.path) <= maxPath && len(api.MoVaultID(k.version)) <= maxID
}

const (
	maxPath = 255 // bytes of a CKA_LABEL
	maxID   = 64  // bytes of a CKA_ID
	// maxDigits bounds the text of a version.
	maxDigits = 160
)

func invalid(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }

func noKey(k *key) error {
	return fault.New(fault.NotFound, "there is no %s key with secret_path %.300q and secret_version %s", strings.ToUpper(k.typ), k.path, k.version)
}

// parseVersion reads a version as Python's int() reads a text: white space around it, a
// sign, and single underscores between digits.
func parseVersion(text string) (*big.Int, error) {
	t := strings.TrimSpace(text)
	digits := strings.TrimLeft(t, "+-")
	ok := len(t)-len(digits) <= 1 && len(t) <= maxDigits && digits != "" &&
		digits[0] != '_' && digits[len(digits)-1] != '_' && !strings.Contains(digits, "__") &&
		!strings.ContainsFunc(digits, func(r rune) bool { return (r < '0' || r > '9') && r != '_' })
	if ok {
		if n, ok := new(big.Int).SetString(strings.ReplaceAll(t, "_", ""), 10); ok {
			return n, nil
		}
	}
	return nil, invalid("secret_version %.40q is not a whole number of at most %d digits", text, maxDigits)
}

// parseHex reads hex as Python's bytes.fromhex does: of either case, with white space
// between bytes.
func parseHex(field, text string) ([]byte, error) {
	out := make([]byte, 0, len(text)/2)
	for i := 0; i < len(text); {
		if strings.IndexByte(" \t\n\r\v\f", text[i]) >= 0 {
			i++
			continue
		}
		if i+1 == len(text) || nibble(text[i]) > 15 || nibble(text[i+1]) > 15 {
			clear(out)
			return nil, invalid("%s is not hex: two hex digits a byte", field)
		}
		out = append(out, nibble(text[i])<<4|nibble(text[i+1]))
		i += 2
	}
	return out, nil
}

// nibble returns the value of a hex digit, and 16 for anything else.
func nibble(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}

// parseString reads a string of JSON. Text that Unicode has no characters for is
// refused, where encoding/json would put another text in its place.
func parseString(field string, raw json.RawMessage) (string, error) {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", invalid("%s must be a string", field)
	}
	if !utf8.Valid(raw) || loneSurrogate(raw) {
		return "", invalid("%s is not Unicode text", field)
	}
	return s, nil
}

// loneSurrogate tells whether a JSON string escapes half of a UTF-16 pair.
func loneSurrogate(raw []byte) bool {
	for i := 0; i+1 < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		if raw[i+1] != 'u' {
			i++
			continue
		}
		switch unit := unitAt(raw, i); {
		case unit >= 0xdc00 && unit <= 0xdfff:
			return true
		case unit >= 0xd800 && unit <= 0xdbff:
			if low := unitAt(raw, i+6); low < 0xdc00 || low > 0xdfff {
				return true
			}
			i += 6
		}
		i += 5
	}
	return false
}

// unitAt returns the UTF-16 unit that is escaped at a place, -1 if none is.
func unitAt(raw []byte, i int) int {
	if i+6 > len(raw) || raw[i] != '\\' || raw[i+1] != 'u' {
		return -1
	}
	unit := 0
	for _, c := range raw[i+2 : i+6] {
		n := nibble(c)
		if n > 15 {
			return -1
		}
		unit = unit<<4 | int(n)
	}
	return unit
}
