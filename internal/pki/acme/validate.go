package acme

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/fault"
)

// Kinds of challenges.
const (
	HTTP01    = "http-01"
	DNS01     = "dns-01"
	TLSALPN01 = "tls-alpn-01"
)

const (
	attempts       = 3
	attemptTimeout = 4 * time.Second
	// pause is between attempts: records and listeners of clients need a moment
	// to appear. It doubles.
	pause        = 500 * time.Millisecond
	maxRedirects = 10
)

// Validator looks whether a client controls a name.
type Validator struct {
	Resolver string         // host:port of the name server, "" the system's
	Networks []netip.Prefix // allowed beside public addresses
	HTTPPort int
	TLSPort  int
}

// Subject is what is validated. KeyAuthorization is of RFC 8555 section 8.1.
type Subject struct {
	Name             string // a host name without "*.", or an IP address
	Token            string
	KeyAuthorization string
}

// Validate answers a challenge of a kind: nil, or a problem that says why not.
// It takes at most about 15 seconds.
func (v *Validator) Validate(ctx context.Context, kind string, s *Subject) *fault.Error {
	var last *fault.Error
	wait := pause
	for i := range attempts {
		if i > 0 {
			select {
			case <-ctx.Done():
				return last
			case <-time.After(wait):
				wait *= 2
			}
		}
		if last = v.attempt(ctx, kind, s); last == nil {
			return nil
		}
		if errors.Is(last, errForbidden) {
			return last
		}
	}
	return last
}

func (v *Validator) attempt(ctx context.Context, kind string, s *Subject) *fault.Error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	switch kind {
	case HTTP01:
		return v.http01(ctx, s)
	case DNS01:
		return v.dns01(ctx, s)
	}
	return v.tlsALPN01(ctx, s)
}

// unreachable is the problem of a connection that failed. Causes are told as far
// as they help to mend it, not which addresses there are behind a name.
func unreachable(what string, err error) *fault.Error {
	if errors.Is(err, errForbidden) {
		e := New(RejectedIdentifier, "%s: the name leads to an address that is not public and that the rules of this server do not allow", what)
		return withCause(e, err)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return New(DNS, "%s: looking up %s: %s", what, strings.TrimSuffix(dns.Name, "."), dns.Err)
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return New(Connection, "%s: no answer in time", what)
	}
	return New(Connection, "%s: the connection failed", what)
}

// caused is a problem with the error behind it.
type caused struct {
	problem error
	cause   error
}

func (c *caused) Error() string   { return c.problem.Error() }
func (c *caused) Unwrap() []error { return []error{c.problem, c.cause} }

func withCause(e *fault.Error, cause error) *fault.Error {
	e.Err = &caused{e.Err, cause}
	return e
}

// http01 fetches the key authorization over HTTP (RFC 8555 section 8.3).
func (v *Validator) http01(ctx context.Context, s *Subject) *fault.Error {
	url := "http://" + hostOf(s.Name, v.HTTPPort, 80) + "/.well-known/acme-challenge/" + s.Token
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return New(Malformed, "%s can't be a part of a URL", s.Name)
	}
	req.Header.Set("User-Agent", "claviger ACME validation")
	transport := &http.Transport{DialContext: v.dial, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10,
		// A certificate is what the client is about to get, so none is asked for
		// where a web server redirects to HTTPS.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: v.checkRedirect}
	resp, err := client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*redirectError](err); ok {
			return New(Connection, "http-01: %s", e.text)
		}
		return unreachable("http-01", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return New(IncorrectResponse, "http-01: the web server answers with status %d, 200 is wanted", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(len(s.KeyAuthorization))+256))
	if err != nil {
		return unreachable("http-01", err)
	}
	if subtle.ConstantTimeCompare([]byte(strings.TrimRight(string(body), " \t\r\n")), []byte(s.KeyAuthorization)) != 1 {
		return New(IncorrectResponse, "http-01: the file does not hold the key authorization of this challenge and account")
	}
	return nil
}

