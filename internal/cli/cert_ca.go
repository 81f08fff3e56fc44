package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (c *certs) caCommand() *cobra.Command {
	cmd := c.group("ca", "Make and bring authorities", c.rootCommand(), c.intermediateCommand(), c.certifyCommand(), c.installCommand(),
		c.importCommand(), c.pkcs11Command(), c.caListCommand(), c.caShowCommand(), c.defaultCommand(), c.urlsCommand())
	cmd.Long = `An authority (issuer) is a certificate with a key that lives in the HSM token, or is
wrapped by it. A mount may have many.`
	cmd.Example = "  claviger cert ca root --name root --key-type ec --ttl 87600h 'Example Root'\n" +
		"  claviger cert ca intermediate --at pki-web --parent pki --name web --key-type ec --ttl 43800h 'Example Web CA'\n" +
		"  claviger cert ca list"
	return cmd
}

// newCA are the flags of a new authority.
type newCA struct {
	name, protection string
	key              api.PKINewKey
	subject          api.PKISubject
	ttl              time.Duration
	pathLength       int
	permitted        []string
	out              output
	force            bool
}

func (n *newCA) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&n.name, "name", "", "name of the new issuer")
	f.StringVar(&n.key.KeyType, "key-type", "", "rsa (default), ec or ed25519")
	f.IntVar(&n.key.KeyBits, "key-bits", 0, "rsa 2048 (default), 3072 or 4096; ec 256 (default), 384 or 521")
	f.StringVar(&n.key.KeyName, "key-name", "", "name of the new key")
	f.StringVar(&n.protection, "protection", "", "where the key lives: token, wrapped or software")
	complete(cmd, "key-type", "rsa", "ec", "ed25519")
	complete(cmd, "protection", api.ProtectionWrapped, api.ProtectionToken, api.ProtectionSoftware)
	n.limits(cmd)
}

// limits are the flags of what another authority decides of an authority.
func (n *newCA) limits(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&n.subject.Organization, "organization", nil, "organization of the subject; may be repeated")
	f.StringSliceVar(&n.subject.Country, "country", nil, "country of the subject; may be repeated")
	f.DurationVar(&n.ttl, "ttl", 0, "validity; default the mount's")
	f.IntVar(&n.pathLength, "max-path-length", -1, "how many authorities may stand below; -1 any")
	f.StringSliceVar(&n.permitted, "permitted-dns-domain", nil, "domain that it may certify, and no other; may be repeated")
	f.StringVar(&n.out.path, "out", "", "write the certificate into this file instead of standard output")
	f.BoolVar(&n.force, "force", false, "replace a file that exists")
	n.out.mode, n.out.force = 0o644, &n.force
}

func (n *newCA) newKey() api.PKINewKey {
	key := n.key
	key.Protection = api.Protection(n.protection)
	return key
}

func (n *newCA) constraints() api.PKIConstraints {
	return api.PKIConstraints{MaxPathLength: &n.pathLength, PermittedDNSDomains: n.permitted}
}

func (c *certs) rootCommand() *cobra.Command {
	var n newCA
	cmd := &cobra.Command{
		Use:     "root COMMON-NAME",
		Short:   "Make a self-signed authority",
		Long:    "Make a self-signed authority with a new key in the HSM token, and print its certificate.",
		Example: "  claviger cert ca root --name root --key-type ec --ttl 87600h --out root.pem 'Example Root'",
		Args:    takes("COMMON-NAME"),
		RunE: c.on(func(ctx context.Context, cl *client.Client, _ *cobra.Command, args []string) error {
			if err := n.out.check(); err != nil {
				return err
			}
			r, err := cl.GenerateRootCA(ctx, api.PKIGenerateRoot{IssuerName: n.name, PKINewKey: n.newKey(), PKISubject: n.subject,
				PKINames: api.PKINames{CommonName: args[0]}, PKIValidity: api.PKIValidity{TTL: seconds(n.ttl)}, PKIConstraints: n.constraints()})
			if err != nil {
				return err
			}
			return c.issued(r, &n.out, &output{})
		}),
	}
	n.flags(cmd)
	return cmd
}

