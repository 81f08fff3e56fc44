package custodians

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/ceremony"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/server"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected: %v (%s)", err, fault.HintOf(err))
	}
}

func wantError(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("the error is %v, want one with %q", err, text)
	}
}

// stage is a directory with documents and keys, and a server.
type stage struct {
	t       *testing.T
	dir     string
	people  []*openpgp.Entity
	address string
	server  *client.Client
	shares  [][]byte // in force
	given   []Wanted
	fail    func(Wanted) error // of the next share
}

func newStage(t *testing.T, people int) *stage {
	t.Helper()
	s := &stage{t: t, dir: t.TempDir()}
	for i := range people {
		s.person(fmt.Sprintf("p%d", i+1), nil)
	}
	scratch, err := server.NewScratch("1.2.3")
	must(t, err)
	t.Cleanup(func() {
		if err := scratch.Close(); err != nil {
			t.Error(err)
		}
	})
	s.address = scratch.Address
	s.server, err = client.New(client.Config{Address: s.address})
	must(t, err)
	return s
}

// person makes a key and its file.
func (s *stage) person(name string, config *packet.Config) *openpgp.Entity {
	s.t.Helper()
	if config == nil {
		config = &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA}
	}
	e, err := openpgp.NewEntity(name, "", "", config)
	must(s.t, err)
	var b bytes.Buffer
	must(s.t, e.Serialize(&b))
	s.write(name+".pgp", b.String())
	s.people = append(s.people, e)
	return e
}

func (s *stage) write(name, text string) {
	s.t.Helper()
	must(s.t, os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600))
}

func (s *stage) read(name string) []byte {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	must(s.t, err)
	return b
}

func (s *stage) print(i int) string { return fmt.Sprintf("%X", s.people[i].PrimaryKey.Fingerprint) }

// document writes one for the people from to, with that prefix of its files.
func (s *stage) document(kind, prefix string, from, to, threshold int, more string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ceremony: %s\ntitle: A test\ncustodians: {threshold: 1, names: [One, Two]}\nserver: {address: %q}\ntranscript: %s.transcript\nplan:\n%s",
		kind, s.address, prefix, more)
	if to > from {
		fmt.Fprintf(&b, "  threshold: %d\n  share_set: %s.json\n  shares:\n", threshold, prefix)
		for i := from; i < to; i++ {
			fmt.Fprintf(&b, "    - {custodian: Person %d, key: p%d.pgp, fingerprint: %s, file: %s.%d}\n", i+1, i+1, s.print(i), prefix, i+1)
		}
	}
	s.write(prefix+".yaml", b.String())
	return b.String()
}

func (s *stage) rootTo(i int, file string) string {
	return fmt.Sprintf("  root_token: {custodian: Person %d, key: p%d.pgp, fingerprint: %s, file: %s}\n", i+1, i+1, s.print(i), file)
}

func (s *stage) parse(text, prefix string) *Ceremony {
	s.t.Helper()
	c, err := Parse([]byte(text), filepath.Join(s.dir, prefix+".yaml"), time.Now())
	must(s.t, err)
	return c
}

// decrypt opens a file that was handed over to person i.
func (s *stage) decrypt(i int, file string) []byte {
	s.t.Helper()
	m, err := openpgp.ReadMessage(bytes.NewReader(s.read(file)), openpgp.EntityList{s.people[i]}, nil, nil)
	must(s.t, err)
	var out bytes.Buffer
	_, err = out.ReadFrom(m.UnverifiedBody)
	must(s.t, err)
	return out.Bytes()
}

// agreement confirms everything.
type agreement struct{ shown string }

func (a *agreement) Show(text string) error { a.shown += text; return nil }
func (a *agreement) Ask(_ context.Context, _, phrase string) (string, error) {
	return phrase, nil
}

// env gives shares: those in force, and new ones of the people from in files of that prefix.
func (s *stage) env(prefix string, from int) Env {
	return Env{Server: s.server, Show: (&agreement{}).Show, Share: func(_ context.Context, w Wanted) ([]byte, error) {
		s.given = append(s.given, w)
		if s.fail != nil {
			if err := s.fail(w); err != nil {
				return nil, err
			}
		}
		if !w.New {
			return bytes.Clone(s.shares[w.N-1]), nil
		}
		i := from + w.N - 1
		return s.decrypt(i, fmt.Sprintf("%s.%d", prefix, i+1)), nil
	}}
}

func (s *stage) hold(prefix, text string, from int) (*ceremony.Result, error) {
	s.t.Helper()
	c := s.parse(text, prefix)
	act, err := c.Act(s.env(prefix, from), false)
	must(s.t, err)
	return ceremony.Hold(s.t.Context(), c.Document, act, ceremony.Options{Tool: "test", People: &agreement{}})
}

