package server

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/claviger/claviger/internal/config"
)

// acmeKey makes a key for an account or a certificate.
func acmeKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// client makes a client of a directory with an account.
func (e *acmeEnv) client(directory string) *acme.Client {
	e.t.Helper()
	c := &acme.Client{Key: acmeKey(e.t), DirectoryURL: e.base + directory + "/directory", RetryBackoff: func(int, *http.Request, *http.Response) time.Duration { return 10 * time.Millisecond }}
	if _, err := c.Register(e.t.Context(), &acme.Account{Contact: []string{"mailto:admin@example.com"}}, acme.AcceptTOS); err != nil {
		e.t.Fatal(err)
	}
	return c
}

// prove answers the challenges of one kind of an order.
func (e *acmeEnv) prove(c *acme.Client, o *acme.Order, kind string) {
	e.t.Helper()
	for _, url := range o.AuthzURLs {
		z, err := c.GetAuthorization(e.t.Context(), url)
		if err != nil {
			e.t.Fatal(err)
		}
		for _, ch := range z.Challenges {
			if ch.Type == kind {
				e.place(c, z.Identifier.Value, ch)
				if _, err := c.Accept(e.t.Context(), ch); err != nil {
					e.t.Fatalf("%s for %s: %v", kind, z.Identifier.Value, err)
				}
			}
		}
		if _, err := c.WaitAuthorization(e.t.Context(), url); err != nil {
			e.t.Fatalf("%s for %s: %v", kind, z.Identifier.Value, err)
		}
	}
}

// place puts the answer to a challenge where it is looked for.
func (e *acmeEnv) place(c *acme.Client, name string, ch *acme.Challenge) {
	e.t.Helper()
	var text string
	var err error
	switch ch.Type {
	case "http-01":
		if text, err = c.HTTP01ChallengeResponse(ch.Token); err == nil {
			e.files.Store(c.HTTP01ChallengePath(ch.Token), text+"\r\n")
		}
	case "dns-01":
		if text, err = c.DNS01ChallengeRecord(ch.Token); err == nil {
			e.dns.Texts.Store("_acme-challenge."+name+".", []string{"of another order", text})
		}
	}
	if err != nil {
		e.t.Fatal(err)
	}
}

// order makes a certificate for names and returns its chain.
func (e *acmeEnv) order(c *acme.Client, kind string, between func(), names ...string) (chain [][]byte, key crypto.Signer) {
	e.t.Helper()
	o, err := c.AuthorizeOrder(e.t.Context(), acme.DomainIDs(names...))
	if err != nil {
		e.t.Fatal(err)
	}
	between()
	e.prove(c, o, kind)
	between()
	if o, err = c.WaitOrder(e.t.Context(), o.URI); err != nil {
		e.t.Fatal(err)
	}
	key = acmeKey(e.t)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, key)
	if err != nil {
		e.t.Fatal(err)
	}
	chain, _, err = c.CreateOrderCert(e.t.Context(), o.FinalizeURL, csr, true)
	if err != nil {
		e.t.Fatal(err)
	}
	return chain, key
}

// root is the pool of the root of the environment.
func (e *acmeEnv) root() *x509.CertPool {
	e.t.Helper()
	var text string
	do(e.t, e.current.Load(), "GET", "pki/ca/pem", "", nil, &text)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(text)) {
		e.t.Fatalf("no certificate: %q", text)
	}
	return pool
}

func (e *acmeEnv) verify(chain [][]byte, names ...string) *x509.Certificate {
	e.t.Helper()
	cert, err := x509.ParseCertificate(chain[0])
	if err != nil {
		e.t.Fatal(err)
	}
	for _, name := range names {
		name = strings.Replace(name, "*", "any", 1)
		if _, err := cert.Verify(x509.VerifyOptions{Roots: e.root(), DNSName: name}); err != nil {
			e.t.Errorf("%s: %v", name, err)
		}
	}
	if len(cert.DNSNames) != len(names) || len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		e.t.Errorf("names %v, extended key usages %v", cert.DNSNames, cert.ExtKeyUsage)
	}
	return cert
}

// TestACMEFlows: every kind of directory and challenge, with a restart between
// all steps.
func TestACMEFlows(t *testing.T) {
	t.Parallel()
	e := newACMEEnv(t, 0)
	for _, row := range []struct {
		directory, kind string
		names           []string
	}{
		{"pki/acme", "http-01", []string{"a.example.org", "b.example.org"}},
		{"pki/roles/web/acme", "dns-01", []string{"*.example.com", "www.example.com"}},
		{"pki/issuer/root/acme", "http-01", []string{"c.example.net"}},
		{"pki/issuer/root/roles/web/acme", "http-01", []string{"d.example.com"}},
	} {
		c := e.client(row.directory)
		chain, key := e.order(c, row.kind, e.restart, row.names...)
		cert := e.verify(chain, row.names...)
		if !key.Public().(*ecdsa.PublicKey).Equal(cert.PublicKey) {
			t.Error("the certificate is for another key")
		}
	}
}

