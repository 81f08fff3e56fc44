package config

import (
	"fmt"
	"net"
	"strings"
)

// Front is what all fronts with a listener of their own have in common. Each is
// off until it is enabled.
type Front struct {
	Enabled bool `toml:"enabled"`
	// Listener is where it is served.
	Listener
	// MaxConnections bounds the connections that are open at a time; further
	// ones wait. 0 is 1024.
	MaxConnections int `toml:"max_connections"`
}

// FrontRow is a front of a configuration with its name: "hsmdaemon".
type FrontRow struct {
	Name string
	*Front
}

// Fronts returns the fronts of the configuration, enabled or not, in their order.
func (c *Config) Fronts() []FrontRow {
	return append(c.Front.HSMDaemon.rows(), FrontRow{"cryptoserver", &c.Front.Cryptoserver.Front},
		FrontRow{"movault", &c.Front.MoVault.Front}, FrontRow{"est", &c.Front.EST.Front},
		FrontRow{"distribution", &c.Front.Distribution.Front},
		FrontRow{"pkcs11", &c.Front.PKCS11.Front})
}

// Fronts are the sections [front.NAME].
type Fronts struct {
	HSMDaemon    HSMDaemon    `toml:"hsmdaemon"`
	Cryptoserver Cryptoserver `toml:"cryptoserver"`
	MoVault      MoVault      `toml:"movault"`
	EST          EST          `toml:"est"`
	Distribution Distribution `toml:"distribution"`
	PKCS11       PKCS11Front  `toml:"pkcs11"`
}

func defaultFronts() Fronts {
	return Fronts{HSMDaemon: defaultHSMDaemon(), Cryptoserver: defaultCryptoserver(), MoVault: defaultMoVault(), EST: defaultEST(),
		Distribution: defaultDistribution(), PKCS11: defaultPKCS11Front()}
}

func (c *Config) completeFronts() {
	c.Front.HSMDaemon.Mount = strings.Trim(c.Front.HSMDaemon.Mount, "/") + "/"
	c.absolute(&c.Front.HSMDaemon.JWTSecretFile, &c.Front.HSMDaemon.LineTokenFile)
	c.completeCryptoserver()
	c.completeMoVault()
	c.completeDistribution()
	c.completePKCS11()
	for _, f := range c.Fronts() {
		if _, ok := f.Socket(); ok && f.Mode == "" {
			f.Mode = "0660"
		}
		c.absolute(&f.TLSCert, &f.TLSKey, &f.ClientCA)
	}
}

func (c *Config) validateFronts(p *Problems) {
	seen := map[string]bool{}
	for i := range c.Listeners {
		seen[c.Listeners[i].Address] = true
	}
	for _, f := range c.Fronts() {
		field := "front." + f.Name + "."
		p.between(field+"max_connections", int64(f.MaxConnections), 0, 1<<20)
		if !f.Enabled {
			continue
		}
		f.validate(p, field)
		if _, port, _ := net.SplitHostPort(f.Address); seen[f.Address] && port != "0" {
			p.add(field+"address", f.Address, "another than that of an earlier listener")
		}
		seen[f.Address] = true
	}
	c.Front.HSMDaemon.validate(p)
	c.Front.Cryptoserver.validate(p)
	c.Front.MoVault.validate(p)
	c.Front.Distribution.validate(p)
	c.Front.EST.validate(p)
	c.Front.PKCS11.validate(p)
}

// policies checks the stored policies that bind a front in place of its own.
func (p *Problems) policies(field string, names []string) {
	for _, name := range names {
		if name = strings.TrimSpace(name); name == "" || strings.EqualFold(name, "root") {
			p.add(field, name, "the name of a policy other than root")
		}
	}
}

func (c *Config) frontWarnings() []string {
	var w []string
	for _, f := range c.Fronts() {
		// What the front distribution serves is public and signed.
		if f.Enabled && !f.TLS() && !f.Local() && f.Front != &c.Front.Distribution.Front {
			w = append(w, fmt.Sprintf("front %s at %s speaks to other machines without TLS: data can be read and altered on the network", f.Name, f.Address))
		}
	}
	return w
}
