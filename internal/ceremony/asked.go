package ceremony

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"slices"

	"github.com/claviger/claviger/api"
)

// itemRequest is the one item of the plan of an act that a server performs.
const itemRequest = "request"

// Asked is what a server is asked for; the plan has it as JSON.
type Asked struct {
	Act       string   `json:"act"` // as in api.ActStatement
	Threshold int      `json:"threshold,omitempty"`
	Shares    []Holder `json:"shares,omitempty"` // in the order of their numbers
	// Root is to whom a root token is encrypted; its Fingerprint is api.ForOTP for a
	// one-time pad.
	Root            *Holder  `json:"root_token,omitempty"`
	Signers         []Holder `json:"signers,omitempty"` // who may sign the transcript beside those with shares
	HSMToken        string   `json:"hsm_token,omitempty"`
	TransferableKEK bool     `json:"transferable_kek,omitempty"`
	Recovery        bool     `json:"recovery,omitempty"`
	NewPIN          bool     `json:"new_pin,omitempty"`
}

// Holder is a custodian with an OpenPGP key.
type Holder struct {
	Custodian   string `json:"custodian,omitempty"`
	Fingerprint string `json:"fingerprint"`
	PublicKey   []byte `json:"public_key,omitempty"` // binary
	File        string `json:"file,omitempty"`       // for what is handed over, without its directory
}

// ServerUsed is the server as it was before the act.
type ServerUsed struct {
	Address     string `json:"address"`
	Release     string `json:"release"`
	Initialized bool   `json:"initialized"`
	// The shares that were in force.
	ShareSet  string `json:"share_set,omitempty"`
	Shares    int    `json:"shares,omitempty"`
	Threshold int    `json:"threshold,omitempty"`
}

// Plan makes the plan of an act of a server; text is for people.
func (a *Asked) Plan(text string) (*Plan, error) {
	data, err := json.Marshal(a)
	return &Plan{Text: text, Items: []Item{{itemRequest, data}}}, err
}

func parseAsked(items []Item) (*Asked, error) {
	if len(items) != 1 || items[0].Name != itemRequest {
		return nil, invalid("the plan has not the one item %q", itemRequest)
	}
	a := new(Asked)
	if err := strictJSON(items[0].Data, a); err != nil {
		return nil, invalid("the request of the plan can't be read: %v", err)
	}
	return a, nil
}

// strictJSON takes one value, no unknown field.
func strictJSON(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	return nil
}

// statementDomain begins what the server's HSM token signs, see api.SignedStatement.
const statementDomain = "claviger ceremony statement 1\n"

// statement verifies the signature of a statement, and reads it.
func statement(s *api.SignedStatement) (*api.ActStatement, error) {
	parsed, err := x509.ParsePKIXPublicKey(s.PublicKey)
	public, ok := parsed.(*ecdsa.PublicKey)
	if err != nil || !ok || public.Curve != elliptic.P256() {
		return nil, invalid("the statement of the act is not signed by an ECDSA key of the curve P-256")
	}
	digest := sha256.Sum256(append([]byte(statementDomain), s.Statement...))
	const half = 32
	if len(s.Signature) != 2*half || !ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(s.Signature[:half]), new(big.Int).SetBytes(s.Signature[half:])) {
		return nil, invalid("the signature of the statement of the act is wrong: it was altered, or signed with another key")
	}
	out := new(api.ActStatement)
	if err := strictJSON(s.Statement, out); err != nil {
		return nil, invalid("the statement of the act can't be read: %v", err)
	}
	if out.Format != 1 {
		return nil, invalid("the statement of the act is of a format that this program does not know: %d", out.Format)
	}
	return out, nil
}

// confirmedBy tells whether a statement is of this ceremony, and of what was asked.
func (a *Asked) confirmedBy(s *api.ActStatement, ceremony string) error {
	switch {
	case s.Ceremony != ceremony:
		return invalid("the statement of the act is of another ceremony")
	case s.Act != a.Act:
		return invalid("the statement is of the act %q, and %q was asked for", s.Act, a.Act)
	case s.NewPIN != a.NewPIN || s.Recovery != a.Recovery && a.Act == api.ActInit:
		return invalid("the statement of the act differs from what was asked for: new PIN %v, recovery shares %v", s.NewPIN, s.Recovery)
	case a.HSMToken != "" && s.Adopted != (a.HSMToken == "adopt"):
		return invalid("the HSM token was not dealt with as was asked for")
	case a.Act != api.ActInit && len(s.Given) == 0:
		return invalid("the statement of the act names no share that was given")
	case a.Act == api.ActRekey && len(s.Verified) < a.Threshold:
		return invalid("%d new shares were given back, and %d had to", len(s.Verified), a.Threshold)
	}
	return a.handedOver(s)
}

// handedOver compares who got what.
func (a *Asked) handedOver(s *api.ActStatement) error {
	if a.Act != api.ActGenerateRoot && (s.ShareSet.Shares != len(a.Shares) || s.ShareSet.Threshold != a.Threshold) {
		return invalid("there are %d shares of which %d open, and %d and %d were asked for", s.ShareSet.Shares, s.ShareSet.Threshold, len(a.Shares), a.Threshold)
	}
	same := slices.EqualFunc(a.Shares, s.Shares, func(h Holder, r api.StatedResult) bool { return h.Fingerprint == r.For })
	if !same {
		return invalid("the shares are encrypted to other keys than was asked for")
	}
	if (a.Root == nil) != (s.Root == nil) || a.Root != nil && a.Root.Fingerprint != s.Root.For {
		return invalid("the root token is not encrypted as was asked for")
	}
	return nil
}

// files are the secrets that were handed over, by the names of the plan.
func (a *Asked) files(s *api.ActStatement) []Compared {
	out := []Compared{}
	for i, h := range a.Shares {
		out = append(out, Compared{Name: h.File, SHA256: s.Shares[i].SHA256})
	}
	if a.Root != nil {
		out = append(out, Compared{Name: a.Root.File, SHA256: s.Root.SHA256})
	}
	return out
}

// holder finds a custodian who may sign the transcript. Whoever has several shares is
// there several times, with the same key or others.
func (a *Asked) holder(custodian, fingerprint string) (*Holder, error) {
	known := false
	for _, h := range slices.Concat(a.Shares, a.Signers) {
		if h.Custodian != custodian || len(h.PublicKey) == 0 {
			continue
		}
		known = true
		if fingerprint == "" || h.Fingerprint == fingerprint {
			return &h, nil
		}
	}
	if known {
		return nil, invalid("the key %s is not one of the custodian %q in this ceremony", fingerprint, custodian)
	}
	return nil, invalid("the ceremony knows no OpenPGP key of the custodian %q: shares and signers of its document name them", custodian)
}
