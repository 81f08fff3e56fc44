package acme

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"

	"github.com/go-jose/go-jose/v4"
)

// Algorithms are the signatures that requests may have (RFC 8555 section 6.2).
var Algorithms = []string{"ES256", "ES384", "RS256", "EdDSA"}

var joseAlgorithms = []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.RS256, jose.EdDSA}

// Message is a signed request that was read, but not verified.
type Message struct {
	URL   string
	Nonce string
	KeyID string           // the account's URL; "" if JWK is there
	JWK   *jose.JSONWebKey // the key itself; nil if KeyID is there
	alg   jose.SignatureAlgorithm
	sig   *jose.JSONWebSignature
}

// flattened is a JWS of one signature (RFC 7515 section 7.2.2).
type flattened struct {
	Protected string `json:"protected"`
	Payload   string `json:"payload"`
	Signature string `json:"signature"`
}

// Parse reads a request in the flattened form: three parts in base64url. The
// errors are problems.
func Parse(protected, payload, signature string) (*Message, error) {
	sig, err := parse(flattened{protected, payload, signature}, joseAlgorithms)
	if err != nil {
		return nil, err
	}
	h := sig.Signatures[0].Protected
	m := &Message{Nonce: h.Nonce, KeyID: h.KeyID, JWK: h.JSONWebKey, alg: jose.SignatureAlgorithm(h.Algorithm), sig: sig}
	m.URL, _ = h.ExtraHeaders["url"].(string)
	switch {
	case m.URL == "":
		return nil, New(Malformed, "the protected header has no url")
	case m.KeyID == "" && m.JWK == nil:
		return nil, New(Malformed, "the protected header has neither kid nor jwk")
	case m.KeyID != "" && m.JWK != nil:
		return nil, New(Malformed, "the protected header has both kid and jwk")
	}
	return m, nil
}

// ParseJSON is Parse for a request inside another one.
func ParseJSON(text []byte) (*Message, error) {
	var f flattened
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, New(Malformed, "the inner request is no JWS in the flattened form")
	}
	return Parse(f.Protected, f.Payload, f.Signature)
}

func parse(f flattened, algorithms []jose.SignatureAlgorithm) (*jose.JSONWebSignature, error) {
	if f.Protected == "" || f.Signature == "" {
		return nil, New(Malformed, "a request is a JWS in the flattened form: an object of protected, payload and signature")
	}
	if err := checkHeader(f.Protected, algorithms); err != nil {
		return nil, err
	}
	text, err := json.Marshal(f)
	if err != nil {
		return nil, New(Malformed, "the request can't be read")
	}
	sig, err := jose.ParseSignedJSON(string(text), algorithms)
	if err != nil {
		return nil, New(Malformed, "the JWS can't be read: %v", err)
	}
	if len(sig.Signatures) != 1 {
		return nil, New(Malformed, "the JWS has %d signatures; one is wanted", len(sig.Signatures))
	}
	return sig, nil
}

// checkHeader looks at the algorithm by itself, for an answer of its own.
func checkHeader(protected string, algorithms []jose.SignatureAlgorithm) error {
	text, err := base64.RawURLEncoding.DecodeString(protected)
	if err != nil {
		return New(Malformed, "the protected header is not base64url without padding")
	}
	var h struct {
		Alg string `json:"alg"`
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return New(Malformed, "the protected header is no JSON object")
	}
	for _, a := range algorithms {
		if string(a) == h.Alg {
			return nil
		}
	}
	bad := New(BadSignatureAlgorithm, "the algorithm %q is not taken; these are: %v", h.Alg, algorithms)
	for _, a := range algorithms {
		p := Problem(bad)
		p.Algorithms = append(p.Algorithms, string(a))
	}
	return bad
}

// CheckKey tells whether a key fits the algorithm of the request.
func (m *Message) CheckKey(public crypto.PublicKey) error {
	fits := false
	switch key := public.(type) {
	case *rsa.PublicKey:
		fits = m.alg == jose.RS256
	case *ecdsa.PublicKey:
		fits = m.alg == jose.ES256 && key.Curve == elliptic.P256() || m.alg == jose.ES384 && key.Curve == elliptic.P384()
	case ed25519.PublicKey:
		fits = m.alg == jose.EdDSA
	}
	if !fits {
		return New(BadPublicKey, "the key does not fit the algorithm %s", m.alg)
	}
	return nil
}

// Verify checks the signature by a public key and returns the payload.
func (m *Message) Verify(public crypto.PublicKey) ([]byte, error) {
	if err := m.CheckKey(public); err != nil {
		return nil, err
	}
	payload, err := m.sig.Verify(public)
	if err != nil {
		return nil, New(Malformed, "the signature of the request is wrong")
	}
	return payload, nil
}

// Thumbprint is the digest of a public key in base64url (RFC 7638, SHA-256).
func Thumbprint(key *jose.JSONWebKey) (string, error) {
	sum, err := key.Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(sum), err
}

// Binding is an external account binding that was read, but not verified (RFC
// 8555 section 7.3.4).
type Binding struct {
	KeyID string
	sig   *jose.JSONWebSignature
}

// ParseBinding reads the binding of a request to url.
func ParseBinding(text []byte, url string) (*Binding, error) {
	var f flattened
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, New(Malformed, "externalAccountBinding is no JWS in the flattened form")
	}
	sig, err := parse(f, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return nil, err
	}
	h := sig.Signatures[0].Protected
	if u, _ := h.ExtraHeaders["url"].(string); u != url {
		return nil, New(Malformed, "externalAccountBinding has the url %q; it is that of the request, %q", u, url)
	}
	if h.Nonce != "" || h.JSONWebKey != nil || h.KeyID == "" {
		return nil, New(Malformed, "externalAccountBinding has a kid, no jwk and no nonce")
	}
	return &Binding{h.KeyID, sig}, nil
}

// Verify checks the binding by its key: its payload must be the account's key.
func (b *Binding) Verify(key []byte, account *jose.JSONWebKey) error {
	wrong := New(Unauthorized, "externalAccountBinding is not signed by its key, or is for another account")
	payload, err := b.sig.Verify(key)
	if err != nil {
		return wrong
	}
	var bound jose.JSONWebKey
	if err := bound.UnmarshalJSON(payload); err != nil || !bound.Valid() {
		return wrong
	}
	same, err := SameKey(&bound, account)
	if err != nil || !same {
		return wrong
	}
	return nil
}

// SameKey tells whether two public keys are the same.
func SameKey(a, b *jose.JSONWebKey) (bool, error) {
	if !a.IsPublic() || !b.IsPublic() {
		return false, errors.New("not a public key")
	}
	x, err := a.Thumbprint(crypto.SHA256)
	if err != nil {
		return false, err
	}
	y, err := b.Thumbprint(crypto.SHA256)
	return err == nil && subtle.ConstantTimeCompare(x, y) == 1, err
}
