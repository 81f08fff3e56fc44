package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

// certNames are the flags of what a certificate is asked for.
type certNames struct {
	names    api.PKINames
	ttl      time.Duration
	notAfter string
	issuer   string
	withRoot bool
}

func (n *certNames) flags(c *certs, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&n.names.CommonName, "common-name", "", "common name of the subject, mostly the host name")
	f.StringSliceVar(&n.names.AltNames, "alt-name", nil, "further host name or e-mail address; may be repeated")
	f.StringSliceVar(&n.names.IPSANs, "ip", nil, "IP address; may be repeated")
	f.StringSliceVar(&n.names.URISANs, "uri", nil, "URI; may be repeated")
	f.BoolVar(&n.names.ExcludeCNFromSANs, "exclude-common-name", false, "leave the common name out of the alternative names")
	f.DurationVar(&n.ttl, "ttl", 0, "validity; default the role's")
	f.StringVar(&n.notAfter, "not-after", "", "end of validity in place of --ttl, as 2027-01-31T00:00:00Z")
	f.BoolVar(&n.withRoot, "with-root", false, "write the root into the chain, too")
	c.issuerFlag(cmd, &n.issuer, "issuer that signs, in place of the role's")
}

func (n *certNames) validity() api.PKIValidity {
	return api.PKIValidity{TTL: seconds(n.ttl), NotAfter: n.notAfter}
}

// output is a file that a command writes but does not replace unasked.
type output struct {
	path  string
	mode  fs.FileMode
	force *bool
}

// check refuses before anything is done: a certificate whose key can't be kept is
// worth nothing.
func (o *output) check() error {
	if o.path == "" || o.path == "-" {
		return nil
	}
	if _, err := os.Lstat(o.path); err == nil && !*o.force {
		e := usagef("%s exists", o.path)
		e.hint = "--force replaces it"
		return e
	}
	dir := filepath.Dir(o.path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return usagef("%s: there is no directory %s", o.path, dir)
	}
	return nil
}

// write makes the file, whole or not at all. A file that came meanwhile stays.
func (o *output) write(a *app, data []byte) error {
	if o.path == "" || o.path == "-" {
		_, err := a.out.Write(data)
		return err
	}
	if *o.force {
		return writeFile(o.path, data, o.mode)
	}
	f, err := os.CreateTemp(filepath.Dir(o.path), "."+filepath.Base(o.path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", o.path, err)
	}
	if err = writeAndClose(f, data, o.mode); err == nil {
		err = os.Link(f.Name(), o.path)
	}
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return fmt.Errorf("write %s: %w", o.path, err)
	}
	return nil
}

func (c *certs) issueCommand() *cobra.Command {
	var n certNames
	var force bool
	cert, key := output{mode: 0o644, force: &force}, output{mode: 0o600, force: &force}
	cmd := &cobra.Command{
		Use:   "issue ROLE",
		Short: "Make a key and a certificate for it",
		Long: `Make a key and a certificate for it by a role. The server makes the key, hands it
over once and keeps it nowhere; "cert sign" does without: there the key is made
where it is used.

The certificate is written with those above it, as servers want it, to standard
output or a file. The key is written to a file that only you can read. No file is
replaced without --force.`,
		Example: "  claviger cert issue web --common-name www.example.com --out www.pem --key-out www.key\n" +
			"  claviger cert issue web --common-name db.example.com --ip 10.0.0.7 --ttl 24h --out db.pem --key-out db.key --force",
		Args:              takes("ROLE"),
		ValidArgsFunction: c.names(roleNames),
		RunE: c.on(func(ctx context.Context, cl *client.Client, _ *cobra.Command, args []string) error {
			switch {
			case key.path == "" && c.format != "json":
				e := usagef("--key-out FILE says where the key goes: it can't be had again")
				e.hint = "claviger cert sign certifies a key that you made, and never sees it"
				return e
			case key.path == cert.path && key.path != "":
				return usagef("--out and --key-out name the same file")
			}
			for _, o := range []*output{&cert, &key} {
				if err := o.check(); err != nil {
					return err
				}
			}
			r, err := cl.IssueCert(ctx, api.PKIIssue{Role: args[0], IssuerRef: n.issuer, PKINames: n.names, PKIValidity: n.validity(), RemoveRootsFromChain: !n.withRoot})
			if err != nil {
				return err
			}
			return c.issued(r, &cert, &key)
		}),
	}
	n.flags(c, cmd)
	f := cmd.Flags()
	f.StringVar(&cert.path, "out", "", "write the certificate and its chain into this file instead of standard output")
	f.StringVar(&key.path, "key-out", "", "write the key into this file, mode 0600; - is standard output")
	f.BoolVar(&force, "force", false, "replace files that exist")
	return cmd
}

