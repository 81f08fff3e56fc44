package config

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// HSMDaemon is the front with the HTTP API and the line protocol of ownCloud's
// hsmdaemon.
type HSMDaemon struct {
	Front
	// Policies are stored policies that bind what the front may do in place of
	// its own, which allows what the front offers and nothing else.
	Policies []string `toml:"policies"`
	// Mount is the transit engine that holds the keys.
	Mount string `toml:"mount"`
	// JWTSecretFile holds the secret that the clients' tokens are signed with.
	JWTSecretFile string `toml:"jwt_secret_file"`
	// JWTSecret is that secret, for programs that build the configuration.
	JWTSecret []byte `toml:"-"`
	// JWTLeeway is how far the clocks of clients may be off.
	JWTLeeway Duration `toml:"jwt_leeway"`
	// Lines are the sockets of the line protocol.
	Lines []HSMDaemonLine `toml:"line"`
	// LineKey names the key that the line protocol decrypts with.
	LineKey string `toml:"line_key"`
	// LineTokenFile is where the line protocol's token is: read if the file is
	// there, else made at random and written.
	LineTokenFile string `toml:"line_token_file"`
	// LineTokenURL, if given, is told the token by a POST at start.
	LineTokenURL string `toml:"line_token_url"`
	// InsecureSecret allows the secret that ownCloud has by default, "secret".
	InsecureSecret bool `toml:"insecure_secret"`
}

// HSMDaemonLine is a socket of the line protocol.
type HSMDaemonLine struct{ Front }

// DefaultJWTSecret is what ownCloud signs with until somebody sets another secret.
const DefaultJWTSecret = "secret"

func defaultHSMDaemon() HSMDaemon {
	return HSMDaemon{
		Front:         Front{Listener: Listener{Address: "127.0.0.1:8513"}},
		Mount:         "transit/",
		JWTLeeway:     Duration{time.Minute},
		LineTokenFile: "hsmdaemon.token",
	}
}

func (h *HSMDaemon) rows() []FrontRow {
	rows := []FrontRow{{"hsmdaemon", &h.Front}}
	for i := range h.Lines {
		rows = append(rows, FrontRow{fmt.Sprintf("hsmdaemon.line[%d]", i), &h.Lines[i].Front})
	}
	return rows
}

func (h *HSMDaemon) validate(p *Problems) {
	const field = "front.hsmdaemon."
	if strings.Trim(h.Mount, "/") == "" {
		p.add(field+"mount", h.Mount, `the path of a transit engine such as "transit/"`)
	}
	p.policies(field+"policies", h.Policies)
	p.lasts(field+"jwt_leeway", h.JWTLeeway, 0, 10*time.Minute)
	if h.Enabled && h.JWTSecretFile == "" && len(h.JWTSecret) == 0 {
		p.add(field+"jwt_secret_file", "", "the file with the secret that the clients sign with")
	}
	lines := false
	for i := range h.Lines {
		lines = lines || h.Lines[i].Enabled
	}
	if lines && h.LineKey == "" {
		p.add(field+"line_key", "", "the key that the line protocol decrypts with: its clients name none")
	}
	if u, err := url.Parse(h.LineTokenURL); h.LineTokenURL != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		p.add(field+"line_token_url", h.LineTokenURL, "an http or https address")
	}
}
