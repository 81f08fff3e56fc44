package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/client"
)

// shown is a certificate as show prints it.
type shown struct {
	SerialNumber   string   `json:"serial_number"`
	Subject        string   `json:"subject"`
	Issuer         string   `json:"issuer"`
	Names          []string `json:"names"`
	NotBefore      int64    `json:"not_before"`
	Expiration     int64    `json:"expiration"`
	State          string   `json:"state"`
	RevocationTime int64    `json:"revocation_time"`
	Key            string   `json:"key"`
	Signature      string   `json:"signature"`
	Authority      bool     `json:"authority"`
	Usages         []string `json:"usages"`
	SHA256         string   `json:"sha256"`
	OCSP           []string `json:"ocsp_servers"`
	CRL            []string `json:"crl_distribution_points"`
	Certificate    string   `json:"certificate"`
	CAChain        []string `json:"ca_chain"` // from its issuer up

	cert  *x509.Certificate
	above []*x509.Certificate
}

func (c *certs) showCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "show [SERIAL]",
		Short: "Show a certificate and its chain",
		Long: `Show a certificate that the authority issued, by its serial number, or one in a
file, for which no server is called; with the chain to its root as a tree.`,
		Example: "  claviger cert show 4a:0f:17\n  claviger cert show --in www.pem",
		Args: func(cmd *cobra.Command, args []string) error {
			if file != "" {
				return takes()(cmd, args)
			}
			return takes("SERIAL")(cmd, args)
		},
		ValidArgsFunction: c.names(serialNumbers),
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return c.on(c.showKept)(cmd, args)
			}
			text, err := readFile(file)
			if err != nil {
				return fmt.Errorf("read the certificate: %w", err)
			}
			all, err := parseCertificates(text)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			return c.showCert(describe(all[0], all[1:], 0))
		},
	}
	cmd.Flags().StringVar(&file, "in", "", "file with the certificate in PEM, and those above it")
	return cmd
}

func (c *certs) showKept(ctx context.Context, cl *client.Client, _ *cobra.Command, args []string) error {
	kept, err := cl.ReadCert(ctx, args[0])
	if err != nil {
		return err
	}
	all, err := parseCertificates([]byte(kept.Certificate))
	if err != nil {
		return fmt.Errorf("the server's answer: %w", err)
	}
	above := all[1:]
	if kept.IssuerID != "" && len(above) == 0 {
		// Without the chain the certificate is shown all the same.
		if chain, err := cl.IssuerChain(ctx, kept.IssuerID); err == nil {
			if above, err = parseCertificates([]byte(strings.Join(chain.CAChain, "\n"))); err != nil {
				return fmt.Errorf("the chain in the server's answer: %w", err)
			}
			above = slices.DeleteFunc(above, all[0].Equal)
		}
	}
	return c.showCert(describe(all[0], above, kept.RevocationTime))
}

// parseCertificates reads the certificates of a PEM text, at least one; what else
// is in it is skipped.
func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read the certificate: %w", err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("there is no certificate in PEM (-----BEGIN CERTIFICATE-----)")
	}
	return all, nil
}

// firstCertificate returns the first certificate of a PEM text, in PEM.
func firstCertificate(text []byte) (string, error) {
	all, err := parseCertificates(text)
	if err != nil {
		return "", err
	}
	return pemCertificate(all[0]), nil
}