func (c *certs) intermediateCommand() *cobra.Command {
	var n newCA
	var parent, issuer, csrOut string
	cmd := &cobra.Command{
		Use:   "intermediate COMMON-NAME",
		Short: "Make an authority that another one certifies",
		Long: `Make an authority with a new key in the HSM token. With --parent an authority of
this server, in another mount or the same, certifies it at once. With --csr-out
the request goes to an authority elsewhere; "cert ca install" brings what it
answers.`,
		Example: "  claviger cert ca intermediate --at pki-web --parent pki --name web --key-type ec --ttl 43800h --out web-ca.pem 'Example Web CA'\n" +
			"  claviger cert ca intermediate --at pki-web --csr-out web-ca.csr 'Example Web CA'",
		Args: takes("COMMON-NAME"),
		RunE: c.on(func(ctx context.Context, cl *client.Client, _ *cobra.Command, args []string) error {
			csr := output{path: csrOut, mode: 0o644, force: &n.force}
			if (parent == "") == (csrOut == "") {
				return usagef("either --parent MOUNT or --csr-out FILE is needed: who certifies it?")
			}
			for _, o := range []*output{&n.out, &csr} {
				if err := o.check(); err != nil {
					return err
				}
			}
			r, err := cl.GenerateIntermediateCA(ctx, api.PKIGenerateIntermediate{PKINewKey: n.newKey(), PKISubject: n.subject,
				PKINames: api.PKINames{CommonName: args[0]}, AddBasicConstraints: true})
			if err != nil {
				return err
			}
			if parent == "" {
				if c.format == "json" {
					return c.showJSON(r)
				}
				return csr.write(c.app, []byte(strings.TrimSpace(r.CSR)+"\n"))
			}
			signed, err := c.certified(ctx, cl, cl.WithMount(parent), &n, api.PKISignIntermediate{IssuerRef: issuer, CSR: r.CSR,
				PKINames: api.PKINames{CommonName: args[0]}, PKISubject: n.subject})
			if err != nil {
				return fmt.Errorf("key %s was made, but not certified: %w", r.KeyID, err)
			}
			return c.issued(signed, &n.out, &output{})
		}),
	}
	n.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&parent, "parent", "", "path of the mount whose authority certifies it")
	f.StringVar(&issuer, "parent-issuer", "", "issuer there; default the default one")
	f.StringVar(&csrOut, "csr-out", "", "write the request for another authority into this file; - is standard output")
	return cmd
}

// certified has an authority of the server certify another one, and brings the result there.
func (c *certs) certified(ctx context.Context, cl, parent *client.Client, n *newCA, r api.PKISignIntermediate) (*api.PKICertificate, error) {
	r.PKIValidity, r.PKIConstraints = api.PKIValidity{TTL: seconds(n.ttl)}, n.constraints()
	signed, err := parent.SignIntermediateCA(ctx, r)
	if err != nil {
		return nil, err
	}
	bundle := strings.Join(append([]string{signed.Certificate}, signed.CAChain...), "\n")
	_, err = cl.SetSignedCA(ctx, api.PKIBundle{Certificate: bundle, IssuerName: n.name})
	return signed, err
}

func (c *certs) certifyCommand() *cobra.Command {
	var n newCA
	var issuer string
	in := input{what: "certificate request"}
	cmd := &cobra.Command{
		Use:     "certify COMMON-NAME",
		Short:   "Certify an authority of elsewhere",
		Long:    "Certify the key of an authority's certificate request (PKCS #10, in PEM), and print the certificate.",
		Example: "  claviger cert ca certify --csr web-ca.csr --ttl 43800h --max-path-length 0 --out web-ca.pem 'Example Web CA'",
		Args:    takes("COMMON-NAME"),
		RunE: c.on(func(ctx context.Context, cl *client.Client, cmd *cobra.Command, args []string) error {
			if err := n.out.check(); err != nil {
				return err
			}
			csr, err := c.line(cmd, &in)
			if err != nil {
				return err
			}
			r, err := cl.SignIntermediateCA(ctx, api.PKISignIntermediate{IssuerRef: issuer, CSR: csr, PKISubject: n.subject,
				PKINames: api.PKINames{CommonName: args[0]}, PKIValidity: api.PKIValidity{TTL: seconds(n.ttl)}, PKIConstraints: n.constraints()})
			if err != nil {
				return err
			}
			return c.issued(r, &n.out, &output{})
		}),
	}
	n.limits(cmd)
	cmd.Flags().StringVar(&in.file, "csr", "", "file with the request; default is standard input")
	c.issuerFlag(cmd, &issuer, "issuer that signs; default the default one")
	return cmd
}

