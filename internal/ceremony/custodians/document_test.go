package custodians

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/ceremony"
	"github.com/claviger/claviger/internal/ceremony/ca"
)

// desk is a stage without a server.
func desk(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, dir: t.TempDir(), address: "https://claviger.example.org:8200"}
	for _, name := range []string{"p1", "p2", "p3"} {
		s.person(name, nil)
	}
	return s
}

func TestParse(t *testing.T) {
	t.Parallel()
	s := desk(t)
	c := s.parse(s.document("init", "init", 0, 3, 2, "  hsm_token: create\n  recovery: true\n"+s.rootTo(1, "root")), "init")
	if len(c.asked.Shares) != 3 || c.asked.Threshold != 2 || !c.asked.Recovery || c.asked.Root.Custodian != "Person 2" || c.asked.Act != api.ActInit ||
		strings.Join(c.Outputs(), " ") != "init.1 init.2 init.3 root init.json" || c.asked.Shares[2].File != "init.3" {
		t.Errorf("%+v", c.asked)
	}
	act, err := c.Act(Env{}, false)
	must(t, err)
	text := ceremony.Show(c.Document, act)
	for _, want := range []string{"Share  Custodian  Key of", "3      Person 3   p3", strings.ToLower(s.print(2)), "never", "3 new shares, of which 2 open", "recovery shares", s.address} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing says %q:\n%s", want, text)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	s := desk(t)
	lifetime := uint32(60)
	old := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: lifetime, Time: func() time.Time { return time.Now().Add(-time.Hour) }}
	s.person("p4", old)
	s.write("empty.pgp", "")
	good := map[string]string{
		"init":          s.document("init", "x", 0, 3, 2, "  hsm_token: create\n"+s.rootTo(1, "root")),
		"rekey":         s.document("rekey", "x", 0, 3, 2, "  new_pin: true\n"),
		"generate-root": s.document("generate-root", "x", 0, 0, 0, s.rootTo(1, "root")),
		"otp":           s.document("generate-root", "x", 0, 0, 0, "  otp: true\n  root_token: {file: encoded}\n  pad_file: pad\n"),
	}
	for _, text := range good {
		s.parse(text, "x")
	}
	for _, x := range []struct{ doc, old, new, want string }{
		{"rekey", "new_pin", "new_pins", "field new_pins not found"},
		{"rekey", "new_pin", "hsm_token", "field hsm_token not found"},
		{"generate-root", "plan:\n", "plan:\n  threshold: 2\n", "field threshold not found"},
		{"init", "p1.pgp", "p1.pgp, other: x", "field other not found"},
		{"rekey", "  threshold: 2", "  threshold: 4", "threshold is 4; it is from 1 to 3"},
		{"rekey", "  threshold: 2", "  threshold: 0", "threshold is 0; it is from 1 to 3"},
		{"rekey", "Person 2", "Person 1", `the custodian "Person 1" is named twice`},
		{"rekey", "custodian: Person 2, key: p2.pgp, fingerprint: " + s.print(1), "custodian: Person 2, key: p1.pgp, fingerprint: " + s.print(0), `"Person 1" and "Person 2" have the same OpenPGP key`},
		{"rekey", s.print(1), s.print(2), "and the document says"},
		{"rekey", s.print(1), `""`, "and the document says"},
		{"rekey", "key: p2.pgp, fingerprint: " + s.print(1), "key: p4.pgp, fingerprint: " + s.print(3), "it has expired"},
		{"rekey", "p2.pgp", "p9.pgp", "share 2: key"},
		{"rekey", "p2.pgp", "empty.pgp", "in empty.pgp: it is neither"},
		{"rekey", "key: p2.pgp, ", "", "key is missing"},
		{"rekey", ", file: x.2", "", "share 2: file is missing"},
		{"rekey", "Person 2", `"Person\n2"`, "must be a name in one line"},
		{"rekey", "x.2", `"x\n2"`, "a character that can't be shown"},
		{"init", "hsm_token: create", "hsm_token: make", "must be create (a new HSM token) or adopt"},
		{"init", "  hsm_token: create\n", "", "must be create (a new HSM token) or adopt"},
		{"init", ", file: root", "", "root_token: file is missing"},
		{"init", "root_token", "root", "field root not found"},
		{"otp", "  pad_file: pad\n", "", "pad_file is the one for the one-time pad"},
		{"otp", "file: encoded", "file: encoded, key: p1.pgp", "exclude each other"},
		{"otp", "  otp: true\n", "", "pad_file goes with otp"},
		{"generate-root", "plan:\n", "plan:\n  signers: [{custodian: X, key: p1.pgp, fingerprint: " + s.print(0) + ", file: f}]\n", "nothing is handed over to signers"},
		{"generate-root", "server: {address", "server: {adress", "field adress not found"},
		{"generate-root", `server: {address: "https://claviger.example.org:8200"}`, "server: {ca_cert: ca.pem}", "server has no address"},
		{"generate-root", `server: {address: "https://claviger.example.org:8200"}`, "token: {soft: tok, label: x}", "the document has no server"},
		{"generate-root", "transcript:", "token: {label: x}\ntranscript:", "both a token and a server"},
		{"generate-root", "title: A test", "title: A test\ndate: 22.11.2026", "must be a day such as"},
		{"generate-root", "ceremony: generate-root", "ceremony: root", `there is no ceremony "root" of a server`},
	} {
		text := strings.Replace(good[x.doc], x.old, x.new, 1)
		if text == good[x.doc] {
			t.Errorf("%s has no %q", x.doc, x.old)
		}
		_, err := Parse([]byte(text), filepath.Join(s.dir, "x.yaml"), time.Now())
		wantError(t, err, x.want)
	}
	many := s.document("rekey", "x", 0, 1, 1, "")
	line := many[strings.Index(many, "    - {"):]
	_, err := Parse([]byte(many+strings.Repeat(line, 255)), filepath.Join(s.dir, "x.yaml"), time.Now())
	wantError(t, err, "shares has 256 custodians; there are 1 to 255 shares")
	_, _, err = ca.Parse([]byte(strings.Replace(must2(ca.Example("crl"))(t), "token:", "server: {address: x}\ntoken:", 1)), "x.yaml")
	wantError(t, err, "both a token and a server")
}

