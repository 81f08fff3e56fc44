package ceremony

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

const serverDocument = `ceremony: rekey
title: Other shares
custodians: {threshold: 1, names: [Ada, Alan]}
server: {address: "https://claviger.example.org:8200"}
transcript: t.transcript
plan: {}
`

// remote is a server that performs an act: it makes one share for Ada.
type remote struct {
	t     *testing.T
	dir   string
	doc   *Document
	key   *ecdsa.PrivateKey
	ada   *openpgp.Entity
	asked Asked
	share []byte

	prepare error
	perform error
	edit    func(*api.ActStatement)
	sign    func([]byte) []byte // the bytes that are signed
	none    bool                // no statement
	name    string              // of the ceremony
}

func entity(t testing.TB, name string) (*openpgp.Entity, Holder) {
	t.Helper()
	e, err := openpgp.NewEntity(name, "", "", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	must(t, err)
	var b bytes.Buffer
	must(t, e.Serialize(&b))
	return e, Holder{Custodian: name, Fingerprint: hex.EncodeToString(e.PrimaryKey.Fingerprint), PublicKey: b.Bytes()}
}

func newRemote(t *testing.T) *remote {
	t.Helper()
	r := &remote{t: t, dir: t.TempDir(), share: []byte("an encrypted share")}
	var err error
	r.doc, _, err = Parse[struct{}]([]byte(serverDocument), filepath.Join(r.dir, "doc.yaml"))
	must(t, err)
	r.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	var h Holder
	r.ada, h = entity(t, "Ada")
	h.File = "ada.share"
	r.asked = Asked{Act: api.ActRekey, Threshold: 1, Shares: []Holder{h}, NewPIN: true}
	return r
}

func (r *remote) Outputs() []string { return []string{"ada.share"} }
func (r *remote) Describe() string  { return "a share for Ada\n" }

func (r *remote) Prepare(context.Context) (*ServerUsed, *Asked, error) {
	return &ServerUsed{Address: "https://claviger.example.org:8200", Release: "1.2.3", Initialized: true, ShareSet: "00aa", Shares: 3, Threshold: 2}, &r.asked, r.prepare
}

func (r *remote) Perform(_ context.Context, name string, place func(string) string) (*api.SignedStatement, error) {
	r.name = name
	if r.perform != nil {
		return nil, r.perform
	}
	must(r.t, WriteNew(place("ada.share"), r.share, 0o600))
	if r.none {
		return nil, nil
	}
	return r.statement(name), nil
}

// statement is what the server signs.
func (r *remote) statement(name string) *api.SignedStatement {
	r.t.Helper()
	s := api.ActStatement{Format: 1, Act: api.ActRekey, Ceremony: name, Time: time.Now().UTC().Truncate(time.Millisecond),
		Server:   api.StatedServer{Release: "1.2.3", ClusterID: "a cluster"},
		Token:    api.StatedToken{Driver: "mem", Label: "hsm", Serial: "01"},
		ShareSet: api.ShareSet{SetID: "00bb", Shares: 1, Threshold: 1, Commitments: [][]byte{{1, 2}}},
		Given:    []int{1, 3}, FormerSet: "00aa", Verified: []int{1}, NewPIN: true,
		Shares: []api.StatedResult{{For: r.asked.Shares[0].Fingerprint, SHA256: sum(r.share)}}}
	if r.edit != nil {
		r.edit(&s)
	}
	text, err := json.Marshal(s)
	must(r.t, err)
	signed := append([]byte("claviger ceremony statement 1\n"), text...)
	if r.sign != nil {
		signed = r.sign(text)
	}
	digest := sha256.Sum256(signed)
	a, b, err := ecdsa.Sign(rand.Reader, r.key, digest[:])
	must(r.t, err)
	return &api.SignedStatement{Statement: text, PublicKey: spkiOf(r.t, r.key), Signature: append(a.FillBytes(make([]byte, 32)), b.FillBytes(make([]byte, 32))...)}
}

func (r *remote) hold(edit func(*Options)) (*Result, error) {
	o := Options{Tool: "test", People: &talk{answer: agree}}
	if edit != nil {
		edit(&o)
	}
	return Hold(r.t.Context(), r.doc, r, o)
}

func (r *remote) transcript() []byte {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, "t.transcript"))
	must(r.t, err)
	return text
}

