package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	_ "embed"

	"github.com/pelletier/go-toml/v2"

	"github.com/claviger/claviger/internal/fault"
)

// DefaultAgentFile is where the agent looks for its configuration.
const DefaultAgentFile = "/etc/claviger/agent.toml"

//go:embed agent.toml
var agentExample []byte

// AgentExample returns a configuration file of the agent that explains every
// option. What is not commented out is the default.
func AgentExample() []byte { return bytes.Clone(agentExample) }

// Where an agent has its client token from.
const (
	TokenNone       = "none"
	TokenFile       = "file"
	TokenCredential = "credential"
)

// Agent is the configuration of an agent. An unknown key is an error.
type Agent struct {
	// Socket is where PKCS#11 modules connect. Absolute.
	Socket string `toml:"socket"`
	// Mode is its permission, octal; Group owns it, "" leaves it to the process.
	Mode  string `toml:"mode"`
	Group string `toml:"group"`
	PKCS11Peers
	// P11KitSocket is where p11-kit-client.so connects, with the same permission and
	// peers; off if empty.
	P11KitSocket string `toml:"p11kit_socket"`
	// MaxConnections bounds those that are open at a time; further ones wait.
	MaxConnections int          `toml:"max_connections"`
	Server         AgentServer  `toml:"server"`
	Token          AgentToken   `toml:"token"`
	Slots          []PKCS11Slot `toml:"slot"`
	Metrics        AgentMetrics `toml:"metrics"`
	Log            Log          `toml:"log"`
}

// AgentServer is the server, or several that know the same keys.
type AgentServer struct {
	// Addresses are "https://host:port", "http://host:port" or "unix:///path".
	Addresses []string `toml:"addresses"`
	// Insecure allows plain HTTP to another machine.
	Insecure bool `toml:"insecure"`
	UnsealerTLS
}

// AgentToken is the agent's own client token, for callers that show none.
type AgentToken struct {
	// Source is one of the constants Token….
	Source string `toml:"source"`
	// File holds the token; it is read again when it changes.
	File string `toml:"file"`
	// Credential is the name of a systemd credential that holds it.
	Credential string `toml:"credential"`
	// Renew prolongs the token while the agent runs.
	Renew bool `toml:"renew"`
}

// AgentMetrics is a listener for Prometheus; off without an address.
type AgentMetrics struct {
	// Address is "host:port" on loopback.
	Address string `toml:"address"`
}

// DefaultAgent returns the configuration of an empty file.
func DefaultAgent() *Agent {
	return &Agent{
		Socket: defaultAgentSocket(), Mode: "0600", MaxConnections: 4096,
		Server: AgentServer{Addresses: []string{"https://127.0.0.1:8200"}},
		Token:  AgentToken{Source: TokenNone, Renew: true},
		Slots:  DefaultPKCS11Slots(),
		Log:    Log{Level: "info", Format: "json"},
	}
}

// defaultAgentSocket is below the user's run-time directory, if there is one.
func defaultAgentSocket() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "claviger", "pkcs11.sock")
	}
	return "/run/claviger-agent/pkcs11.sock"
}

// LoadAgent reads a file without validating it, since flags may complete it. Its
// errors are *fault.Error of kind Invalid, or NotFound if there is no file.
func LoadAgent(path string) (*Agent, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "the configuration file %s does not exist", path).
			WithHint("claviger agent example > %s writes one that explains every option", path)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "read the configuration")
	}
	if len(b) > maxFile {
		return nil, fault.New(fault.Invalid, "%s has %d bytes; a configuration file has at most %d", path, len(b), maxFile)
	}
	c, err := ParseAgent(b)
	if err != nil {
		return nil, fault.New(fault.Invalid, "configuration %s: %v", path, err).WithHint("claviger agent example shows every option")
	}
	return c, nil
}

