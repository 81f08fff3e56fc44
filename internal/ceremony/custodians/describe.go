package custodians

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/ceremony"
	"github.com/claviger/claviger/internal/pgp"
)

// Outputs implements ceremony.Remote.
func (c *Ceremony) Outputs() []string {
	out := append([]string{}, c.files...)
	for _, f := range []string{c.rootFile, c.padFile, c.shareSet} {
		if f != "" {
			out = append(out, f)
		}
	}
	return out
}

// Describe implements ceremony.Remote.
func (c *Ceremony) Describe() string {
	var b strings.Builder
	switch a := &c.asked; a.Act {
	case api.ActInit:
		fmt.Fprintf(&b, "The server is initialised: %s.\n", map[string]string{
			"create": "it makes a new HSM token, with PINs that nobody knows", "adopt": "it adopts the HSM token that is there, by its user PIN"}[a.HSMToken])
		fmt.Fprintf(&b, "The KEK %s.\n", map[bool]string{true: "may leave wrapped for another HSM, for ever", false: "never leaves the HSM token"}[a.TransferableKEK])
		if a.Recovery {
			b.WriteString("The server opens by itself; the shares are recovery shares.\n")
		}
	case api.ActRekey:
		b.WriteString("The shares in force are replaced once as many new ones as their threshold were given back.\n")
		fmt.Fprintf(&b, "The HSM token %s.\n", map[bool]string{true: "gets new PINs, which nobody knows", false: "keeps its PINs"}[a.NewPIN])
	case api.ActGenerateRoot:
		b.WriteString("As many custodians as open the server make a root token, which may do everything.\n")
	}
	c.describeShares(&b)
	c.describeRoot(&b)
	for _, s := range c.asked.Signers {
		fmt.Fprintf(&b, "The transcript may be signed by %s, key %s.\n", s.Custodian, s.Fingerprint)
	}
	return b.String()
}

func (c *Ceremony) describeShares(b *strings.Builder) {
	if len(c.keys) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%d new shares, of which %d open the server:\n\n", len(c.keys), c.asked.Threshold)
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "Share\tCustodian\tKey of\tOpenPGP key\tKind\tExpires\tFile")
	for i, h := range c.asked.Shares {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", i+1, h.Custodian, c.keys[i].Owner(), h.Fingerprint, c.keys[i].Kind(), expiry(c.keys[i]), c.files[i])
	}
	t.Flush() // to a strings.Builder, which never fails
	b.WriteString("\n")
}

func (c *Ceremony) describeRoot(b *strings.Builder) {
	switch r := c.asked.Root; {
	case r == nil:
	case r.Fingerprint == api.ForOTP:
		fmt.Fprintf(b, "The root token is encrypted with a one-time pad: token in %s, pad in %s. Who has both has the token.\n", c.rootFile, c.padFile)
	default:
		fmt.Fprintf(b, "The root token is encrypted to %s (%s), OpenPGP key %s, %s, expires %s: file %s\n",
			r.Custodian, c.rootKey.Owner(), r.Fingerprint, c.rootKey.Kind(), expiry(c.rootKey), c.rootFile)
	}
}

func expiry(k *pgp.Key) string {
	if end := k.Expires(); !end.IsZero() {
		return end.Format(time.DateOnly)
	}
	return "never"
}

// Asked is what the server is asked for.
func (c *Ceremony) Asked() *ceremony.Asked { return &c.asked }