func (c *certs) installCommand() *cobra.Command {
	var r api.PKIBundle
	in := input{what: "certificate"}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Bring the certificate that another authority made",
		Long: `Bring the certificate that another authority made of a request of "cert ca
intermediate", in PEM; those above it may follow.`,
		Example: "  claviger cert ca install --at pki-web --name web --in web-ca.pem",
		Args:    takes(),
		RunE: c.on(func(ctx context.Context, cl *client.Client, cmd *cobra.Command, _ []string) (err error) {
			if r.Certificate, err = c.line(cmd, &in); err != nil {
				return err
			}
			return c.showImported(cl.SetSignedCA(ctx, r))
		}),
	}
	cmd.Flags().StringVar(&in.file, "in", "", "file with the certificate; default is standard input")
	cmd.Flags().StringVar(&r.IssuerName, "name", "", "name of the new issuer")
	return cmd
}

func (c *certs) importCommand() *cobra.Command {
	var r api.PKIBundle
	var protection string
	in := input{what: "bundle"}
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Bring an authority of elsewhere, with its key",
		Long: `Bring an authority of elsewhere: certificates and private keys in PEM. The keys are
unwrapped inside the HSM token and stay there, or wrapped by it. Where its module
can't do that, --protection software keeps them in server memory.`,
		Example: "  claviger cert ca import --in old-ca.pem --name old",
		Args:    takes(),
		RunE: c.on(func(ctx context.Context, cl *client.Client, cmd *cobra.Command, _ []string) (err error) {
			if r.PEMBundle, err = c.line(cmd, &in); err != nil {
				return err
			}
			r.Protection = api.Protection(protection)
			return c.showImported(cl.ImportCA(ctx, r))
		}),
	}
	f := cmd.Flags()
	f.StringVar(&in.file, "in", "", "file with certificates and keys; default is standard input")
	f.StringVar(&r.IssuerName, "name", "", "name of the first new issuer")
	f.StringVar(&protection, "protection", "", "token, wrapped or software; default in the HSM token")
	complete(cmd, "protection", api.ProtectionWrapped, api.ProtectionToken, api.ProtectionSoftware)
	return cmd
}

func (c *certs) pkcs11Command() *cobra.Command {
	var r api.PKIAdopt
	in := input{what: "certificate"}
	cmd := &cobra.Command{
		Use:   "pkcs11",
		Short: "Make an authority of a key that lies in the HSM token",
		Long: `Make an authority of a certificate and of its key, which another program made in
the HSM token: claviger hsm objects lists them. It must be the key of the
certificate. The caller needs the capability sudo.`,
		Example: "  claviger cert ca pkcs11 --label localca --in ca.pem --name local",
		Args:    takes(),
		RunE: c.on(func(ctx context.Context, cl *client.Client, cmd *cobra.Command, _ []string) (err error) {
			if r.PKCS11KeyLabel == "" && r.PKCS11KeyID == "" {
				return usagef("--label or --id says which key of the HSM token it is")
			}
			if r.Certificate, err = c.line(cmd, &in); err != nil {
				return err
			}
			return c.showImported(cl.AdoptCA(ctx, r))
		}),
	}
	f := cmd.Flags()
	f.StringVar(&in.file, "in", "", "file with the certificate; default is standard input")
	f.StringVar(&r.PKCS11KeyLabel, "label", "", "CKA_LABEL of the private key")
	f.StringVar(&r.PKCS11KeyID, "id", "", "CKA_ID of the private key, hexadecimal")
	f.StringVar(&r.IssuerName, "name", "", "name of the new issuer")
	f.StringVar(&r.KeyName, "key-name", "", "name of the key")
	return cmd
}

func (c *certs) showImported(r *api.PKIImported, err error) error {
	if err != nil {
		return err
	}
	return c.show(r, func(t *table) {
		t.field("New issuers", strings.Join(r.ImportedIssuers, ", "))
		t.field("New keys", strings.Join(r.ImportedKeys, ", "))
		t.field("Known issuers", strings.Join(r.ExistingIssuers, ", "))
		t.field("Known keys", strings.Join(r.ExistingKeys, ", "))
	})
}
