// Package cli is the command line: it turns arguments into calls of package
// client, and answers into text or JSON.
//
// Promise: no secret is taken from the arguments, where every process of the
// machine can read it; shares, PINs and tokens come from a prompt without echo,
// standard input or a file. What a server says is shown without control
// characters, so that it can't command the terminal. Data goes to standard
// output, everything else to standard error. Exit status 0 is success, 1 an
// error, 2 a call that was wrong in itself (status has its own, see there).
//
// It trusts its environment (address, token, home directory) and the files that
// the user names.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/token/worker"
	"github.com/claviger/claviger/internal/tpm"
)

// Exit statuses.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// workerCommand is the argument with which the server starts its own program
// as a worker for a PKCS#11 module.
const workerCommand = "token-worker"

// Main runs the command line of the process and returns its exit status.
func Main() int {
	// A worker is on the way to the first answer: it needs none of the commands.
	if len(os.Args) > 1 && os.Args[1] == workerCommand {
		return worker.Main()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	a := &app{ui: newUI(os.Stdin, os.Stdout, os.Stderr)}
	root := a.root()
	root.SetArgs(calledAs(os.Args))
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	a.report(cmd, err)
	return exitStatus(cmd, err)
}

// app is one run of the command line: its terminal and its global flags.
type app struct {
	ui
	format     string
	address    string
	caCert     string
	clientCert string
	clientKey  string
	mount      string
}

// root returns the whole tree of commands.
func (a *app) root() *cobra.Command {
	root := a.group("claviger", "Keep keys in an HSM and use them over the network")
	for _, s := range []struct {
		title    string
		commands []*cobra.Command
	}{
		{"Server:", []*cobra.Command{a.serverCommand(), a.initCommand(), a.unsealCommand(), a.unsealerCommand(), a.agentCommand(), a.sealCommand(), a.custodyCommand(), a.shareCommand(),
			a.statusCommand(), a.generateRootCommand(), a.storageKeyCommand(), a.snapshotCommand(), a.configCommand(), a.hsmCommand(), a.auditCommand()}},
		{"Keys:", []*cobra.Command{a.keyCommand(), a.externalCommand(), a.encryptCommand(), a.decryptCommand(), a.rewrapCommand(),
			a.dataKeyCommand(), a.signCommand(), a.verifyCommand(), a.hmacCommand(), a.randomCommand(), a.hmacPoolCommand(),
			a.backupCommand(), a.transferCommand(), a.tpmCommand()}},
		{"Certificates:", []*cobra.Command{a.certCommand(), a.ceremonyCommand()}},
		{"Access:", []*cobra.Command{a.loginCommand(), a.tokenCommand(), a.leaseCommand(), a.policyCommand(), a.mountCommand(),
			a.wrappingCommand()}},
		{"Every path of the API:", a.pathCommands()},
		{"In the place of older programs:", a.programCommands()},
		{"This program:", []*cobra.Command{a.completionCommand(), a.manCommand(), a.openAPICommand(), a.versionCommand()}},
	} {
		root.AddGroup(&cobra.Group{ID: s.title, Title: s.title})
		for _, c := range s.commands {
			c.GroupID = s.title
		}
		root.AddCommand(s.commands...)
	}
	root.SetHelpCommand(a.helpCommand())
	root.SetHelpCommandGroupID("This program:")
	root.InitDefaultHelpCmd()
	root.Long = `Claviger keeps keys inside a PKCS#11 token (HSM) and offers them over the
network through Vault's HTTP API.

The server's address is taken from --address, CLAVIGER_ADDR, VAULT_ADDR or
BAO_ADDR, the client token from CLAVIGER_TOKEN, VAULT_TOKEN, BAO_TOKEN or
~/.vault-token. No command takes a secret as an argument.`
	root.Example = "  claviger server --dev\n  claviger key create --type ecdsa-p256 release\n  claviger sign release --in claviger.tar.gz"
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if a.format != "table" && a.format != "json" {
			return usagef("--format %s: must be table or json", a.format)
		}
		return nil
	}
	root.SetFlagErrorFunc(flagError)
	root.SetOut(a.out)
	root.SetErr(a.err)
	a.globalFlags(root)
	return root
}

func (a *app) globalFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&a.format, "format", "table", "form of the output: table, or json as the API has it")
	f.StringVar(&a.address, "address", "", "server: http://host:port, https://host:port or unix:///path")
	f.StringVar(&a.caCert, "ca-cert", "", "PEM file of authorities to trust instead of the system's")
	f.StringVar(&a.clientCert, "client-cert", "", "PEM file of the client's certificate")
	f.StringVar(&a.clientKey, "client-key", "", "PEM file of the client certificate's key")
	f.StringVar(&a.mount, "mount", client.DefaultMount, "path of the transit engine")
	f.BoolP("help", "h", false, "show help")
	complete(root, "format", "table", "json")
}

// complete offers values of a flag to the shell.
func complete(cmd *cobra.Command, flag string, values ...string) {
	// It fails only for a flag that does not exist, which every test would show.
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}

// client returns a client of the server that flags and environment name.
func (a *app) client() (*client.Client, error) {
	cfg, err := client.FromEnvironment()
	if err != nil {
		return nil, err
	}
	override(&cfg.Address, a.address)
	override(&cfg.CACert, a.caCert)
	override(&cfg.ClientCert, a.clientCert)
	override(&cfg.ClientKey, a.clientKey)
	cfg.Mount = a.mount
	cfg.OnWarning = a.warn
	return client.New(cfg)
}

func override(value *string, flag string) {
	if flag != "" {
		*value = flag
	}
}

// with makes the function of a command that calls the server.
func (a *app) with(run func(ctx context.Context, c *client.Client, cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		return run(cmd.Context(), c, cmd, args)
	}
}

// group makes a command that only has subcommands.
func (a *app) group(use, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ArbitraryArgs,
		// "claviger key" alone does nothing: its usage shows the commands only.
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s needs a command: %s", cmd.CommandPath(), strings.Join(subNames(cmd), ", "))
			}
			err := usagef("%s has no command %q", cmd.CommandPath(), args[0])
			if near := config.Nearest(args[0], subNames(cmd)); near != "" {
				err.hint = fmt.Sprintf("did you mean %q?", cmd.CommandPath()+" "+near)
			}
			return err
		},
	}
	cmd.AddCommand(subs...)
	return cmd
}

func subNames(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

// takes makes the check of a command's arguments: all of names, nothing else.
func takes(names ...string) cobra.PositionalArgs {
	least := 0
	for _, name := range names {
		if !strings.HasPrefix(name, "[") {
			least++
		}
	}
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= len(names) {
			return nil
		}
		if len(names) == 0 {
			return usagef("%s takes no arguments, got %q", cmd.CommandPath(), args[0])
		}
		return usagef("%s takes %s, got %d arguments", cmd.CommandPath(), strings.Join(names, " "), len(args))
	}
}

// exitStatus translates an error of cmd.
func exitStatus(cmd *cobra.Command, err error) int {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.status
	}
	// status says by 2 that the server is sealed.
	if _, ok := errors.AsType[*usageError](err); ok && cmd.Name() != "status" {
		return exitUsage
	}
	if tpm.Refused(err) {
		return exitRefused
	}
	return exitError
}
