package programs

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

// rows of the table of what works with what, in its order. A row's name is what
// tests give to worked.
var rows = []struct{ name, pkg, page, note string }{
	{"Go, package client", "", "go-tls.md", "without the module"},
	{"Go, crypto11", "", "go-tls.md", ""},
	{"openssl", "openssl", "openssl.md", "engine pkcs11"},
	{"curl", "curl", "openssl.md", "engine pkcs11"},
	{"nginx", "nginx-light", "nginx.md", "engine pkcs11"},
	{"apache2", "apache2-bin", "apache.md", "engine pkcs11"},
	{"haproxy behind stunnel", "haproxy", "haproxy.md", "haproxy takes keys from files only"},
	{"keytool", "openjdk-17-jdk-headless", "java.md", "keys made in Java, imported, and named keys"},
	{"Java TLS", "openjdk-17-jdk-headless", "java.md", "server and client"},
	{"jarsigner", "openjdk-17-jdk-headless", "java.md", ""},
	{"PyKCS11", "python3-pykcs11", "python.md", ""},
	{"pyOpenSSL", "python3-openssl", "python.md", "server and client; engine pkcs11"},
	{"ssh", "openssh-client", "ssh.md", "also by ssh-agent"},
	{"ssh-keygen -s", "openssh-client", "ssh.md", "authorities for users and hosts"},
	{"osslsigncode", "osslsigncode", "code-signing.md", "engine pkcs11"},
	{"gpgsm", "gpgsm", "gnupg.md", "gnupg-pkcs11-scd knows RSA only"},
	{"gpg", "gnupg", "gnupg.md", "gnupg-pkcs11-scd knows RSA only"},
	{"pkcs11-tool", "opensc", "pkcs11-tools.md", ""},
	{"p11tool", "gnutls-bin", "pkcs11-tools.md", ""},
	{"ods-hsmutil", "libhsm-bin", "pkcs11-tools.md", "makes its keys; it has no P-521"},
}

const (
	tablePage = "../../docs/guides/programs.md"
	tableHead = "| Program | Version | RSA 2048 | RSA 3072 | RSA 4096 | P-256 | P-384 | P-521 | Remarks |\n|---|---|---|---|---|---|---|---|---|\n"
)

var tableRow = regexp.MustCompile(`(?m)^\| \[?([^|\]]+?)(?:\]\([^)]*\))? \| ([^|]*) \|(.*)\|[^|]*\|$`)

// checkTable holds the table of what works with what against what was found: a
// full run of all tests must find all that the table says, any run nothing else.
// A full run with -update writes the rows of the programs that it tried.
func checkTable() error {
	text, err := os.ReadFile(tablePage)
	if err != nil {
		return err
	}
	before, after, ok := strings.Cut(string(text), tableHead)
	if !ok {
		return fmt.Errorf("%s has no table", tablePage)
	}
	for strings.HasPrefix(after, "|") {
		_, after, _ = strings.Cut(after, "\n")
	}
	if err := unknownRows(); err != nil {
		return err
	}
	if *update && full {
		return os.WriteFile(tablePage, []byte(before+tableHead+renderRows(string(text))+after), 0o644)
	}
	return compareTable(string(text), full && flag.Lookup("test.run").Value.String() == "")
}

func unknownRows() error {
	for cell := range found.works {
		known := false
		for _, r := range rows {
			known = known || r.name == cell[0]
		}
		if !known {
			return fmt.Errorf("a test found that %s works, which is no row of the table", cell[0])
		}
	}
	return nil
}

func renderRows(old string) string {
	lines := map[string]string{}
	for _, m := range tableRow.FindAllStringSubmatch(old, -1) {
		lines[m[1]] = m[0] + "\n"
	}
	var b strings.Builder
	for _, r := range rows {
		if line := lines[r.name]; line != "" && !tried(r.name) {
			b.WriteString(line)
			continue
		}
		fmt.Fprintf(&b, "| [%s](%s) | %s |", r.name, r.page, packageVersion(r.pkg))
		for _, kind := range allKinds {
			fmt.Fprintf(&b, " %s |", mark(found.works[[2]string{r.name, kind}]))
		}
		fmt.Fprintf(&b, " %s |\n", r.note)
	}
	return b.String()
}

// tried tells whether a program worked with any key.
func tried(program string) bool {
	for cell := range found.works {
		if cell[0] == program {
			return true
		}
	}
	return false
}

func mark(works bool) string {
	if works {
		return "yes"
	}
	return "–"
}

// compareTable compares the table's cells with what was found. complete tells
// whether what was not found does not work.
func compareTable(text string, complete bool) error {
	cells := map[[2]string]bool{}
	for _, m := range tableRow.FindAllStringSubmatch(text, -1) {
		for i, cell := range strings.Split(strings.Trim(m[3], "|"), "|") {
			if strings.TrimSpace(cell) == "yes" && i < len(allKinds) {
				cells[[2]string{m[1], allKinds[i]}] = true
			}
		}
	}
	for cell := range found.works {
		if !cells[cell] {
			return fmt.Errorf("%s works with %s, and %s does not say so", cell[0], cell[1], tablePage)
		}
	}
	for cell := range cells {
		if complete && !found.works[cell] {
			return fmt.Errorf("%s does not work with %s, and %s says so", cell[0], cell[1], tablePage)
		}
	}
	return nil
}

// packageVersion is the upstream version of an installed Debian package.
func packageVersion(pkg string) string {
	if pkg == "" {
		return ""
	}
	out, err := exec.Command("dpkg-query", "-W", "-f", "${source:Upstream-Version}", pkg).Output()
	if err != nil {
		return "?"
	}
	return string(out)
}
