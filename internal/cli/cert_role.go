package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (c *certs) roleCommand() *cobra.Command {
	cmd := c.group("role", "Manage what certificates may be issued",
		c.roleWriteCommand(), c.roleReadCommand(), c.roleListCommand(), c.roleDeleteCommand())
	cmd.Long = "A role says which names, keys and usages certificates may have, and for how long."
	cmd.Example = "  claviger cert role write --allowed-domain example.com --allow-subdomains --key-type ec --max-ttl 720h web\n  claviger cert role read web"
	return cmd
}

// given are the flags of a command that set a field when they are given.
type given struct {
	flags *pflag.FlagSet
	set   []func()
}

func (g *given) texts(name string, into **[]string, usage string) {
	v := g.flags.StringSlice(name, nil, usage)
	g.when(name, func() { *into = v })
}

func (g *given) text(name string, into **string, usage string) {
	v := g.flags.String(name, "", usage)
	g.when(name, func() { *into = v })
}

func (g *given) yes(name string, otherwise bool, into **bool, usage string) {
	v := g.flags.Bool(name, otherwise, usage)
	g.when(name, func() { *into = v })
}

func (g *given) number(name string, into **int, usage string) {
	v := g.flags.Int(name, 0, usage)
	g.when(name, func() { *into = v })
}

func (g *given) time(name string, into **api.Seconds, usage string) {
	v := g.flags.Duration(name, 0, usage)
	g.when(name, func() { *into = new(seconds(*v)) })
}

func (g *given) when(name string, set func()) {
	g.set = append(g.set, func() {
		if g.flags.Changed(name) {
			set()
		}
	})
}

func (c *certs) roleWriteCommand() *cobra.Command {
	var r api.SetPKIRole
	var file string
	cmd := &cobra.Command{
		Use:   "write NAME",
		Short: "Make or replace a role",
		Long: `Make or replace a role. What is not given has its default, also of a role that
exists. --in takes every field that the API knows, in JSON as "cert role read
--format json" prints it; flags overrule it.`,
		Example: "  claviger cert role write --allowed-domain example.com --allow-subdomains --key-type ec --max-ttl 720h web\n" +
			"  claviger cert role write --in web.json --max-ttl 24h web",
		Args:              takes("NAME"),
		ValidArgsFunction: c.names(roleNames),
	}
	cmd.Flags().StringVar(&file, "in", "", "JSON file with the fields of the role")
	g := roleFlags(cmd, &r)
	cmd.RunE = c.on(func(ctx context.Context, cl *client.Client, _ *cobra.Command, args []string) error {
		if file != "" {
			if err := readRole(file, &r); err != nil {
				return err
			}
		}
		for _, set := range g.set {
			set()
		}
		r.Name = args[0]
		if _, err := cl.WriteCertRole(ctx, r); err != nil {
			return err
		}
		c.say("Role %s is written.", r.Name)
		return nil
	})
	return cmd
}

func roleFlags(cmd *cobra.Command, r *api.SetPKIRole) *given {
	g := &given{flags: cmd.Flags()}
	g.text("issuer", &r.IssuerRef, "issuer that signs; default the default one")
	g.time("ttl", &r.TTL, "validity of a certificate that asks for none")
	g.time("max-ttl", &r.MaxTTL, "longest validity; 0 takes the mount's")
	g.texts("allowed-domain", &r.AllowedDomains, "domain that the following rules speak of; may be repeated")
	g.yes("allow-bare-domains", false, &r.AllowBareDomains, "allow the domains themselves")
	g.yes("allow-subdomains", false, &r.AllowSubdomains, "allow names below the domains")
	g.yes("allow-glob-domains", false, &r.AllowGlobDomains, "* in a domain stands for any text")
	g.yes("allow-wildcards", true, &r.AllowWildcardCertificates, "allow names with a wildcard label")
	g.yes("allow-any-name", false, &r.AllowAnyName, "allow every name")
	g.yes("allow-localhost", true, &r.AllowLocalhost, "allow localhost")
	g.yes("allow-ip", true, &r.AllowIPSANs, "allow IP addresses")
	g.texts("allowed-ip-net", &r.AllowedIPSANsCIDR, "network that IP addresses must lie in, as 10.0.0.0/8; may be repeated")
	g.texts("allowed-uri", &r.AllowedURISANs, "URI that is allowed; * stands for any text; may be repeated")
	g.yes("enforce-hostnames", true, &r.EnforceHostnames, "names must be host names")
	g.yes("require-common-name", true, &r.RequireCN, "a common name is needed")
	g.yes("server", true, &r.ServerFlag, "for TLS servers")
	g.yes("client", true, &r.ClientFlag, "for TLS clients")
	g.yes("code-signing", false, &r.CodeSigningFlag, "for code signing")
	g.yes("email", false, &r.EmailProtectionFlag, "for S/MIME")
	g.texts("key-usage", &r.KeyUsage, "such as DigitalSignature; may be repeated")
	g.texts("ext-key-usage", &r.ExtKeyUsage, "beside those of --server and so on, such as TimeStamping; may be repeated")
	g.text("key-type", &r.KeyType, "rsa (default), ec, ed25519, or any for requests")
	g.number("key-bits", &r.KeyBits, "size of keys; 0 the usual")
	g.texts("organization", &r.Organization, "organization of the subject; may be repeated")
	g.texts("ou", &r.OU, "organizational unit of the subject; may be repeated")
	g.texts("country", &r.Country, "country of the subject; may be repeated")
	g.yes("no-store", false, &r.NoStore, "keep no record of the certificates")
	g.texts("lint-exception", &r.LintExceptions, "lint that certificates may break; may be repeated")
	complete(cmd, "key-type", "rsa", "ec", "ed25519", "any")
	return g
}