// initialise holds the first ceremony and unseals.
func (s *stage) initialise(n, threshold int) {
	s.t.Helper()
	_, err := s.hold("init", s.document("init", "init", 0, n, threshold, "  hsm_token: create\n"+s.rootTo(0, "root")), 0)
	must(s.t, err)
	s.shares = nil
	for i := range n {
		s.shares = append(s.shares, s.decrypt(i, fmt.Sprintf("init.%d", i+1)))
	}
	for _, share := range s.shares[:threshold] {
		_, err := s.server.Unseal(s.t.Context(), api.Unseal{Key: string(share)})
		must(s.t, err)
	}
	s.server = s.server.WithToken(string(s.decrypt(0, "root")))
}

func (s *stage) verify(prefix string) *ceremony.Report {
	s.t.Helper()
	r, err := ceremony.Verify(s.read(prefix+".transcript"), ceremony.VerifyOptions{Document: s.read(prefix + ".yaml"), Dir: s.dir})
	must(s.t, err)
	return r
}

// The life of a server in ceremonies, from one share to 255.
func TestCeremonies(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ n, t, n2, t2 int }{{1, 1, 2, 1}, {3, 2, 1, 1}, {5, 5, 4, 3}, {255, 3, 255, 2}} {
		t.Run(fmt.Sprintf("%d of %d", x.t, x.n), func(t *testing.T) {
			t.Parallel()
			s := newStage(t, max(x.n, x.n2)+1)
			s.initialise(x.n, x.t)
			r := s.verify("init")
			if r.Act.ShareSet.Shares != x.n || r.Act.ShareSet.Threshold != x.t || len(r.Act.Shares) != x.n || r.Act.Root == nil || len(r.Act.ShareSet.Commitments) != x.t {
				t.Errorf("%+v", r.Act)
			}
			first := r.Act.ShareSet.SetID
			_, err := s.hold("rekey", s.document("rekey", "rekey", 1, x.n2+1, x.t2, "  new_pin: true\n"), 1)
			must(t, err)
			r = s.verify("rekey")
			if r.Act.ShareSet.Shares != x.n2 || len(r.Act.Given) != x.t || len(r.Act.Verified) != x.t2 || r.Act.FormerSet != first || !r.Act.NewPIN || !r.Files[0].Compared {
				t.Errorf("%+v", r.Act)
			}
			set, err := s.server.ShareSet(t.Context())
			must(t, err)
			if set.SetID != r.Act.ShareSet.SetID {
				t.Error("the new shares are not in force")
			}
			s.shares = nil
			for i := range x.t2 {
				s.shares = append(s.shares, s.decrypt(i+1, fmt.Sprintf("rekey.%d", i+2)))
			}
			_, err = s.hold("root", s.document("generate-root", "root", 0, 0, 0, s.rootTo(0, "root2")), 0)
			must(t, err)
			if r := s.verify("root"); r.Act.Root == nil || len(r.Act.Given) != x.t2 {
				t.Errorf("%+v", r.Act)
			}
			root := s.server.WithToken(string(s.decrypt(0, "root2")))
			if _, err := root.LookupSelf(t.Context()); err != nil {
				t.Error(err)
			}
			for _, f := range []string{"init.1", "root", "root2"} {
				if st, err := os.Stat(filepath.Join(s.dir, f)); err != nil || st.Mode().Perm() != 0o600 {
					t.Errorf("%s: %v, %v", f, st.Mode(), err)
				}
			}
		})
	}
}

// Nothing secret is in a transcript, and with a one-time pad the token is what the two
// files make.
func TestOneTimePad(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	s.initialise(2, 2)
	_, err := s.hold("otp", s.document("generate-root", "otp", 0, 0, 0, "  otp: true\n  root_token: {file: encoded}\n  pad_file: pad\n  without_token: true\n"), 0)
	must(t, err)
	pad, encoded := s.read("pad"), s.read("encoded")
	token, err := base64.RawStdEncoding.DecodeString(string(encoded))
	must(t, err)
	for i := range token {
		token[i] ^= pad[i]
	}
	if _, err := s.server.WithToken(string(token)).LookupSelf(t.Context()); err != nil {
		t.Error(err)
	}
	if r := s.verify("otp"); r.Act.Root.For != "otp" || !r.Files[0].Compared {
		t.Errorf("%+v", r.Act)
	}
	for _, name := range []string{"init", "otp"} {
		text := s.read(name + ".transcript")
		for _, secret := range [][]byte{pad, encoded, token, s.shares[0], s.shares[1], s.decrypt(0, "root")} {
			for _, form := range [][]byte{secret, []byte(base64.StdEncoding.EncodeToString(secret))} {
				if bytes.Contains(text, form) {
					t.Errorf("the transcript of %s has a secret", name)
				}
			}
		}
	}
}

