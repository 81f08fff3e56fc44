package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/pki"
)

// ownCertificate is the certificate that the server issues to itself. One file
// keeps it with its key, so that a server that is still sealed after a restart
// has it, too. The key is no key of the HSM token: that is closed then.
type ownCertificate struct {
	cfg      *config.Certificate
	log      *slog.Logger
	renewals *prometheus.CounterVec
	current  atomic.Pointer[tls.Certificate] // with its Leaf
	renewAt  time.Time                       // of keepOwnCertificate only, after the start
	failed   string                          // why it could not be renewed, "" if it could
}

const (
	ownTick       = time.Second
	ownRetry      = 5 * time.Second // after a failure, then twice as long, up to
	ownRetryMost  = 5 * time.Minute
	ownTimeout    = time.Minute
	bootstrapLife = 10 * 365 * 24 * time.Hour
)

func (o *ownCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return o.current.Load(), nil
}

// openOwnCertificate takes the certificate out of its file, or makes a self-signed
// one, if a listener needs it.
func (s *Server) openOwnCertificate() error {
	if !s.cfg.UsesOwnCertificate() {
		return nil
	}
	o := &ownCertificate{cfg: &s.cfg.Certificate, log: s.log, renewals: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "claviger_listener_certificate_renewals_total",
		Help: "Attempts of the server to issue the certificate of its listeners, by outcome (ok, failed).",
	}, []string{"outcome"})}
	s.metrics.registry.MustRegister(o.renewals)
	if err := o.open(time.Now()); err != nil {
		return fmt.Errorf("the certificate of the listeners: %w", err)
	}
	s.own = o
	return nil
}

func (o *ownCertificate) open(now time.Time) error {
	text, err := os.ReadFile(o.cfg.File)
	if errors.Is(err, fs.ErrNotExist) {
		return o.bootstrap(now)
	}
	if err != nil {
		return err
	}
	defer clear(text)
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return fault.New(fault.Invalid, "%s: %v", o.cfg.File, err).
			WithHint("put it right, or remove it: then a self-signed certificate stands in until the server is unsealed")
	}
	if selfSigned(pair.Leaf) {
		if !o.covers(pair.Leaf) {
			return o.bootstrap(now)
		}
		o.use(&pair, now)
		return nil
	}
	made := now
	if info, err := os.Stat(o.cfg.File); err == nil && info.ModTime().Before(now) {
		made = info.ModTime()
	}
	o.use(&pair, made)
	if !o.covers(pair.Leaf) {
		o.log.Info("the certificate of the listeners lacks names of the configuration; it is renewed at the next unsealing")
		o.renewAt = now
	}
	return nil
}

