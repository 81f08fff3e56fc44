package ceremony

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// Act is what a kind of ceremony does.
type Act interface {
	// Outputs are the paths of the files that it will make, as the document has them.
	Outputs() []string
	// Prepare checks everything and says what will be signed. It may make keys.
	Prepare(ctx context.Context, s *Session) (*Plan, error)
	// Sign signs what Prepare prepared, nothing else, and verifies the results.
	Sign(ctx context.Context, s *Session) ([]Output, error)
}

// Output is a file that a ceremony makes.
type Output struct {
	Path string // as the document has it
	Item string // of the plan that it holds with its signature
	Data []byte
}

// Options are how a ceremony is held.
type Options struct {
	Tool          string // name and version of the program
	Token         token.Token
	People        People
	Confirmations *Confirmations // instead of asking people; nil as a rule
	// Rehearsal: Token is a scratch one. Out is where files are written then.
	Rehearsal bool
	Out       string
	Now       func() time.Time // nil: time.Now
}

// Result is a ceremony that is done.
type Result struct {
	Transcript string   // path
	Files      []string // paths of the others
	Report     *Report  // of the transcript, as Verify reads it
}

// run is one ceremony.
type run struct {
	Options
	document *Document
	act      Act    // of a token, or
	remote   Remote // of a server
	session  *Session
	record   *transcript
	plan     *Plan
	written  []string
}

// Check tells whether the files of a ceremony could be written: none exists, and no
// two have the same name, by which the transcript knows them.
func Check(d *Document, act interface{ Outputs() []string }) error {
	return checkFiles(d, act.Outputs(), d.Path)
}

func checkFiles(d *Document, outputs []string, place func(string) string) error {
	seen := map[string]bool{}
	for _, path := range append(slices.Clone(outputs), d.Transcript) {
		full := place(path)
		if seen[filepath.Base(full)] {
			return invalid("two outputs of the document have the name %s", filepath.Base(full))
		}
		seen[filepath.Base(full)] = true
		switch _, err := os.Lstat(full); {
		case err == nil:
			return exists(full)
		case !errors.Is(err, os.ErrNotExist):
			return fault.Wrap(fault.Invalid, err, "look at the outputs")
		}
		if st, err := os.Stat(filepath.Dir(full)); err != nil || !st.IsDir() {
			return invalid("%s can't be written: its directory is not there", full)
		}
	}
	return nil
}

func newRun(d *Document, o Options) *run {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &run{Options: o, document: d, record: newTranscript(o.Now)}
}

// Run holds a ceremony. After an error before its intent nothing has changed; after a
// later one the transcript says what happened, and no other file is left.
func Run(ctx context.Context, d *Document, act Act, o Options) (*Result, error) {
	r := newRun(d, o)
	r.act = act
	if err := r.check(); err != nil {
		return nil, err
	}
	r.session = &Session{Document: d, Rehearsal: o.Rehearsal, Now: r.Now().UTC(), token: o.Token}
	if err := r.decide(ctx); err != nil {
		return nil, r.session.undo(ctx, nil, err)
	}
	path := r.place(d.Transcript)
	if err := r.record.open(path); err != nil {
		return nil, r.session.undo(ctx, nil, err)
	}
	if err := r.perform(ctx); err != nil {
		return nil, r.fail(ctx, err)
	}
	if err := errors.Join(r.record.close(), syncDir(filepath.Dir(path))); err != nil {
		return nil, err
	}
	report, err := Verify(r.record.bytes(), VerifyOptions{Key: fingerprint(r.session.transcript.PKIX)})
	return &Result{Transcript: path, Files: r.written, Report: report}, err
}

// check tells whether the ceremony can be held here and today.
func (r *run) check() error {
	if !r.Rehearsal {
		if err := r.document.onTime(r.Now()); err != nil {
			return err
		}
	}
	outputs := r.outputs()
	return errors.Join(checkFiles(r.document, outputs, r.document.Path), checkFiles(r.document, outputs, r.place))
}

func (r *run) outputs() []string {
	if r.remote != nil {
		return r.remote.Outputs()
	}
	return r.act.Outputs()
}

// place is where a file is written.
func (r *run) place(path string) string {
	if r.Rehearsal {
		return filepath.Join(r.Out, filepath.Base(path))
	}
	return r.document.Path(path)
}

// decide goes up to the confirmations.
func (r *run) decide(ctx context.Context) (err error) {
	if err := r.session.ready(ctx); err != nil {
		return err
	}
	if r.plan, err = r.act.Prepare(ctx, r.session); err != nil {
		return err
	}
	digest := r.plan.digest(r.document.Digest(), r.Rehearsal)
	text := r.text(digest)
	if err := r.begin(text, digest); err != nil {
		return err
	}
	return r.confirm(ctx, text, digest)
}

