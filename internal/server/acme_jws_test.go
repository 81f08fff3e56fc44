package server

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// signed makes a request body by hand.
func signed(t *testing.T, alg jose.SignatureAlgorithm, key any, header map[jose.HeaderKey]any, embed bool, payload string) []byte {
	t.Helper()
	o := &jose.SignerOptions{EmbedJWK: embed, ExtraHeaders: header}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signer.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return []byte(s.FullSerialize())
}

// TestACMEBadRequests: requests whose signature, URL, nonce or form is wrong
// are refused with the problem that says so, and a nonce for the next one.
func TestACMEBadRequests(t *testing.T) {
	t.Parallel()
	e := newACMEEnv(t, 0)
	base := e.base + "pki/acme/"
	nonce := func() string {
		resp, err := http.Head(base + "new-nonce")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Fatalf("new-nonce: status %d", resp.StatusCode)
		}
		return resp.Header.Get("Replay-Nonce")
	}
	key, other := acmeKey(t), acmeKey(t)
	url := base + "new-account"
	header := func(edit ...any) map[jose.HeaderKey]any {
		h := map[jose.HeaderKey]any{"url": url, "nonce": nonce()}
		for i := 0; i < len(edit); i += 2 {
			h[jose.HeaderKey(edit[i].(string))] = edit[i+1]
		}
		return h
	}
	good := signed(t, jose.ES256, key, header(), true, `{}`)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	var parts map[string]string
	if err := json.Unmarshal(good, &parts); err != nil {
		t.Fatal(err)
	}
	altered := func(name, value string) []byte {
		p := map[string]string{}
		for k, v := range parts {
			p[k] = v
		}
		p[name] = value
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	none := `{"protected":"eyJhbGciOiJub25lIiwidXJsIjoieCIsIm5vbmNlIjoieSJ9","payload":"e30","signature":"AA"}`
	for name, row := range map[string]struct {
		url    string
		body   []byte
		status int
		want   string
	}{
		"no nonce of ours":    {url, signed(t, jose.ES256, key, header("nonce", "bm90aGluZw"), true, `{}`), 400, "badNonce"},
		"no nonce":            {url, signed(t, jose.ES256, key, map[jose.HeaderKey]any{"url": url}, true, `{}`), 400, "badNonce"},
		"url of another":      {url, signed(t, jose.ES256, key, header("url", base+"new-order"), true, `{}`), 403, "unauthorized"},
		"no url":              {url, signed(t, jose.ES256, key, map[jose.HeaderKey]any{"nonce": nonce()}, true, `{}`), 400, "malformed"},
		"alg none":            {url, []byte(none), 400, "badSignatureAlgorithm"},
		"HS256":               {url, signed(t, jose.HS256, make([]byte, 32), header(), false, `{}`), 400, "badSignatureAlgorithm"},
		"PS256":               {url, signed(t, jose.PS256, weak, header(), true, `{}`), 400, "badSignatureAlgorithm"},
		"weak key":            {url, signed(t, jose.RS256, weak, header(), true, `{}`), 400, "badPublicKey"},
		"neither jwk nor kid": {url, signed(t, jose.ES256, key, header(), false, `{}`), 400, "malformed"},
		"unknown account":     {base + "new-order", signed(t, jose.ES256, other, header("url", base+"new-order", "kid", base+"account/x"), false, `{}`), 400, "accountDoesNotExist"},
		"jwk where kid":       {base + "new-order", signed(t, jose.ES256, other, header("url", base+"new-order"), true, `{}`), 400, "malformed"},
		"altered payload":     {url, altered("payload", "eyJjb250YWN0IjpbXX0"), 400, "malformed"},
		"no signature":        {url, altered("signature", ""), 400, "malformed"},
		"unprotected header":  {url, altered("header", "{}"), 400, "malformed"},
		"no JSON":             {url, []byte("x"), 400, "malformed"},
		"two documents":       {url, append(altered("payload", "e30"), "{}"...), 400, "malformed"},
		"payload is no JSON":  {url, signed(t, jose.ES256, key, header(), true, `[`), 400, "malformed"},
	} {
		resp, text := e.rawPost(row.url, "application/jose+json", row.body)
		if resp.StatusCode != row.status || !strings.Contains(text, `error:`+row.want+`"`) || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: status %d %s, want %d %s", name, resp.StatusCode, text, row.status, row.want)
		}
	}
	if resp, text := e.rawPost(url, "application/json", good); resp.StatusCode != 415 {
		t.Errorf("another Content-Type: status %d %s", resp.StatusCode, text)
	}
	if resp, text := e.rawPost(url, "application/jose+json", good); resp.StatusCode != 201 || resp.Header.Get("Location") == "" || resp.Header.Get("Replay-Nonce") == "" {
		t.Errorf("the good one: status %d %s", resp.StatusCode, text)
	}
	if resp, text := e.rawPost(url, "application/jose+json", good); resp.StatusCode != 400 || !strings.Contains(text, "badNonce") || resp.Header.Get("Replay-Nonce") == "" {
		t.Errorf("the good one again: status %d %s", resp.StatusCode, text)
	}
}
