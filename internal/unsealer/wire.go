package unsealer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
)

const (
	// maxAnswer is beyond a seal status, in bytes.
	maxAnswer   = 64 << 10
	dialTimeout = 5 * time.Second
)

// newClient makes a client of one server that sends nothing twice, follows no
// redirect, goes through no proxy, and reads short answers only.
func newClient(c *config.Unsealer, s *config.Unsealed) (*client.Client, error) {
	conf, err := tlsConfig(c.TLSOf(s))
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	transport := &http.Transport{
		DialContext: dialer.DialContext, TLSClientConfig: conf, TLSHandshakeTimeout: c.Timeout.Duration,
		MaxResponseHeaderBytes: maxAnswer, DisableCompression: true,
		// The answer to "are you sealed" and the share go over one connection; the
		// next look makes another, with the certificates of that time.
		IdleConnTimeout: 2 * time.Second, MaxIdleConnsPerHost: 1, ForceAttemptHTTP2: true,
	}
	if socket, ok := strings.CutPrefix(s.Address, "unix://"); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}
	}
	return client.New(client.Config{
		Address: s.Address, Timeout: c.Timeout.Duration, Retries: -1,
		HTTPClient: &http.Client{Transport: bounded{transport}},
	})
}

// bounded cuts answers off.
type bounded struct{ http.RoundTripper }

// RoundTrip is that of the transport, with a body that ends in an error where it
// is too long.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	}
	return resp, err
}

func tlsConfig(t config.UnsealerTLS) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CACert != "" {
		pem, err := os.ReadFile(t.CACert)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "read the authorities to trust")
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fault.New(fault.Invalid, "%s holds no certificate in PEM form", t.CACert)
		}
	}
	if t.ClientCert != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(t.ClientCert, t.ClientKey)
			return &pair, fault.Wrap(fault.Invalid, err, "read the unsealer's certificate %s and its key", t.ClientCert)
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	if len(t.Pins) > 0 {
		check, err := pinCheck(t.Pins)
		if err != nil {
			return nil, err
		}
		conf.VerifyConnection = check
	}
	return conf, nil
}

// errPin is the error of a connection to a server with another key.
var errPin = errors.New("the server's public key is none of the pinned ones")

// pinCheck compares the public key of the server's own certificate, after the
// chain and the name were checked.
func pinCheck(pins []string) (func(tls.ConnectionState) error, error) {
	var sums [][32]byte
	for _, pin := range pins {
		sum, err := config.ParsePin(pin)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "read a pin")
		}
		sums = append(sums, sum)
	}
	return func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errPin
		}
		got := sha256.Sum256(state.PeerCertificates[0].RawSubjectPublicKeyInfo)
		for _, want := range sums {
			if subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
				return nil
			}
		}
		return errPin
	}, nil
}

// redact returns what an error says without the share, which a server might
// repeat, and without an end.
func redact(err error, key []byte) string {
	text := []byte(err.Error())
	if len(key) > 0 {
		text = bytes.ReplaceAll(text, key, []byte("(the share)"))
	}
	const limit = 500
	if len(text) > limit {
		text = append(text[:limit:limit], "…"...)
	}
	return string(text)
}
