package hsmdaemon

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"
)

// known is a token as the PHP client makes it, good between 1700000000 and
// 1700000120, with testSecret.
const known = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJvYzEyMzQ1aW5zdGFuY2UiLCJzdWIiOm51bGwsImF1ZCI6ImhzbWRhZW1vbiIsImV4cCI6MTcwMDAwMDEyMCwicmlkIjoiQWJDZEVmR2hJaktsTW5PcFFyU3QiLCJpYXQiOjE3MDAwMDAwMDAsImp0aSI6IjY1NTNmMTAwMGExYjIxLjEyMzQ1Njc4In0.mhdCr3RoOuhdEAy-IPXIWMZsrOgpt2B3UEOQ_ftkZ_8"

const header = `{"typ":"JWT","alg":"HS256"}`

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// token signs a token of header and claims.
func token(header, claims, secret string) string {
	signed := encode(header) + "." + encode(claims)
	return signed + "." + base64.RawURLEncoding.EncodeToString(sign([]byte(secret), signed))
}

// clientToken is what the client sends now; sub is JSON.
func clientToken(sub string) string {
	now := time.Now().Unix()
	return token(header, fmt.Sprintf(`{"iss":"oc12345instance","sub":%s,"aud":"hsmdaemon","exp":%d,"rid":"AbCdEfGhIjKlMnOpQrSt","iat":%d,"jti":"6553f1000a1b21.12345678"}`, sub, now+120, now), testSecret)
}

func at(seconds int64) func() time.Time { return func() time.Time { return time.Unix(seconds, 0) } }

// TestKnownAnswers are the client's own: header, signature, and a whole token.
func TestKnownAnswers(t *testing.T) {
	t.Parallel()
	if got := encode(header); got != "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9" {
		t.Errorf("header %s", got)
	}
	if got := base64.RawURLEncoding.EncodeToString(sign([]byte("abcd"), "foo")); got != "kFaZPruDYO6RIqibVuF8UqWucdn_Ig0PoCZ8Sq2r_X8" {
		t.Errorf("HS256 of foo %s", got)
	}
	v := verifier{secret: []byte(testSecret), leeway: 10 * time.Second, now: at(1700000060)}
	c, err := v.verify(known)
	if err != nil || c.Subject != nil || c.Issuer != "oc12345instance" {
		t.Errorf("%+v %v", c, err)
	}
}

func TestVerifyTimes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		now  int64
		good bool
	}{
		{1700000000, true}, {1700000120, true}, {1700000130, true}, {1700000131, false}, {1800000000, false},
		{1699999990, true}, {1699999989, false}, // issued in the future
	} {
		v := verifier{secret: []byte(testSecret), leeway: 10 * time.Second, now: at(c.now)}
		if _, err := v.verify(known); (err == nil) != c.good {
			t.Errorf("at %d: %v", c.now, err)
		}
	}
	// occ makes tokens that expire at once.
	v := verifier{secret: []byte(testSecret), leeway: 5 * time.Second, now: at(1700000003)}
	if _, err := v.verify(token(header, `{"aud":"hsmdaemon","exp":1700000000,"iat":1700000000}`, testSecret)); err != nil {
		t.Error(err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	const good = `{"aud":"hsmdaemon","exp":1700000120}`
	v := verifier{secret: []byte(testSecret), leeway: time.Minute, now: at(1700000060)}
	if _, err := v.verify(token(header, good, testSecret)); err != nil {
		t.Fatal(err)
	}
	if _, err := v.verify(token(header, `{"aud":["x","hsmdaemon"],"exp":1.70000012e9,"nbf":1700000000.5}`, testSecret)); err != nil {
		t.Error(err)
	}
	signed, _, _ := cutLast(known)
	for name, tok := range map[string]string{
		"empty":               "",
		"two parts":           signed,
		"four parts":          known + ".x",
		"other secret":        token(header, good, "secret"),
		"empty secret":        token(header, good, ""),
		"no signature":        signed + ".",
		"alg none":            encode(`{"typ":"JWT","alg":"none"}`) + "." + encode(good) + ".",
		"alg none, signed":    token(`{"typ":"JWT","alg":"none"}`, good, testSecret),
		"alg NONE":            token(`{"typ":"JWT","alg":"NONE"}`, good, testSecret),
		"alg HS512":           token(`{"typ":"JWT","alg":"HS512"}`, good, testSecret),
		"alg RS256":           token(`{"typ":"JWT","alg":"RS256"}`, good, testSecret),
		"no alg":              token(`{"typ":"JWT"}`, good, testSecret),
		"critical extensions": token(`{"alg":"HS256","crit":["exp"]}`, good, testSecret),
		"other typ":           token(`{"alg":"HS256","typ":"JWE"}`, good, testSecret),
		"header no object":    token(`"HS256"`, good, testSecret),
		"other audience":      token(header, `{"aud":"other","exp":1700000120}`, testSecret),
		"no audience":         token(header, `{"exp":1700000120}`, testSecret),
		"audience a number":   token(header, `{"aud":1,"exp":1700000120}`, testSecret),
		"no expiry":           token(header, `{"aud":"hsmdaemon"}`, testSecret),
		"expiry null":         token(header, `{"aud":"hsmdaemon","exp":null}`, testSecret),
		"expiry a text":       token(header, `{"aud":"hsmdaemon","exp":"1700000120"}`, testSecret),
		"expiry huge":         token(header, `{"aud":"hsmdaemon","exp":1e300}`, testSecret),
		"expiry negative":     token(header, `{"aud":"hsmdaemon","exp":-1}`, testSecret),
		"not yet":             token(header, `{"aud":"hsmdaemon","exp":1700000999,"nbf":1700000500}`, testSecret),
		"claims twice":        token(header, good+good, testSecret),
		"claims no object":    token(header, `[]`, testSecret),
		"claims no JSON":      token(header, `{`, testSecret),
		"padded signature":    known + "=",
		"standard alphabet":   strings.ReplaceAll(known, "-", "+"),
		"loose last bits":     known[:len(known)-1] + "9",
		"altered claims":      strings.Replace(known, ".eyJpc3Mi", ".eyJpc3Mj", 1),
		"too long":            token(header, good+strings.Repeat(" ", maxToken), testSecret),
	} {
		if _, err := v.verify(tok); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	v.secret = []byte("secret")
	if _, err := v.verify(known); err == nil {
		t.Error("another secret verifies")
	}
}

func FuzzVerify(f *testing.F) {
	for _, s := range []string{known, "a.b.c", "..", encode(header) + ".e30.", token(header, `{"aud":[],"exp":1e40}`, testSecret)} {
		f.Add(s, `{"aud":"hsmdaemon","exp":1700000120}`)
	}
	v := verifier{secret: []byte(testSecret), leeway: time.Minute, now: at(1700000060)}
	f.Fuzz(func(t *testing.T, tok, claims string) {
		if c, err := v.verify(tok); err == nil && (c == nil || c.Expires == nil) {
			t.Error("a token without expiry is good")
		}
		c, err := v.verify(token(header, claims, testSecret))
		if err == nil && (c.Expires == nil || len(c.Audience) == 0) {
			t.Errorf("claims %q are good", claims)
		}
	})
}