func pemCertificate(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func describe(cert *x509.Certificate, above []*x509.Certificate, revoked int64) *shown {
	sum := sha256.Sum256(cert.Raw)
	s := &shown{
		SerialNumber: colons(cert.SerialNumber.Bytes()), Subject: cert.Subject.String(), Issuer: cert.Issuer.String(), Names: allNames(cert),
		NotBefore: cert.NotBefore.Unix(), Expiration: cert.NotAfter.Unix(), RevocationTime: revoked, State: validity(cert, time.Now()),
		Key: keyKind(cert), Signature: cert.SignatureAlgorithm.String(), Authority: cert.IsCA, Usages: usages(cert), SHA256: colons(sum[:]),
		OCSP: cert.OCSPServer, CRL: cert.CRLDistributionPoints, Certificate: pemCertificate(cert), CAChain: []string{}, cert: cert, above: above,
	}
	if revoked > 0 {
		s.State = "revoked"
	}
	for _, c := range above {
		s.CAChain = append(s.CAChain, pemCertificate(c))
	}
	return s
}

func (c *certs) showCert(s *shown) error {
	if c.format == "json" {
		return c.showJSON(s)
	}
	var t table
	t.field("Subject", s.Subject)
	t.field("Names", strings.Join(s.Names, ", "))
	t.field("Serial", s.SerialNumber)
	t.field("Issuer", s.Issuer)
	t.field("Valid", day(s.NotBefore)+" to "+day(s.Expiration))
	state := s.State
	switch {
	case s.RevocationTime > 0:
		state += " since " + day(s.RevocationTime)
	case s.State == "valid":
		state += ", " + daysLeft(s.cert.NotAfter, time.Now())
	}
	t.field("State", state)
	t.field("Key", s.Key)
	t.field("Signature", s.Signature)
	t.field("Usages", strings.Join(s.Usages, ", "))
	t.field("SHA-256", s.SHA256)
	for _, url := range s.OCSP {
		t.field("OCSP", url)
	}
	for _, url := range s.CRL {
		t.field("CRL", url)
	}
	return c.lines(t.render() + "\n" + tree(s.cert, s.above, time.Now()))
}

// tree draws the chain of a certificate, the root on top. Certificates that are not
// above it are left out.
func tree(cert *x509.Certificate, others []*x509.Certificate, now time.Time) string {
	chain := []*x509.Certificate{cert}
	for {
		last := chain[len(chain)-1]
		i := slices.IndexFunc(others, func(o *x509.Certificate) bool {
			return !slices.ContainsFunc(chain, o.Equal) && last.CheckSignatureFrom(o) == nil
		})
		if i < 0 {
			break
		}
		chain = append(chain, others[i])
	}
	slices.Reverse(chain)
	var b strings.Builder
	if top := chain[0]; !bytes.Equal(top.RawIssuer, top.RawSubject) {
		fmt.Fprintf(&b, "%s  (not here)\n", printable(nameOf(top.Issuer.CommonName, top.Issuer.String())))
		chain = append([]*x509.Certificate{nil}, chain...)
	}
	for depth, c := range chain {
		if c == nil {
			continue
		}
		if depth > 0 {
			b.WriteString(strings.Repeat("   ", depth-1) + "└─ ")
		}
		fmt.Fprintf(&b, "%s  (%s)\n", printable(nameOf(c.Subject.CommonName, c.Subject.String())), label(c, now))
	}
	return b.String()
}

func nameOf(common, whole string) string { return cmp.Or(common, whole, "without a name") }

func label(c *x509.Certificate, now time.Time) string {
	kind := "certificate"
	switch {
	case c.IsCA && bytes.Equal(c.RawIssuer, c.RawSubject):
		kind = "root"
	case c.IsCA:
		kind = "authority"
	}
	state := validity(c, now)
	if state == "valid" {
		state = daysLeft(c.NotAfter, now)
	}
	return fmt.Sprintf("%s, %s, %s", kind, keyKind(c), state)
}

func validity(c *x509.Certificate, now time.Time) string {
	switch {
	case now.After(c.NotAfter):
		return "expired"
	case now.Before(c.NotBefore):
		return "not yet valid"
	}
	return "valid"
}

func daysLeft(until, now time.Time) string {
	if n := int(until.Sub(now) / (24 * time.Hour)); n != 1 {
		return fmt.Sprintf("%d days left", n)
	}
	return "1 day left"
}

func keyKind(c *x509.Certificate) string {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return k.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return "unknown key"
}

func allNames(c *x509.Certificate) []string {
	names := slices.Concat([]string{}, c.DNSNames, c.EmailAddresses)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	return names
}

func usages(c *x509.Certificate) []string {
	all := []string{}
	for _, u := range []struct {
		bit  x509.KeyUsage
		name string
	}{
		{x509.KeyUsageDigitalSignature, "digital signature"}, {x509.KeyUsageContentCommitment, "non-repudiation"},
		{x509.KeyUsageKeyEncipherment, "key encipherment"}, {x509.KeyUsageDataEncipherment, "data encipherment"},
		{x509.KeyUsageKeyAgreement, "key agreement"}, {x509.KeyUsageCertSign, "certificate signing"}, {x509.KeyUsageCRLSign, "CRL signing"},
	} {
		if c.KeyUsage&u.bit != 0 {
			all = append(all, u.name)
		}
	}
	for _, u := range []struct {
		usage x509.ExtKeyUsage
		name  string
	}{
		{x509.ExtKeyUsageServerAuth, "TLS server"}, {x509.ExtKeyUsageClientAuth, "TLS client"}, {x509.ExtKeyUsageCodeSigning, "code signing"},
		{x509.ExtKeyUsageEmailProtection, "e-mail"}, {x509.ExtKeyUsageTimeStamping, "time stamping"}, {x509.ExtKeyUsageOCSPSigning, "OCSP signing"},
	} {
		if slices.Contains(c.ExtKeyUsage, u.usage) {
			all = append(all, u.name)
		}
	}
	return all
}

// colons shows bytes as serial numbers are written: 4a:0f:17.
func colons(b []byte) string { return strings.ReplaceAll(fmt.Sprintf("% x", b), " ", ":") }