// An act that fails leaves the shares in force, no files, no attempt in the server, and
// a transcript that says why.
func TestRekeyFails(t *testing.T) {
	t.Parallel()
	s := newStage(t, 4)
	s.initialise(3, 2)
	before, err := s.server.ShareSet(t.Context())
	must(t, err)
	for i, x := range []struct {
		why   string
		fail  func(Wanted) error
		share func()
	}{
		{why: "nobody is there", fail: func(w Wanted) error {
			if w.N == 2 && !w.New {
				return errors.New("nobody is there")
			}
			return nil
		}},
		{why: "nobody opens it", fail: func(w Wanted) error {
			if w.New {
				return errors.New("nobody opens it")
			}
			return nil
		}},
		{why: "given already", share: func() { s.shares[1] = s.shares[0] }},
		{why: "not a share", share: func() { s.shares[1] = []byte("x") }},
	} {
		s.fail = x.fail
		kept := s.shares
		s.shares = slices.Clone(s.shares)
		if x.share != nil {
			x.share()
		}
		prefix := fmt.Sprintf("fails%d", i)
		_, err := s.hold(prefix, s.document("rekey", prefix, 1, 4, 2, ""), 1)
		wantError(t, err, x.why)
		s.shares, s.fail = kept, nil
		if r := s.verify(prefix); r.Outcome != ceremony.Failed || !strings.Contains(r.Reason, x.why) {
			t.Errorf("%+v", r)
		}
		if made, _ := filepath.Glob(filepath.Join(s.dir, prefix+".[0-9]")); len(made) > 0 {
			t.Errorf("%s: %v are left", x.why, made)
		}
		st, err := s.server.RekeyStatus(t.Context())
		must(t, err)
		after, err := s.server.ShareSet(t.Context())
		must(t, err)
		if st.Started || after.SetID != before.SetID {
			t.Errorf("%s: %+v", x.why, st)
		}
	}
	s.fail = func(w Wanted) error { return errors.New("nobody is there") }
	_, err = s.hold("fails", s.document("generate-root", "fails", 0, 0, 0, "  otp: true\n  root_token: {file: encoded}\n  pad_file: pad\n"), 0)
	wantError(t, err, "nobody is there")
	if _, err := os.Stat(filepath.Join(s.dir, "pad")); err == nil {
		t.Error("the one-time pad is left")
	}
	if st, err := s.server.GenerateRootStatus(t.Context(), false); err != nil || st.Started {
		t.Errorf("%+v, %v", st, err)
	}
}

// Where somebody can be asked again, a share that is mistyped costs nothing.
func TestRefusedShareAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	s.initialise(1, 1)
	c := s.parse(s.document("rekey", "rekey", 1, 2, 1, ""), "rekey")
	env, said, wrong := s.env("rekey", 1), []string{}, []byte("mistyped")
	env.Refused = func(err error) bool { said = append(said, err.Error()); return true }
	ask := env.Share
	env.Share = func(ctx context.Context, w Wanted) ([]byte, error) {
		if wrong != nil {
			share := wrong
			wrong = nil
			return share, nil
		}
		return ask(ctx, w)
	}
	act, err := c.Act(env, false)
	must(t, err)
	_, err = ceremony.Hold(t.Context(), c.Document, act, ceremony.Options{People: &agreement{}})
	must(t, err)
	if len(said) != 1 || !strings.Contains(said[0], "not a share") {
		t.Errorf("%q", said)
	}
}

// killed is a server whose client is gone after a call.
type killed struct {
	Server
	after string
}

var errKilled = errors.New("the process is killed")

func (k *killed) GiveRekeyShare(ctx context.Context, r api.GiveRekeyShare) (*api.RekeyStatus, error) {
	s, err := k.Server.GiveRekeyShare(ctx, r)
	if k.after == "share" {
		panic(errKilled)
	}
	return s, err
}

func (k *killed) VerifyRekeyShare(ctx context.Context, r api.GiveRekeyShare) (*api.RekeyVerifyStatus, error) {
	s, err := k.Server.VerifyRekeyShare(ctx, r)
	if k.after == "verify" {
		panic(errKilled)
	}
	return s, err
}

func (k *killed) GiveRootShare(ctx context.Context, open bool, r api.GiveRootShare) (*api.GenerateRootStatus, error) {
	s, err := k.Server.GiveRootShare(ctx, open, r)
	if k.after == "root" {
		panic(errKilled)
	}
	return s, err
}

// cut holds a ceremony whose process is killed.
func (s *stage) cut(c *Ceremony, prefix, after string) {
	s.t.Helper()
	env := s.env(prefix, 1)
	env.Server = &killed{s.server, after}
	act, err := c.Act(env, false)
	must(s.t, err)
	defer func() {
		if err, ok := recover().(error); !ok || !errors.Is(err, errKilled) {
			s.t.Errorf("%v", err)
		}
	}()
	_, err = ceremony.Hold(s.t.Context(), c.Document, act, ceremony.Options{People: &agreement{}})
	s.t.Errorf("it was not killed: %v", err)
}