func must2(text string, err error) func(testing.TB) string {
	return func(t testing.TB) string { must(t, err); return text }
}

// Two files of the same name, and one that is there, are refused before anything.
func TestFilesInTheWay(t *testing.T) {
	t.Parallel()
	s := desk(t)
	c := s.parse(strings.Replace(s.document("rekey", "x", 0, 3, 2, ""), "x.2", "x.1", 1), "x")
	wantError(t, ceremony.Check(c.Document, c), "two outputs of the document have the name x.1")
	c = s.parse(s.document("rekey", "x", 0, 3, 2, ""), "x")
	s.write("x.3", "")
	wantError(t, ceremony.Check(c.Document, c), "exists already")
}

// Each example is read, but for the fingerprints that nobody has.
func TestExamples(t *testing.T) {
	t.Parallel()
	s := desk(t)
	for _, name := range []string{"ada", "grace", "alan", "edsger"} {
		must(t, os.WriteFile(filepath.Join(s.dir, name+".asc"), s.read("p1.pgp"), 0o600))
	}
	names, _ := Kinds()
	for _, name := range names {
		text, err := Example(name)
		must(t, err)
		_, err = Parse([]byte(text), filepath.Join(s.dir, "x.yaml"), time.Now())
		wantError(t, err, `and the document says "0000 0000`)
	}
}

func FuzzParse(f *testing.F) {
	for _, kind := range []string{"init", "rekey", "generate-root"} {
		text, err := Example(kind)
		must(f, err)
		f.Add([]byte(text))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text, filepath.Join(dir, "x.yaml"), time.Now())
		if err == nil && (c.asked.Threshold > len(c.asked.Shares) || c.asked.Act == "") {
			t.Errorf("%+v", c.asked)
		}
	})
}