func (r *remote) pinned() string { return fingerprint(spkiOf(r.t, r.key)) }

func (r *remote) signature(e *openpgp.Entity, message []byte) []byte {
	r.t.Helper()
	var b bytes.Buffer
	must(r.t, openpgp.ArmoredDetachSign(&b, []*openpgp.Entity{e}, bytes.NewReader(message), nil))
	return b.Bytes()
}

func TestHold(t *testing.T) {
	t.Parallel()
	r := newRemote(t)
	o := &talk{answer: agree}
	result, err := r.hold(func(opts *Options) { opts.People = o })
	must(t, err)
	for _, want := range []string{"a share for Ada", "https://claviger.example.org:8200, release 1.2.3", "its 3 shares, of which 2 open, are the set 00aa", r.doc.Digest()} {
		if !strings.Contains(o.shown, want) {
			t.Errorf("the custodians don't see %q:\n%s", want, o.shown)
		}
	}
	report, err := Verify(r.transcript(), VerifyOptions{Key: r.pinned(), Document: []byte(serverDocument), Dir: r.dir})
	must(t, err)
	if report.Outcome != Done || !report.KeyCompared || !report.DocCompared || len(report.Files) != 1 || !report.Files[0].Compared || report.Act.FormerSet != "00aa" ||
		report.Kind != "rekey" || report.Rehearsal || len(report.Confirmed) != 1 || report.Token.Label != "hsm" || result.Report.SigningKey != r.pinned() {
		t.Errorf("%+v", report)
	}
	_, err = Verify(r.transcript(), VerifyOptions{Key: strings.Repeat("0", 64)})
	wantError(t, err, "is signed by the key")
	_, err = Verify(r.transcript(), VerifyOptions{Document: []byte("x")})
	wantError(t, err, "the document is another one")
	must(t, os.WriteFile(filepath.Join(r.dir, "ada.share"), []byte("another"), 0o600))
	_, err = Verify(r.transcript(), VerifyOptions{Dir: r.dir})
	wantError(t, err, "the file ada.share is not the one")
	_, err = r.hold(nil)
	wantError(t, err, "exists already")
}

// Every bit of the transcript counts, custodians' signatures included, and every line.
func TestServerAltered(t *testing.T) {
	t.Parallel()
	r := newRemote(t)
	_, err := r.hold(nil)
	must(t, err)
	body, err := Body(r.transcript())
	must(t, err)
	text, err := Approve(r.transcript(), "Ada", r.signature(r.ada, body))
	must(t, err)
	report, err := Verify(text, VerifyOptions{Key: r.pinned()})
	must(t, err)
	if len(report.Approved) != 1 || report.Approved[0].Custodian != "Ada" || time.Since(report.Approved[0].Time) > time.Hour {
		t.Errorf("%+v", report.Approved)
	}
	packet := len(body) + bytes.Index(text[len(body):], []byte(`"signature":"`))
	for at := range text {
		b := bytes.Clone(text)
		b[at] ^= 1 << (at % 8)
		// A bit of the OpenPGP packet that nothing signs may leave it as it was for a
		// reader: the approval is proved, or refused, and is nobody else's.
		if got, err := Verify(b, VerifyOptions{Key: r.pinned()}); err == nil && at < packet {
			t.Fatalf("bit %d of byte %d (%q) is turned unnoticed: %+v", at%8, at, text[at], got)
		} else if err == nil && (got.Approved[0].Fingerprint != report.Approved[0].Fingerprint || got.Approved[0].Custodian != "Ada" || !got.Approved[0].Time.Equal(report.Approved[0].Time)) {
			t.Fatalf("byte %d: %+v", at, got.Approved)
		}
	}
	lines := bytes.SplitAfter(text[:len(text)-1], []byte("\n"))
	for i := range lines[:len(lines)-1] {
		if _, err := Verify(append(bytes.Join(append(append([][]byte{}, lines[:i]...), lines[i+1:]...), nil), '\n'), VerifyOptions{}); err == nil {
			t.Errorf("line %d is dropped unnoticed", i)
		}
	}
}

