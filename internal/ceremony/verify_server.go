package ceremony

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/pgp"
)

// The transcript of an act of a server ends with the line of the act: the server's
// statement, whose "ceremony" is "prev" of that line and whose time is the line's, so
// that the HSM token's signature covers every byte up to there. Custodians may add
// lines after it, each with an OpenPGP signature over all bytes up to the end of the
// line of the act.

// Approval is the signature of a custodian. The time of its line is that of the
// signature.
type Approval struct {
	Custodian   string `json:"custodian"`
	Fingerprint string `json:"fingerprint"` // of the OpenPGP key
	Signature   []byte `json:"signature"`   // detached, binary
}

// Approved is a custodian's signature that was verified.
type Approved struct {
	Custodian   string    `json:"custodian"`
	Fingerprint string    `json:"fingerprint"`
	Time        time.Time `json:"time"`
}

// shares says which shares are in force before the act.
func (s *ServerUsed) shares() string {
	if s.ShareSet == "" {
		return ""
	}
	return fmt.Sprintf("            its %d shares, of which %d open, are the set %s\n", s.Shares, s.Threshold, s.ShareSet)
}

// takeServer is take for the lines of a server's act.
func (p *parts) takeServer(e *Entry, stage int) (int, error) {
	switch {
	case e.Server != nil && stage == stageBegun:
		p.server = e.Server
		return stageToken, nil
	case e.Plan != nil && stage == stageToken:
		p.plan = e.Plan
		return stagePlan, nil
	case e.Confirmation != nil && stage == stagePlan:
		p.confirms = append(p.confirms, *e.Confirmation)
		return stage, nil
	case e.End != nil && stage == stagePlan && e.End.Outcome == Failed:
		p.end, p.last = e.End, *e
		return stageEnd, nil
	case e.Act != nil && stage == stagePlan:
		p.act = *e
		return stageActed, nil
	case e.Approval != nil && stage == stageActed:
		p.approvals = append(p.approvals, *e)
		return stage, nil
	}
	return stage, errOrder
}

// verifyServer proves the transcript of an act of a server.
func (p *parts) verifyServer(text []byte, o VerifyOptions) (*Report, error) {
	b := p.begin.Begin
	asked, err := parseAsked(p.plan.Items)
	if err != nil {
		return nil, err
	}
	plan := Plan{Items: p.plan.Items}
	digest := plan.digest(b.Document.SHA256, b.Rehearsal)
	switch {
	case hex.EncodeToString(digest) != p.plan.Digest:
		return nil, invalid("the digest of the plan is not that of what was asked for")
	case asked.Act != b.Kind:
		return nil, invalid("the ceremony is of the kind %q, and its request is of %q", b.Kind, asked.Act)
	}
	if err := p.confirmed(digest); err != nil {
		return nil, err
	}
	r := p.serverReport()
	if p.end != nil {
		return r, r.againstFailed(o)
	}
	if r.Act, err = p.verifyAct(asked); err != nil {
		return nil, err
	}
	r.Ended, r.Outcome, r.SigningKey = r.Act.Time, Done, fingerprint(p.act.Act.PublicKey)
	r.Token = tokenStated(&r.Act.Token, r.SigningKey)
	r.Files = asked.files(r.Act)
	if r.Approved, err = p.approved(asked, text[:p.body]); err != nil {
		return nil, err
	}
	return r, r.against(o)
}

// verifyAct proves the line of the act.
func (p *parts) verifyAct(asked *Asked) (*api.ActStatement, error) {
	s, err := statement(p.act.Act)
	if err != nil {
		return nil, err
	}
	if err := asked.confirmedBy(s, p.act.Prev); err != nil {
		return nil, err
	}
	if !s.Time.Equal(p.act.Time) {
		return nil, invalid("the time of the act is not the one that its statement says")
	}
	return s, nil
}

// approved verifies the signatures of custodians.
func (p *parts) approved(asked *Asked, body []byte) ([]Approved, error) {
	out := []Approved{}
	seen := map[string]bool{}
	for _, e := range p.approvals {
		a := e.Approval
		made, err := asked.verifyApproval(a, p.begin.Time, body)
		if err == nil && !made.Equal(e.Time) {
			err = errors.New("the time of its line is another one than its own")
		}
		if err != nil {
			return nil, invalid("the signature of the custodian %q: %v", a.Custodian, err)
		}
		if seen[a.Custodian] {
			return nil, invalid("the custodian %q signed twice", a.Custodian)
		}
		seen[a.Custodian] = true
		out = append(out, Approved{a.Custodian, a.Fingerprint, made})
	}
	return out, nil
}

