package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"encoding/asn1"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/soft"
)

// testAct signs a message with a new key.
type testAct struct {
	plan *testPlan
	key  *Key
	fail func() error // in Sign
	lie  bool         // signs something else
}

func (a *testAct) Outputs() []string { return []string{a.plan.File} }

func (a *testAct) Prepare(ctx context.Context, s *Session) (_ *Plan, err error) {
	if a.key, err = s.NewKey(ctx, "test-key", token.P256); err != nil {
		return nil, err
	}
	return &Plan{Text: "sign " + a.plan.Message, Items: []Item{{"message", a.message(a.plan.Message)}}, Exceptions: []string{"e_x"}}, nil
}

func (a *testAct) message(text string) []byte {
	b, _ := asn1.Marshal(struct{ Text string }{text})
	return b
}

func (a *testAct) Sign(context.Context, *Session) ([]Output, error) {
	if a.fail != nil {
		if err := a.fail(); err != nil {
			return nil, err
		}
	}
	text := a.plan.Message
	if a.lie {
		text = "something else"
	}
	signature, err := a.key.Sign(nil, make([]byte, 32), crypto.SHA256)
	if err != nil {
		return nil, err
	}
	data, err := asn1.Marshal(struct {
		Signed    asn1.RawValue
		Signature []byte
	}{asn1.RawValue{FullBytes: a.message(text)}, signature})
	return []Output{{a.plan.File, "message", data}}, err
}

// talk answers for the custodians.
type talk struct {
	answer func(custodian, phrase string) string
	shown  string
	asked  []string
}

func (p *talk) Show(text string) error { p.shown = text; return nil }

func (p *talk) Ask(_ context.Context, custodian, phrase string) (string, error) {
	p.asked = append(p.asked, custodian)
	return p.answer(custodian, phrase), nil
}

func agree(_, phrase string) string {
	return " " + strings.ToUpper(strings.ReplaceAll(phrase, "-", " ")) + "\n"
}

// stage is a document, its act, and a token.
type stage struct {
	t    *testing.T
	dir  string
	doc  *Document
	act  *testAct
	tok  token.Token
	talk *talk
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, dir: t.TempDir(), talk: &talk{answer: agree}}
	doc, plan, err := Parse[testPlan]([]byte(goodDocument), filepath.Join(s.dir, "doc.yaml"))
	must(t, err)
	s.doc, s.act = doc, &testAct{plan: plan}
	device := soft.NewDevice(soft.Config{})
	must(t, device.Create(t.Context(), []byte("so-pin"), []byte("user-pin")))
	s.tok, err = device.Open(t.Context(), []byte("user-pin"))
	must(t, err)
	t.Cleanup(func() { s.tok.Close() })
	return s
}

func (s *stage) run(ctx context.Context, edit func(*Options)) (*Result, error) {
	o := Options{Tool: "test", Token: s.tok, People: s.talk}
	if edit != nil {
		edit(&o)
	}
	return Run(ctx, s.doc, s.act, o)
}

// left are the labels of the keys in the token and the files in the directory.
func (s *stage) left() (labels, files []string) {
	s.t.Helper()
	all, err := s.tok.Objects(context.Background(), token.ObjectName{}, 10)
	must(s.t, err)
	for _, o := range all {
		labels = append(labels, o.Label)
	}
	entries, err := os.ReadDir(s.dir)
	must(s.t, err)
	for _, e := range entries {
		files = append(files, e.Name())
	}
	return labels, files
}

// nothing checks that neither a key nor a file is left.
func (s *stage) nothing() {
	s.t.Helper()
	if labels, files := s.left(); len(labels)+len(files) > 0 {
		s.t.Errorf("keys %v and files %v are left", labels, files)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	r, err := s.run(t.Context(), nil)
	must(t, err)
	for _, want := range []string{"A test", "Two lines", "Alice Example, Bob Example", "sign hello", "e_x", s.doc.Digest(), "SHA-256"} {
		if !strings.Contains(s.talk.shown, want) {
			t.Errorf("the custodians don't see %q:\n%s", want, s.talk.shown)
		}
	}
	if strings.Join(s.talk.asked, ",") != "Alice Example,Bob Example" {
		t.Errorf("asked %v", s.talk.asked)
	}
	text, err := os.ReadFile(filepath.Join(s.dir, "t.transcript"))
	must(t, err)
	report, err := Verify(text, VerifyOptions{Key: r.Report.SigningKey, Document: []byte(goodDocument), Dir: s.dir})
	must(t, err)
	if report.Outcome != Done || !report.KeyCompared || !report.DocCompared || !report.Files[0].Compared || report.Text != s.talk.shown || len(report.Keys) != 2 || !report.Keys[1].Made {
		t.Errorf("%+v", report)
	}
	if labels, files := s.left(); len(labels) != 2 || len(files) != 2 {
		t.Errorf("keys %v, files %v", labels, files)
	}
	_, err = s.run(t.Context(), nil)
	wantError(t, err, "exists already")
	if again, err := os.ReadFile(filepath.Join(s.dir, "t.transcript")); err != nil || !bytes.Equal(again, text) {
		t.Error("the transcript was changed")
	}
	must(t, os.WriteFile(filepath.Join(s.dir, "made"), []byte("other"), 0o600))
	_, err = Verify(text, VerifyOptions{Dir: s.dir})
	wantError(t, err, "not the one")
	_, err = Verify(text, VerifyOptions{Document: []byte("x")})
	wantError(t, err, "document is another one")
	_, err = Verify(text, VerifyOptions{Key: strings.Repeat("0", 64)})
	wantError(t, err, "is signed by the key")
}

// Without enough confirmations nothing is signed, and nothing is left.
func TestDeclined(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(custodian, phrase string) string{
		"nobody": func(string, string) string { return "" },
		"one": func(c, phrase string) string {
			if c == "Bob Example" {
				return phrase
			}
			return ""
		},
		"wrong phrases":     func(string, string) string { return "0000-0000-0000-0000" },
		"phrases of others": func(string, phrase string) string { return phrase[:18] + "_" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.talk.answer = answer
			s.act.fail = func() error { t.Error("signed"); return nil }
			_, err := s.run(t.Context(), nil)
			wantError(t, err, "2 must")
			if fault.KindOf(err) != fault.Denied {
				t.Errorf("kind %v", fault.KindOf(err))
			}
			s.nothing()
		})
	}
}