// Fields that are changed by somebody who makes all hashes right again are found by the
// token's signature, and the error says what is wrong.
func TestServerForged(t *testing.T) {
	t.Parallel()
	r := newRemote(t)
	_, err := r.hold(nil)
	must(t, err)
	forge := func(edit func([]Entry)) []byte {
		var list []Entry
		for raw := range bytes.Lines(r.transcript()) {
			e, err := parseEntry(bytes.TrimSuffix(raw, []byte("\n")))
			must(t, err)
			list = append(list, *e)
		}
		edit(list)
		var out []byte
		prev := noLine
		for i := range list {
			list[i].Prev = prev
			raw, err := encode(list[i])
			must(t, err)
			out, prev = append(append(out, raw...), '\n'), sum(raw)
		}
		return out
	}
	if again := forge(func([]Entry) {}); !bytes.Equal(again, r.transcript()) {
		t.Fatal("the transcript is not written again as it was")
	}
	other := func(edit func(*remote)) func([]Entry) {
		return func(l []Entry) {
			x := *r
			edit(&x)
			l[4].Act = x.statement(l[4].Prev)
		}
	}
	for want, edit := range map[string]func([]Entry){
		"is of another ceremony":                func(l []Entry) { l[0].Begin.Tool = "x" },
		"statement of the act is of another":    func(l []Entry) { l[0].Begin.Title = "x" },
		"act is of another ceremony":            func(l []Entry) { l[1].Server.Address = "x" },
		"the digest of the plan":                func(l []Entry) { l[2].Plan.Items[0].Data = []byte("{}") },
		"is of another":                         func(l []Entry) { l[2].Plan.Text = "x" },
		"the digest of the plan is not":         func(l []Entry) { l[0].Begin.Rehearsal = true },
		"digest of the plan is not":             func(l []Entry) { l[0].Begin.Document.SHA256 = strings.Repeat("0", 64) },
		"is none of this ceremony":              func(l []Entry) { l[3].Confirmation.Custodian = "Alan" },
		"confirmation of \"Ada\" is none":       func(l []Entry) { l[3].Confirmation.Phrase = "x" },
		"time of the act":                       func(l []Entry) { l[4].Time = l[4].Time.Add(time.Second) },
		"signature of the statement of the act": func(l []Entry) { l[4].Act.Statement = append(l[4].Act.Statement, ' ') },
		"statement of the act is wrong":         func(l []Entry) { l[4].Act.Signature[3] ^= 1 },
		"not signed by an ECDSA key":            func(l []Entry) { l[4].Act.PublicKey = nil },
		"of the kind \"init\"":                  func(l []Entry) { l[0].Begin.Kind = "init" },
		"1 custodians confirmed, and 2 had to":  func(l []Entry) { l[0].Begin.Custodians.Threshold = 2 },
		"can't stand here":                      func(l []Entry) { l[4] = Entry{Seq: 4, Time: l[4].Time, Signature: &Signature{}} },
		"4 of the transcript: this can't":       func(l []Entry) { l[3] = Entry{Seq: 3, Time: l[3].Time, Key: &KeyUsed{}} },
		"is of the act \"init\"":                other(func(x *remote) { x.edit = func(s *api.ActStatement) { s.Act = "init" } }),
		"differs from what was asked for":       other(func(x *remote) { x.edit = func(s *api.ActStatement) { s.NewPIN = false } }),
		"names no share":                        other(func(x *remote) { x.edit = func(s *api.ActStatement) { s.Given = nil } }),
		"0 new shares were given back":          other(func(x *remote) { x.edit = func(s *api.ActStatement) { s.Verified = nil } }),
		"encrypted to other keys":               other(func(x *remote) { x.edit = func(s *api.ActStatement) { s.Shares[0].For = "x" } }),
		"2 shares of which 1 open":              other(func(x *remote) { x.edit = func(s *api.ActStatement) { s.ShareSet.Shares = 2 } }),
		"root token is not encrypted":           other(func(x *remote) { x.edit = func(s *api.ActStatement) { s.Root = &api.StatedResult{} } }),
		"of a format that":                      other(func(x *remote) { x.edit = func(s *api.ActStatement) { s.Format = 2 } }),
		"statement of the act is wrong: it was": other(func(x *remote) { x.sign = func(b []byte) []byte { return b } }),
		"wrong: it was altered, or signed with ano": other(func(x *remote) {
			x.sign = func(b []byte) []byte { return append([]byte("claviger snapshot 1\x00"), b...) }
		}),
	} {
		_, err := Verify(forge(edit), VerifyOptions{})
		wantError(t, err, want)
	}
}

