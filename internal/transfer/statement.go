package transfer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// Token is an HSM token that keys can come into or leave.
type Token interface {
	token.Token
	token.Carrier
}

// DefaultBits is the size of a KEKEK for which none is given.
const DefaultBits = token.MinKEKEK

const (
	labelKEKEK  = "claviger-kekek"
	labelSigner = "claviger-statement"
	labelSeed   = "claviger transfer seed 1"   // OAEP label
	labelSecret = "claviger transfer secret 1" // OAEP label
)

// Device is what a token says of itself.
type Device struct {
	Driver       string `json:"driver"`
	Module       string `json:"module"`
	Manufacturer string `json:"manufacturer"`
	Model        string `json:"model"`
	Firmware     string `json:"firmware"`
	Serial       string `json:"serial"`
	Label        string `json:"label"`
}

// Signer is the key that signed: the audit key of a server's token, or, in a token
// without one, a key that was made for this.
type Signer struct {
	Role   string `json:"role"`   // "audit" or "statement"
	Public []byte `json:"public"` // PKIX DER
}

// Statement is what a destination token says of itself and of the KEKEK made in it.
type Statement struct {
	ID         string          `json:"id"` // CKA_ID of the KEKEK in hexadecimal
	Created    time.Time       `json:"created"`
	Nonce      []byte          `json:"nonce"`
	Device     Device          `json:"device"`
	KEKEK      []byte          `json:"kekek"` // PKIX DER
	Bits       int             `json:"bits"`
	Attributes map[string]bool `json:"attributes"`
	Paddings   []token.Padding `json:"paddings"`
	MLKEM      []byte          `json:"ml_kem_768"` // encapsulation key, FIPS 203
	Signer     Signer          `json:"signer"`

	body   []byte
	public *rsa.PublicKey
	kem    *mlkem.EncapsulationKey768
}

// Fingerprint is SHA-256 of the statement's body in hexadecimal.
func (s *Statement) Fingerprint() string { return fingerprint(s.body) }

func fingerprint(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// KEKEKFingerprint is SHA-256 of the KEKEK's SubjectPublicKeyInfo in hexadecimal.
func (s *Statement) KEKEKFingerprint() string { return fingerprint(s.KEKEK) }

// State is what the destination keeps to open a ring. It holds no secret in clear:
// the seed of the ML-KEM key is encrypted to the KEKEK.
type State struct {
	Format    string `json:"format"`
	Statement []byte `json:"statement"` // its body
	Seed      []byte `json:"seed"`      // RSA-OAEP with SHA-256
}

const stateFormat = "claviger-transfer-state-1"

// Prepare makes a KEKEK in a token, and the statement of it as a line. bits is 3072,
// 3328, … 4096.
func Prepare(ctx context.Context, t Token, bits int, now time.Time) (line []byte, state *State, err error) {
	if bits < token.MinKEKEK || bits > token.MaxKEKEK || bits%256 != 0 {
		return nil, nil, invalid("a KEKEK of %d bits; it can have %d to %d, a multiple of 256", bits, token.MinKEKEK, token.MaxKEKEK)
	}
	var id token.ID
	rand.Read(id[:])
	kekek, err := t.MakeCarrier(ctx, bits, id, labelKEKEK)
	if err != nil {
		return nil, nil, hsmFault(err, "make a KEKEK in the HSM token")
	}
	line, state, err = state1(ctx, t, bits, &kekek, now)
	if err != nil {
		return nil, nil, errors.Join(err, drop(ctx, t, id))
	}
	return line, state, nil
}

// drop removes a KEKEK.
func drop(ctx context.Context, t token.Token, id token.ID) error {
	return t.Destroy(context.WithoutCancel(ctx), token.Stored{Type: token.RSA4096, Place: token.PlaceObject, ID: id})
}

func state1(ctx context.Context, t Token, bits int, kekek *token.KEKEK, now time.Time) ([]byte, *State, error) {
	key, err := mlkem.GenerateKey768()
	if err != nil {
		return nil, nil, fmt.Errorf("making an ML-KEM key: %w", err)
	}
	signer, role, err := signingKey(ctx, t)
	if err != nil {
		return nil, nil, err
	}
	s := &Statement{
		ID: hex.EncodeToString(kekek.ID[:]), Created: now.UTC().Truncate(time.Second), Nonce: make([]byte, 16), Device: deviceOf(t),
		KEKEK: kekek.Public, Bits: bits, Attributes: kekek.Attributes, Paddings: kekek.Paddings,
		MLKEM: key.EncapsulationKey().Bytes(), Signer: Signer{Role: role, Public: signer.Public},
	}
	rand.Read(s.Nonce)
	line, body, err := signJSON(ctx, t, signer, kindStatement, s)
	if err != nil {
		return nil, nil, err
	}
	if s, err = ParseStatement(line); err != nil {
		return nil, nil, err // what the token made is not good enough
	}
	seed := key.Bytes()
	defer clear(seed)
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, s.public, seed, []byte(labelSeed))
	if err != nil {
		return nil, nil, fmt.Errorf("sealing the ML-KEM key: %w", err)
	}
	return line, &State{Format: stateFormat, Statement: body, Seed: sealed}, nil
}

