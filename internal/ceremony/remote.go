package ceremony

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// Remote is an act that a running server performs.
type Remote interface {
	// Outputs are the paths of the files that it will make, as the document has them.
	Outputs() []string
	// Prepare asks the server what it is, and says what it will be asked for. It
	// changes nothing.
	Prepare(ctx context.Context) (*ServerUsed, *Asked, error)
	// Describe is the request in words, for people.
	Describe() string
	// Perform has the server perform the act under the name of the ceremony, and
	// writes the secrets that it hands over; place says where. An error says what
	// became of the act.
	Perform(ctx context.Context, ceremony string, place func(string) string) (*api.SignedStatement, error)
}

// Hold holds a ceremony of a server. Its transcript is on the disk before the server is
// asked; its name is the SHA-256 of the last line until then, so that the statement that
// the server signs is of all that the custodians read and confirmed.
func Hold(ctx context.Context, d *Document, act Remote, o Options) (*Result, error) {
	r := newRun(d, o)
	r.remote = act
	if err := r.check(); err != nil {
		return nil, err
	}
	asked, err := r.decideRemote(ctx)
	if err != nil {
		return nil, err
	}
	path := r.place(d.Transcript)
	if err := r.record.open(path); err != nil {
		return nil, err
	}
	signed, err := act.Perform(ctx, r.record.prev, r.place)
	if err == nil {
		err = r.acted(asked, signed)
	}
	if err != nil {
		return nil, r.failRemote(err)
	}
	if err := errors.Join(r.record.close(), syncDir(filepath.Dir(path))); err != nil {
		return nil, err
	}
	report, err := Verify(r.record.bytes(), VerifyOptions{Dir: filepath.Dir(path)})
	result := &Result{Transcript: path, Report: report}
	for _, f := range act.Outputs() {
		result.Files = append(result.Files, r.place(f))
	}
	return result, err
}

// decideRemote goes up to the confirmations.
func (r *run) decideRemote(ctx context.Context) (*Asked, error) {
	server, asked, err := r.remote.Prepare(ctx)
	if err != nil {
		return nil, err
	}
	if r.plan, err = asked.Plan(r.remote.Describe()); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "encode the request")
	}
	digest := r.plan.digest(r.document.Digest(), r.Rehearsal)
	text := r.remoteText(server, digest)
	steps := []func(*Entry){
		func(e *Entry) { e.Begin = r.beginning(serverVersion) },
		func(e *Entry) { e.Server = server },
		func(e *Entry) { e.Plan = &Planned{Text: text, Items: r.plan.Items, Digest: hex.EncodeToString(digest)} },
	}
	for _, fill := range steps {
		if err := r.record.add(fill); err != nil {
			return nil, err
		}
	}
	return asked, r.confirm(ctx, text, digest)
}

// remoteText is all that custodians read.
func (r *run) remoteText(s *ServerUsed, digest []byte) string {
	var b strings.Builder
	b.WriteString(r.document.heading(r.Rehearsal))
	b.WriteString("Server      " + s.Address + ", release " + s.Release + "\n")
	b.WriteString(s.shares())
	b.WriteString("\n" + strings.TrimRight(r.remote.Describe(), "\n") + "\n\n")
	b.WriteString("Digest of all of this\n            SHA-256 " + hex.EncodeToString(digest) + "\n")
	return b.String()
}

// Show is what will happen, as it can be said without asking the server.
func Show(d *Document, act Remote) string {
	return d.heading(false) + "Server      " + d.Server.Address + "\n\n" + act.Describe()
}

// acted notes that the server did what was asked for.
func (r *run) acted(asked *Asked, signed *api.SignedStatement) error {
	if signed == nil {
		return fault.New(fault.Uncertain, "the act was done, and the server did not sign a statement of it").
			WithHint("a release before ceremonies signs none; otherwise the server's log says why")
	}
	s, err := statement(signed)
	if err == nil {
		err = asked.confirmedBy(s, r.record.prev)
	}
	if err != nil {
		return fault.Wrap(fault.Uncertain, err, "the server's answer does not prove the act")
	}
	e := r.record.entry()
	e.Time, e.Act = s.Time, signed
	return r.record.append(e)
}