func TestApproveRefuses(t *testing.T) {
	t.Parallel()
	r := newRemote(t)
	alan, holder := entity(t, "Alan")
	r.asked.Signers = []Holder{holder}
	_, err := r.hold(nil)
	must(t, err)
	text := r.transcript()
	body, err := Body(text)
	must(t, err)
	if !bytes.Equal(body, text) {
		t.Error("what is signed is not all of the transcript")
	}
	for want, try := range map[string]func() ([]byte, string, []byte){
		"did not sign this":       func() ([]byte, string, []byte) { return text, "Ada", r.signature(alan, body) },
		"key":                     func() ([]byte, string, []byte) { return text, "Ada", r.signature(r.ada, append(body, 'x')) },
		"no OpenPGP key of the":   func() ([]byte, string, []byte) { return text, "Eve", r.signature(r.ada, body) },
		"no detached OpenPGP":     func() ([]byte, string, []byte) { return text, "Ada", []byte("x") },
		"armor of the signature":  func() ([]byte, string, []byte) { return text, "Ada", []byte("-----BEGIN PGP SIGNATURE-----\nx") },
		"line 1 of the":           func() ([]byte, string, []byte) { return []byte("x\n"), "Ada", r.signature(r.ada, body) },
		"acts that a server perf": func() ([]byte, string, []byte) { return held(t), "Ada", r.signature(r.ada, body) },
	} {
		text, name, signature := try()
		_, err := Approve(text, name, signature)
		wantError(t, err, want)
	}
	text, err = Approve(text, "Alan", r.signature(alan, body))
	must(t, err)
	_, err = Approve(text, "Alan", r.signature(alan, body))
	wantError(t, err, `"Alan" signed twice`)
	text, err = Approve(text, "Ada", r.signature(r.ada, body))
	must(t, err)
	if again, err := Body(text); err != nil || !bytes.Equal(again, body) {
		t.Error("what is signed changes with signatures")
	}
	report, err := Verify(text, VerifyOptions{})
	must(t, err)
	if len(report.Approved) != 2 {
		t.Errorf("%+v", report.Approved)
	}
}

// A ceremony that fails says so, and nobody signs that.
func TestHoldFails(t *testing.T) {
	t.Parallel()
	r := newRemote(t)
	r.perform = fault.New(fault.Invalid, "this share was altered").WithHint("take another")
	_, err := r.hold(nil)
	wantError(t, err, "this share was altered")
	if fault.HintOf(err) != "take another" {
		t.Errorf("%v", err)
	}
	report, err := Verify(r.transcript(), VerifyOptions{})
	must(t, err)
	if report.Outcome != Failed || report.Reason != "this share was altered" || report.SigningKey != "" || len(report.Files) != 0 {
		t.Errorf("%+v", report)
	}
	_, err = Verify(r.transcript(), VerifyOptions{Key: r.pinned()})
	wantError(t, err, "nothing is signed: the ceremony failed: this share was altered")
	_, err = Body(r.transcript())
	wantError(t, err, "that a server performed")

	for want, edit := range map[string]func(*remote){
		"did not sign a statement": func(r *remote) { r.none = true },
		"another ceremony":         func(r *remote) { r.edit = func(s *api.ActStatement) { s.Ceremony = "x" } },
		"prove the act":            func(r *remote) { r.sign = func([]byte) []byte { return nil } },
	} {
		r := newRemote(t)
		edit(r)
		_, err := r.hold(nil)
		wantError(t, err, want)
		if fault.KindOf(err) != fault.Uncertain {
			t.Errorf("%v", err)
		}
	}
}

