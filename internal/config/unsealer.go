package config

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	_ "embed"

	"github.com/pelletier/go-toml/v2"

	"github.com/claviger/claviger/internal/fault"
)

// DefaultUnsealerFile is where the unsealer looks for its configuration.
const DefaultUnsealerFile = "/etc/claviger/unsealer.toml"

//go:embed unsealer.toml
var unsealerExample []byte

// UnsealerExample returns a configuration file of the unsealer that explains
// every option. What is not commented out is the default, but for the servers and
// the share's file, which have none.
func UnsealerExample() []byte { return bytes.Clone(unsealerExample) }

// Where an unsealer has its share from.
const (
	ShareFile       = "file"
	ShareTPM        = "tpm"
	ShareCredential = "credential"
	ShareStdin      = "stdin"
)

// Unsealer is the configuration of an unsealer. An unknown key is an error.
type Unsealer struct {
	// Interval is how often each server is looked at.
	Interval Duration `toml:"interval"`
	// Timeout bounds one call of a server.
	Timeout Duration        `toml:"timeout"`
	Share   UnsealerShare   `toml:"share"`
	TLS     UnsealerTLS     `toml:"tls"`
	Servers []Unsealed      `toml:"server"`
	Metrics UnsealerMetrics `toml:"metrics"`
	Log     Log             `toml:"log"`
}

// UnsealerShare says where the one share is.
type UnsealerShare struct {
	// Source is one of the constants Share….
	Source string `toml:"source"`
	// File holds the share in hex or base64; with "tpm" what enroll wrote.
	File string `toml:"file"`
	// Credential is the name of a systemd credential that holds the share.
	Credential string `toml:"credential"`
	// Device is the TPM.
	Device string `toml:"device"`
	// PasswordFile and PasswordCredential hold the password under which the
	// share is sealed: at most one of both.
	PasswordFile       string `toml:"password_file"`
	PasswordCredential string `toml:"password_credential"`
}

// UnsealerTLS says whom to trust and who the unsealer is. A server's own section
// takes the place of each option that it gives.
type UnsealerTLS struct {
	// CACert is a PEM file of authorities to trust instead of the system's.
	CACert string `toml:"ca_cert"`
	// ClientCert and ClientKey are PEM files, read again for each connection.
	ClientCert string `toml:"client_cert"`
	ClientKey  string `toml:"client_key"`
	// Pins are "sha256//" and the base64 of the SHA-256 of a public key (DER
	// SubjectPublicKeyInfo): the server's must be one of them, beside all else.
	Pins []string `toml:"pins"`
	// ServerName is expected in the certificate instead of the address's host.
	ServerName string `toml:"server_name"`
}

// Unsealed is a server to keep unsealed.
type Unsealed struct {
	// Address is "https://host:port", "http://host:port" or "unix:///path".
	Address string `toml:"address"`
	// Insecure allows plain HTTP to another machine: the share can be read.
	Insecure bool `toml:"insecure"`
	UnsealerTLS
}

// UnsealerMetrics is a listener for Prometheus; off without an address.
type UnsealerMetrics struct {
	// Address is "host:port" on loopback.
	Address string `toml:"address"`
}

// DefaultUnsealer returns the configuration of an empty file. It is not valid:
// servers and share are missing.
func DefaultUnsealer() *Unsealer {
	return &Unsealer{
		Interval: Duration{time.Minute}, Timeout: Duration{10 * time.Second},
		Share: UnsealerShare{Source: ShareFile},
		Log:   Log{Level: "info", Format: "json"},
	}
}

// LoadUnsealer reads a file without validating it, since flags may complete it.
// Its errors are *fault.Error of kind Invalid, or NotFound if there is no file.
func LoadUnsealer(path string) (*Unsealer, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "the configuration file %s does not exist", path).
			WithHint("claviger unsealer example > %s writes one that explains every option", path)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "read the configuration")
	}
	if len(b) > maxFile {
		return nil, fault.New(fault.Invalid, "%s has %d bytes; a configuration file has at most %d", path, len(b), maxFile)
	}
	c, err := ParseUnsealer(b)
	if err != nil {
		return nil, fault.New(fault.Invalid, "configuration %s: %v", path, err).
			WithHint("claviger unsealer example shows every option")
	}
	return c, nil
}

// ParseUnsealer reads the text of the file, without validating values.
func ParseUnsealer(text []byte) (*Unsealer, error) {
	c := DefaultUnsealer()
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, explain(reflect.TypeFor[Unsealer](), text, err)
	}
	return c, nil
}

// TLSOf returns the options for a server: its own, else the common ones.
func (c *Unsealer) TLSOf(s *Unsealed) UnsealerTLS {
	t := s.UnsealerTLS
	if t.CACert == "" {
		t.CACert = c.TLS.CACert
	}
	if t.ClientCert == "" && t.ClientKey == "" {
		t.ClientCert, t.ClientKey = c.TLS.ClientCert, c.TLS.ClientKey
	}
	if len(t.Pins) == 0 {
		t.Pins = c.TLS.Pins
	}
	if t.ServerName == "" {
		t.ServerName = c.TLS.ServerName
	}
	return t
}