// bootstrap makes a self-signed certificate for the time until the server is
// unsealed and can issue one.
func (o *ownCertificate) bootstrap(now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 158))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: o.cfg.CommonName},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(bootstrapLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range o.cfg.Names() {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	defer clear(private)
	return o.take(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

// take keeps a key and its certificate chain in the file, and shows it to clients
// from now on.
func (o *ownCertificate) take(key string, chain ...string) error {
	text := strings.Join(append([]string{strings.TrimSpace(key)}, chain...), "\n")
	pair, err := tls.X509KeyPair([]byte(text), []byte(text))
	if err != nil {
		return err
	}
	if !slices.Contains(pair.Leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && len(pair.Leaf.ExtKeyUsage) > 0 {
		return fault.New(fault.Invalid, "the certificate is not for TLS servers: the role %s needs server_flag", o.cfg.Role)
	}
	if err := writeSecret(o.cfg.File, strings.TrimSpace(text)); err != nil {
		return err
	}
	o.use(&pair, time.Now())
	return nil
}

// use shows a certificate, which was made at a time, to clients from now on.
func (o *ownCertificate) use(pair *tls.Certificate, made time.Time) {
	leaf := pair.Leaf
	o.renewAt = renewalTime(leaf, made)
	attrs := []any{"subject", leaf.Subject.String(), "not_after", leaf.NotAfter, "sha256", fingerprint(leaf)}
	if selfSigned(leaf) {
		o.renewAt = made
		o.log.Warn("THE LISTENERS SHOW A SELF-SIGNED CERTIFICATE until the server is unsealed and can issue one; clients compare its fingerprint", attrs...)
	} else {
		o.log.Info("certificate of the listeners", append(attrs, "serial", hex.EncodeToString(leaf.SerialNumber.Bytes()), "renewal", o.renewAt)...)
	}
	o.current.Store(pair)
}

// renewalTime is after two thirds of the life of a certificate, a little earlier
// or later, so that servers that were started together don't renew together. Its
// life begins when it was made: its validity may begin before.
func renewalTime(leaf *x509.Certificate, made time.Time) time.Time {
	if made.Before(leaf.NotBefore) || made.After(leaf.NotAfter) {
		made = leaf.NotBefore
	}
	life := leaf.NotAfter.Sub(made)
	return made.Add(life*2/3 - life/40 + mathrand.N(life/20+1))
}

func selfSigned(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

// covers tells whether a certificate holds all names of the configuration.
func (o *ownCertificate) covers(c *x509.Certificate) bool {
	return !slices.ContainsFunc(o.cfg.Names(), func(name string) bool {
		return c.VerifyHostname(strings.Replace(name, "*", "any", 1)) != nil
	})
}

// fingerprint is the SHA-256 of a certificate as openssl x509 -fingerprint shows it.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return strings.ReplaceAll(strings.ToUpper(fmt.Sprintf("% x", sum[:])), " ", ":")
}

// keepOwnCertificate issues the certificate when it is due, until ctx ends.
func (s *Server) keepOwnCertificate(ctx context.Context) {
	if s.own == nil {
		return
	}
	ticker := time.NewTicker(ownTick)
	defer ticker.Stop()
	wait := ownRetry
	var notBefore time.Time // of the next attempt after a failure
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		if _, sealed := s.custody.State(); sealed || now.Before(s.own.renewAt) || now.Before(notBefore) {
			continue
		}
		if s.tryOwnCertificate(ctx) {
			wait = ownRetry
			continue
		}
		notBefore, wait = now.Add(wait), min(2*wait, ownRetryMost)
	}
}

// tryOwnCertificate issues the certificate, and tells whether it could. The same
// cause of a failure is said once.
func (s *Server) tryOwnCertificate(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, ownTimeout)
	defer cancel()
	o := s.own
	err := s.issueOwnCertificate(ctx)
	if err == nil {
		o.failed = ""
		o.renewals.WithLabelValues("ok").Inc()
		return true
	}
	o.renewals.WithLabelValues("failed").Inc()
	if text := err.Error(); text != o.failed && !errors.Is(ctx.Err(), context.Canceled) {
		o.failed = text
		s.log.Warn("the certificate of the listeners can't be issued; it is tried again", "mount", o.cfg.Mount, "role", o.cfg.Role,
			"error", err, "hint", fault.HintOf(err), "valid_until", o.current.Load().Leaf.NotAfter)
	}
	return false
}

// issueOwnCertificate has the configured role issue the certificate, as an
// operation of the server itself, which is recorded.
func (s *Server) issueOwnCertificate(ctx context.Context) error {
	c := s.own.cfg
	if _, mounted := s.guard.Mounted(pki.MountKind)[c.Mount]; !mounted {
		return fault.New(fault.NotFound, "there is no mount of type pki at %s", c.Mount)
	}
	request := &api.PKIIssue{Role: c.Role, IssuerRef: c.Issuer, RemoveRootsFromChain: true}
	request.CommonName, request.AltNames, request.IPSANs, request.TTL = c.CommonName, c.AltNames, c.IPSANs, api.Seconds(c.TTL.Duration/time.Second)
	name, path := "pki.issue", c.Mount+"issue/"+c.Role
	if c.Issuer != "" {
		name, path = "pki.issue.issuer", c.Mount+"issuer/"+c.Issuer+"/issue/"+c.Role
	}
	operation, err := s.operation(name)
	if err != nil {
		return err
	}
	return s.guard.System(ctx, op.Write, path, request, func(ctx context.Context, call *op.Call) (any, error) {
		answer, err := operation.Invoke(ctx, call, request)
		if err != nil {
			return nil, err
		}
		issued, ok := answer.(*api.PKICertificate)
		if !ok {
			return nil, fmt.Errorf("%s answers a %T", name, answer)
		}
		return issued, s.own.take(issued.PrivateKey, append([]string{issued.Certificate}, issued.CAChain...)...)
	})
}

// operation finds an operation of the table by its name.
func (s *Server) operation(name string) (*op.Operation, error) {
	table := s.guard.Table()
	i := slices.IndexFunc(table, func(o *op.Operation) bool { return o.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("there is no operation %s", name)
	}
	return table[i], nil
}