func TestHoldRefuses(t *testing.T) {
	t.Parallel()
	for want, try := range map[string]func(*remote) (*Result, error){
		"0 custodians confirmed": func(r *remote) (*Result, error) {
			return r.hold(func(o *Options) { o.People = &talk{answer: func(string, string) string { return "" }} })
		},
		"the document is for 2001-02-03, and today is": func(r *remote) (*Result, error) { r.doc.Date = "2001-02-03"; return r.hold(nil) },
		"it is sealed": func(r *remote) (*Result, error) { r.prepare = errors.New("it is sealed"); return r.hold(nil) },
	} {
		r := newRemote(t)
		_, err := try(r)
		wantError(t, err, want)
		if entries, err := os.ReadDir(r.dir); err != nil || len(entries) != 0 {
			t.Errorf("%s: %v are left", want, entries)
		}
		if r.name != "" {
			t.Error("the server was asked")
		}
	}
	// A rehearsal is for any day.
	r := newRemote(t)
	r.doc.Date = "2001-02-03"
	result, err := r.hold(func(o *Options) { o.Rehearsal, o.Out = true, r.dir })
	must(t, err)
	if !result.Report.Rehearsal {
		t.Errorf("%+v", result.Report)
	}
}

// A ceremony that is broken off while the server works is completed with the server's
// statement, or put aside.
func TestCut(t *testing.T) {
	t.Parallel()
	cutOff := func(r *remote) []byte {
		_, err := r.hold(nil)
		must(t, err)
		lines := bytes.SplitAfter(r.transcript(), []byte("\n"))
		text := append(bytes.Join(lines[:4], nil), []byte(`{"seq":4,"ti`)...) // and a line that was not finished
		must(t, os.WriteFile(filepath.Join(r.dir, "t.transcript"), text, 0o600))
		return text
	}
	r := newRemote(t)
	cutOff(r)
	_, err := Verify(r.transcript(), VerifyOptions{})
	wantError(t, err, "does not end with a whole line")
	c, err := ReadCut(r.doc)
	must(t, err)
	if c.Ceremony != r.name {
		t.Errorf("%s, want %s", c.Ceremony, r.name)
	}
	_, err = c.Finish(r.statement("of another"))
	wantError(t, err, "of another ceremony")
	_, err = c.Finish(r.statement(r.name))
	must(t, err)
	_, err = Verify(r.transcript(), VerifyOptions{Key: r.pinned(), Dir: r.dir})
	must(t, err)
	_, err = ReadCut(r.doc)
	wantError(t, err, "was not broken off")

	// What the server handed over is lost.
	r = newRemote(t)
	before := cutOff(r)
	must(t, os.Remove(filepath.Join(r.dir, "ada.share")))
	c, err = ReadCut(r.doc)
	must(t, err)
	_, err = c.Finish(r.statement(r.name))
	wantError(t, err, "is lost: ada.share")
	if !bytes.Equal(r.transcript(), before) {
		t.Error("the transcript was changed")
	}

	// The server did nothing.
	r = newRemote(t)
	cutOff(r)
	c, err = ReadCut(r.doc)
	must(t, err)
	must(t, c.PutAside(r.doc, r))
	_, err = r.hold(nil)
	must(t, err)
	wantError(t, c.PutAside(r.doc, r), "exists already")

	// The document was altered in between.
	r = newRemote(t)
	cutOff(r)
	r.doc, _, err = Parse[struct{}]([]byte(strings.Replace(serverDocument, "Other", "More", 1)), filepath.Join(r.dir, "doc.yaml"))
	must(t, err)
	_, err = ReadCut(r.doc)
	wantError(t, err, "the document is another one")
}

// A transcript of the first release, with signatures by GnuPG.
func TestKnownTranscript(t *testing.T) {
	t.Parallel()
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		must(t, err)
		return b
	}
	block, _ := pem.Decode(read("audit.pem"))
	report, err := Verify(read("rekey.transcript"), VerifyOptions{Key: fingerprint(block.Bytes), Document: read("rekey.yaml")})
	must(t, err)
	if len(report.Approved) != 2 || report.Approved[0].Custodian != "Ada Example" || len(report.Files) != 3 || !report.Act.NewPIN {
		t.Errorf("%+v", report)
	}
}

func FuzzVerifyServer(f *testing.F) {
	text, err := os.ReadFile("testdata/rekey.transcript")
	must(f, err)
	f.Add(text)
	f.Add(text[:len(text)/2])
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := Verify(text, VerifyOptions{}); err == nil && r.Server != nil && r.Outcome == Done && r.Act == nil {
			t.Error("an act without a statement")
		}
		_, _ = Approve(text, "Ada Example", text)
	})
}
