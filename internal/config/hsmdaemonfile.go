package config

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/claviger/claviger/internal/fault"
)

// DefaultHSMDaemonFile is where hsmdaemon looks for its configuration.
const DefaultHSMDaemonFile = "/etc/hsmdaemon/hsmdaemon.toml"

// HSMDaemonFile is hsmdaemon.toml, the configuration of ownCloud's hsmdaemon, with
// a few options of our own. An unknown key is an error.
type HSMDaemonFile struct {
	Logger HSMDaemonLogger `toml:"logger"`
	Server HSMDaemonServer `toml:"server"`
	JWT    HSMDaemonJWT    `toml:"jwt"`
	PKCS11 HSMDaemonPKCS11 `toml:"pkcs11"`
	// Line is the line protocol (ours).
	Line HSMDaemonLineFile `toml:"line"`
}

// HSMDaemonLogger is the section [logger].
type HSMDaemonLogger struct {
	Level    string `toml:"level"`    // debug, info, warn, error, panic or fatal
	Path     string `toml:"path"`     // stderr, stdout, a file's path or its file:// address
	Encoding string `toml:"encoding"` // json or console
}

// HSMDaemonServer is the section [server].
type HSMDaemonServer struct {
	Hostname string `toml:"hostname"`
	Port     int    `toml:"port"`

	// Ours:
	State    string `toml:"state"` // directory of what the daemon writes
	TLSCert  string `toml:"tls_cert"`
	TLSKey   string `toml:"tls_key"`
	ClientCA string `toml:"client_ca"`
}

// HSMDaemonJWT is the section [jwt].
type HSMDaemonJWT struct {
	Secret string `toml:"secret"`

	// Ours:
	SecretFile string   `toml:"secret_file"`
	Leeway     Duration `toml:"leeway"`
}

// HSMDaemonPKCS11 is the section [pkcs11].
type HSMDaemonPKCS11 struct {
	Module string  `toml:"module"`
	PIN    string  `toml:"pin"`
	Slot   *uint64 `toml:"slot"`

	// Ours:
	PINFile string `toml:"pin_file"`
	PINEnv  string `toml:"pin_env"`
	Label   string `toml:"label"` // of the token, in place of the slot
	Serial  string `toml:"serial"`
}

// HSMDaemonLineFile is the section [line].
type HSMDaemonLineFile struct {
	Socket    string `toml:"socket"` // path of a unix socket
	Mode      string `toml:"mode"`   // its permission, octal
	Address   string `toml:"address"`
	Key       string `toml:"key"`
	TokenFile string `toml:"token_file"`
	TokenURL  string `toml:"token_url"`
}

// LoadHSMDaemonFile reads and validates the file. Its errors are *fault.Error of
// kind Invalid, or NotFound if there is no such file.
func LoadHSMDaemonFile(path string) (*HSMDaemonFile, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "the configuration file %s does not exist", path).
			WithHint("--config FILE names another one")
	}
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "read the configuration")
	}
	if len(b) > maxFile {
		return nil, fault.New(fault.Invalid, "%s has %d bytes; a configuration file has at most %d", path, len(b), maxFile)
	}
	defer clear(b)
	f, err := ParseHSMDaemonFile(b)
	if err == nil {
		err = f.Validate()
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "configuration %s: %v", path, err)
	}
	return f, nil
}

// ParseHSMDaemonFile reads the text of the file, without validating values.
func ParseHSMDaemonFile(text []byte) (*HSMDaemonFile, error) {
	f := &HSMDaemonFile{
		Logger: HSMDaemonLogger{Level: "debug", Path: "stderr", Encoding: "json"},
		Server: HSMDaemonServer{Hostname: "localhost", Port: 8513, State: "/var/lib/hsmdaemon"},
		JWT:    HSMDaemonJWT{Leeway: Duration{time.Minute}},
		Line:   HSMDaemonLineFile{Mode: "0660"},
	}
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(f); err != nil {
		return nil, explain(reflect.TypeFor[HSMDaemonFile](), text, err)
	}
	return f, nil
}

// Validate checks every value. Its error is Problems: all that is wrong, at once.
func (f *HSMDaemonFile) Validate() error {
	var p Problems
	p.oneOf("logger.level", f.Logger.Level, "debug", "info", "warn", "error", "panic", "fatal")
	p.oneOf("logger.encoding", f.Logger.Encoding, "json", "console")
	if _, err := f.LogFile(); err != nil {
		p.add("logger.path", f.Logger.Path, `"stderr", "stdout", an absolute path or its file:// address`)
	}
	p.between("server.port", int64(f.Server.Port), 0, 65535)
	if strings.ContainsAny(f.Server.Hostname, "/ ") {
		p.add("server.hostname", f.Server.Hostname, "a host name or an address of this machine")
	}
	p.absolute("server.state", f.Server.State)
	if (f.Server.TLSCert == "") != (f.Server.TLSKey == "") {
		p.add("server.tls_key", f.Server.TLSKey, "given together with tls_cert, or both absent")
	}
	p.lasts("jwt.leeway", f.JWT.Leeway, 0, 10*time.Minute)
	f.PKCS11.validate(&p)
	f.Line.validate(&p)
	if f.JWT.Secret != "" && f.JWT.SecretFile != "" {
		p.addText("jwt.secret", "(a secret)", "absent where secret_file is given")
	}
	if len(p) == 0 {
		return nil
	}
	return p
}

func (c *HSMDaemonPKCS11) validate(p *Problems) {
	if c.Module == "" || !filepath.IsAbs(c.Module) {
		p.add("pkcs11.module", c.Module, "the absolute path of a PKCS#11 module such as /usr/lib/softhsm/libsofthsm2.so")
	}
	sources := 0
	for _, given := range []string{c.PIN, c.PINFile, c.PINEnv} {
		if given != "" {
			sources++
		}
	}
	if sources > 1 {
		p.addText("pkcs11.pin", "(a secret)", "given once: as pin, as pin_file or as pin_env")
	}
	if c.Slot != nil && (c.Label != "" || c.Serial != "") {
		p.add("pkcs11.slot", *c.Slot, "absent where label or serial choose the token")
	}
}

func (l *HSMDaemonLineFile) validate(p *Problems) {
	if (l.Socket != "" || l.Address != "") && l.Key == "" {
		p.add("line.key", l.Key, "the id of the key that the line protocol decrypts with: its clients name none")
	}
	if l.Socket != "" && !filepath.IsAbs(l.Socket) {
		p.add("line.socket", l.Socket, "the absolute path of a unix socket")
	}
}

// LogFile returns the path of the log file, or "stderr" or "stdout".
func (f *HSMDaemonFile) LogFile() (string, error) {
	path := f.Logger.Path
	if path == "stderr" || path == "stdout" {
		return path, nil
	}
	if strings.HasPrefix(path, "file:") {
		u, err := url.Parse(path)
		if err != nil || u.Host != "" && u.Host != "localhost" {
			return "", fmt.Errorf("%q is no address of a file of this machine", path)
		}
		path = u.Path
	}
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%q is not absolute", path)
	}
	return path, nil
}
