// Package config reads the server's configuration: one strict, commented TOML
// file. The structs below and example.toml are its reference.
//
// Promise: nothing that is written in the file is ignored. An unknown key, a
// wrong type or a value out of range is an error that names the key and says
// what would be right; a file that Load accepts means what it says.
//
// It trusts the file: whoever may write it commands the server. No secret
// stands in it, only paths of files that hold one.
package config

import (
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Config is the whole configuration. After Parse or Default every path in it
// is absolute: what was written relative lies in DataDir.
type Config struct {
	// DataDir is the directory of all that the server writes. Absolute.
	DataDir string `toml:"data_dir"`
	// ClusterName is shown in the seal status; a label for people.
	ClusterName string `toml:"cluster_name"`
	// Listeners are where the API is served, at least one.
	Listeners []Listener `toml:"listener"`
	// Certificate is that of the listeners with tls_own.
	Certificate Certificate `toml:"certificate"`
	Store       Store       `toml:"store"`
	Audit       Audit       `toml:"audit"`
	Token       Token       `toml:"token"`
	HMACPool    HMACPool    `toml:"hmacpool"`
	Custody     Custody     `toml:"custody"`
	Front       Fronts      `toml:"front"`
	Log         Log         `toml:"log"`
	Limits      Limits      `toml:"limits"`
}

// Listener is one address at which the API is served.
type Listener struct {
	// Address is "host:port" (port 0 takes a free one) or "unix:/path".
	Address string `toml:"address"`
	// Mode is the permission of the unix socket, octal: "0660". Unix only.
	Mode string `toml:"mode"`
	// TLSCert and TLSKey are PEM files: the certificate chain, leaf first, and
	// its key. Both or neither.
	TLSCert string `toml:"tls_cert"`
	TLSKey  string `toml:"tls_key"`
	// TLSOwn takes the certificate that the server issues to itself, see
	// Config.Certificate, in place of files.
	TLSOwn bool `toml:"tls_own"`
	// ClientCA is a PEM file of certification authorities. If it is given,
	// every client must show a certificate that one of them issued.
	ClientCA string `toml:"client_ca"`
	// Insecure allows plain HTTP on an address that other machines can reach.
	Insecure bool `toml:"insecure"`
}

// Store says where records are kept.
type Store struct {
	// Driver is "sqlite".
	Driver string `toml:"driver"`
	// Path is the database file.
	Path string `toml:"path"`
}

// Audit is the log of every operation.
type Audit struct {
	// Path is the log file.
	Path string `toml:"path"`
	// CheckpointEvery is the number of records after which the HSM token signs
	// the log's head.
	CheckpointEvery int `toml:"checkpoint_every"`
	// CheckpointInterval is the time after which it does so at the latest.
	CheckpointInterval Duration `toml:"checkpoint_interval"`
	// Restart lets the log begin anew although the file is not the one that
	// the database remembers. For one start after a loss.
	Restart bool `toml:"restart"`
}

// What sys/init may do with the HSM token when the request does not say.
const (
	OnInitRefuse = ""       // nothing: the request must say
	OnInitCreate = "create" // initialise a new token
	OnInitAdopt  = "adopt"  // use an initialised one by its PIN
)

// The drivers of the HSM token.
const (
	DriverSoft   = "soft"
	DriverPKCS11 = "pkcs11"
)

// Token is the HSM token that holds the keys.
type Token struct {
	// Driver is "soft" (embedded) or "pkcs11" (any module).
	Driver string `toml:"driver"`
	// Label is the token's label, 1 to 32 bytes as PKCS#11 has it.
	Label string `toml:"label"`
	// OnInit is what sys/init does when its request does not say: "" refuses,
	// "create" initialises a new token, "adopt" takes an initialised one.
	OnInit string `toml:"on_init"`
	Soft   Soft   `toml:"soft"`
	PKCS11 PKCS11 `toml:"pkcs11"`
}

// Soft is the embedded software token.
type Soft struct {
	// Dir is the directory of the token's file.
	Dir string `toml:"dir"`
}

// PKCS11 is a token behind a PKCS#11 module.
type PKCS11 struct {
	// Module is the absolute path of the module's shared object.
	Module string `toml:"module"`
	// Serial chooses among tokens of the same label; "" takes the only one.
	Serial string `toml:"serial"`
	// Workers is the number of processes that load the module, 0 one a CPU.
	Workers int `toml:"workers"`
	// CallTimeout is how long a call may take before its worker is replaced.
	CallTimeout Duration `toml:"call_timeout"`
	// KeygenTimeout is the same for the generation of keys.
	KeygenTimeout Duration `toml:"keygen_timeout"`
	// Env is added to the environment of the workers.
	Env map[string]string `toml:"env"`
	// ReadPaths and WritePaths are files and directories that the module needs
	// beside those that are known; workers are confined to them.
	ReadPaths  []string `toml:"read_paths"`
	WritePaths []string `toml:"write_paths"`
	// LockFile is held while a worker starts, for modules that several
	// servers of this machine share.
	LockFile string `toml:"lock_file"`
	// PINFile holds the user PIN of the token to adopt. It is read by sys/init
	// only, when the request gives no PIN, and may be deleted afterwards.
	PINFile string `toml:"pin_file"`
}

// Log is the server's own log, on standard error.
type Log struct {
	// Level is "debug", "info", "warn" or "error".
	Level string `toml:"level"`
	// Format is "json" or "console".
	Format string `toml:"format"`
}

// Limits bound what one request may take.
type Limits struct {
	// MaxBody is the largest body in bytes.
	MaxBody Size `toml:"max_body"`
	// RequestTimeout is how long a request may take.
	RequestTimeout Duration `toml:"request_timeout"`
}

// defaults returns the default configuration with paths as they are written.
func defaults() *Config {
	return &Config{
		DataDir:     "/var/lib/claviger",
		Certificate: defaultCertificate(),
		Store:       Store{Driver: "sqlite", Path: "claviger.db"},
		Audit: Audit{
			Path:               "audit.log",
			CheckpointEvery:    10_000,
			CheckpointInterval: Duration{time.Minute},
		},
		Token: Token{
			Driver: DriverSoft,
			Label:  "claviger",
			Soft:   Soft{Dir: "token"},
			PKCS11: PKCS11{
				CallTimeout:   Duration{5 * time.Second},
				KeygenTimeout: Duration{time.Minute},
				Env:           map[string]string{},
				LockFile:      "token.lock",
			},
		},
		Custody:  defaultCustody(),
		Front:    defaultFronts(),
		HMACPool: HMACPool{Dirs: []string{"hmacpool"}},
		Log:      Log{Level: "info", Format: "json"},
		Limits:   Limits{MaxBody: 32 << 20, RequestTimeout: Duration{90 * time.Second}},
	}
}

// Default returns the configuration of an empty file.
func Default() *Config {
	c := defaults()
	c.complete()
	return c
}

// Dev returns the configuration of a development server that keeps everything
// in dir, an absolute path.
func Dev(dir string) *Config {
	c := defaults()
	c.DataDir = dir
	c.Token.OnInit = OnInitCreate
	c.Log = Log{Level: "info", Format: "console"}
	c.complete()
	return c
}

// complete adds the listener of a file that names none, and makes every path
// absolute.
func (c *Config) complete() {
	if len(c.Listeners) == 0 {
		c.Listeners = []Listener{{Address: "127.0.0.1:8200"}}
	}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		if _, ok := l.Socket(); ok && l.Mode == "" {
			l.Mode = "0660"
		}
		c.absolute(&l.TLSCert, &l.TLSKey, &l.ClientCA)
	}
	c.completeCertificate()
	c.completeHMACPool()
	c.completeFronts()
	p := &c.Token.PKCS11
	c.completeCustody()
	c.absolute(&c.Store.Path, &c.Audit.Path, &c.Token.Soft.Dir, &p.LockFile, &p.PINFile)
}