func deviceOf(t token.Token) Device {
	i := t.Info()
	return Device{Driver: i.Driver, Module: i.Module, Manufacturer: i.Manufacturer, Model: i.Model, Firmware: i.Firmware, Serial: i.Serial, Label: i.Label}
}

// signingKey returns the audit key, or makes a key where a token has none.
func signingKey(ctx context.Context, t token.Token) (token.Stored, string, error) {
	st, err := t.AuditKey(ctx)
	if err == nil {
		return st, "audit", nil
	}
	if !errors.Is(err, token.ErrNotFound) {
		return st, "", hsmFault(err, "read the audit key")
	}
	var id token.ID
	copy(id[:], "claviger statmnt") // one for all statements of a token
	st, err = t.Generate(ctx, token.Spec{Type: token.P256, Place: token.PlaceObject, ID: id, Label: labelSigner})
	return st, "statement", hsmFault(err, "make a signing key")
}

// signJSON makes an envelope as a line.
func signJSON(ctx context.Context, t token.Token, signer token.Stored, kind string, v any) (line, body []byte, err error) {
	if body, err = json.Marshal(v); err != nil {
		return nil, nil, err
	}
	line, err = sign(ctx, t, signer, kind, body)
	return line, body, err
}

func sign(ctx context.Context, t token.Token, signer token.Stored, kind string, body []byte) ([]byte, error) {
	key, err := t.Key(signer)
	if err != nil {
		return nil, hsmFault(err, "sign")
	}
	items := []token.Item{{In: digest(kind, body)}}
	if err = key.Do(ctx, token.Op{Kind: token.Sign}, items); err == nil {
		err = items[0].Err
	}
	if err != nil {
		return nil, hsmFault(err, "sign")
	}
	e := envelope{Kind: kind, Body: body, Signature: items[0].Out}
	return e.line()
}

// ParseStatement reads a statement and checks all that can be checked of it: its
// signature, and that the KEKEK is one that can't leave its token and does nothing
// but open what is encrypted to it.
func ParseStatement(line []byte) (*Statement, error) {
	e, err := parseEnvelope(line, kindStatement)
	if err != nil {
		return nil, err
	}
	s := &Statement{body: e.Body}
	if err := strictJSON(e.Body, s); err != nil {
		return nil, invalid("the statement can't be read: %v", err)
	}
	if err := e.verify(s.Signer.Public); err != nil {
		return nil, err
	}
	return s, s.check()
}

// must are the attributes of a KEKEK. One that a module does not show is refused
// where it matters most.
var must = []struct {
	name string
	want bool
	may  bool // be absent
}{
	{"CKA_TOKEN", true, false}, {"CKA_PRIVATE", true, false}, {"CKA_SENSITIVE", true, false}, {"CKA_EXTRACTABLE", false, false},
	{"CKA_ALWAYS_SENSITIVE", true, true}, {"CKA_NEVER_EXTRACTABLE", true, true}, {"CKA_LOCAL", true, true},
	{"CKA_UNWRAP", true, false}, {"CKA_SIGN", false, true}, {"CKA_DERIVE", false, true},
}