func TestMistyped(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tries := 0
	s.talk.answer = func(_, phrase string) string {
		if tries++; tries < wrongPhrases {
			return "wrong"
		}
		return phrase
	}
	_, err := s.run(t.Context(), nil)
	must(t, err)
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.talk.answer = func(_, phrase string) string { cancel(); return phrase }
	_, err := s.run(ctx, nil)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s.nothing()
}

// A ceremony that fails after its intent leaves a signed transcript that says so.
func TestFailed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(*stage)
		want string
	}{
		"signing": {func(s *stage) { s.act.fail = func() error { return errors.New("the HSM is on fire") } }, "on fire"},
		"writing": {func(s *stage) {
			s.act.fail = func() error { return os.Mkdir(filepath.Join(s.dir, "made"), 0o700) }
		}, "exists already"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			c.edit(s)
			_, err := s.run(t.Context(), nil)
			wantError(t, err, "t.transcript says how far it went")
			wantError(t, err, c.want)
			text, err := os.ReadFile(filepath.Join(s.dir, "t.transcript"))
			must(t, err)
			report, err := Verify(text, VerifyOptions{})
			must(t, err)
			if report.Outcome != Failed || !strings.Contains(report.Reason, c.want) {
				t.Errorf("%+v", report)
			}
			if labels, _ := s.left(); len(labels) != 1 || labels[0] != defaultTranscriptKey {
				t.Errorf("keys %v are left", labels)
			}
		})
	}
}

// An act that signs something else than it showed is found out.
func TestLie(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.act.lie = true
	_, err := s.run(t.Context(), nil)
	wantError(t, err, "does not hold what was confirmed")
	if _, files := s.left(); strings.Join(files, " ") != "t.transcript" {
		t.Errorf("left: %v", files)
	}
}

func TestRunByFile(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, err := ParseConfirmations([]byte("document: " + s.doc.Digest() + "\nconfirmed_by: [Bob Example, Carol Example]\nreason: nobody is there\n"))
	must(t, err)
	r, err := s.run(t.Context(), func(o *Options) { o.Confirmations = c })
	must(t, err)
	if len(s.talk.asked) > 0 || len(r.Report.Confirmed) != 2 || r.Report.Confirmed[0].How != howFile || r.Report.Confirmed[0].Reason != "nobody is there" {
		t.Errorf("asked %v, %+v", s.talk.asked, r.Report.Confirmed)
	}
}

func TestRehearsal(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	out := t.TempDir()
	r, err := s.run(t.Context(), func(o *Options) { o.Rehearsal, o.Out = true, out })
	must(t, err)
	if !r.Report.Rehearsal || !strings.Contains(s.talk.shown, "REHEARSAL") || filepath.Dir(r.Transcript) != out {
		t.Errorf("%+v", r)
	}
	if _, files := s.left(); len(files) > 0 {
		t.Errorf("files %v beside the document", files)
	}
	_, err = s.run(t.Context(), func(o *Options) { o.Rehearsal, o.Out = true, out })
	wantError(t, err, "exists already")
}

func TestKeys(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	session := &Session{Document: s.doc, token: s.tok}
	_, err := session.FindKey(t.Context(), "absent", nil, token.P256)
	wantError(t, err, "no private key")
	a, err := session.NewKey(t.Context(), "a", token.P256)
	must(t, err)
	_, err = session.NewKey(t.Context(), "a", token.P256)
	wantError(t, err, "already")
	b, err := session.FindKey(t.Context(), "a", nil, token.P256)
	must(t, err)
	if !bytes.Equal(a.PKIX, b.PKIX) || b.made {
		t.Error("another key is found")
	}
	cause := errors.New("cause")
	if err := session.undo(t.Context(), nil, cause); err != cause {
		t.Error(err)
	}
	s.nothing()
}

func TestCheck(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.act.plan.File = "sub/made"
	wantError(t, Check(s.doc, s.act), "directory is not there")
	s.act.plan.File = "/tmp/t.transcript"
	wantError(t, Check(s.doc, s.act), "two outputs")
	s.act.plan.File = "made"
	must(t, os.Symlink("nowhere", filepath.Join(s.dir, "made")))
	wantError(t, Check(s.doc, s.act), "exists already")
}
