package cli

import (
	"bytes"
	"context"
	"fmt"

	"github.com/hashicorp/hcl/hcl/printer"
	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (a *app) policyCommand() *cobra.Command {
	cmd := a.group("policy", "Manage policies",
		a.policyListCommand(), a.policyReadCommand(), a.policyWriteCommand(), a.policyDeleteCommand(), a.policyFmtCommand())
	cmd.Long = "A policy says what a client token may do: capabilities on paths, in HCL or JSON."
	cmd.Example = "  claviger policy write signer --in signer.hcl\n  claviger policy read signer"
	return cmd
}

func (a *app) policyListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the names of all policies",
		Example: "  claviger policy list",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			names, err := c.ListPolicies(ctx)
			if err != nil {
				return err
			}
			return a.showNames(names)
		}),
	}
}

func (a *app) policyReadCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "read NAME",
		Short:   "Print a policy",
		Example: "  claviger policy read signer",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			p, err := c.ReadPolicy(ctx, args[0])
			if err != nil {
				return err
			}
			if a.format == "json" {
				return a.showJSON(p)
			}
			return a.lines(p.Policy)
		}),
	}
}

func (a *app) policyWriteCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "write NAME",
		Short:   "Make or replace a policy",
		Long:    "Make or replace a policy with the text of standard input or a file.",
		Example: "  claviger policy write signer --in signer.hcl",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, args []string) error {
			text, err := a.line(cmd, &input{what: "policy", file: file})
			if err != nil {
				return err
			}
			if err := c.WritePolicy(ctx, api.WritePolicy{Name: args[0], Policy: text}); err != nil {
				return err
			}
			a.say("Policy %s is written.", args[0])
			return nil
		}),
	}
	cmd.Flags().StringVar(&file, "in", "", "read the policy from this file; default is standard input")
	return cmd
}

func (a *app) policyDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a policy",
		Long:    "Delete a policy. Client tokens that have it lose what it allowed at once.",
		Example: "  claviger policy delete signer",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			if err := c.DeletePolicy(ctx, args[0]); err != nil {
				return err
			}
			a.say("Policy %s is deleted.", args[0])
			return nil
		}),
	}
}

func (a *app) policyFmtCommand() *cobra.Command {
	var file string
	var write bool
	cmd := &cobra.Command{
		Use:     "fmt",
		Short:   "Format the text of a policy",
		Long:    "Print the HCL of standard input or a file in its usual layout; no server is called.",
		Example: "  claviger policy fmt --in signer.hcl --write",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if write && (file == "" || file == "-") {
				return usagef("--write needs --in FILE")
			}
			text, err := a.bytes(cmd, &input{what: "policy", file: file})
			if err != nil {
				return err
			}
			formatted, err := printer.Format(text)
			if err != nil {
				return fmt.Errorf("the policy is no HCL: %w", err)
			}
			formatted = append(bytes.TrimSpace(formatted), '\n')
			if write {
				return writeFile(file, formatted, 0o644)
			}
			_, err = a.out.Write(formatted)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "in", "", "read the policy from this file; default is standard input")
	cmd.Flags().BoolVar(&write, "write", false, "write the result back into the file")
	return cmd
}