func (s *Statement) check() error {
	for _, m := range must {
		if v, ok := s.Attributes[m.name]; ok && v != m.want || !ok && !m.may {
			return invalid("the KEKEK must have %s=%t, and the statement does not say so: a key under it might leave the destination", m.name, m.want)
		}
	}
	if id, err := hex.DecodeString(s.ID); err != nil || len(id) != len(token.ID{}) {
		return invalid("the statement's id is not one of a KEKEK")
	}
	if len(s.Nonce) != 16 || s.Created.IsZero() {
		return invalid("the statement has no nonce of 16 bytes, or no time")
	}
	if !slices.ContainsFunc(s.Paddings, func(p token.Padding) bool { return slices.Contains(paddings, p) }) {
		return invalid("the statement names no padding that this release knows")
	}
	parsed, err := x509.ParsePKIXPublicKey(s.KEKEK)
	if err != nil {
		return invalid("the KEKEK can't be read: %v", err)
	}
	public, ok := parsed.(*rsa.PublicKey)
	if !ok || public.N.BitLen() != s.Bits || s.Bits < token.MinKEKEK || s.Bits > token.MaxKEKEK || public.E < 65537 {
		return invalid("the KEKEK is not an RSA key of %d to %d bits with a public exponent of 65537 or more", token.MinKEKEK, token.MaxKEKEK)
	}
	s.public = public
	if s.kem, err = mlkem.NewEncapsulationKey768(s.MLKEM); err != nil {
		return invalid("the ML-KEM-768 key can't be read: %v", err)
	}
	return nil
}

var paddings = []token.Padding{token.OAEPSHA256, token.OAEPSHA1, token.PKCS1}

// with are the paddings for this destination, the best first.
func (s *Statement) with() (list []token.Padding) {
	for _, p := range paddings {
		if slices.Contains(s.Paddings, p) {
			list = append(list, p)
		}
	}
	return list
}

// statement returns the statement of a state.
func (s *State) statement() (*Statement, error) {
	st := &Statement{body: s.Statement}
	if s.Format != stateFormat {
		return nil, invalid("this is not the state of a transfer: its format is %.40q, not %s", s.Format, stateFormat)
	}
	if err := strictJSON(s.Statement, st); err != nil {
		return nil, invalid("the state of the transfer can't be read: %v", err)
	}
	return st, st.check()
}

// ParseState reads a state.
func ParseState(b []byte) (*State, error) {
	s := new(State)
	if err := strictJSON(bytes.TrimSpace(b), s); err != nil {
		return nil, invalid("this is not the state of a transfer: %v", err)
	}
	_, err := s.statement()
	return s, err
}

func (s *Statement) id() (id token.ID) {
	_, _ = hex.Decode(id[:], []byte(s.ID)) // checked
	return id
}

// decrypt opens RSA-OAEP with SHA-256 of the KEKEK in the token.
func (s *Statement) decrypt(ctx context.Context, t token.Token, label string, in []byte) ([]byte, error) {
	key, err := t.Key(token.Stored{Type: token.RSAType(s.Bits), Place: token.PlaceObject, ID: s.id(), Public: s.KEKEK})
	if err != nil {
		return nil, hsmFault(err, "use the KEKEK")
	}
	items := []token.Item{{In: in, AAD: []byte(label)}}
	if err = key.Do(ctx, token.Op{Kind: token.Decrypt, Scheme: token.OAEP, Hash: crypto.SHA256}, items); err == nil {
		err = items[0].Err
	}
	if errors.Is(err, token.ErrNotFound) {
		return nil, fault.New(fault.NotFound, "the KEKEK %s is not in this HSM token", s.ID).WithHint("import into the HSM token that made the statement, and once only")
	}
	return items[0].Out, hsmFault(err, "open what was encrypted to the KEKEK")
}

// hsmFault translates an error of the token.
func hsmFault(err error, doing string) error {
	if _, ok := errors.AsType[*fault.Error](err); ok || err == nil {
		return err
	}
	switch {
	case errors.Is(err, token.ErrOpen), errors.Is(err, token.ErrBlob):
		return errNotAuthentic()
	case errors.Is(err, token.ErrUnsupported):
		return fault.Wrap(fault.Invalid, err, "can't %s: %v", doing, err)
	case errors.Is(err, token.ErrExists):
		return fault.Wrap(fault.Conflict, err, "can't %s: %v", doing, err).(*fault.Error).
			WithHint("a KEK comes only into an HSM token that has none: a new one, before a server is initialised with it")
	case errors.Is(err, token.ErrSealed):
		return fault.New(fault.Sealed, "Vault is sealed")
	case errors.Is(err, token.ErrNotFound):
		return fault.Wrap(fault.NotFound, err, "can't %s: %v", doing, err)
	}
	return fault.Wrap(fault.Unavailable, err, "can't %s", doing)
}

// errNotAuthentic is the one answer to everything that is wrong inside a ring.
func errNotAuthentic() *fault.Error {
	return invalid("the ring does not open: it was altered, or made for another destination")
}
