package programs

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what was found into testdata and docs/guides/programs.md")

// toolScripts are programs that look at a token from all sides, in
// testdata/tools, with the program and the Debian package that each needs.
var toolScripts = []struct{ script, program, pkg string }{
	{"pkcs11-tool", "pkcs11-tool", "opensc"},
	{"pkcs11-tool-test", "pkcs11-tool", "opensc"},
	{"pkcs11-tool-sign", "pkcs11-tool", "opensc"},
	{"pkcs11-tool-decrypt", "pkcs11-tool", "opensc"},
	{"pkcs11-tool-objects", "pkcs11-tool", "opensc"},
	{"p11tool", "p11tool", "gnutls-bin"},
	{"ods-hsmutil", "ods-hsmutil", "libhsm-bin"},
	{"attributes", "pykcs11", ""},
	{"mechanisms", "pykcs11", ""},
}

// TestTools runs each script with SoftHSM2's module and with Claviger's. What
// they print must be the same but for the differences that testdata/tools/*.diff
// list, each with its reason.
func TestTools(t *testing.T) {
	t.Parallel()
	for _, s := range toolScripts {
		t.Run(s.script, func(t *testing.T) {
			t.Parallel()
			if s.pkg == "" {
				needPython(t, s.program)
			} else {
				need(t, s.program, s.pkg)
			}
			want := runTool(t, softHSM(t), s.script)
			for i, way := range loginWays {
				if i == 0 || full {
					compareTool(t, s.script, want, runTool(t, way.start(t), s.script))
				}
			}
		})
	}
}

// runTool runs a script on a token with one key of RSA and one of EC, and returns
// the lines that it printed, without what differs from run to run.
func runTool(t *testing.T, p *provider, script string) []string {
	t.Helper()
	rsa, ec := p.key(t, "tool-rsa", "rsa-2048"), &key{}
	if script != "pkcs11-tool-test" { // what that does depends on which key it finds first
		ec = p.key(t, "tool-ec", "ecdsa-p256")
	}
	here, err := filepath.Abs("testdata/tools")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(here, script+".sh"))
	if err != nil {
		t.Fatal(err)
	}
	pin := p.login(t)
	prelude := fmt.Sprintf("exec 2>&1; export M='%s' PIN='%s' RSA=%s RSA_ID=%s EC=%s EC_ID=%s SCRIPTS='%s'; say() { echo \"== $*\"; }\n", p.module, pin, rsa.name, rsa.hexID(), ec.name, ec.hexID(), here)
	printed, err := shell(t, p, workplace(t, p), prelude+string(text))
	if err != nil {
		t.Errorf("%s on %s: %v\n%s", script, p.name, err, printed)
	}
	return strip(printed, pin, p.module, rsa.hexID(), ec.hexID())
}

// changing is what differs from run to run: identifiers, handles, random bytes,
// times.
var changing = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`serial=[0-9a-fA-F]+`), "serial=SERIAL"},
	{regexp.MustCompile(`model=[^;]*;manufacturer=[^;]*;`), ""},
	{regexp.MustCompile(`\{id = \d+`), "{id = NUMBER"},
	{regexp.MustCompile(`testing key \d+`), "testing key"},
	{regexp.MustCompile(`(?i)(serial[ a-z]*\s*[:=]\s*)[0-9a-f]+`), "${1}SERIAL"},
	{regexp.MustCompile(`(id=)(%[0-9A-Fa-f]{2})+`), "${1}ID"},
	{regexp.MustCompile(`([0-9a-f]{2}:){7,}[0-9a-f]{2}`), "HEX"},
	{regexp.MustCompile(`(?i)\b[0-9a-f]{16,}\b`), "HEX"},
	{regexp.MustCompile(`\b0x[0-9a-f]{6,}\b`), "NUMBER"},
	{regexp.MustCompile(`(?m)^(Generating (?:32|64)-bit random data\.\.\.).*$`), "$1 NUMBER"},
	{regexp.MustCompile(`(?m)(Slot:\s+)\d+$`), "${1}NUMBER"},
	{regexp.MustCompile(`(Expires: ).*`), "${1}TIME"},
	{regexp.MustCompile(`[A-Za-z0-9+/]{60,}={0,2}`), "BASE64"},
	{regexp.MustCompile(`(CKA_VALUE|CKA_SERIAL_NUMBER|CKA_MODULUS|CKA_EC_POINT|CKA_CHECK_VALUE|CKA_ID) (?:[0-9a-f]{2})+`), "$1 BYTES"},
}