// issued writes a certificate, and its key if there is one.
func (c *certs) issued(r *api.PKICertificate, cert, key *output) error {
	if r.PrivateKey != "" && key.path != "" {
		secret := []byte(strings.TrimSpace(r.PrivateKey) + "\n")
		err := key.write(c.app, secret)
		clear(secret)
		r.PrivateKey = ""
		if err != nil {
			return fmt.Errorf("the certificate %s was issued, but its key could not be kept; revoke it: %w", r.SerialNumber, err)
		}
	}
	if c.format == "json" && cert.path == "" {
		return c.showJSON(r)
	}
	chain := strings.Join(append([]string{strings.TrimSpace(r.Certificate)}, r.CAChain...), "\n") + "\n"
	if err := cert.write(c.app, []byte(chain)); err != nil {
		return fmt.Errorf("the certificate %s was issued, \"cert show\" has it: %w", r.SerialNumber, err)
	}
	c.say("Certificate %s is valid until %s.", r.SerialNumber, day(r.Expiration))
	return nil
}

func (c *certs) signCommand() *cobra.Command {
	var n certNames
	var force bool
	in := input{what: "certificate request"}
	cert := output{mode: 0o644, force: &force}
	cmd := &cobra.Command{
		Use:   "sign ROLE",
		Short: "Certify the key of a certificate request",
		Long: `Certify the key of a certificate request (PKCS #10, in PEM), which stays where it
was made. Which names count, those of the request or of the flags, the role says.`,
		Example: "  claviger cert sign web --csr www.csr --out www.pem\n" +
			"  claviger cert sign web --csr www.csr --common-name www.example.com --ttl 24h",
		Args:              takes("ROLE"),
		ValidArgsFunction: c.names(roleNames),
		RunE: c.on(func(ctx context.Context, cl *client.Client, cmd *cobra.Command, args []string) error {
			if err := cert.check(); err != nil {
				return err
			}
			csr, err := c.line(cmd, &in)
			if err != nil {
				return err
			}
			r, err := cl.SignCert(ctx, api.PKISign{Role: args[0], IssuerRef: n.issuer, CSR: csr, PKINames: n.names, PKIValidity: n.validity(), RemoveRootsFromChain: !n.withRoot})
			if err != nil {
				return err
			}
			return c.issued(r, &cert, &output{})
		}),
	}
	n.flags(c, cmd)
	f := cmd.Flags()
	f.StringVar(&in.file, "csr", "", "file with the request; default is standard input")
	f.StringVar(&cert.path, "out", "", "write the certificate and its chain into this file instead of standard output")
	f.BoolVar(&force, "force", false, "replace a file that exists")
	return cmd
}

// reasons of a revocation (RFC 5280 section 5.3.1).
var reasons = map[string]int{
	"unspecified": 0, "key-compromise": 1, "ca-compromise": 2, "affiliation-changed": 3, "superseded": 4,
	"cessation-of-operation": 5, "certificate-hold": 6, "privilege-withdrawn": 9, "aa-compromise": 10,
}

func (c *certs) revokeCommand() *cobra.Command {
	var file, reason string
	cmd := &cobra.Command{
		Use:   "revoke [SERIAL]",
		Short: "Revoke a certificate",
		Long: `Revoke a certificate, by its serial number or by the certificate itself, which
those need that the authority keeps no record of. It can't be taken back.`,
		Example: "  claviger cert revoke 4a:0f:17 --reason superseded\n  claviger cert revoke --in www.pem --reason key-compromise",
		Args: func(cmd *cobra.Command, args []string) error {
			if file != "" {
				return takes()(cmd, args)
			}
			return takes("SERIAL")(cmd, args)
		},
		ValidArgsFunction: c.names(serialNumbers),
		RunE: c.on(func(ctx context.Context, cl *client.Client, _ *cobra.Command, args []string) error {
			code, known := reasons[reason]
			if !known {
				return usagef("--reason %s: must be one of %s", reason, strings.Join(slices.Sorted(maps.Keys(reasons)), ", "))
			}
			req := api.PKIRevoke{Reason: code}
			if file == "" {
				req.SerialNumber = args[0]
			} else {
				text, err := readFile(file)
				if err != nil {
					return fmt.Errorf("read the certificate: %w", err)
				}
				if req.Certificate, err = firstCertificate(text); err != nil {
					return fmt.Errorf("%s: %w", file, err)
				}
			}
			r, err := cl.RevokeCert(ctx, req)
			if err != nil {
				return err
			}
			if c.format == "json" {
				return c.showJSON(r)
			}
			c.say("The certificate is revoked since %s.", day(r.RevocationTime))
			return nil
		}),
	}
	f := cmd.Flags()
	f.StringVar(&file, "in", "", "file with the certificate in PEM, in place of its serial number")
	f.StringVar(&reason, "reason", "unspecified", "reason that the CRL states: "+strings.Join(slices.Sorted(maps.Keys(reasons)), ", "))
	complete(cmd, "reason", slices.Sorted(maps.Keys(reasons))...)
	return cmd
}
