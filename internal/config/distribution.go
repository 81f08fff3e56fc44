package config

import (
	"fmt"
	"strings"
)

// Distribution is the front that serves certificates, CRLs and OCSP answers of
// authorities to everybody. What it serves is signed, and public.
type Distribution struct {
	Front
	// Mounts are the mounts of type pki that it serves, at least one.
	Mounts []string `toml:"mounts"`
}

func defaultDistribution() Distribution {
	return Distribution{Front: Front{Listener: Listener{Address: "127.0.0.1:8280"}}, Mounts: []string{"pki/"}}
}

func (c *Config) completeDistribution() {
	for i, m := range c.Front.Distribution.Mounts {
		c.Front.Distribution.Mounts[i] = strings.Trim(m, "/") + "/"
	}
}

func (f *Distribution) validate(p *Problems) {
	if f.Enabled && len(f.Mounts) == 0 {
		p.addText("front.distribution.mounts", "[]", `at least one mount of type pki such as "pki/"`)
	}
	for i, m := range f.Mounts {
		if m == "/" || strings.Contains(m, "//") {
			p.add(fmt.Sprintf("front.distribution.mounts[%d]", i), m, `the path of a mount of type pki such as "pki/"`)
		}
	}
}
