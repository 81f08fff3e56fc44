package config

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Problem is one wrong value.
type Problem struct {
	Field string // as in the file: "token.pkcs11.workers", "listener[0].address"
	Value string // as given
	Want  string // what would be right
}

// String returns "field = value: must be …".
func (p Problem) String() string {
	return fmt.Sprintf("%s = %s: must be %s", p.Field, p.Value, p.Want)
}

// Problems is the error of a configuration with wrong values.
type Problems []Problem

// Error returns one line a problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

func (p *Problems) add(field string, value any, want string) {
	text := fmt.Sprint(value)
	if s, ok := value.(string); ok {
		text = strconv.Quote(s)
	}
	p.addText(field, text, want)
}

// addText adds a value that is shown as it is, without quotes.
func (p *Problems) addText(field, text, want string) {
	*p = append(*p, Problem{field, text, want})
}

func (p *Problems) oneOf(field, value string, allowed ...string) {
	if slices.Contains(allowed, value) {
		return
	}
	quoted := make([]string, len(allowed))
	for i, a := range allowed {
		quoted[i] = strconv.Quote(a)
	}
	p.add(field, value, strings.Join(quoted, " or "))
}

func (p *Problems) between(field string, value, least, most int64) {
	if value < least || value > most {
		p.add(field, value, fmt.Sprintf("%d to %d", least, most))
	}
}

func (p *Problems) lasts(field string, value Duration, least, most time.Duration) {
	if value.Duration < least || value.Duration > most {
		p.addText(field, value.String(), fmt.Sprintf("%v to %v", least, most))
	}
}

func (p *Problems) absolute(field string, paths ...string) {
	for _, path := range paths {
		if !filepath.IsAbs(path) {
			p.add(field, path, "an absolute path")
		}
	}
}

// Validate checks every value and how they go together. Its error is Problems:
// all that is wrong, at once. It looks at no file.
func (c *Config) Validate() error {
	var p Problems
	p.absolute("data_dir", c.DataDir)
	if c.ClusterName != "" && !printable(c.ClusterName, 128) {
		p.add("cluster_name", c.ClusterName, "up to 128 printable characters")
	}
	c.validateListeners(&p)
	p.oneOf("store.driver", c.Store.Driver, "sqlite")
	p.absolute("store.path", c.Store.Path)
	p.absolute("audit.path", c.Audit.Path)
	p.between("audit.checkpoint_every", int64(c.Audit.CheckpointEvery), 1, 1_000_000)
	p.lasts("audit.checkpoint_interval", c.Audit.CheckpointInterval, time.Second, 24*time.Hour)
	c.Token.validate(&p)
	p.absolute("hmacpool.dirs", c.HMACPool.Dirs...)
	c.Custody.validate(&p)
	c.validateFronts(&p)
	c.validateCertificate(&p)
	p.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	p.oneOf("log.format", c.Log.Format, "json", "console")
	if c.Limits.MaxBody < 1<<10 || c.Limits.MaxBody > 1<<30 {
		p.addText("limits.max_body", c.Limits.MaxBody.String(), "1KiB to 1GiB")
	}
	p.lasts("limits.request_timeout", c.Limits.RequestTimeout, time.Second, time.Hour)
	if len(p) == 0 {
		return nil
	}
	return p
}

func (c *Config) validateListeners(p *Problems) {
	if len(c.Listeners) == 0 {
		p.addText("listener", "none", "at least one")
	}
	seen := map[string]bool{}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		field := fmt.Sprintf("listener[%d].", i)
		l.validate(p, field)
		if _, port, _ := net.SplitHostPort(l.Address); seen[l.Address] && port != "0" {
			p.add(field+"address", l.Address, "another than that of an earlier listener")
		}
		seen[l.Address] = true
	}
}

