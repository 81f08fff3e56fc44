package acme

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func TestMayConnect(t *testing.T) {
	t.Parallel()
	v := &Validator{}
	for _, text := range []string{
		"127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.2.1", "198.18.0.1",
		"224.0.0.1", "255.255.255.255", "240.0.0.1", "::1", "::", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1", "2002:7f00:1::",
		"2001::1", "64:ff9b::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::7f00:1", "fe80::1%eth0",
	} {
		if v.mayConnect(netip.MustParseAddr(text)) {
			t.Errorf("%s is taken for public", text)
		}
	}
	for _, text := range []string{"8.8.8.8", "193.0.14.129", "2001:7fd::1", "2a00:1450::1", "::ffff:8.8.8.8"} {
		if !v.mayConnect(netip.MustParseAddr(text)) {
			t.Errorf("%s is not taken for public", text)
		}
	}
	v.Networks = networks("10.0.0.0/8", "fd12::/16")
	for text, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "fd12::1": true, "172.16.0.1": false, "127.0.0.1": false} {
		if v.mayConnect(netip.MustParseAddr(text)) != want {
			t.Errorf("%s with networks: %v", text, !want)
		}
	}
}

func TestNonces(t *testing.T) {
	t.Parallel()
	n, now := NewNonces(), time.Unix(1_800_000_000, 0)
	a := n.Issue("pki/", now)
	if n.Take("other/", a, now) {
		t.Error("good for another scope")
	}
	if NewNonces().Take("pki/", a, now) {
		t.Error("good in another process")
	}
	if n.Take("pki/", a, now.Add(nonceLife+time.Second)) {
		t.Error("good after its life")
	}
	for i := range len(a) {
		b := []byte(a)
		b[i] ^= 1
		if n.Take("pki/", string(b), now) {
			t.Errorf("good with character %d altered", i)
		}
	}
	if !n.Take("pki/", a, now.Add(nonceLife)) {
		t.Error("not good")
	}
	if n.Take("pki/", a, now.Add(nonceLife)) {
		t.Error("good twice")
	}
	// Whenever the memory is turned, a used nonce is never good again.
	for offset := range 40 {
		at := now.Add(time.Duration(offset) * nonceLife / 7)
		b := n.Issue("pki/", at)
		if !n.Take("pki/", b, at) || n.Take("pki/", b, at.Add(nonceLife)) {
			t.Errorf("at %v", at)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	var l Limits
	now := time.Unix(1_800_000_000, 0)
	for i := range 3 {
		if ok, wait := l.Add("a", 2, now); ok != (i < 2) || !ok && wait != Window {
			t.Errorf("%d: %v %v", i, ok, wait)
		}
	}
	if full, _ := l.Full("b", 1, now); full {
		t.Error("another name is full")
	}
	if ok, _ := l.Add("a", 2, now.Add(Window)); !ok {
		t.Error("full after the window")
	}
}

// newJWS makes a good request.
func newJWS(t testing.TB) (flattened, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key},
		&jose.SignerOptions{EmbedJWK: true, ExtraHeaders: map[jose.HeaderKey]any{"url": "https://ca/acme/x", "nonce": "n"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := signer.Sign([]byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	var f flattened
	if err := json.Unmarshal([]byte(s.FullSerialize()), &f); err != nil {
		t.Fatal(err)
	}
	return f, key
}

// TestKeyOfRFC7638 is the example of RFC 7638 section 3.1.
func TestKeyOfRFC7638(t *testing.T) {
	t.Parallel()
	var key jose.JSONWebKey
	text := `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`
	if err := key.UnmarshalJSON([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if got, err := Thumbprint(&key); err != nil || got != "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" {
		t.Errorf("%s %v", got, err)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	f, key := newJWS(t)
	m, err := Parse(f.Protected, f.Payload, f.Signature)
	if err != nil {
		t.Fatal(err)
	}
	if payload, err := m.Verify(key.Public()); err != nil || string(payload) != `{"a":1}` || m.URL != "https://ca/acme/x" || m.Nonce != "n" {
		t.Errorf("%s %v %+v", payload, err, m)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Verify(other.Public()); err == nil {
		t.Error("another key verifies")
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if m.CheckKey(large.Public()) == nil || m.CheckKey(key.Public()) != nil {
		t.Error("a key of another algorithm fits, or the right one does not")
	}
}

// FuzzParse: nothing but what was signed verifies, and errors are problems.
func FuzzParse(f *testing.F) {
	good, key := newJWS(f)
	f.Add(good.Protected, good.Payload, good.Signature)
	f.Add("eyJhbGciOiJub25lIn0", "", "AA")
	f.Add("e30", "e30", "e30")
	f.Fuzz(func(t *testing.T, protected, payload, signature string) {
		m, err := Parse(protected, payload, signature)
		if err != nil {
			return
		}
		if text, err := m.Verify(key.Public()); err == nil && (string(text) != `{"a":1}` || m.URL != "https://ca/acme/x") {
			t.Errorf("forged: %q", text)
		}
		inner, err := json.Marshal(flattened{protected, payload, signature})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseBinding(inner, "x"); err == nil {
			t.Error("a signature by a public key is taken for a binding")
		}
	})
}