// begins are lines with which a block begins whose other lines are indented.
var begins = regexp.MustCompile(`^(?:(?:Private|Public|Secret|Certificate|Data).*[oO]bject.*|Object \d+:|Token \d+:|Slot \d+.*|Testing .*)$`)

// strip returns the lines of an output, sorted below each heading and with the
// lines of an object in one, since tools list objects in the order of the token.
func strip(printed string, pairs ...string) []string {
	for i, name := range []string{"PIN", "MODULE", "RSA-ID", "EC-ID"} {
		if pairs[i] != "" {
			printed = strings.ReplaceAll(printed, pairs[i], name)
		}
	}
	for _, c := range changing {
		printed = c.what.ReplaceAllString(printed, c.by)
	}
	var lines []string
	begin, block := 0, false
	for line := range strings.Lines(printed) {
		line = strings.TrimRight(line, " \n\r")
		indented := strings.TrimLeft(line, " \t")
		switch {
		case line == "":
		case strings.HasPrefix(line, "== "):
			slices.Sort(lines[begin:])
			lines = append(lines, line)
			begin, block = len(lines), false
		case block && indented != line:
			lines[len(lines)-1] += " | " + indented
		default:
			lines = append(lines, line)
			block = begins.MatchString(line)
			if block {
				lines[len(lines)-1] = regexp.MustCompile(` \d+:$`).ReplaceAllString(line, ":")
			}
		}
	}
	slices.Sort(lines[begin:])
	return lines
}