func TestACMETLSALPN(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var answer *tls.Certificate
	server := &http.Server{TLSConfig: &tls.Config{NextProtos: []string{"acme-tls/1"}, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return answer, nil }}}
	go server.ServeTLS(l, "", "")
	t.Cleanup(func() { server.Close() })
	e := newACMEEnv(t, l.Addr().(*net.TCPAddr).Port)
	c := e.client("pki/acme")
	o, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs("alpn.example.org"))
	if err != nil {
		t.Fatal(err)
	}
	for _, good := range []bool{false, true} {
		if !good {
			o2, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs("alpn.example.org"))
			if err != nil {
				t.Fatal(err)
			}
			wrong, err := c.TLSALPN01ChallengeCert("wrong-token", "alpn.example.org")
			if err != nil {
				t.Fatal(err)
			}
			answer = &wrong
			if z := e.accept(c, o2.AuthzURLs[0], "tls-alpn-01", false); z.Status != acme.StatusInvalid {
				t.Errorf("a certificate for another token: the authorization is %s", z.Status)
			}
			continue
		}
		z, err := c.GetAuthorization(t.Context(), o.AuthzURLs[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, ch := range z.Challenges {
			if ch.Type == "tls-alpn-01" {
				right, err := c.TLSALPN01ChallengeCert(ch.Token, "alpn.example.org")
				if err != nil {
					t.Fatal(err)
				}
				answer = &right
			}
		}
		if z := e.accept(c, o.AuthzURLs[0], "tls-alpn-01", false); z.Status != acme.StatusValid {
			t.Errorf("the authorization is %s: %v", z.Status, z.Challenges[0].Error)
		}
	}
}

// accept tells the server to look, and returns the authorization as it is then.
func (e *acmeEnv) accept(c *acme.Client, url, kind string, place bool) *acme.Authorization {
	e.t.Helper()
	z, err := c.GetAuthorization(e.t.Context(), url)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, ch := range z.Challenges {
		if ch.Type != kind {
			continue
		}
		if place {
			e.place(c, z.Identifier.Value, ch)
		}
		if _, err := c.Accept(e.t.Context(), ch); err != nil {
			e.t.Fatal(err)
		}
	}
	if z, err = c.GetAuthorization(e.t.Context(), url); err != nil {
		e.t.Fatal(err)
	}
	return z
}

// problemOf is the type of a problem, without its common beginning.
func problemOf(err error) string {
	if p, ok := errors.AsType[*acme.Error](err); ok {
		return strings.TrimPrefix(p.ProblemType, "urn:ietf:params:acme:error:")
	}
	return ""
}

// TestACMEValidationLooksOnlyWhereAllowed: names that lead to networks that were
// not allowed get no connection, and wrong answers no certificate.
func TestACMEValidationLooksOnlyWhereAllowed(t *testing.T) {
	t.Parallel()
	e := newACMEEnv(t, 0)
	c := e.client("pki/acme")
	for name, want := range map[string]string{"private.example.org": "rejectedIdentifier", "none.example.org": "dns", "wrong.example.org": "incorrectResponse"} {
		o, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs(name))
		if err != nil {
			t.Fatal(err)
		}
		z := e.accept(c, o.AuthzURLs[0], "http-01", name != "wrong.example.org")
		if z.Status != acme.StatusInvalid || len(z.Challenges) != 1 || problemOf(z.Challenges[0].Error) != want {
			t.Errorf("%s: %s, %+v, want %s", name, z.Status, z.Challenges, want)
		}
		if o, err := c.GetOrder(t.Context(), o.URI); err != nil || o.Status != acme.StatusInvalid {
			t.Errorf("%s: the order is %v, %v", name, o, err)
		}
	}
	e.set("pki/config/acme", map[string]any{"allowed_networks": []string{}})
	o, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs("local.example.org"))
	if err != nil {
		t.Fatal(err)
	}
	if z := e.accept(c, o.AuthzURLs[0], "http-01", true); z.Status != acme.StatusInvalid {
		t.Errorf("loopback, not allowed: the authorization is %s", z.Status)
	}
}

