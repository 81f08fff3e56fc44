package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// DefaultAddress is that of a server with the default configuration.
const DefaultAddress = "http://127.0.0.1:8200"

// DefaultMount is where the transit engine is mounted by default.
const DefaultMount = "transit"

// Config says which server to call and how. Its zero value calls
// DefaultAddress without a client token.
type Config struct {
	// Address is "http://host:port", "https://host:port" or "unix:///path".
	Address string
	// Addresses are further addresses of the same server, or of servers that
	// know the same keys and client tokens; each of them gets the client token.
	// A call goes to the address that answered last and, where that does not
	// answer, to the next. Without Address the first of them is Address.
	Addresses []string
	// Token is the client token.
	Token string
	// Mount is the path of the transit engine; default "transit".
	Mount string
	// CACert is a PEM file of authorities to trust instead of the system's.
	CACert string
	// ClientCert and ClientKey are PEM files that show who the client is.
	ClientCert, ClientKey string
	// HTTPClient replaces the transport that is made of the fields above. Its
	// redirects are not followed either.
	HTTPClient *http.Client
	// Timeout bounds one call with its repetitions; default 60 s, negative none.
	Timeout time.Duration
	// Retries is how often a call may be sent again, with several addresses to
	// all of them each time; default 2, negative never.
	Retries int
	// OnWarning is told the server's warnings; nil drops them.
	OnWarning func(string)
}

// Client calls one server. It is safe for concurrent use.
type Client struct {
	servers *servers
	token   string
	mount   string
	timeout time.Duration
	retries int
	warn    func(string)
	pause   func(ctx context.Context, try int, least time.Duration) error
}

// New makes a client. It does not call the server.
func New(cfg Config) (*Client, error) {
	c := &Client{
		token: cfg.Token, mount: strings.Trim(cfg.Mount, "/"),
		timeout: cfg.Timeout, retries: cfg.Retries, warn: cfg.OnWarning, pause: backOff,
	}
	if c.mount == "" {
		c.mount = DefaultMount
	}
	if c.timeout == 0 {
		c.timeout = time.Minute
	}
	if c.retries == 0 {
		c.retries = 2
	}
	if strings.ContainsAny(c.token, "\r\n\x00") {
		return nil, errors.New("the client token contains a line break or a zero byte")
	}
	var err error
	if c.servers, err = cfg.servers(); err != nil {
		return nil, err
	}
	return c, nil
}

// Address returns the server's address as it is called; of several, the one
// that answered last.
func (c *Client) Address() string { return c.servers.all[c.servers.first()].base.String() }

// WithToken returns a client of the same server with another client token.
func (c *Client) WithToken(token string) *Client {
	d := *c
	d.token = token
	return &d
}

// WithMount returns a client whose key operations go to another mount.
func (c *Client) WithMount(path string) *Client {
	d := *c
	d.mount = strings.Trim(path, "/")
	return &d
}

// parseAddress returns the base URL and the socket of a unix address.
func parseAddress(address string) (base *url.URL, socket string, err error) {
	if address == "" {
		address = DefaultAddress
	}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		path = "/" + strings.TrimLeft(path, "/")
		if path == "/" {
			return nil, "", fmt.Errorf("address %q names no socket; write unix:///path", address)
		}
		return &url.URL{Scheme: "http", Host: "localhost"}, path, nil
	}
	base, err = url.Parse(address)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, "", fmt.Errorf("%q is no address; write http://host:port, https://host:port or unix:///path", redact(address))
	}
	if base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, "", errors.New("the address may have a host, a port and a path, nothing else")
	}
	base.Path = strings.TrimSuffix(base.Path, "/")
	base.RawPath = ""
	return base, "", nil
}

// redact drops what stands before an @: it may be a password.
func redact(address string) string {
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		return "…" + address[i:]
	}
	return address
}

func (cfg *Config) transport(socket string) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       90 * time.Second,
		ForceAttemptHTTP2:     true,
		ExpectContinueTimeout: time.Second,
	}
	if socket != "" {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "unix", socket)
		}
		return t, nil
	}
	var err error
	t.TLSClientConfig, err = cfg.tls()
	return t, err
}

func (cfg *Config) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CACert != "" {
		pem, err := os.ReadFile(cfg.CACert)
		if err != nil {
			return nil, fmt.Errorf("read the authorities to trust: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", cfg.CACert)
		}
	}
	if cfg.ClientCert != "" || cfg.ClientKey != "" {
		pair, err := tls.LoadX509KeyPair(cfg.ClientCert, cfg.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("read the client's certificate and key: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}