// confirm shows what will happen and notes who confirms it.
func (r *run) confirm(ctx context.Context, text string, digest []byte) error {
	if err := r.People.Show(text); err != nil {
		return err
	}
	var err error
	var all []Confirmation
	if r.Confirmations != nil {
		all, err = r.Confirmations.fromFile(r.document)
	} else {
		all, err = r.document.ask(ctx, r.People, digest)
	}
	for _, c := range all {
		if err == nil {
			err = r.record.add(func(e *Entry) { e.Confirmation = &c })
		}
	}
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// text is all that custodians read.
func (r *run) text(digest []byte) string {
	var b strings.Builder
	b.WriteString(r.document.heading(r.Rehearsal))
	info := r.Token.Info()
	b.WriteString("HSM token   " + info.Label + ", serial " + info.Serial + ", " + info.Manufacturer + " " + info.Model + "\n")
	b.WriteString("Signed by   the key " + r.document.Token.TranscriptKey + " (this transcript)\n            SHA-256 " + fingerprint(r.session.transcript.PKIX) + "\n\n")
	b.WriteString(strings.TrimRight(r.plan.Text, "\n") + "\n\n")
	for _, x := range r.plan.Exceptions {
		b.WriteString("Exception   the rule " + x + " may be broken\n")
	}
	for _, i := range r.plan.Items {
		b.WriteString("To be signed: " + i.Name + "\n            SHA-256 " + sum(i.Data) + "\n")
	}
	b.WriteString("Digest of all of this\n            SHA-256 " + hex.EncodeToString(digest) + "\n")
	return b.String()
}

// begin writes what is known before anybody is asked, in memory.
func (r *run) begin(text string, digest []byte) error {
	info := r.Token.Info()
	err := r.record.add(func(e *Entry) { e.Begin = r.beginning(transcriptVersion) })
	if err != nil {
		return err
	}
	err = r.record.add(func(e *Entry) {
		e.Token = &TokenUsed{
			Driver: info.Driver, Module: info.Module, Label: info.Label, Serial: info.Serial, Manufacturer: info.Manufacturer,
			Model: info.Model, Firmware: info.Firmware, TranscriptKey: fingerprint(r.session.transcript.PKIX),
		}
	})
	for _, k := range r.session.keys {
		if err == nil {
			err = r.record.add(func(e *Entry) { e.Key = k.used() })
		}
	}
	if err != nil {
		return err
	}
	return r.record.add(func(e *Entry) {
		e.Plan = &Planned{Text: text, Items: r.plan.Items, Exceptions: r.plan.Exceptions, Digest: hex.EncodeToString(digest)}
	})
}

func (r *run) beginning(version int) *Begin {
	d := r.document
	return &Begin{
		Version: version, Tool: r.Tool, Kind: d.Kind, Title: d.Title, Rehearsal: r.Rehearsal,
		Document: File{filepath.Base(d.path), d.Digest()}, Inputs: d.inputs, Custodians: d.Custodians,
	}
}

// perform signs and writes.
func (r *run) perform(ctx context.Context) error {
	outputs, err := r.act.Sign(ctx, r.session)
	if err != nil {
		return err
	}
	for _, o := range outputs {
		if !holds(r.plan.Items, o.Item, o.Data) {
			return fault.New(fault.Internal, "%s does not hold what was confirmed", o.Path)
		}
	}
	for _, o := range outputs {
		path := r.place(o.Path)
		if err := r.record.add(func(e *Entry) {
			e.Output = &Made{Name: filepath.Base(path), Item: o.Item, SHA256: sum(o.Data), Data: o.Data}
		}); err != nil {
			return err
		}
		if err := WriteNew(path, bytes.Clone(o.Data), 0o644); err != nil {
			return err
		}
		r.written = append(r.written, path)
	}
	if err := r.record.add(func(e *Entry) { e.End = &End{Outcome: Done} }); err != nil {
		return err
	}
	return r.record.sign(r.session.transcript)
}

// fail takes everything back but the transcript, which says why.
func (r *run) fail(ctx context.Context, cause error) error {
	for _, path := range r.written {
		if err := os.Remove(path); err != nil {
			cause = errors.Join(cause, err)
		}
	}
	cause = r.session.undo(ctx, r.session.transcript, cause)
	err := r.record.add(func(e *Entry) { e.End = &End{Outcome: Failed, Reason: describe(cause)} })
	if err == nil {
		err = r.record.sign(r.session.transcript)
	}
	if err = errors.Join(err, r.record.close()); err != nil {
		// The transcript ends without a signature, which Verify reports.
		cause = errors.Join(cause, err)
	}
	return fault.Wrap(fault.KindOf(cause), cause, "the ceremony failed after its confirmation; %s says how far it went", r.place(r.document.Transcript))
}
