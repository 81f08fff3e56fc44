package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/claviger/claviger/api"
)

func testApp(t *testing.T) (a *app, out, errs *bytes.Buffer) {
	t.Helper()
	out, errs = new(bytes.Buffer), new(bytes.Buffer)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	return &app{ui: ui{in: null, out: out, err: errs}, format: "table"}, out, errs
}

// each visits every command below cmd.
func each(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, c := range cmd.Commands() {
		each(c, visit)
	}
}

// TestCommandsAreExplained: --help shows an example that can be parsed, and no
// flag would take a secret.
func TestCommandsAreExplained(t *testing.T) {
	t.Parallel()
	a, _, _ := testApp(t)
	root := a.root()
	each(root, func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("%s has no help or no example", cmd.CommandPath())
		}
		checkHelp(t, cmd)
		cmd.Flags().VisitAll(func(f *pflag.Flag) { checkFlag(t, cmd, f) })
		for line := range strings.Lines(cmd.Example) {
			checkExample(t, strings.TrimSpace(line))
		}
	})
}

// checkHelp calls --help, and claviger help, which must show the same.
func checkHelp(t *testing.T, cmd *cobra.Command) {
	path := strings.Fields(cmd.CommandPath())[1:]
	var shown []string
	for _, args := range [][]string{append(path, "--help"), append([]string{"help"}, path...)} {
		a, out, errs := testApp(t)
		root := a.root()
		root.SetArgs(args)
		if err := root.Execute(); err != nil || errs.Len() > 0 {
			t.Errorf("claviger %s: %v, %s", strings.Join(args, " "), err, errs)
		}
		shown = append(shown, out.String())
	}
	if !strings.Contains(shown[0], "Examples:\n"+cmd.Example) || shown[0] != shown[1] {
		t.Errorf("%s --help and help show:\n%s\n%s", cmd.CommandPath(), shown[0], shown[1])
	}
}

// asArgument lists flags that are named like secrets and are none.
var asArgument = map[string]bool{
	"hsm-token":         true, // create or adopt
	"token-label":       true, // of an HSM token
	"dev-root-token-id": true, // of a server that keeps nothing
	"client-key":        true, // a file
	"pgp-key":           true, // a file, and public
	"public-key":        true, // a file, and public
	"key-size":          true,
	"tls-key":           true, // a file
	"key":               true, // a name
	"key-type":          true, // ec
	"key-bits":          true,
	"key-name":          true,
	"key-out":           true, // a file
	"key-usage":         true,
	"inner-key":         true, // a file
	"inner-key-out":     true, // a file
	"ext-key-usage":     true,
	"shares":            true, // how many
	"public-keys":       true, // a directory
	"share-dir":         true, // a directory of encrypted ones
	"share-fd":          true, // a number
	"pin":               true, // cryptech_backup's, which is refused
	"pin-fd":            true, // the number of a file descriptor
	"keylen":            true, // bits
}

func checkFlag(t *testing.T, cmd *cobra.Command, f *pflag.Flag) {
	if f.Usage == "" {
		t.Errorf("%s --%s isn't explained", cmd.CommandPath(), f.Name)
	}
	if f.Value.Type() == "bool" || strings.HasSuffix(f.Name, "-file") || strings.HasSuffix(f.Name, "-pgp-key") || asArgument[f.Name] {
		return
	}
	for _, word := range []string{"token", "pin", "share", "secret", "password", "key"} {
		if strings.Contains(f.Name, word) {
			t.Errorf("%s --%s looks as if it took a secret", cmd.CommandPath(), f.Name)
		}
	}
}

func checkExample(t *testing.T, line string) {
	_, call, ok := strings.Cut(" "+line, " claviger ")
	if !ok {
		t.Errorf("the example %q calls no claviger", line)
		return
	}
	call, _, _ = strings.Cut(call, " >")
	call, _, _ = strings.Cut(call, " <")
	args := strings.Fields(regexp.MustCompile(`'[^']*'`).ReplaceAllString(call, "words"))
	a, _, _ := testApp(t)
	cmd, rest, err := a.root().Find(args)
	if err != nil {
		t.Errorf("%s: %v", line, err)
		return
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Errorf("%s: %v", line, err)
		return
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil || cmd.HasSubCommands() && cmd.DisableFlagsInUseLine {
		t.Errorf("%s calls %s: %v", line, cmd.CommandPath(), err)
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want string }{
		{"plain\ttext ü €", "plain\ttext ü €"},
		{"\x1b[2Jgone", `\u001b[2Jgone`},
		{"a\r\nb", `a\u000d\u000ab`},
		{"\xff", `\xff`},
		{"\u202eabc", `\u202eabc`},
		{"\u009b1m", `\u009b1m`},
		{"\uFFFD", "\uFFFD"},
	} {
		if got := printable(tt.in); got != tt.want {
			t.Errorf("%q is shown as %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	tab := table{head: true}
	tab.add("path", "type")
	tab.add("päth/", "transit")
	tab.add("x", "")
	if got, want := tab.render(), "PATH   TYPE\npäth/  transit\nx\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestRawKeepsBinaryOffTheTerminal(t *testing.T) {
	t.Parallel()
	a, out, _ := testApp(t)
	a.outTTY = true
	if err := a.raw(nil, []byte{0x1b, '['}, ""); err == nil || out.Len() != 0 {
		t.Errorf("%v, wrote %q", err, out)
	}
	if err := a.raw(nil, []byte("two\nlines"), ""); err != nil || out.String() != "two\nlines\n" {
		t.Errorf("%v, wrote %q", err, out)
	}
	a.outTTY = false
	out.Reset()
	if err := a.raw(nil, []byte{0x1b, '['}, ""); err != nil || out.String() != "\x1b[" {
		t.Errorf("%v, wrote %q", err, out)
	}
}

func TestColour(t *testing.T) {
	t.Parallel()
	a, _, errs := testApp(t)
	a.report(a.root(), usagef("wrong\nand long"))
	if got := errs.String(); got != "Error: wrong\n  and long\nHint: claviger --help shows how it is called\n" {
		t.Errorf("without a terminal: %q", got)
	}
	errs.Reset()
	a.colour = true
	a.report(a.root(), errors.New("wrong"))
	if got := errs.String(); got != "\x1b[1;31mError:\x1b[0m wrong\n" {
		t.Errorf("on a terminal: %q", got)
	}
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, text := range []string{"first", "second"} {
		if err := writeFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != text {
			t.Errorf("%q, %v", b, err)
		}
	}
	if err := writeFile(filepath.Join(dir, "none", "f"), nil, 0o600); err == nil {
		t.Error("a directory that isn't there is written to")
	}
	if err := writeFile(os.DevNull, []byte("x"), 0o600); err != nil {
		t.Errorf("a device: %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("%v left behind, %v", left, err)
	}
}

func TestHints(t *testing.T) {
	t.Parallel()
	a, _, _ := testApp(t)
	root := a.root()
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&api.Error{Status: 403, Errors: []string{"permission denied"}}, "claviger login"},
		{&api.Error{Status: 503, Errors: []string{"Vault is sealed"}}, "claviger unseal"},
		{&api.Error{Status: 503, Errors: []string{"busy"}}, "try again"},
		{&api.Error{Status: 404}, "check the name"},
		{&api.Error{Status: 400, Errors: []string{"bad"}}, ""},
		{errors.New("http: server gave HTTP response to HTTPS client"), "http://"},
	} {
		got := a.hint(root, tt.err)
		if !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
}
