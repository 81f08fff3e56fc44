package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// The providers that keep the unseal secret of a server that opens by itself.
const (
	ProviderTPM        = "tpm"
	ProviderTransit    = "transit"
	ProviderCredential = "systemd-credential"
	ProviderAWS        = "awskms"
	ProviderGCP        = "gcpckms"
	ProviderAzure      = "azurekeyvault"
)

// CustodyTPM is the provider "tpm".
type CustodyTPM struct {
	// Device is a device file, or "swtpm:host:port" of a software TPM.
	Device string `toml:"device"`
	// PCRs are numbers from 0 to 23, bank SHA-256: the server opens by itself only
	// while they have the values that they had when the secret was sealed.
	PCRs []int `toml:"pcrs"`
}

// CustodyTransit is the provider "transit": a key of the transit engine of another
// server.
type CustodyTransit struct {
	// Address is "https://host:port" or "unix:///path"; "http://" on this machine only.
	Address string `toml:"address"`
	// CACert is a PEM file with the only authorities that are trusted.
	CACert string `toml:"ca_cert"`
	// ClientCert and ClientKey are PEM files; both or neither.
	ClientCert string `toml:"client_cert"`
	ClientKey  string `toml:"client_key"`
	// TokenFile holds the client token. It is read at each use.
	TokenFile string `toml:"token_file"`
	// Mount is the path of the engine, Key the name of the key.
	Mount string `toml:"mount"`
	Key   string `toml:"key"`
}

// CustodyCredential is the provider "systemd-credential".
type CustodyCredential struct {
	// Name is that of the credential in the unit: LoadCredentialEncrypted=name.
	Name string `toml:"name"`
}

// CustodyKMS are the providers of clouds.
type CustodyKMS struct {
	// Options are the options of go-kms-wrapping's wrapper of that name, such as
	// kms_key_id and region. Credentials come from the environment, the machine's
	// identity or a file, never from here.
	Options map[string]string `toml:"options"`
}

func defaultCustody() Custody {
	return Custody{
		Kind: CustodyShares, TPM: CustodyTPM{Device: "/dev/tpmrm0", PCRs: []int{}}, Transit: CustodyTransit{Mount: "transit"},
		Credential: CustodyCredential{Name: "claviger-unseal"},
	}
}

func (c *Config) completeCustody() {
	t := &c.Custody.Transit
	c.absolute(&c.Custody.PINFile, &t.CACert, &t.ClientCert, &t.ClientKey, &t.TokenFile)
	t.Mount = strings.Trim(t.Mount, "/")
}

func (c *Custody) validateAuto(p *Problems) {
	if c.Kind != CustodyAuto {
		if c.Provider != "" {
			p.add("custody.kind", c.Kind, `"auto" where a provider is given`)
		}
		return
	}
	p.oneOf("custody.provider", c.Provider, ProviderTPM, ProviderTransit, ProviderCredential, ProviderAWS, ProviderGCP, ProviderAzure)
	switch c.Provider {
	case ProviderTPM:
		c.TPM.validate(p)
	case ProviderTransit:
		c.Transit.validate(p)
	case ProviderCredential:
		if n := c.Credential.Name; n == "" || strings.ContainsAny(n, "/\x00:") || n == "." || n == ".." || !printable(n, 128) {
			p.add("custody.credential.name", n, "the name of a systemd credential")
		}
	case ProviderAWS, ProviderGCP, ProviderAzure:
		c.KMS.validate(p)
	}
}

func (t *CustodyTPM) validate(p *Problems) {
	if !strings.HasPrefix(t.Device, "/") && !strings.HasPrefix(t.Device, "swtpm:") {
		p.add("custody.tpm.device", t.Device, `a device file such as "/dev/tpmrm0", or "swtpm:host:port"`)
	}
	seen := map[int]bool{}
	for _, n := range t.PCRs {
		if n < 0 || n > 23 || seen[n] {
			p.add("custody.tpm.pcrs", fmt.Sprint(t.PCRs), "different numbers from 0 to 23")
			return
		}
		seen[n] = true
	}
}

func (t *CustodyTransit) validate(p *Problems) {
	const field = "custody.transit."
	if !t.safeAddress() {
		p.add(field+"address", t.Address, `"https://host:port" or "unix:///path" ("http://" on this machine only)`)
	}
	if t.TokenFile == "" {
		p.add(field+"token_file", "", "the file with the client token")
	}
	if (t.ClientCert == "") != (t.ClientKey == "") {
		p.add(field+"client_cert", t.ClientCert, "given together with client_key, or neither")
	}
	if t.Mount == "" || strings.Contains(t.Mount, "//") || !printable(t.Mount, 256) {
		p.add(field+"mount", t.Mount, `the path of a transit engine such as "transit"`)
	}
	if t.Key == "" || strings.Contains(t.Key, "/") || !printable(t.Key, 256) {
		p.add(field+"key", t.Key, "the name of a key of the transit engine")
	}
}

// safeAddress tells whether the key and the client token go there unseen.
func (t *CustodyTransit) safeAddress() bool {
	u, err := url.Parse(t.Address)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	switch u.Scheme {
	case "unix":
		return strings.Trim(u.Path, "/") != ""
	case "https":
		return u.Host != ""
	case "http":
		l := Listener{Address: u.Host}
		if u.Port() == "" {
			l.Address += ":80"
		}
		return u.Host != "" && l.Local()
	}
	return false
}

// secretOptions are those of wrappers that would put a secret into the file.
var secretOptions = []string{"access_key", "secret_key", "session_token", "client_secret"}

func (k *CustodyKMS) validate(p *Problems) {
	if len(k.Options) == 0 {
		p.addText("custody.kms.options", "none", "the options that name the key")
	}
	for name, value := range k.Options {
		if slices.Contains(secretOptions, name) {
			p.addText("custody.kms.options."+name, "(hidden)", "absent: no secret stands in this file; use the environment or the machine's identity")
		} else if !printable(value, 1024) {
			p.add("custody.kms.options."+name, value, "up to 1024 printable characters")
		}
	}
}

// checkAutoFiles looks at the files of the provider.
func (c *Custody) checkAutoFiles(p *Problems) {
	if c.Kind == CustodyAuto && c.Provider == ProviderTransit {
		checkSecret(p, "custody.transit.token_file", c.Transit.TokenFile, true)
		checkSecret(p, "custody.transit.client_key", c.Transit.ClientKey, true)
	}
}

// autoWarning says what custody by a provider means.
func (c *Custody) autoWarning() string {
	w := "custody by the provider " + c.Provider + ": the server opens without a custodian; whoever has its database and may use the provider opens the HSM token"
	if c.Provider == ProviderTPM && len(c.TPM.PCRs) == 0 {
		w += "; without custody.tpm.pcrs that is whoever starts this machine with any system"
	}
	return w
}
