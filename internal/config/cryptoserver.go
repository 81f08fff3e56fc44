package config

import "strings"

// Cryptoserver is the front with the wire format of the program cryptoserver: HMACs
// with the secrets of a pool.
type Cryptoserver struct {
	Front
	// Policies are stored policies that bind what the front may do in place of
	// its own, which allows hmac at the mount and nothing else. Of an open front.
	Policies []string `toml:"policies"`
	// Open lets everybody in who reaches the address, as the original does.
	// Otherwise callers show a client token.
	Open bool `toml:"open"`
	// Mount is the mount of type hmacpool.
	Mount string `toml:"mount"`
	// SecretDir, if given, is the directory of the pool of that mount; its config
	// can't be changed by clients then.
	SecretDir string `toml:"secret_dir"`
	// PoolMode is "MODE0", "MODE16" or "MODE32". Of SecretDir.
	PoolMode string `toml:"pool_mode"`
	// Index is "current" or "pre-2021-09-13". Of SecretDir.
	Index string `toml:"index"`
}

func defaultCryptoserver() Cryptoserver {
	return Cryptoserver{
		Front: Front{Listener: Listener{Address: "127.0.0.1:8080"}},
		Mount: "hmacpool/", PoolMode: "MODE0", Index: "current",
	}
}

func (c *Config) completeCryptoserver() {
	f := &c.Front.Cryptoserver
	f.Mount = strings.Trim(f.Mount, "/") + "/"
	c.absolute(&f.SecretDir)
}

func (f *Cryptoserver) validate(p *Problems) {
	const field = "front.cryptoserver."
	if strings.Trim(f.Mount, "/") == "" {
		p.add(field+"mount", f.Mount, `the path of a mount of type hmacpool such as "hmacpool/"`)
	}
	p.policies(field+"policies", f.Policies)
	if len(f.Policies) > 0 && !f.Open {
		p.addText(field+"policies", strings.Join(f.Policies, ", "), "absent unless open = true: the policies of the client token count")
	}
	p.oneOf(field+"pool_mode", f.PoolMode, "MODE0", "MODE16", "MODE32")
	p.oneOf(field+"index", f.Index, "current", "pre-2021-09-13")
	if f.SecretDir == "" && (f.PoolMode != "MODE0" || f.Index != "current") {
		p.add(field+"secret_dir", "", "the directory of the pool that pool_mode and index describe")
	}
}