// hostOf is a host with its port, as URLs have it.
func hostOf(name string, port, usual int) string {
	if port != usual {
		return net.JoinHostPort(name, strconv.Itoa(port))
	}
	if strings.Contains(name, ":") {
		return "[" + name + "]"
	}
	return name
}

// redirectError is a redirect that is not followed.
type redirectError struct{ text string }

func (e *redirectError) Error() string { return e.text }

func (v *Validator) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return &redirectError{fmt.Sprintf("more than %d redirects", maxRedirects)}
	}
	usual := map[string]int{"http": 80, "https": 443}[req.URL.Scheme]
	if usual == 0 {
		return &redirectError{"a redirect to what is neither http nor https"}
	}
	switch port := req.URL.Port(); port {
	case "", strconv.Itoa(usual), strconv.Itoa(v.HTTPPort), strconv.Itoa(v.TLSPort):
		return nil
	}
	return &redirectError{"a redirect to another port than those of HTTP and HTTPS"}
}

// dns01 looks for the digest of the key authorization (RFC 8555 section 8.4).
func (v *Validator) dns01(ctx context.Context, s *Subject) *fault.Error {
	texts, err := v.resolver().LookupTXT(ctx, "_acme-challenge."+s.Name+".")
	if err != nil {
		return unreachable("dns-01", err)
	}
	sum := sha256.Sum256([]byte(s.KeyAuthorization))
	want := base64.RawURLEncoding.EncodeToString(sum[:])
	for _, text := range texts {
		if subtle.ConstantTimeCompare([]byte(text), []byte(want)) == 1 {
			return nil
		}
	}
	return New(IncorrectResponse, "dns-01: none of the %d TXT records of _acme-challenge.%s is the digest for this challenge and account", len(texts), s.Name)
}

// oidACMEIdentifier is of RFC 8737 section 6.1.
var oidACMEIdentifier = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}

const alpnProtocol = "acme-tls/1"

// tlsALPN01 looks at the certificate of a TLS server (RFC 8737 section 3).
func (v *Validator) tlsALPN01(ctx context.Context, s *Subject) *fault.Error {
	raw, err := v.dial(ctx, "tcp", net.JoinHostPort(s.Name, strconv.Itoa(v.TLSPort)))
	if err != nil {
		return unreachable("tls-alpn-01", err)
	}
	conn := tls.Client(raw, &tls.Config{ServerName: s.Name, NextProtos: []string{alpnProtocol}, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true})
	defer conn.Close()
	if err := conn.HandshakeContext(ctx); err != nil {
		return New(TLS, "tls-alpn-01: the handshake failed: %v", err)
	}
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != alpnProtocol {
		return New(TLS, "tls-alpn-01: the server does not speak %s", alpnProtocol)
	}
	return checkALPN(state.PeerCertificates[0], s)
}

func checkALPN(cert *x509.Certificate, s *Subject) *fault.Error {
	if len(cert.DNSNames) != 1 || !strings.EqualFold(cert.DNSNames[0], s.Name) || len(cert.IPAddresses)+len(cert.EmailAddresses)+len(cert.URIs) > 0 {
		return New(IncorrectResponse, "tls-alpn-01: the certificate must have %s as its only alternative name", s.Name)
	}
	sum := sha256.Sum256([]byte(s.KeyAuthorization))
	want, err := asn1.Marshal(sum[:])
	if err != nil {
		return New(Malformed, "tls-alpn-01: %v", err)
	}
	for _, e := range cert.Extensions {
		if e.Id.Equal(oidACMEIdentifier) && e.Critical && subtle.ConstantTimeCompare(e.Value, want) == 1 {
			return nil
		}
	}
	return New(IncorrectResponse, "tls-alpn-01: the certificate lacks the critical extension with the digest for this challenge and account")
}
