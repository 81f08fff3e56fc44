package cli

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (a *app) hsmCommand() *cobra.Command {
	cmd := a.group("hsm", "Show and examine HSM tokens", a.hsmStatusCommand(), a.hsmObjectsCommand(), a.auditKeyCommand(), a.doctorCommand())
	cmd.Long = "An HSM token is what a PKCS#11 module shows: it holds the keys."
	cmd.Example = "  claviger hsm status\n  claviger hsm doctor --module /usr/lib/softhsm/libsofthsm2.so"
	return cmd
}

func (a *app) hsmStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the HSM token of the server and the key types it holds",
		Long: `Show which HSM token the server uses, where it can keep keys of each type
(wrapped: in the server's store under the token's KEK; token: inside the token),
and what of the module is worked around. The server must be unsealed.`,
		Example: "  claviger hsm status\n  claviger hsm status --format json",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			s, err := c.HSMStatus(ctx)
			if err != nil {
				return err
			}
			if a.format == "json" {
				return a.showJSON(s)
			}
			_, err = fmt.Fprint(a.out, renderHSM(s))
			return err
		}),
	}
}

func renderHSM(s *api.TokenStatus) string {
	var t table
	t.field("Driver", s.Driver)
	if s.Module != "" {
		t.field("Module", s.Module)
	}
	t.field("Label", s.Label)
	t.field("Serial", s.Serial)
	t.field("Manufacturer", s.Manufacturer)
	t.field("Model", s.Model)
	if s.Firmware != "" {
		t.field("Firmware", s.Firmware)
	}
	t.field("Transferable KEK", s.Transferable)
	types := table{head: true}
	types.add("key type", "protections", "import", "note")
	for _, name := range slices.Sorted(maps.Keys(s.KeyTypes)) {
		hold := s.KeyTypes[name]
		types.add(name, protections(hold.Wrapped, hold.Token), map[bool]string{true: "yes", false: "no"}[hold.Import], hold.Note)
	}
	return t.render() + "\n" + types.render() + renderQuirks(s.Quirks)
}

// protections names the places where keys of a type can be kept.
func protections(wrapped, token bool) string {
	var at []string
	if wrapped {
		at = append(at, "wrapped")
	}
	if token {
		at = append(at, "token")
	}
	return strings.Join(at, ", ")
}

// renderQuirks returns what is worked around as a section, "" if there is nothing.
func renderQuirks(quirks []string) string {
	if len(quirks) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\nWorked around:\n")
	for _, q := range quirks {
		b.WriteString("  - " + printable(q) + "\n")
	}
	return b.String()
}

func (a *app) auditKeyCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "audit-key",
		Short: "Print the public key that verifies the audit log",
		Long: `Print the public half of the key with which the HSM token signs the audit log:
PEM of its PKIX form, for audit verify. Fetch it while you trust the server, and
keep it where whoever can change the log can't change it.`,
		Example: "  claviger hsm audit-key --out audit.pem",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			s, err := c.HSMStatus(ctx)
			if err != nil {
				return err
			}
			return a.auditKey(s, out)
		}),
	}
	outFlag(cmd, &out)
	return cmd
}

func (a *app) auditKey(s *api.TokenStatus, out string) error {
	const form = "PUBLIC KEY"
	block, _ := pem.Decode([]byte(s.AuditPublicKey))
	if block == nil || block.Type != form {
		return errors.New("the server shows no audit key in PEM")
	}
	// Encoded anew, the text has nothing in it beside the key.
	key := pem.EncodeToMemory(&pem.Block{Type: form, Bytes: block.Bytes})
	switch {
	case out != "":
		return writeFile(out, key, 0o644)
	case a.format == "json":
		return a.showJSON(map[string]string{"audit_public_key": string(key)})
	}
	_, err := a.out.Write(key)
	return err
}
