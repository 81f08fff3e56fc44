package demo

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

// documents returns the Markdown files for users: path under root → text.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	add := func(path string) { texts[path] = read(t, path) }
	for _, path := range []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md"} {
		add(path)
	}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			add(rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

var (
	inCode  = regexp.MustCompile("`(claviger [^`]+)`")
	inBlock = regexp.MustCompile(`(?m)^(?:    |.*[|;(] *|\w+=\S+ +)?(claviger [a-z][^\n]*)$`)
	sources = regexp.MustCompile("(?ms)^```sh\n.*?^```$|^(?:    [^\n]*\n)+")
	ends    = regexp.MustCompile(`\s+#.*|\s*[|;<>&)].*|\s+2>.*`)
)

// commandLines returns the calls of claviger that a document shows.
func commandLines(text string) []string {
	var lines []string
	for _, m := range inCode.FindAllStringSubmatch(text, -1) {
		lines = append(lines, m[1])
	}
	for _, block := range sources.FindAllString(text, -1) {
		for _, m := range inBlock.FindAllStringSubmatch(block, -1) {
			lines = append(lines, ends.ReplaceAllString(m[1], ""))
		}
	}
	return lines
}

// TestDocumentedCommands checks that each command that the documents show
// exists, with its flags.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	binary := harness.Binary(t)
	found := 0
	for path, text := range documents(t) {
		for _, line := range commandLines(text) {
			found++
			if err := checkCommand(binary, line); err != nil {
				t.Errorf("%s: %s: %v", path, line, err)
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d commands are found in the documents", found)
	}
	for _, wrong := range []string{"claviger hsm nothing", "claviger key creat x", "claviger init --share 3", "claviger unknown"} {
		if checkCommand(binary, wrong) == nil {
			t.Errorf("%q passes the check", wrong)
		}
	}
}

var usage = regexp.MustCompile(`(?m)^Usage:\n  claviger ?(.*)$`)

// internalCommand is started by the server itself and has no help.
const internalCommand = "claviger token-worker"

func checkCommand(binary, line string) error {
	if line == internalCommand {
		return nil
	}
	var words, flags []string
	for _, w := range strings.Fields(line)[1:] {
		if strings.HasPrefix(w, "-") {
			name, _, _ := strings.Cut(w, "=")
			flags = append(flags, name)
		} else if len(flags) == 0 { // afterwards it may be the value of a flag
			words = append(words, w)
		}
	}
	out, err := exec.Command(binary, append(words, "--help")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	help := string(out)
	m := usage.FindStringSubmatch(help)
	if m == nil {
		return fmt.Errorf("its help shows no usage: %s", help)
	}
	if depth := len(strings.Fields(m[1])); strings.Contains(help, "[command]") && len(words) > depth {
		return fmt.Errorf("there is no command %q", words[depth])
	}
	for _, f := range flags {
		if !regexp.MustCompile(`(?m)^ +(-\w, )?` + f + `[ ,]`).MatchString(help) {
			return fmt.Errorf("there is no flag %s", f)
		}
	}
	return nil
}

var moduleOption = regexp.MustCompile(`(?m)^module = "(.*)"$`)

// TestDocumentedConfigurations checks the pieces of TOML in the documents.
func TestDocumentedConfigurations(t *testing.T) {
	t.Parallel()
	binary := harness.Binary(t)
	found := 0
	for path, text := range documents(t) {
		for _, block := range sources.FindAllString(text, -1) {
			if !strings.HasPrefix(block, "    [token]") && !strings.HasPrefix(block, "    [[listener]]") && !strings.HasPrefix(block, "    [front.distribution]") {
				continue
			}
			found++
			toml := strings.ReplaceAll("\n"+block, "\n    ", "\n")
			// The module need not be installed here.
			toml = moduleOption.ReplaceAllString(toml, `module = "`+binary+`"`)
			file := filepath.Join(t.TempDir(), "claviger.toml")
			if err := os.WriteFile(file, []byte(toml), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(binary, "config", "check", "--config", file).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s\n%s", path, err, toml, out)
			}
		}
	}
	if found < 4 {
		t.Errorf("only %d configurations are found in the documents", found)
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)

// TestLinks checks that files that the documents point to exist.
func TestLinks(t *testing.T) {
	t.Parallel()
	for path, text := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s points to %s: %v", path, m[1], err)
			}
		}
	}
}
