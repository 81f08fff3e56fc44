package config

import "strings"

// MoVault is the front with the HTTP API of Mo-Vault.
type MoVault struct {
	Front
	// Policies are stored policies that bind what the front may do in place of
	// its own, which allows what the front offers and nothing else.
	Policies []string `toml:"policies"`
	// Mount is the transit engine that holds the keys.
	Mount string `toml:"mount"`
	// TokenFile holds the token that callers show.
	TokenFile string `toml:"token_file"`
	// Open lets everybody in who reaches the address, as the original does.
	Open bool `toml:"open"`
}

func defaultMoVault() MoVault {
	return MoVault{Front: Front{Listener: Listener{Address: "127.0.0.1:8443"}}, Mount: "transit/"}
}

func (c *Config) completeMoVault() {
	f := &c.Front.MoVault
	f.Mount = strings.Trim(f.Mount, "/") + "/"
	c.absolute(&f.TokenFile)
}

func (f *MoVault) validate(p *Problems) {
	const field = "front.movault."
	if strings.Trim(f.Mount, "/") == "" {
		p.add(field+"mount", f.Mount, `the path of a transit engine such as "transit/"`)
	}
	p.policies(field+"policies", f.Policies)
	if f.Enabled && f.Open == (f.TokenFile != "") {
		p.add(field+"token_file", f.TokenFile, "the file with the token that callers show, or absent with open = true")
	}
}