// Validate checks every value. Its error is Problems: all that is wrong, at once.
func (c *Unsealer) Validate() error {
	var p Problems
	p.lasts("interval", c.Interval, time.Second, 24*time.Hour)
	p.lasts("timeout", c.Timeout, 100*time.Millisecond, 5*time.Minute)
	c.Share.validate(&p)
	c.TLS.validate(&p, "tls.")
	if len(c.Servers) == 0 {
		p.addText("server", "none", `at least one: [[server]] with its address, or --server`)
	}
	seen := map[string]bool{}
	for i := range c.Servers {
		s := &c.Servers[i]
		s.validate(&p, fmt.Sprintf("server[%d].", i), seen[s.Address])
		seen[s.Address] = true
	}
	if a := c.Metrics.Address; a != "" && !(&Listener{Address: a}).Local() {
		p.add("metrics.address", a, `"host:port" on loopback such as "127.0.0.1:9464"`)
	}
	p.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	p.oneOf("log.format", c.Log.Format, "json", "console")
	if len(p) == 0 {
		return nil
	}
	return p
}

func (s *UnsealerShare) validate(p *Problems) {
	p.oneOf("share.source", s.Source, ShareFile, ShareTPM, ShareCredential, ShareStdin)
	file := s.Source == ShareFile || s.Source == ShareTPM
	if file && !filepath.IsAbs(s.File) {
		p.add("share.file", s.File, "the absolute path of the file with the share")
	}
	if !file && s.File != "" {
		p.add("share.file", s.File, `absent where the source is not "file" or "tpm"`)
	}
	if s.Source == ShareCredential && !credentialName(s.Credential) {
		p.add("share.credential", s.Credential, "the name of a systemd credential (LoadCredential=, LoadCredentialEncrypted=)")
	}
	if s.Source != ShareCredential && s.Credential != "" {
		p.add("share.credential", s.Credential, `absent where the source is not "credential"`)
	}
	s.validateTPM(p)
}

func (s *UnsealerShare) validateTPM(p *Problems) {
	if s.Source != ShareTPM {
		for field, value := range map[string]string{
			"device": s.Device, "password_file": s.PasswordFile, "password_credential": s.PasswordCredential,
		} {
			if value != "" {
				p.add("share."+field, value, `absent where the source is not "tpm"`)
			}
		}
		return
	}
	if s.PasswordFile != "" {
		p.absolute("share.password_file", s.PasswordFile)
	}
	if s.PasswordCredential != "" && !credentialName(s.PasswordCredential) {
		p.add("share.password_credential", s.PasswordCredential, "the name of a systemd credential")
	}
	if s.PasswordFile != "" && s.PasswordCredential != "" {
		p.add("share.password_credential", s.PasswordCredential, "absent where password_file is given")
	}
}

// credentialName tells whether systemd takes the name (systemd.exec(5)): it is a
// file's, and so leads to no other directory.
func credentialName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) < 256 && !strings.ContainsAny(name, "/:") && printable(name, 255)
}

func (t *UnsealerTLS) validate(p *Problems, field string) {
	for name, path := range map[string]string{"ca_cert": t.CACert, "client_cert": t.ClientCert, "client_key": t.ClientKey} {
		if path != "" {
			p.absolute(field+name, path)
		}
	}
	if (t.ClientCert == "") != (t.ClientKey == "") {
		p.add(field+"client_key", t.ClientKey, "given together with client_cert, or both absent")
	}
	for _, pin := range t.Pins {
		if _, err := ParsePin(pin); err != nil {
			p.add(field+"pins", pin, `"sha256//" and the base64 of 32 bytes`)
		}
	}
}

// ParsePin returns the SHA-256 that a pin names.
func ParsePin(pin string) ([32]byte, error) {
	text, ok := strings.CutPrefix(pin, "sha256//")
	b, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(b) != 32 {
		return [32]byte{}, fmt.Errorf("%q is no pin", pin)
	}
	return [32]byte(b), nil
}

func (s *Unsealed) validate(p *Problems, field string, seen bool) {
	s.UnsealerTLS.validate(p, field)
	u, err := url.Parse(s.Address)
	const want = `"https://host:port", "http://127.0.0.1:port" or "unix:///path"`
	switch {
	case err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		p.addText(field+"address", "(given)", want)
	case u.Scheme == "unix" && filepath.IsAbs(u.Path) && u.Host == "":
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
		if u.Scheme == "http" && !loopback(u.Hostname()) && !s.Insecure {
			p.add(field+"address", s.Address, "https, or on loopback; insecure = true allows that others read the share on the network")
		}
	default:
		p.add(field+"address", s.Address, want)
	}
	if seen {
		p.add(field+"address", s.Address, "another than that of an earlier server")
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// CheckFiles looks at the files that the configuration names. Its error is
// Problems. It reads no secret.
func (c *Unsealer) CheckFiles() error {
	var p Problems
	// What is sealed to a TPM is no secret.
	if c.Share.Source == ShareFile {
		checkSecret(&p, "share.file", c.Share.File, true)
	}
	checkSecret(&p, "share.password_file", c.Share.PasswordFile, true)
	checkSecret(&p, "tls.client_key", c.TLS.ClientKey, true)
	for i := range c.Servers {
		checkSecret(&p, fmt.Sprintf("server[%d].client_key", i), c.Servers[i].ClientKey, true)
	}
	if len(p) == 0 {
		return nil
	}
	return p
}

// Warnings returns what is allowed but dangerous, to be said loudly at start.
func (c *Unsealer) Warnings() []string {
	var w []string
	for i := range c.Servers {
		s := &c.Servers[i]
		if u, err := url.Parse(s.Address); err == nil && u.Scheme == "http" && !loopback(u.Hostname()) {
			w = append(w, fmt.Sprintf("the share goes to %s without TLS: others can read it on the network", s.Address))
		}
	}
	if c.Share.Source == ShareFile {
		w = append(w, "the share lies in a file: who can read this machine's disk has it; a TPM or an encrypted credential keeps it better")
	}
	return w
}