func (l *Listener) validate(p *Problems, field string) {
	if path, ok := l.Socket(); ok {
		l.validateSocket(p, field, path)
		return
	}
	host, port, err := net.SplitHostPort(l.Address)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n > 65535 || strings.Contains(host, "/") {
		p.add(field+"address", l.Address, `"host:port" such as "127.0.0.1:8200", or "unix:/path"`)
		return
	}
	if l.Mode != "" {
		p.add(field+"mode", l.Mode, "absent: only a unix socket has one")
	}
	switch {
	case l.TLSOwn && (l.TLSCert != "" || l.TLSKey != ""):
		p.add(field+"tls_own", true, "false, or tls_cert and tls_key absent: a listener has one certificate")
	case l.TLSCert != "" && l.TLSKey == "":
		p.add(field+"tls_key", "", "the key of tls_cert, a PEM file")
	case l.TLSCert == "" && l.TLSKey != "":
		p.add(field+"tls_cert", "", "the certificate of tls_key, a PEM file")
	case !l.TLS() && l.ClientCA != "":
		p.add(field+"client_ca", l.ClientCA, "absent without tls_cert and tls_key or tls_own: plain HTTP knows no certificates")
	case !l.TLS() && !l.Local() && !l.Insecure:
		p.add(field+"address", l.Address, "on loopback, or have tls_cert and tls_key, or tls_own; insecure = true allows plain HTTP that others can read")
	case l.TLS() && l.Insecure:
		p.add(field+"insecure", true, "false: the listener speaks TLS")
	}
}

func (l *Listener) validateSocket(p *Problems, field, path string) {
	// 107 bytes and a final zero are what sockaddr_un holds (unix(7)).
	if !filepath.IsAbs(path) || len(path) > 107 {
		p.add(field+"address", l.Address, `"unix:" and an absolute path of at most 107 bytes`)
	}
	if _, err := parseMode(l.Mode); err != nil {
		p.add(field+"mode", l.Mode, `an octal permission such as "0660"`)
	}
	if l.TLS() || l.TLSKey != "" || l.ClientCA != "" {
		p.add(field+"tls_cert", l.TLSCert, "absent: a unix socket is protected by its permission")
	}
}

func (t *Token) validate(p *Problems) {
	p.oneOf("token.driver", t.Driver, DriverSoft, DriverPKCS11)
	if t.Label == "" || !printable(t.Label, 32) || strings.HasSuffix(t.Label, " ") {
		p.add("token.label", t.Label, "1 to 32 bytes of printable text without a blank at the end (PKCS#11 pads with blanks)")
	}
	p.oneOf("token.on_init", t.OnInit, OnInitRefuse, OnInitCreate, OnInitAdopt)
	if t.Driver == DriverSoft {
		p.absolute("token.soft.dir", t.Soft.Dir)
	}
	t.PKCS11.validate(p, t.Driver == DriverPKCS11)
}

func (m *PKCS11) validate(p *Problems, used bool) {
	const field = "token.pkcs11."
	if (used || m.Module != "") && !filepath.IsAbs(m.Module) {
		p.add(field+"module", m.Module, "the absolute path of a PKCS#11 module such as /usr/lib/softhsm/libsofthsm2.so")
	}
	if m.Serial != "" && !printable(m.Serial, 16) {
		p.add(field+"serial", m.Serial, "at most 16 printable bytes")
	}
	p.between(field+"workers", int64(m.Workers), 0, 256)
	p.lasts(field+"call_timeout", m.CallTimeout, 100*time.Millisecond, 10*time.Minute)
	p.lasts(field+"keygen_timeout", m.KeygenTimeout, time.Second, time.Hour)
	for name := range m.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(m.Env[name], "\x00") {
			p.add(field+"env", name, "names of environment variables, without '='")
		}
	}
	p.absolute(field+"read_paths", m.ReadPaths...)
	p.absolute(field+"write_paths", m.WritePaths...)
}

// printable tells whether s is text of at most limit bytes without control
// characters.
func printable(s string, limit int) bool {
	if len(s) > limit {
		return false
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return false
		}
	}
	return true
}
