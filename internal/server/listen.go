package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/daemon"
)

// connServer serves the connections of a listener: an *http.Server, or that of
// another protocol. Serve returns nil or http.ErrServerClosed after Shutdown,
// which waits for requests under way until its context ends.
type connServer interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

// listener is one address at which the API or a front of its own is served.
type listener struct {
	front   string // name of the front, "" for the API
	cfg     config.Listener
	address string // as clients name it: http://…, https://…, unix:///…
	tls     *tlsFiles
	net     net.Listener
	server  connServer
}

func (s *Server) listen() error {
	for _, c := range s.cfg.Listeners {
		l, err := newListener(c, s.own, newHTTPServer(s.handler, s.cfg.Limits.RequestTimeout.Duration, s.log), 0, false)
		if err != nil {
			return fmt.Errorf("listener %s: %w", c.Address, err)
		}
		s.listeners = append(s.listeners, l)
	}
	return nil
}

// newHTTPServer bounds what a slow or half-open client can hold.
func newHTTPServer(h http.Handler, timeout time.Duration, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       timeout,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // mostly clients that went away
	}
}

// newListener opens a listener; own is the certificate of those with TLSOwn,
// connections bounds those open at a time, 0 does not; asks says whether clients are
// asked for certificates.
func newListener(c config.Listener, own *ownCertificate, server connServer, connections int, asks bool) (*listener, error) {
	l := &listener{cfg: c, server: server}
	if c.TLS() {
		l.tls = &tlsFiles{cert: c.TLSCert, key: c.TLSKey, clientCA: c.ClientCA, asks: asks}
		if c.TLSOwn {
			l.tls.own = own
		}
		if err := l.tls.load(); err != nil {
			return nil, err
		}
	}
	return l, l.open(connections)
}

func (l *listener) open(connections int) (err error) {
	if path, ok := l.cfg.Socket(); ok {
		l.net, err = daemon.Listen(path, os.FileMode(l.cfg.FileMode()))
		l.address = "unix://" + path
	} else {
		l.net, err = net.Listen("tcp", l.cfg.Address)
		if err == nil {
			l.address = "http://" + l.net.Addr().String()
		}
	}
	if err != nil {
		return err
	}
	if connections > 0 {
		l.net = daemon.Limit(l.net, connections)
	}
	if l.tls != nil {
		l.net = tls.NewListener(l.net, l.tls.config())
		l.address = "https" + l.address[len("http"):]
	}
	return nil
}

func (l *listener) serve() error {
	if err := l.server.Serve(l.net); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (l *listener) shutdown(ctx context.Context) error {
	if err := l.server.Shutdown(ctx); err != nil {
		return fmt.Errorf("listener %s: requests were cut off: %w", l.address, err)
	}
	return nil
}

func (l *listener) close() {
	if l.net != nil {
		l.net.Close()
	}
}

func (l *listener) reload() error {
	if l.tls == nil {
		return nil
	}
	if err := l.tls.load(); err != nil {
		return fmt.Errorf("listener %s keeps its certificate: %w", l.address, err)
	}
	return nil
}

// tlsFiles is the TLS side of a listener: TLS 1.3, with certificates that can
// be replaced while it serves.
type tlsFiles struct {
	cert, key, clientCA string
	own                 *ownCertificate // in place of cert and key, if not nil
	// asks: clients may show a certificate. TLS checks that they hold its key, and
	// nothing else of it.
	asks    bool
	current atomic.Pointer[tls.Config]
}

// load reads the files; on an error the ones before stay in use.
func (t *tlsFiles) load() error {
	c := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}
	if t.own != nil {
		c.GetCertificate = t.own.get
	} else {
		pair, err := tls.LoadX509KeyPair(t.cert, t.key)
		if err != nil {
			return fmt.Errorf("certificate %s with key %s: %w", t.cert, t.key, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if t.asks {
		c.ClientAuth = tls.RequestClientCert
	}
	if t.clientCA != "" {
		pem, err := os.ReadFile(t.clientCA)
		if err != nil {
			return fmt.Errorf("client CA: %w", err)
		}
		c.ClientCAs = x509.NewCertPool()
		if !c.ClientCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("client CA %s: no certificate in PEM in it", t.clientCA)
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	t.current.Store(c)
	return nil
}

// leaf is the certificate that clients are shown now.
func (t *tlsFiles) leaf() *x509.Certificate {
	if t.own != nil {
		return t.own.current.Load().Leaf
	}
	return t.current.Load().Certificates[0].Leaf
}

func (t *tlsFiles) config() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.current.Load(), nil },
	}
}
