package unsealer

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/daemon"
)

const (
	// maxAnswer is beyond a seal status, in bytes.
	maxAnswer   = 64 << 10
	dialTimeout = 5 * time.Second
)

// newClient makes a client of one server that sends nothing twice, follows no
// redirect, goes through no proxy, and reads short answers only.
func newClient(c *config.Unsealer, s *config.Unsealed) (*client.Client, error) {
	conf, err := daemon.TLS(c.TLSOf(s), tls.VersionTLS12)
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