// compareTool holds the differences between two runs of a script against the
// ones that are known.
func compareTool(t *testing.T, script string, want, got []string) {
	t.Helper()
	var text strings.Builder
	ours := sections(got)
	for _, s := range sections(want) {
		var other section
		if i := slices.IndexFunc(ours, func(o section) bool { return o.heading == s.heading }); i >= 0 {
			other = ours[i]
		}
		lines := append(without("- ", s.lines, other.lines), without("+ ", other.lines, s.lines)...)
		reason := reasons[script+" "+strings.TrimPrefix(s.heading, "== ")]
		if len(lines) == 0 {
			if reason != "" {
				t.Errorf("%s: no difference in %q, and yet it is explained", script, s.heading)
			}
			continue
		}
		if reason == "" {
			t.Errorf("%s: nobody explains this difference in %q:\n%s", script, s.heading, strings.Join(lines, "\n"))
		}
		fmt.Fprintf(&text, "%s\n%s\nWhy: %s\n\n", s.heading, strings.Join(lines, "\n"), reason)
	}
	path := filepath.Join("testdata/tools", script+".diff")
	if *update {
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	known, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if string(known) != text.String() {
		t.Errorf("%s: other differences than %s has (-update writes it):\n%s", script, path, text.String())
	}
}

// section is what was printed below a heading.
type section struct {
	heading string
	lines   []string
}

func sections(lines []string) []section {
	all := []section{{}}
	for _, line := range lines {
		if strings.HasPrefix(line, "== ") {
			all = append(all, section{heading: line})
			continue
		}
		last := &all[len(all)-1]
		last.lines = append(last.lines, line)
	}
	return all
}

// without returns the lines of one output that the other lacks, each as often as
// it is missing.
func without(mark string, lines, others []string) []string {
	left := map[string]int{}
	for _, line := range others {
		left[line]++
	}
	var missing []string
	for _, line := range lines {
		if left[line]--; left[line] < 0 {
			missing = append(missing, mark+line)
		}
	}
	return missing
}

// TestToolKinds signs with every kind of key by the tools that take one, and
// makes those that OpenDNSSEC knows.
func TestToolKinds(t *testing.T) {
	t.Parallel()
	need(t, "pkcs11-tool", "opensc")
	need(t, "p11tool", "gnutls-bin")
	need(t, "ods-hsmutil", "libhsm-bin")
	each(t, func(t *testing.T, p *provider) {
		for _, kind := range kindsOf(p) {
			t.Run(kind, func(t *testing.T) { toolKind(t, p, kind) })
		}
	})
}

// makes are the arguments by which ods-hsmutil makes a kind of key.
var makes = map[string]string{
	"rsa-2048": "rsa 2048", "rsa-3072": "rsa 3072", "rsa-4096": "rsa 4096", "ecdsa-p256": "ecdsa 256", "ecdsa-p384": "ecdsa 384",
}

func toolKind(t *testing.T, p *provider, kind string) {
	k := p.key(t, "kind-"+kind, kind)
	commands := `
		openssl x509 -in "$CERT" -noout -pubkey >key.pub
		echo hello >message; openssl dgst -sha256 -binary -out digest message
		pkcs11-tool --module "$M" --token-label claviger --login --pin env:PIN --sign -m $MECHANISM --id $ID --input-file $INPUT --output-file sig
		openssl dgst -sha256 -verify key.pub -signature sig message
		GNUTLS_PIN=$PIN p11tool --provider "$M" --batch --login --test-sign "pkcs11:token=claviger;object=$LABEL;type=private"
		cat >conf.xml <<END
<?xml version="1.0" encoding="UTF-8"?>
<Configuration><RepositoryList><Repository name="claviger">
<Module>$M</Module><TokenLabel>claviger</TokenLabel><PIN>$PIN</PIN>
</Repository></RepositoryList></Configuration>
END
		if [ -n "$MAKE" ]; then
			ods-hsmutil -c conf.xml generate claviger $MAKE
			id=$(ods-hsmutil -c conf.xml list 2>/dev/null | awk '$1 == "claviger" { print $2 }' | grep -v "$ID" | head -1)
			ods-hsmutil -c conf.xml remove "$id"
		fi`
	mechanism, input := "ECDSA --signature-format openssl", "digest"
	if k.rsa() {
		mechanism, input = "SHA256-RSA-PKCS", "message"
	}
	env := fmt.Sprintf("export M='%s' PIN='%s' ID=%s LABEL=%s CERT='%s' MECHANISM='%s' INPUT=%s MAKE='%s'\n",
		p.module, p.login(t), k.hexID(), k.name, k.cert, mechanism, input, makes[kind])
	printed, err := shell(t, p, workplace(t, p), env+commands)
	if err != nil {
		t.Fatalf("%v\n%s", err, printed)
	}
	contains(t, printed, "Verified OK", "Verifying against public key in the token... ok")
	worked(t, "pkcs11-tool", k)
	worked(t, "p11tool", k)
	if makes[kind] != "" {
		contains(t, printed, "Key generation successful", "Key remove successful")
		worked(t, "ods-hsmutil", k)
	}
}

// TestToolsGuide does what docs/guides/pkcs11-tools.md says, with the key that
// docs/guides/programs.md makes where there is Claviger.
func TestToolsGuide(t *testing.T) {
	t.Parallel()
	need(t, "pkcs11-tool", "opensc")
	need(t, "p11tool", "gnutls-bin")
	need(t, "ods-hsmutil", "libhsm-bin")
	each(t, func(t *testing.T, p *provider) {
		dir := workplace(t, p)
		if p.direct() {
			p.key(t, "web", "ecdsa-p256")
		} else {
			play(t, p, dir, "programs.md")
		}
		printed := play(t, p, dir, "pkcs11-tools.md", "the client token", p.login(t))
		contains(t, printed, "Private Key Object; EC", "ECDSA, keySize", "Private key (EC/ECDSA-SECP256R1)",
			"Verifying against public key in the token... ok", "Key generation successful", "RSA/2048")
	})
}
