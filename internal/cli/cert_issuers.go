package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (c *certs) caListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the authorities of the mount",
		Example: "  claviger cert ca list",
		Args:    takes(),
		RunE: c.on(func(ctx context.Context, cl *client.Client, _ *cobra.Command, _ []string) error {
			l, err := cl.ListIssuers(ctx)
			if err != nil {
				return err
			}
			if l.Keys == nil {
				l.Keys, l.KeyInfo = []string{}, map[string]api.PKIIssuerInfo{}
			}
			return c.show(l, func(t *table) {
				t.head = true
				t.add("name", "default", "key", "serial", "id")
				for _, id := range l.Keys {
					i := l.KeyInfo[id]
					t.add(i.IssuerName, mark(i.IsDefault, "default"), mark(i.KeyID != "", "here"), i.SerialNumber, id)
				}
			})
		}),
	}
}

func mark(yes bool, word string) string {
	if yes {
		return word
	}
	return "-"
}

func (c *certs) caShowCommand() *cobra.Command {
	var force bool
	out := output{mode: 0o644, force: &force}
	cmd := &cobra.Command{
		Use:   "show [ISSUER]",
		Short: "Show an authority and its chain",
		Long: `Show an authority, by default the default one, with its chain as a tree. --out writes
its certificate and those above it in PEM, for programs that shall trust it.`,
		Example: "  claviger cert ca show\n  claviger cert ca show web --out chain.pem",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return takes("ISSUER")(cmd, args)
		},
		ValidArgsFunction: c.names(issuerNames),
		RunE: c.on(func(ctx context.Context, cl *client.Client, _ *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			r, err := cl.IssuerChain(ctx, append(args, "default")[0])
			if err != nil {
				return err
			}
			if out.path != "" {
				return out.write(c.app, []byte(strings.Join(r.CAChain, "\n")+"\n"))
			}
			all, err := parseCertificates([]byte(r.Certificate + strings.Join(r.CAChain, "\n")))
			if err != nil {
				return fmt.Errorf("the server's answer: %w", err)
			}
			above := slices.DeleteFunc(all[1:], all[0].Equal) // the chain begins with the authority itself
			return c.showCert(describe(all[0], above, 0))
		}),
	}
	cmd.Flags().StringVar(&out.path, "out", "", "write the chain in PEM into this file; - is standard output")
	cmd.Flags().BoolVar(&force, "force", false, "replace a file that exists")
	return cmd
}

func (c *certs) defaultCommand() *cobra.Command {
	var latest bool
	cmd := &cobra.Command{
		Use:               "default ISSUER",
		Short:             "Choose the authority that signs where none is named",
		Example:           "  claviger cert ca default web",
		Args:              takes("ISSUER"),
		ValidArgsFunction: c.names(issuerNames),
		RunE: c.on(func(ctx context.Context, cl *client.Client, cmd *cobra.Command, args []string) error {
			r, err := cl.ReadDefaultIssuer(ctx)
			if err != nil {
				return err
			}
			r.Default = args[0]
			if cmd.Flags().Changed("follow-latest") {
				r.DefaultFollowsLatestIssuer = latest
			}
			if r, err = cl.SetDefaultIssuer(ctx, *r); err != nil {
				return err
			}
			return c.show(r, func(t *table) {
				t.field("Default issuer", r.Default)
				t.field("Follows the latest", r.DefaultFollowsLatestIssuer)
			})
		}),
	}
	cmd.Flags().BoolVar(&latest, "follow-latest", false, "an authority that comes later with its key becomes the default one")
	return cmd
}

func (c *certs) urlsCommand() *cobra.Command {
	var r api.SetPKIURLs
	cmd := &cobra.Command{
		Use:   "urls",
		Short: "Show or change the URLs that are written into certificates",
		Long: `Show the URLs that are written into certificates from now on, or change those that
are given. The front distribution of the server serves what they lead to, over
plain HTTP.`,
		Example: "  claviger cert ca urls --issuing http://pki.example.com/v1/pki/ca --crl http://pki.example.com/v1/pki/crl --ocsp http://pki.example.com/v1/pki/ocsp",
		Args:    takes(),
	}
	g := &given{flags: cmd.Flags()}
	g.texts("issuing", &r.IssuingCertificates, "URL of the authority's certificate; may be repeated; '' for none")
	g.texts("crl", &r.CRLDistributionPoints, "URL of the CRL; may be repeated; '' for none")
	g.texts("ocsp", &r.OCSPServers, "URL of the OCSP responder; may be repeated; '' for none")
	g.yes("templates", false, &r.EnableTemplating, "the URLs contain {{issuer_id}}, {{cluster_path}} or {{cluster_aia_path}}")
	cmd.RunE = c.on(func(ctx context.Context, cl *client.Client, cmd *cobra.Command, _ []string) error {
		for _, set := range g.set {
			set()
		}
		if r == (api.SetPKIURLs{}) {
			return c.showURLs(cl.ReadCAURLs(ctx))
		}
		return c.showURLs(cl.SetCAURLs(ctx, r))
	})
	return cmd
}

func (c *certs) showURLs(r *api.PKIURLs, err error) error {
	if err != nil {
		return err
	}
	return c.show(r, func(t *table) {
		t.field("Issuing certificates", strings.Join(r.IssuingCertificates, ", "))
		t.field("CRL distribution points", strings.Join(r.CRLDistributionPoints, ", "))
		t.field("OCSP servers", strings.Join(r.OCSPServers, ", "))
	})
}