func (c *Config) absolute(paths ...*string) {
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(c.DataDir, *p)
		}
	}
}

// Socket returns the path of a unix listener, and whether it is one.
func (l *Listener) Socket() (path string, ok bool) {
	return strings.CutPrefix(l.Address, "unix:")
}

// FileMode returns the permission bits of a unix socket. Validate has seen to
// it that Mode can be read.
func (l *Listener) FileMode() uint32 {
	mode, err := parseMode(l.Mode)
	if err != nil {
		return 0o600
	}
	return mode
}

// TLS tells whether the listener speaks TLS.
func (l *Listener) TLS() bool { return l.TLSCert != "" || l.TLSOwn }

// Local tells whether only this machine can reach the listener.
func (l *Listener) Local() bool {
	if _, ok := l.Socket(); ok {
		return true
	}
	host, _, err := net.SplitHostPort(l.Address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// WorkerCount returns Workers, or the number of CPUs if it is 0.
func (p *PKCS11) WorkerCount() int {
	if p.Workers > 0 {
		return p.Workers
	}
	return runtime.NumCPU()
}

// Environ returns Env as "NAME=value" lines, in no order.
func (p *PKCS11) Environ() []string {
	env := make([]string, 0, len(p.Env))
	for name, value := range p.Env {
		env = append(env, name+"="+value)
	}
	return env
}

// Warnings returns what is allowed but dangerous, to be said loudly at start.
func (c *Config) Warnings() []string {
	var w []string
	for _, l := range c.Listeners {
		if !l.TLS() && !l.Local() {
			w = append(w, fmt.Sprintf("listener %s serves plain HTTP to other machines: client tokens and data can be read and altered on the network", l.Address))
		}
	}
	if c.Token.Driver == DriverSoft {
		w = append(w, "the embedded software token keeps keys in a file and in server memory, not in hardware")
	}
	if c.Custody.Kind == CustodyPIN {
		w = append(w, "custody by a PIN: who reads the PIN's source opens the HSM token; custodians' shares are safer")
	}
	if c.Custody.Kind == CustodyAuto {
		w = append(w, c.Custody.autoWarning())
	}
	if c.Custody.GenerateRootWithoutToken {
		w = append(w, "sys/generate-root is open to callers without a client token: they can begin and cancel the making of a root token; set generate_root_without_token = false when it is made")
	}
	return append(w, c.frontWarnings()...)
}

func parseMode(s string) (uint32, error) {
	mode, err := strconv.ParseUint(s, 8, 32)
	if err != nil || mode > 0o777 {
		return 0, fmt.Errorf("%q is no permission", s)
	}
	return uint32(mode), nil
}