// verifyApproval tells when the signature was made.
func (a *Asked) verifyApproval(s *Approval, began time.Time, body []byte) (time.Time, error) {
	h, err := a.holder(s.Custodian, s.Fingerprint)
	if err != nil {
		return time.Time{}, err
	}
	key, err := pgp.Parse(base64.StdEncoding.EncodeToString(h.PublicKey), began)
	if err != nil {
		return time.Time{}, err
	}
	if key.Fingerprint != h.Fingerprint {
		return time.Time{}, fmt.Errorf("the key in the transcript is %s, not %s", key.Fingerprint, h.Fingerprint)
	}
	return key.Verify(body, s.Signature)
}

func (p *parts) serverReport() *Report {
	b := p.begin.Begin
	r := &Report{
		Kind: b.Kind, Title: b.Title, Rehearsal: b.Rehearsal, Tool: b.Tool, Began: p.begin.Time,
		Document: b.Document, Inputs: append([]File{}, b.Inputs...), Server: p.server, Keys: []KeyUsed{}, Exceptions: []string{},
		Threshold: b.Custodians.Threshold, Confirmed: append([]Confirmation{}, p.confirms...), Files: []Compared{},
		Text: p.plan.Text,
	}
	if p.end != nil {
		r.Ended, r.Outcome, r.Reason = p.last.Time, p.end.Outcome, p.end.Reason
	}
	return r
}

// againstFailed is against for a ceremony without an act, which nobody signed.
func (r *Report) againstFailed(o VerifyOptions) error {
	if o.Key != "" {
		return invalid("nothing is signed: the ceremony failed: %s", r.Reason)
	}
	return r.against(o)
}

func tokenStated(t *api.StatedToken, key string) TokenUsed {
	return TokenUsed{Driver: t.Driver, Module: t.Module, Label: t.Label, Serial: t.Serial, Manufacturer: t.Manufacturer,
		Model: t.Model, Firmware: t.Firmware, TranscriptKey: key}
}

// Body is what custodians sign of the transcript of an act of a server: its bytes up
// to the end of the line of the act.
func Body(text []byte) ([]byte, error) {
	p, _, err := whole(text)
	if err != nil {
		return nil, err
	}
	return text[:p.body], nil
}

// whole verifies a transcript to which custodians may add signatures.
func whole(text []byte) (*parts, *Asked, error) {
	if _, err := Verify(text, VerifyOptions{}); err != nil {
		return nil, nil, err
	}
	p, err := parse(text)
	if err != nil {
		return nil, nil, err
	}
	if p.act.Act == nil {
		return nil, nil, fault.New(fault.Unsupported, "custodians sign transcripts of acts that a server performed, and this is none")
	}
	asked, err := parseAsked(p.plan.Items)
	return p, asked, err
}

// Approve adds a custodian's detached OpenPGP signature over Body, armored or not, and
// returns the transcript with it.
func Approve(text []byte, custodian string, signature []byte) ([]byte, error) {
	p, asked, err := whole(text)
	if err != nil {
		return nil, err
	}
	if signature, err = pgp.Dearmor(signature); err != nil {
		return nil, invalid("%v", err)
	}
	h, err := asked.holder(custodian, "")
	if err != nil {
		return nil, err
	}
	a := &Approval{Custodian: custodian, Fingerprint: h.Fingerprint, Signature: signature}
	made, err := asked.verifyApproval(a, p.begin.Time, text[:p.body])
	if err != nil {
		return nil, invalid("the signature of the custodian %q: %v", custodian, err).
			WithHint("what is signed is the output of claviger ceremony sign without --as: claviger ceremony sign T | gpg --detach-sign > FILE")
	}
	_, _, n, last, err := parseLines(text)
	if err != nil {
		return nil, err
	}
	raw, err := encode(Entry{Seq: n, Time: made, Prev: last, Approval: a})
	if err != nil {
		return nil, err
	}
	text = append(append([]byte{}, text...), append(raw, '\n')...)
	_, err = Verify(text, VerifyOptions{})
	return text, err
}