// failRemote notes in the transcript why there is no act. Nobody signs that.
func (r *run) failRemote(cause error) error {
	err := r.record.add(func(e *Entry) { e.End = &End{Outcome: Failed, Reason: describe(cause)} })
	if err = errors.Join(err, r.record.close()); err != nil {
		cause = errors.Join(cause, err)
	}
	e := fault.Wrap(fault.KindOf(cause), cause, "the ceremony failed after its confirmation; %s says how far it went", r.place(r.document.Transcript))
	if hint := fault.HintOf(cause); hint != "" {
		f, _ := errors.AsType[*fault.Error](e)
		return f.WithHint("%s", hint)
	}
	return e
}

// Cut is the transcript of a ceremony of a server that was broken off: neither its act
// nor its failure is in it.
type Cut struct {
	Ceremony string // its name

	path  string
	text  []byte
	lines int
	asked *Asked
}

// ReadCut reads it. The document must be the one of then.
func ReadCut(d *Document) (*Cut, error) {
	path := d.Path(d.Transcript)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "read the transcript that was broken off")
	}
	// The end of the last line may be missing.
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	p, stage, n, last, err := parseLines(text)
	switch {
	case err != nil:
		return nil, err
	case p.server == nil || stage != stagePlan || len(p.confirms) < p.begin.Begin.Custodians.Threshold:
		return nil, invalid("%s was not broken off while its act was performed", path)
	case p.begin.Begin.Document.SHA256 != d.Digest():
		return nil, invalid("the document is another one than that of %s: its SHA-256 is %s, and it was %s", path, d.Digest(), p.begin.Begin.Document.SHA256)
	}
	c := &Cut{Ceremony: last, path: path, text: text, lines: n}
	c.asked, err = parseAsked(p.plan.Items)
	return c, err
}

// Finish completes the transcript with the server's statement of the act.
func (c *Cut) Finish(signed *api.SignedStatement) (*Result, error) {
	s, err := statement(signed)
	if err == nil {
		err = c.asked.confirmedBy(s, c.Ceremony)
	}
	if err != nil {
		return nil, err
	}
	raw, err := encode(Entry{Seq: c.lines, Time: s.Time, Prev: c.Ceremony, Act: signed})
	if err != nil {
		return nil, err
	}
	text := append(append(bytes.Clone(c.text), raw...), '\n')
	report, err := Verify(text, VerifyOptions{Dir: filepath.Dir(c.path)})
	if err != nil {
		return nil, err
	}
	for _, f := range report.Files {
		if !f.Compared {
			return nil, fault.New(fault.Uncertain, "the act was done, and what the server handed over is lost: %s is not there", f.Name).
				WithHint("hold another ceremony that replaces it; this transcript stays as it is")
		}
	}
	return &Result{Transcript: c.path, Report: report}, Replace(c.path, text)
}

// PutAside renames the transcript and those of its files that are there, so that the
// ceremony can be held anew.
func (c *Cut) PutAside(d *Document, act Remote) error {
	for _, path := range append(act.Outputs(), d.Transcript) {
		path = d.Path(path)
		aside := path + ".cut"
		if _, err := os.Lstat(aside); err == nil {
			return exists(aside)
		}
		if err := os.Rename(path, aside); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fault.Wrap(fault.Invalid, err, "put %s aside", path)
		}
	}
	return nil
}

// Replace writes a transcript in the place of the one that is there, whole or not at all.
func Replace(path string, text []byte) error {
	next := path + ".new"
	if err := WriteNew(next, text, 0o644); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return fault.Wrap(fault.Internal, errors.Join(err, os.Remove(next)), "write the transcript")
	}
	return syncDir(filepath.Dir(path))
}