// ParseAgent reads the text of the file, without validating values.
func ParseAgent(text []byte) (*Agent, error) {
	c := DefaultAgent()
	c.Slots = nil
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, explain(reflect.TypeFor[Agent](), text, err)
	}
	if len(c.Slots) == 0 {
		c.Slots = DefaultPKCS11Slots()
	}
	return c, nil
}

// Validate checks every value. Its error is Problems: all that is wrong, at once.
func (c *Agent) Validate() error {
	var p Problems
	p.absolute("socket", c.Socket)
	if s := c.P11KitSocket; s != "" && (!filepath.IsAbs(s) || filepath.Clean(s) == filepath.Clean(c.Socket)) {
		p.add("p11kit_socket", s, "an absolute path other than that of socket, or empty")
	}
	if _, err := parseMode(c.Mode); err != nil {
		p.add("mode", c.Mode, `a permission such as "0660"`)
	}
	p.pkcs11Group("group", c.Group)
	c.PKCS11Peers.validate(&p, "")
	p.between("max_connections", int64(c.MaxConnections), 1, 1<<20)
	c.Server.validate(&p)
	c.Token.validate(&p)
	p.pkcs11Slots("slot", c.Slots)
	if a := c.Metrics.Address; a != "" && !(&Listener{Address: a}).Local() {
		p.add("metrics.address", a, `"host:port" on loopback such as "127.0.0.1:9465"`)
	}
	p.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	p.oneOf("log.format", c.Log.Format, "json", "console")
	if len(p) == 0 {
		return nil
	}
	return p
}

func (s *AgentServer) validate(p *Problems) {
	s.UnsealerTLS.validate(p, "server.")
	if len(s.Addresses) == 0 {
		p.addText("server.addresses", "none", `at least one such as "https://keys.example.org:8200"`)
	}
	seen := map[string]bool{}
	for _, address := range s.Addresses {
		(&Unsealed{Address: address, Insecure: s.Insecure}).validate(p, "server.", seen[address])
		seen[address] = true
	}
}

func (t *AgentToken) validate(p *Problems) {
	p.oneOf("token.source", t.Source, TokenNone, TokenFile, TokenCredential)
	if t.Source == TokenFile && !filepath.IsAbs(t.File) {
		p.add("token.file", t.File, "the absolute path of the file with the client token")
	}
	if t.Source != TokenFile && t.File != "" {
		p.add("token.file", t.File, `absent where the source is not "file"`)
	}
	if t.Source == TokenCredential && !credentialName(t.Credential) {
		p.add("token.credential", t.Credential, "the name of a systemd credential (LoadCredential=, LoadCredentialEncrypted=)")
	}
	if t.Source != TokenCredential && t.Credential != "" {
		p.add("token.credential", t.Credential, `absent where the source is not "credential"`)
	}
}

// FileMode returns the permission bits of the socket.
func (c *Agent) FileMode() uint32 { return (&Listener{Mode: c.Mode}).FileMode() }

// CheckFiles looks at the files that the configuration names. Its error is
// Problems. It reads no secret.
func (c *Agent) CheckFiles() error {
	var p Problems
	if c.Token.Source == TokenFile {
		checkSecret(&p, "token.file", c.Token.File, true)
	}
	checkSecret(&p, "server.client_key", c.Server.ClientKey, true)
	if len(p) == 0 {
		return nil
	}
	return p
}

// Warnings returns what is allowed but dangerous, to be said loudly at start.
func (c *Agent) Warnings() []string {
	var w []string
	for _, address := range c.Server.Addresses {
		if strings.HasPrefix(address, "http://") && c.Server.Insecure {
			w = append(w, "the client token and all data go to "+address+" without TLS: others can read and alter them on the network")
		}
	}
	if c.Token.Source != TokenNone && c.FileMode()&0o007 != 0 && len(c.UIDs)+len(c.GIDs) == 0 {
		w = append(w, "every user of this machine may use the keys of the agent's client token: the socket is open to all, and uids and gids are empty")
	}
	return w
}
