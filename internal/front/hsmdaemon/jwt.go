package hsmdaemon

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// audience is who tokens must be made for.
const audience = "hsmdaemon"

// maxToken bounds a token, in bytes.
const maxToken = 8 << 10

// claims are what the front reads of a token (RFC 7519 section 4.1).
type claims struct {
	Issuer   string  `json:"iss"`
	Subject  *string `json:"sub"` // the label of a new key, often null
	Audience list    `json:"aud"`
	Expires  *number `json:"exp"`
	Before   *number `json:"nbf"`
	Issued   *number `json:"iat"`
}

// list is an audience: one text or several.
type list []string

func (l *list) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = list{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(l))
}

// number is a NumericDate: seconds since 1970, perhaps with a fraction.
type number float64

// maxDate is what is taken for a date at most: beyond it, arithmetic overflows.
const maxDate = 1 << 40

func (n number) time() (time.Time, error) {
	if n < 0 || n > maxDate {
		return time.Time{}, errors.New("a date of the token is out of range")
	}
	return time.UnixMilli(int64(float64(n) * 1000)), nil
}

// verifier checks tokens against one secret.
type verifier struct {
	secret []byte
	leeway time.Duration
	now    func() time.Time
}

// verify returns the claims of a token that is good now. The error says what is
// wrong with it, in words for the administrator of the client.
func (v *verifier) verify(token string) (*claims, error) {
	if len(token) > maxToken {
		return nil, fmt.Errorf("the token is longer than %d bytes", maxToken)
	}
	signed, signature, ok := cutLast(token)
	header, payload, ok2 := strings.Cut(signed, ".")
	if !ok || !ok2 || strings.Contains(payload, ".") {
		return nil, errors.New("the token is not three parts with dots between them")
	}
	if err := checkHeader(header); err != nil {
		return nil, err
	}
	mac, err := base64.RawURLEncoding.Strict().DecodeString(signature)
	if err != nil || !hmac.Equal(mac, sign(v.secret, signed)) {
		return nil, errors.New("the token is not signed with the secret of this daemon")
	}
	var c claims
	if err := decodePart(payload, &c); err != nil {
		return nil, errors.New("the claims of the token can't be read")
	}
	return &c, v.check(&c)
}

// sign is HS256 (RFC 7518 section 3.2).
func sign(secret []byte, signed string) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(signed))
	return h.Sum(nil)
}

// checkHeader takes HMAC-SHA-256 only: a token does not choose how it is checked.
func checkHeader(part string) error {
	var header struct {
		Type      string   `json:"typ"`
		Algorithm string   `json:"alg"`
		Critical  []string `json:"crit"`
	}
	if err := decodePart(part, &header); err != nil {
		return errors.New("the header of the token can't be read")
	}
	if header.Algorithm != "HS256" || header.Type != "" && !strings.EqualFold(header.Type, "JWT") || header.Critical != nil {
		return errors.New("the token must be a JWT signed by HS256")
	}
	return nil
}

// check compares audience and dates.
func (v *verifier) check(c *claims) error {
	if !slices.Contains(c.Audience, audience) {
		return fmt.Errorf("the token is not made for %q", audience)
	}
	if c.Expires == nil {
		return errors.New("the token has no time of expiry")
	}
	now := v.now()
	expires, err := c.Expires.time()
	if err != nil {
		return err
	}
	if now.After(expires.Add(v.leeway)) {
		return fmt.Errorf("the token is expired: it was good until %s, and the daemon's clock says %s", utc(expires), utc(now))
	}
	for _, start := range []*number{c.Before, c.Issued} {
		if start == nil {
			continue
		}
		from, err := start.time()
		if err != nil {
			return err
		}
		if now.Add(v.leeway).Before(from) {
			return fmt.Errorf("the token is not good before %s, and the daemon's clock says %s", utc(from), utc(now))
		}
	}
	return nil
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func cutLast(token string) (before, after string, ok bool) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return "", "", false
	}
	return token[:i], token[i+1:], true
}

func decodePart(part string, into any) error {
	b, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return err
	}
	if len(b) == 0 || b[0] != '{' {
		return errors.New("no object")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("more than one object")
	}
	return nil
}
