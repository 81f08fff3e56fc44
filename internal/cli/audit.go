package cli

import (
	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/server"
)

func (a *app) auditCommand() *cobra.Command {
	cmd := a.group("audit", "Check audit logs", a.auditVerifyCommand(), a.auditHashCommand())
	cmd.Long = "The audit log is a chain of JSON lines whose head the HSM token signs now and then."
	cmd.Example = "  claviger audit verify --public-key audit.pem audit.log"
	return cmd
}

func (a *app) auditVerifyCommand() *cobra.Command {
	var publicKey string
	cmd := &cobra.Command{
		Use:   "verify FILE…",
		Short: "Check that nothing in an audit log was changed, dropped or reordered",
		Long: `Check the files of one audit log offline, given in any order. The first fault is
shown with its line. The public key is that of the HSM token's audit key
(claviger hsm audit-key), kept where whoever can change the log can't change it.`,
		Example: "  claviger audit verify --public-key audit.pem audit.log.1 audit.log",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s takes FILE…, got none", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return server.VerifyAudit(args, publicKey, a.out)
		},
	}
	cmd.Flags().StringVar(&publicKey, "public-key", "", "PEM file of the audit key's public half")
	if err := cmd.MarkFlagRequired("public-key"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}