// TestACMERefusals: what a client may not have.
func TestACMERefusals(t *testing.T) {
	t.Parallel()
	e := newACMEEnv(t, 0)
	web := e.client("pki/roles/web/acme")
	for want, ids := range map[string][]acme.AuthzID{
		"rejectedIdentifier":    acme.DomainIDs("www.example.org"),
		"unsupportedIdentifier": {{Type: "email", Value: "a@example.com"}},
	} {
		if _, err := web.AuthorizeOrder(t.Context(), ids); problemOf(err) != want {
			t.Errorf("%v: %v, want %s", ids, err, want)
		}
	}
	o, err := web.AuthorizeOrder(t.Context(), acme.DomainIDs("www.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"other.example.com"}}, acmeKey(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := web.CreateOrderCert(t.Context(), o.FinalizeURL, csr, false); problemOf(err) != "orderNotReady" {
		t.Errorf("nothing is proved: %v", err)
	}
	e.prove(web, o, "http-01")
	if _, _, err := web.CreateOrderCert(t.Context(), o.FinalizeURL, csr, false); problemOf(err) != "badCSR" {
		t.Errorf("another name: %v", err)
	}
	own, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"www.example.com"}}, web.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := web.CreateOrderCert(t.Context(), o.FinalizeURL, own, false); problemOf(err) != "badCSR" {
		t.Errorf("the account's key: %v", err)
	}
	stranger := e.client("pki/roles/web/acme")
	if _, err := stranger.GetOrder(t.Context(), o.URI); err == nil {
		t.Error("another account sees the order")
	}
	elsewhere := acme.Client{Key: stranger.Key}
	elsewhere.DirectoryURL = e.base + "pki/acme/directory"
	if _, err := elsewhere.GetReg(t.Context(), ""); !errors.Is(err, acme.ErrNoAccount) {
		t.Errorf("an account of another directory: %v", err)
	}
	e.set("pki/config/acme", map[string]any{"orders_per_hour": 1})
	web.RetryBackoff = func(int, *http.Request, *http.Response) time.Duration { return -1 }
	if _, err := web.AuthorizeOrder(t.Context(), acme.DomainIDs("www.example.com")); problemOf(err) != "rateLimited" {
		t.Errorf("too many orders: %v", err)
	}
}