// readRole reads the fields of a role; one that does not exist is an error.
func readRole(file string, r *api.SetPKIRole) error {
	text, err := readFile(file)
	if err != nil {
		return fmt.Errorf("read the role: %w", err)
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		return usagef("%s: %v", file, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return usagef("%s: something follows the role", file)
	}
	return nil
}

func (c *certs) roleReadCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "read NAME",
		Short:             "Describe a role",
		Example:           "  claviger cert role read web\n  claviger cert role read web --format json",
		Args:              takes("NAME"),
		ValidArgsFunction: c.names(roleNames),
		RunE: c.on(func(ctx context.Context, cl *client.Client, _ *cobra.Command, args []string) error {
			r, err := cl.ReadCertRole(ctx, args[0])
			if err != nil {
				return err
			}
			return c.show(r, func(t *table) { roleRows(t, args[0], r) })
		}),
	}
}

func roleRows(t *table, name string, r *api.PKIRole) {
	t.field("Name", name)
	t.field("Issuer", r.IssuerRef)
	t.field("TTL", ofMount(r.TTL))
	t.field("Max TTL", ofMount(r.MaxTTL))
	t.field("Key", strings.TrimSuffix(fmt.Sprintf("%s %d", r.KeyType, r.KeyBits), " 0"))
	t.field("Domains", strings.Join(r.AllowedDomains, ", "))
	t.field("Allows", strings.Join(chosen([]choice{
		{r.AllowAnyName, "any name"}, {r.AllowBareDomains, "the domains"}, {r.AllowSubdomains, "subdomains"}, {r.AllowGlobDomains, "globs"},
		{r.AllowWildcardCertificates, "wildcards"}, {r.AllowLocalhost, "localhost"}, {r.AllowIPSANs, "IP addresses"},
		{len(r.AllowedURISANs) > 0, "URIs"}, {len(r.AllowedOtherSANs) > 0, "other names"},
	}), ", "))
	t.field("Usages", strings.Join(append(append(chosen([]choice{
		{r.ServerFlag, "TLS server"}, {r.ClientFlag, "TLS client"}, {r.CodeSigningFlag, "code signing"}, {r.EmailProtectionFlag, "e-mail"},
	}), r.ExtKeyUsage...), r.KeyUsage...), ", "))
	if r.NoStore {
		t.field("Records", "none: no_store")
	}
	if len(r.LintExceptions) > 0 {
		t.field("Lint exceptions", strings.Join(r.LintExceptions, ", "))
	}
}

type choice struct {
	yes  bool
	name string
}

func chosen(all []choice) []string {
	var names []string
	for _, c := range all {
		if c.yes {
			names = append(names, c.name)
		}
	}
	return names
}

func ofMount(s api.Seconds) string {
	if s == 0 {
		return "the mount's"
	}
	return strings.TrimSuffix((time.Duration(s) * time.Second).String(), "0m0s")
}

func (c *certs) roleListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the names of all roles",
		Example: "  claviger cert role list",
		Args:    takes(),
		RunE: c.on(func(ctx context.Context, cl *client.Client, _ *cobra.Command, _ []string) error {
			names, err := cl.ListCertRoles(ctx)
			if err != nil {
				return err
			}
			return c.showNames(names)
		}),
	}
}

func (c *certs) roleDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "delete NAME",
		Short:             "Delete a role",
		Long:              "Delete a role. The certificates that it issued stay as they are.",
		Example:           "  claviger cert role delete web",
		Args:              takes("NAME"),
		ValidArgsFunction: c.names(roleNames),
		RunE: c.on(func(ctx context.Context, cl *client.Client, _ *cobra.Command, args []string) error {
			if err := cl.DeleteCertRole(ctx, args[0]); err != nil {
				return err
			}
			c.say("Role %s is deleted.", args[0])
			return nil
		}),
	}
}
