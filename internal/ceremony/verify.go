package ceremony

import (
	"bytes"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// MaxTranscript is the size of a transcript in bytes.
const MaxTranscript = 64 << 20

// VerifyOptions say what a transcript is compared with.
type VerifyOptions struct {
	// Key is the SHA-256 of the public key that must have signed, in hexadecimal; ""
	// takes the transcript's own word for it.
	Key string
	// Document is the bytes of the document, if they are to be compared.
	Document []byte
	// Dir is where the files that the ceremony made are compared; those that are not
	// there are not. "" compares none.
	Dir string
}

// Report is what a verified transcript proves.
type Report struct {
	Kind      string    `json:"kind"`
	Title     string    `json:"title"`
	Rehearsal bool      `json:"rehearsal"`
	Tool      string    `json:"tool"`
	Began     time.Time `json:"began"`
	Ended     time.Time `json:"ended"`
	Document  File      `json:"document"`
	Inputs    []File    `json:"inputs"`
	Token     TokenUsed `json:"token"`
	// Of an act that a server performed: the server before, what it says of the act,
	// and which custodians signed the transcript.
	Server      *ServerUsed       `json:"server,omitempty"`
	Act         *api.ActStatement `json:"act,omitempty"`
	Approved    []Approved        `json:"approved,omitempty"`
	Keys        []KeyUsed         `json:"keys"`
	Exceptions  []string          `json:"lint_exceptions"`
	Threshold   int               `json:"threshold"`
	Confirmed   []Confirmation    `json:"confirmations"`
	Files       []Compared        `json:"files"`
	Outcome     string            `json:"outcome"`
	Reason      string            `json:"reason,omitempty"`
	SigningKey  string            `json:"signing_key"`  // SHA-256 of the public key that signed
	KeyCompared bool              `json:"key_compared"` // it is the one that was asked for
	Text        string            `json:"text"`         // what the custodians read
	DocCompared bool              `json:"doc_compared"` // the document is the one that was given
}

// Compared is a file of a ceremony.
type Compared struct {
	Name     string `json:"name"`
	SHA256   string `json:"sha256"`
	Compared bool   `json:"compared"` // it was there and is the same
}

// parts are the entries of a transcript in their order.
type parts struct {
	begin    Entry
	token    *TokenUsed
	server   *ServerUsed
	keys     []KeyUsed
	plan     *Planned
	confirms []Confirmation
	outputs  []Made
	end      *End
	last     Entry

	act       Entry
	body      int // bytes up to the end of the line of the act
	approvals []Entry
}

// Verify reads a transcript and proves it: every line is what was written, in its
// order, signed, and says the same as the others. Its error names the line at fault.
// A ceremony that failed verifies too; Outcome says so.
func Verify(text []byte, o VerifyOptions) (*Report, error) {
	if len(text) > MaxTranscript {
		return nil, invalid("the transcript has %d bytes; at most %d are taken", len(text), MaxTranscript)
	}
	p, err := parse(text)
	if err != nil {
		return nil, err
	}
	if p.server != nil {
		return p.verifyServer(text, o)
	}
	if err := p.last.verifies(); err != nil {
		return nil, err
	}
	if err := p.consistent(); err != nil {
		return nil, err
	}
	r := p.report()
	return r, r.against(o)
}

// against compares a report with what is known beforehand.
func (r *Report) against(o VerifyOptions) error {
	if o.Key != "" {
		if subtle.ConstantTimeCompare([]byte(o.Key), []byte(r.SigningKey)) != 1 {
			return invalid("the transcript is signed by the key %s, not by %s", r.SigningKey, o.Key)
		}
		r.KeyCompared = true
	}
	if o.Document != nil {
		if sum(o.Document) != r.Document.SHA256 {
			return invalid("the document is another one: its SHA-256 is %s, and the ceremony's was %s", sum(o.Document), r.Document.SHA256)
		}
		r.DocCompared = true
	}
	return r.compare(o.Dir)
}

func parse(text []byte) (*parts, error) {
	if len(text) == 0 || text[len(text)-1] != '\n' {
		return nil, invalid("the transcript does not end with a whole line; it was cut, or its ceremony was")
	}
	p, stage, n, _, err := parseLines(text)
	if err != nil {
		return nil, err
	}
	if stage != stageSigned && stage != stageActed && (stage != stageEnd || p.server == nil) {
		return nil, invalid("the transcript has no signature: its ceremony was interrupted after %d lines", n)
	}
	return p, nil
}

// parseLines reads whole lines: it returns how far they go, how many they are, and the
// SHA-256 of the last one.
func parseLines(text []byte) (p *parts, stage, n int, last string, err error) {
	p, last = new(parts), noLine
	var before time.Time
	for raw := range bytes.Lines(text) {
		raw = bytes.TrimSuffix(raw, []byte("\n"))
		e, err := parseEntry(raw)
		switch {
		case err != nil:
			return nil, 0, 0, "", invalid("line %d of the transcript is none: %v", n+1, err)
		case e.Seq != n || e.Prev != last:
			return nil, 0, 0, "", invalid("line %d of the transcript does not follow the one before: lines were altered, dropped or exchanged", n+1)
		case e.Time.Before(before) && e.Act == nil && e.Approval == nil: // the times of these two are of other clocks
			return nil, 0, 0, "", invalid("line %d of the transcript is older than the one before", n+1)
		}
		if stage, err = p.take(e, stage); err != nil {
			return nil, 0, 0, "", invalid("line %d of the transcript: %v", n+1, err)
		}
		if e.Approval == nil {
			p.body += len(raw) + 1
		}
		n, last, before = n+1, sum(raw), e.Time
	}
	return p, stage, n, last, nil
}

// parseEntry is strict, and refuses a line that is not written as encode writes it.
func parseEntry(raw []byte) (*Entry, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	e := new(Entry)
	if err := d.Decode(e); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	again, err := encode(*e)
	if err == nil && !bytes.Equal(again, raw) {
		err = errors.New("it is not in the form in which transcripts are written")
	}
	return e, err
}

// Stages of a transcript: what has been read.
const (
	stageNothing = iota
	stageBegun
	stageToken
	stagePlan
	stageOutput
	stageEnd
	stageSigned
	stageActed
)

var errOrder = errors.New("this can't stand here")

func (p *parts) take(e *Entry, stage int) (int, error) {
	count := 0
	for _, there := range []bool{e.Begin != nil, e.Token != nil, e.Key != nil, e.Plan != nil, e.Confirmation != nil,
		e.Output != nil, e.End != nil, e.Signature != nil, e.Server != nil, e.Act != nil, e.Approval != nil} {
		if there {
			count++
		}
	}
	switch {
	case count != 1:
		return stage, errors.New("it says not one thing")
	case e.Begin != nil && stage == stageNothing:
		if e.Begin.Version != transcriptVersion && e.Begin.Version != serverVersion {
			return stage, errors.New("it is of a version that this program does not know")
		}
		p.begin = *e
		return stageBegun, nil
	case p.begin.Begin != nil && p.begin.Begin.Version == serverVersion:
		return p.takeServer(e, stage)
	case e.Token != nil && stage == stageBegun:
		p.token = e.Token
		return stageToken, nil
	case e.Key != nil && stage == stageToken:
		p.keys = append(p.keys, *e.Key)
		return stage, nil
	case e.Plan != nil && stage == stageToken:
		p.plan = e.Plan
		return stagePlan, nil
	case e.Confirmation != nil && stage == stagePlan:
		p.confirms = append(p.confirms, *e.Confirmation)
		return stage, nil
	case e.Output != nil && (stage == stagePlan || stage == stageOutput):
		p.outputs = append(p.outputs, *e.Output)
		return stageOutput, nil
	case e.End != nil && (stage == stagePlan || stage == stageOutput):
		p.end = e.End
		return stageEnd, nil
	case e.Signature != nil && stage == stageEnd:
		p.last = *e
		return stageSigned, nil
	}
	return stage, errOrder
}

// consistent checks what the lines say of each other.
func (p *parts) consistent() error {
	b := p.begin.Begin
	if p.token.TranscriptKey != fingerprint(p.last.Signature.PublicKey) {
		return invalid("the transcript is signed by another key than it names at its begin")
	}
	plan := Plan{Items: p.plan.Items}
	digest := plan.digest(b.Document.SHA256, b.Rehearsal)
	if hex.EncodeToString(digest) != p.plan.Digest {
		return invalid("the digest of the plan is not that of what was signed")
	}
	if err := p.confirmed(digest); err != nil {
		return err
	}
	for _, m := range p.outputs {
		if sum(m.Data) != m.SHA256 {
			return invalid("the digest of the file %s is not that of its contents", m.Name)
		}
		if !holds(p.plan.Items, m.Item, m.Data) {
			return invalid("the file %s does not hold what was confirmed", m.Name)
		}
	}
	if p.end.Outcome != Failed && (p.end.Outcome != Done || len(p.outputs) == 0) {
		return invalid("the ceremony ended neither with files nor with a failure")
	}
	return nil
}

func (p *parts) confirmed(digest []byte) error {
	b := p.begin.Begin
	if err := b.Custodians.check(); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, c := range p.confirms {
		right := c.How == howFile && c.File != "" || c.How == howPhrase && c.Phrase == phrase(c.Custodian, digest)
		if !right || seen[c.Custodian] || !slices.Contains(b.Custodians.Names, c.Custodian) {
			return invalid("the confirmation of %q is none of this ceremony", c.Custodian)
		}
		seen[c.Custodian] = true
	}
	if len(p.confirms) < b.Custodians.Threshold {
		return invalid("%d custodians confirmed, and %d had to", len(p.confirms), b.Custodians.Threshold)
	}
	return nil
}

// holds tells whether a file holds the item of a plan that it should.
func holds(items []Item, name string, data []byte) bool {
	i := slices.IndexFunc(items, func(i Item) bool { return i.Name == name })
	return i >= 0 && bytes.Equal(signedPart(data), items[i].Data)
}

// signedPart is what is signed of an X.509 object in PEM or DER: the first part of a
// sequence. It is nil if the data is none.
func signedPart(data []byte) []byte {
	if block, _ := pem.Decode(data); block != nil {
		data = block.Bytes
	}
	var outer, first cryptobyte.String
	in := cryptobyte.String(data)
	if !in.ReadASN1(&outer, asn1.SEQUENCE) || !outer.ReadASN1Element(&first, asn1.SEQUENCE) {
		return nil
	}
	return first
}

func (p *parts) report() *Report {
	b := p.begin.Begin
	r := &Report{
		Kind: b.Kind, Title: b.Title, Rehearsal: b.Rehearsal, Tool: b.Tool, Began: p.begin.Time, Ended: p.last.Time,
		Document: b.Document, Inputs: append([]File{}, b.Inputs...), Token: *p.token, Keys: append([]KeyUsed{}, p.keys...),
		Exceptions: append([]string{}, p.plan.Exceptions...), Threshold: b.Custodians.Threshold, Confirmed: append([]Confirmation{}, p.confirms...),
		Files: []Compared{}, Outcome: p.end.Outcome, Reason: p.end.Reason, SigningKey: fingerprint(p.last.Signature.PublicKey), Text: p.plan.Text,
	}
	for _, m := range p.outputs {
		r.Files = append(r.Files, Compared{Name: m.Name, SHA256: m.SHA256})
	}
	return r
}

// compare holds the files in a directory against the transcript.
func (r *Report) compare(dir string) error {
	if dir == "" || r.Outcome != Done {
		return nil
	}
	for i := range r.Files {
		f := &r.Files[i]
		if filepath.Base(f.Name) != f.Name {
			return invalid("the transcript names the file %q, which is no plain name", f.Name)
		}
		data, err := os.ReadFile(filepath.Join(dir, f.Name))
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue
		case err != nil:
			return fault.Wrap(fault.Invalid, err, "compare the files of the ceremony")
		case sum(data) != f.SHA256:
			return invalid("the file %s is not the one that the ceremony made", f.Name)
		}
		f.Compared = true
	}
	return nil
}