// TestACMEAccounts: change of the key, deactivation.
func TestACMEAccounts(t *testing.T) {
	t.Parallel()
	e := newACMEEnv(t, 0)
	c := e.client("pki/acme")
	old, fresh := c.Key, acmeKey(t)
	if err := c.AccountKeyRollover(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	e.restart()
	if _, err := c.GetReg(t.Context(), ""); err != nil {
		t.Errorf("with the new key: %v", err)
	}
	before := &acme.Client{Key: old, DirectoryURL: c.DirectoryURL}
	if _, err := before.GetReg(t.Context(), ""); !errors.Is(err, acme.ErrNoAccount) {
		t.Errorf("with the old key: %v", err)
	}
	other := e.client("pki/acme")
	if err := other.AccountKeyRollover(t.Context(), fresh); err == nil {
		t.Error("a key of another account was taken")
	}
	a, err := c.UpdateReg(t.Context(), &acme.Account{Contact: []string{"mailto:other@example.com"}})
	if err != nil || len(a.Contact) != 1 || a.Contact[0] != "mailto:other@example.com" {
		t.Errorf("%+v %v", a, err)
	}
	if _, err := c.UpdateReg(t.Context(), &acme.Account{Contact: []string{"tel:+123"}}); problemOf(err) != "unsupportedContact" {
		t.Error(err)
	}
	if err := c.DeactivateReg(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.org")); problemOf(err) != "unauthorized" {
		t.Errorf("a deactivated account: %v", err)
	}
}

// TestACMERevocation: by account, by key, not by others; renewal information.
func TestACMERevocation(t *testing.T) {
	t.Parallel()
	e := newACMEEnv(t, 0)
	c := e.client("pki/acme")
	byAccount, _ := e.order(c, "http-01", func() {}, "a.example.org")
	byKey, key := e.order(c, "http-01", func() {}, "b.example.org")
	cert := e.verify(byAccount, "a.example.org")
	info := e.base + "pki/acme/renewal-info/" + base64.RawURLEncoding.EncodeToString(cert.AuthorityKeyId) + "." + base64.RawURLEncoding.EncodeToString(cert.SerialNumber.Bytes())
	if start := renewalStart(t, info); start.Before(time.Now().Add(24*time.Hour)) || start.After(cert.NotAfter) {
		t.Errorf("renewal from %v", start)
	}
	stranger := e.client("pki/acme")
	if err := stranger.RevokeCert(t.Context(), nil, byAccount[0], acme.CRLReasonUnspecified); problemOf(err) != "unauthorized" {
		t.Errorf("by a stranger: %v", err)
	}
	if err := c.RevokeCert(t.Context(), nil, byAccount[0], acme.CRLReasonCode(9)); problemOf(err) != "badRevocationReason" {
		t.Errorf("for a reason of the authority: %v", err)
	}
	if err := c.RevokeCert(t.Context(), nil, byAccount[0], acme.CRLReasonSuperseded); err != nil {
		t.Errorf("by the account: %v", err)
	}
	if err := stranger.RevokeCert(t.Context(), key, byKey[0], acme.CRLReasonKeyCompromise); err != nil {
		t.Errorf("by the key: %v", err)
	}
	if start := renewalStart(t, info); start.After(time.Now()) {
		t.Errorf("a revoked certificate is to be renewed from %v", start)
	}
	var text string
	if do(t, e.current.Load(), "LIST", "pki/certs/revoked", e.init.RootToken, nil, &text); strings.Count(text, ":") < 2*19 {
		t.Errorf("revoked: %s", text)
	}
}

func renewalStart(t *testing.T, url string) time.Time {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a struct {
		SuggestedWindow struct{ Start, End time.Time } `json:"suggestedWindow"`
	}
	text, _ := io.ReadAll(resp.Body)
	if err := json.Unmarshal(text, &a); err != nil || resp.StatusCode != 200 || resp.Header.Get("Retry-After") == "" {
		t.Fatalf("%s: status %d %s", url, resp.StatusCode, text)
	}
	return a.SuggestedWindow.Start
}

// TestACMEBinding: with eab_policy an account needs a key, which is good once
// and in its directory.
func TestACMEBinding(t *testing.T) {
	t.Parallel()
	e := newACMEEnv(t, 0)
	without := e.client("pki/acme")
	e.set("pki/config/acme", map[string]any{"eab_policy": "always-required"})
	if _, err := without.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.org")); problemOf(err) != "externalAccountRequired" {
		t.Errorf("an account without: %v", err)
	}
	here, elsewhere := e.set("pki/acme/new-eab", nil), e.set("pki/roles/web/acme/new-eab", nil)
	e.restart()
	register := func(eab map[string]any, alter byte) error {
		key, err := base64.RawURLEncoding.DecodeString(eab["key"].(string))
		if err != nil {
			t.Fatal(err)
		}
		key[0] ^= alter
		c := &acme.Client{Key: acmeKey(t), DirectoryURL: e.base + "pki/acme/directory"}
		_, err = c.Register(context.Background(), &acme.Account{ExternalAccountBinding: &acme.ExternalAccountBinding{KID: eab["id"].(string), Key: key}}, acme.AcceptTOS)
		return err
	}
	if err := register(here, 1); problemOf(err) != "unauthorized" {
		t.Errorf("a wrong key: %v", err)
	}
	if err := register(elsewhere, 0); problemOf(err) != "unauthorized" {
		t.Errorf("a key for another directory: %v", err)
	}
	if err := register(here, 0); err != nil {
		t.Errorf("the right key: %v", err)
	}
	if err := register(here, 0); problemOf(err) != "unauthorized" {
		t.Errorf("the same key again: %v", err)
	}
	if status := do(t, e.current.Load(), "DELETE", "pki/eab/"+elsewhere["id"].(string), e.init.RootToken, nil, nil); status != 204 {
		t.Errorf("delete: status %d", status)
	}
	if status := do(t, e.current.Load(), "LIST", "pki/eab", e.init.RootToken, nil, nil); status != 404 {
		t.Errorf("an empty list: status %d", status)
	}
}

// TestACMEIsOff: without being enabled there is nothing, and what can't work is
// not enabled.
func TestACMEIsOff(t *testing.T) {
	t.Parallel()
	s := running(t, config.Dev(t.TempDir()), Options{Dev: &Dev{RootTokenID: "root"}})
	do(t, s, "POST", "sys/mounts/pki", "root", map[string]any{"type": "pki"}, nil)
	do(t, s, "POST", "pki/root/generate/internal", "root", map[string]any{"common_name": "Root", "key_type": "ec"}, nil)
	if status := do(t, s, "GET", "pki/acme/directory", "", nil, nil); status != 404 {
		t.Errorf("off: status %d", status)
	}
	for _, body := range []map[string]any{
		{"enabled": true}, {"eab_policy": "maybe"}, {"default_directory_policy": "role:none"}, {"allowed_networks": "10.0.0.1/8"},
		{"dns_resolver": "nowhere"}, {"http_port": 0}, {"allowed_roles": "none"}, {"orders_per_hour": 0},
	} {
		if status := do(t, s, "POST", "pki/config/acme", "root", body, nil); status != 400 {
			t.Errorf("%v: status %d", body, status)
		}
	}
	do(t, s, "POST", "pki/config/cluster", "root", map[string]any{"path": s.Addresses()[0] + "/v1/pki"}, nil)
	if status := do(t, s, "POST", "pki/config/acme", "root", map[string]any{"enabled": true, "default_directory_policy": "forbid"}, nil); status != 200 {
		t.Errorf("enable: status %d", status)
	}
	if status := do(t, s, "GET", "pki/acme/directory", "", nil, nil); status != 404 {
		t.Errorf("a directory that is forbidden: status %d", status)
	}
}
