package transfer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/big"

	"github.com/claviger/claviger/internal/fault"
)

// Kinds of envelopes. A signature over one kind is none over another.
const (
	kindStatement = "claviger-statement-1"
	kindHeader    = "claviger-ring-1"
	kindChunk     = "claviger-chunk-1"
)

// MaxLine bounds an envelope as a line of text, in bytes.
const MaxLine = 8 << 20

// envelope is a signed body: one line of JSON. The signature is r ‖ s of ECDSA with
// P-256 over SHA-256(kind ‖ 0 ‖ body).
type envelope struct {
	Kind      string `json:"kind"`
	Body      []byte `json:"body"`
	Signature []byte `json:"signature"`
}

func invalid(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, format, args...)
}

func digest(kind string, body []byte) []byte {
	h := sha256.New()
	h.Write([]byte(kind))
	h.Write([]byte{0})
	h.Write(body)
	return h.Sum(nil)
}

// parseEnvelope reads one line, which must be exactly what line makes.
func parseEnvelope(line []byte, kind string) (envelope, error) {
	var e envelope
	if len(line) > MaxLine {
		return e, invalid("a line of more than %d bytes", MaxLine)
	}
	if err := strictJSON(line, &e); err != nil {
		return e, invalid("not a %s: %v", kind, err)
	}
	if e.Kind != kind {
		return e, invalid("this is of the kind %.40q; a %s is needed", e.Kind, kind)
	}
	again, err := e.line()
	if err != nil || !bytes.Equal(bytes.TrimRight(line, "\n"), bytes.TrimRight(again, "\n")) {
		return e, invalid("the %s is not in the form that Claviger writes", kind)
	}
	return e, nil
}

func (e *envelope) line() ([]byte, error) {
	b, err := json.Marshal(e)
	return append(b, '\n'), err
}

// verify checks the signature with a public key in PKIX DER.
func (e *envelope) verify(public []byte) error {
	key, err := signerKey(public)
	if err != nil {
		return err
	}
	if len(e.Signature) != 64 {
		return invalid("the signature has %d bytes; one of ECDSA with P-256 has 64", len(e.Signature))
	}
	r, s := new(big.Int).SetBytes(e.Signature[:32]), new(big.Int).SetBytes(e.Signature[32:])
	if !ecdsa.Verify(key, digest(e.Kind, e.Body), r, s) {
		return invalid("the signature is wrong: it was altered, or another key made it")
	}
	return nil
}

func signerKey(public []byte) (*ecdsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(public)
	if err != nil {
		return nil, invalid("the signer's public key can't be read: %v", err)
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, invalid("the signer's key is not one of ECDSA with P-256")
	}
	return key, nil
}

// strictJSON refuses fields that are unknown and what follows.
func strictJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("there is more behind it")
	}
	return nil
}
