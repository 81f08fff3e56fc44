package cli

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/agent"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
)

type agentFlags struct {
	config      string
	servers     []string
	socket      string
	p11kit      string
	tokenFile   string
	environment bool
}

func (a *app) agentCommand() *cobra.Command {
	var f agentFlags
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Let PKCS#11 programs of this machine use the server's keys",
		Long: `Serve PKCS#11 modules (libclaviger-pkcs11.so) on a Unix socket, with the keys of
a server or of several behind it: the agent holds the TLS connections, its client
token, and what was found lately, so that a program waits for one round trip and
goes on after a restart of the server.

Programs that show no client token (the PIN of C_Login) use the agent's, if it has
one: then who may connect to the socket may use its keys.

Machines that may load p11-kit-client.so only have a socket of their own for it, with
--p11kit-socket.

Flags stand in place of options of the file, which may be absent.`,
		Example: "  claviger agent --config /etc/claviger/agent.toml\n" +
			"  claviger agent --server https://keys.example.org:8200 --token-file ~/.vault-token\n" +
			"  claviger agent --print-environment",
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.agentConfig(cmd, &f)
			if err != nil {
				return err
			}
			if f.environment {
				return a.lines(strings.Join(agentEnvironment(c), "\n"))
			}
			return a.runAgent(cmd.Context(), c)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.environment, "print-environment", false, "print what programs need in their environment, and end")
	cmd.AddCommand(a.agentCheckCommand(), a.agentExampleCommand())
	return cmd
}

// add adds the flags that stand for options of the file.
func (f *agentFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.config, "config", config.DefaultAgentFile, "configuration file")
	cmd.Flags().StringArrayVar(&f.servers, "server", nil, "server instead of the configured ones: https://host:port; may be repeated")
	cmd.Flags().StringVar(&f.socket, "socket", "", "Unix socket for PKCS#11 modules")
	cmd.Flags().StringVar(&f.p11kit, "p11kit-socket", "", "Unix socket for p11-kit-client.so (off unless given)")
	cmd.Flags().StringVar(&f.tokenFile, "token-file", "", "file with the client token for programs that show none")
}

// agentConfig joins file and flags.
func (a *app) agentConfig(cmd *cobra.Command, f *agentFlags) (*config.Agent, error) {
	c, err := config.LoadAgent(f.config)
	if fault.KindOf(err) == fault.NotFound && !cmd.Flags().Changed("config") {
		c, err = config.DefaultAgent(), nil
	}
	if err != nil {
		return nil, err
	}
	if a.address != "" {
		f.servers = append(f.servers, a.address)
	}
	if len(f.servers) > 0 {
		c.Server.Addresses = f.servers
	}
	override(&c.Socket, absolute(f.socket))
	override(&c.P11KitSocket, absolute(f.p11kit))
	override(&c.Server.CACert, absolute(a.caCert))
	override(&c.Server.ClientCert, absolute(a.clientCert))
	override(&c.Server.ClientKey, absolute(a.clientKey))
	if f.tokenFile != "" {
		c.Token = config.AgentToken{Source: config.TokenFile, File: absolute(f.tokenFile), Renew: c.Token.Renew}
	}
	if err := c.Validate(); err != nil {
		return nil, fault.New(fault.Invalid, "configuration %s: %v", f.config, err).WithHint("claviger agent example shows every option")
	}
	if p, ok := errors.AsType[config.Problems](c.CheckFiles()); ok && !f.environment {
		return nil, fault.New(fault.Invalid, "configuration %s: %v", f.config, p)
	}
	return c, nil
}

// agentEnvironment is what programs need in their environment.
func agentEnvironment(c *config.Agent) []string {
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	lines := []string{"export CLAVIGER_PKCS11_SOCKET=" + quote(c.Socket)}
	if c.P11KitSocket != "" {
		lines = append(lines, "export P11_KIT_SERVER_ADDRESS="+quote("unix:path="+percent(c.P11KitSocket)))
	}
	return lines
}

// percent writes a path as addresses of p11-kit have it.
func percent(path string) string {
	return strings.ReplaceAll((&url.URL{Path: path}).EscapedPath(), ";", "%3B")
}

func (a *app) runAgent(ctx context.Context, c *config.Agent) error {
	log := newLogger(c.Log, a)
	for _, w := range c.Warnings() {
		log.Warn(w)
	}
	agent.Protect(log)
	served, err := agent.New(agent.Options{Config: c, Version: version, Log: log})
	if err != nil {
		return err
	}
	return served.Run(ctx)
}

func (a *app) agentCheckCommand() *cobra.Command {
	var f agentFlags
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check an agent's configuration, and its client token",
		Long: `Check the configuration and the files that it names, and ask the server whether
it knows the agent's client token, if there is one.`,
		Example: "  claviger agent check --config /etc/claviger/agent.toml",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.agentConfig(cmd, &f)
			if err != nil {
				return err
			}
			for _, w := range c.Warnings() {
				a.warn(w)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
			defer cancel()
			if err := agent.Check(ctx, c); err != nil {
				return err
			}
			a.say("%s is right.", f.config)
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) agentExampleCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "example",
		Short:   "Print an agent's configuration that explains every option",
		Example: "  claviger agent example > agent.toml",
		Args:    takes(),
		RunE: func(*cobra.Command, []string) error {
			_, err := a.out.Write(config.AgentExample())
			return err
		},
	}
}
