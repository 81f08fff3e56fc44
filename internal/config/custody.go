package config

// The kinds of custody.
const (
	CustodyShares = "shares" // custodians open the server with their shares
	CustodyPIN    = "pin"    // the server opens by itself with a configured PIN
	CustodyAuto   = "auto"   // the server opens by itself with what a provider keeps
)

// Custody says who opens the server. Kind "pin" is chosen at initialisation, for
// ever; from "shares" to "auto" and back the custodians can migrate.
type Custody struct {
	// Kind is "shares", "pin" or "auto".
	Kind string `toml:"kind"`
	// Provider keeps the unseal secret with kind "auto".
	Provider   string            `toml:"provider"`
	TPM        CustodyTPM        `toml:"tpm"`
	Transit    CustodyTransit    `toml:"transit"`
	Credential CustodyCredential `toml:"credential"`
	KMS        CustodyKMS        `toml:"kms"`
	// PINFile holds the user PIN of the HSM token, on one line. It is read at
	// each start. With kind "pin" only, which needs it or PINEnv.
	PINFile string `toml:"pin_file"`
	// PINEnv names the environment variable that holds the PIN. The server
	// removes it from its environment when it has read it.
	PINEnv string `toml:"pin_env"`
	// PIN returns the PIN in place of file and variable, for programs that build
	// the configuration themselves.
	PIN func() ([]byte, error) `toml:"-"`
	// GenerateRootWithoutToken opens sys/generate-root to callers without a
	// client token. The shares are needed in any case, but everybody who reaches
	// a listener can begin and cancel an attempt.
	GenerateRootWithoutToken bool `toml:"generate_root_without_token"`
}

func (c *Custody) validate(p *Problems) {
	p.oneOf("custody.kind", c.Kind, CustodyShares, CustodyPIN, CustodyAuto)
	c.validateAuto(p)
	sources := 0
	for _, given := range []bool{c.PINFile != "", c.PINEnv != "", c.PIN != nil} {
		if given {
			sources++
		}
	}
	switch {
	case c.Kind != CustodyPIN && sources > 0:
		p.add("custody.kind", c.Kind, `"pin" where pin_file or pin_env is given; shares and providers need neither`)
	case c.Kind == CustodyPIN && sources != 1:
		p.add("custody.pin_file", c.PINFile, `the file with the user PIN, or absent with pin_env in its place: custody by "pin" needs one of both`)
	}
	if c.PINFile != "" {
		p.absolute("custody.pin_file", c.PINFile)
	}
	if !printable(c.PINEnv, 128) {
		p.add("custody.pin_env", c.PINEnv, "the name of an environment variable")
	}
}
