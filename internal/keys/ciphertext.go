package keys

import (
	"encoding/base64"
	"strings"
)

// maxVersion is the highest version number that is read or made. It keeps
// every number within ten digits and far from overflow.
const maxVersion = 999_999_999

const textPrefix = "vault:v"

// strictBase64 refuses non-zero bits behind the last byte: otherwise several
// texts would stand for one ciphertext. It still skips line breaks, which
// decodeBase64 refuses by itself.
var (
	strictBase64 = base64.StdEncoding.Strict()
	strictJWS    = base64.RawURLEncoding.Strict()
)

// parseText splits what a key version made, "vault:v3:…", into the version and
// the encoded payload. what is the word for it in messages: "ciphertext",
// "signature" or "HMAC". Version 0 reads as 1: so did the first releases of
// Vault write it.
func parseText(text, what string) (version int, payload string, err error) {
	rest, ok := strings.CutPrefix(text, textPrefix)
	if !ok {
		return 0, "", invalid("invalid %s: no prefix", what)
	}
	number, payload, ok := strings.Cut(rest, ":")
	if !ok {
		return 0, "", invalid("invalid %s: wrong number of fields", what)
	}
	version, ok = parseVersion(number)
	if !ok {
		return 0, "", invalid("invalid %s: version number could not be decoded", what)
	}
	return max(version, 1), payload, nil
}

// parseVersion reads a number of digits only, without leading zeros. One that
// is beyond maxVersion reads as just beyond: no key has it.
func parseVersion(s string) (int, bool) {
	if s == "" || len(s) > 20 || (s[0] == '0' && len(s) > 1) {
		return 0, false
	}
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+int(c-'0'), maxVersion+1)
	}
	return n, true
}

// decodeBase64 appends the bytes that s stands for to dst.
func decodeBase64(enc *base64.Encoding, dst []byte, s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") {
		return dst, false
	}
	out, err := enc.AppendDecode(dst, []byte(s))
	return out, err == nil
}

// textLen is the length of the text of a payload of n bytes.
func textLen(prefix string, n int) int { return len(prefix) + base64.StdEncoding.EncodedLen(n) }

// writeText writes prefix and the payload in standard base64 to b, through a
// small buffer on the stack: the text is copied once and allocated by b alone.
func writeText(b *strings.Builder, prefix string, payload []byte) {
	b.WriteString(prefix)
	var chunk [1024]byte
	for len(payload) > 0 {
		n := min(len(payload), 768)
		enc := chunk[:base64.StdEncoding.EncodedLen(n)]
		base64.StdEncoding.Encode(enc, payload[:n])
		b.Write(enc)
		payload = payload[n:]
	}
}