// A ceremony whose process was killed is begun anew, or completed if the server did it.
func TestCutAndRestarted(t *testing.T) {
	t.Parallel()
	s := newStage(t, 4)
	s.initialise(2, 1)
	for _, after := range []string{"share", "verify"} {
		text := s.document("rekey", after, 1, 4, 1, "")
		c := s.parse(text, after)
		s.cut(c, after, after)
		cut, err := ceremony.ReadCut(c.Document)
		must(t, err)
		if after == "share" {
			_, err = s.hold("other", s.document("rekey", "other", 1, 4, 1, ""), 1)
			wantError(t, err, "another act of this kind is under way")
		}
		signed, err := c.Recover(t.Context(), s.server, cut)
		must(t, err)
		if after == "verify" {
			_, err = cut.Finish(signed)
			must(t, err)
			if r := s.verify(after); r.Outcome != ceremony.Done || len(r.Act.Verified) != 1 || !r.Files[2].Compared {
				t.Errorf("%+v", r)
			}
			continue
		}
		if st, err := s.server.RekeyStatus(t.Context()); err != nil || st.Started || signed != nil {
			t.Errorf("%+v, %v", st, err)
		}
		act, err := c.Act(s.env(after, 1), false)
		must(t, err)
		must(t, cut.PutAside(c.Document, act))
		_, err = ceremony.Hold(t.Context(), c.Document, act, ceremony.Options{People: &agreement{}})
		must(t, err)
		s.verify(after)
		s.shares = [][]byte{s.decrypt(1, "share.2")}
	}
	// The answer with the root token is lost.
	s.shares = [][]byte{s.decrypt(1, "verify.2")}
	c := s.parse(s.document("generate-root", "lost", 0, 0, 0, s.rootTo(0, "lost-root")), "lost")
	s.cut(c, "lost", "root")
	cut, err := ceremony.ReadCut(c.Document)
	must(t, err)
	signed, err := c.Recover(t.Context(), s.server, cut)
	must(t, err)
	_, err = cut.Finish(signed)
	wantError(t, err, "is lost: lost-root")
}

// A rehearsal with scratch keys needs nobody.
func TestRehearsalWithScratchKeys(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"init", "rekey"} {
		s := newStage(t, 3)
		more := ""
		if kind == "init" {
			more = "  hsm_token: adopt\n" + s.rootTo(0, "root")
		} else {
			s.initialise(1, 1)
		}
		c := s.parse(s.document(kind, "r", 0, 3, 2, more), "r")
		env := s.env("r", 0)
		env.Rehearsal = true
		env.Share = func(_ context.Context, w Wanted) ([]byte, error) {
			if w.New {
				return nil, errors.New("somebody is asked")
			}
			return bytes.Clone(s.shares[0]), nil
		}
		act, err := c.Act(env, true)
		must(t, err)
		out := t.TempDir()
		r, err := ceremony.Hold(t.Context(), c.Document, act, ceremony.Options{People: &agreement{}, Rehearsal: true, Out: out})
		must(t, err)
		if !r.Report.Rehearsal || r.Report.Server.Address != "a scratch server" {
			t.Errorf("%+v", r.Report)
		}
		if _, err := os.Stat(filepath.Join(s.dir, "r.transcript")); err == nil {
			t.Error("the rehearsal wrote to the place of the ceremony")
		}
	}
}

// A share, or the token, that can't be written after an initialisation is shown.
func TestInitRescue(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	c := s.parse(s.document("init", "init", 0, 2, 1, "  hsm_token: create\n"+s.rootTo(0, "root")), "init")
	people := &agreement{}
	env := s.env("init", 0)
	env.Show = people.Show
	env.Server = &filling{s.server, func() { s.write("init.2", "in the way") }}
	act, err := c.Act(env, false)
	must(t, err)
	_, err = ceremony.Hold(t.Context(), c.Document, act, ceremony.Options{People: &agreement{}})
	wantError(t, err, "what it handed over was not written")
	if strings.Count(people.shown, "Share ") != 2 || !strings.Contains(people.shown, "Share 2, Person 2: ") || !strings.Contains(people.shown, "Root token: ") {
		t.Errorf("%s", people.shown)
	}
	if string(s.read("init.2")) != "in the way" {
		t.Error("a file was written over")
	}
}

type filling struct {
	Server
	fill func()
}

func (f *filling) Init(ctx context.Context, r api.Init) (*api.InitResult, error) {
	f.fill()
	return f.Server.Init(ctx, r)
}
