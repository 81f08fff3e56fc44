package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/pki/acme/dnstest"
)

// acmeEnv is a server with an ACME server, behind an address that stays the same
// when it is restarted, and the names, web server and TLS server of its clients.
type acmeEnv struct {
	t       *testing.T
	dir     string
	base    string // http://…/v1/
	init    api.InitResult
	current atomic.Pointer[Server]
	stop    func()
	dns     *dnstest.Server
	files   sync.Map // path of the client's web server to its content
	web     string   // host:port
}

// newACMEEnv starts all that, with the default directory and one for the role
// web. Ports of 0 stand for ports of the environment's own.
func newACMEEnv(t *testing.T, tlsPort int) *acmeEnv {
	t.Helper()
	e := &acmeEnv{t: t, dir: t.TempDir(), dns: dnstest.New(t)}
	e.dns.Set(acmeAddresses)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := e.current.Load()
		if s == nil {
			http.Error(w, "restarting", http.StatusServiceUnavailable)
			return
		}
		s.handler.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	web := httptest.NewServer(http.HandlerFunc(e.serveFile))
	t.Cleanup(web.Close)
	e.base, e.web = front.URL+"/v1/", web.Listener.Addr().String()
	e.start()
	t.Cleanup(func() {
		lintAuthorities(t, e.current.Load(), e.init.RootToken)
		e.stop()
	})
	if status := do(t, e.current.Load(), "PUT", "sys/init", "", api.Init{SecretShares: 1, SecretThreshold: 1}, &e.init); status != 200 {
		t.Fatalf("init: status %d", status)
	}
	unseal(t, e.current.Load(), e.init.Keys)
	_, webPort, _ := net.SplitHostPort(e.web)
	e.set("sys/mounts/pki", map[string]any{"type": "pki"})
	e.set("pki/root/generate/internal", map[string]any{"common_name": "Test root", "key_type": "ec", "issuer_name": "root"})
	e.set("pki/roles/web", map[string]any{"allowed_domains": "example.com", "allow_subdomains": true, "key_type": "any", "ttl": "720h"})
	e.set("pki/config/cluster", map[string]any{"path": e.base + "pki"})
	e.set("pki/config/acme", map[string]any{"enabled": true, "dns_resolver": e.dns.Address, "allowed_networks": []string{"127.0.0.0/8"},
		"http_port": webPort, "tls_port": max(tlsPort, 1)})
	return e
}

func (e *acmeEnv) serveFile(w http.ResponseWriter, r *http.Request) {
	if text, ok := e.files.Load(r.URL.Path); ok {
		io.WriteString(w, text.(string))
		return
	}
	http.NotFound(w, r)
}

// start starts the server; restart ends it before and unseals it afterwards.
func (e *acmeEnv) start() {
	e.t.Helper()
	cfg := config.Dev(e.dir)
	cfg.Listeners[0].Address = "127.0.0.1:0"
	s, err := New(cfg, Options{Version: "0.1.0"})
	if err != nil {
		e.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	e.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			e.t.Error(err)
		}
		ended <- nil
	}
	e.current.Store(s)
}

func (e *acmeEnv) restart() {
	e.t.Helper()
	e.current.Store(nil)
	e.stop()
	e.start()
	unseal(e.t, e.current.Load(), e.init.Keys)
}

// set writes to the API and must succeed.
func (e *acmeEnv) set(path string, body any) map[string]any {
	e.t.Helper()
	var text string
	if status := do(e.t, e.current.Load(), "POST", path, e.init.RootToken, body, &text); status >= 300 {
		e.t.Fatalf("%s: status %d: %s", path, status, text)
	}
	var a struct{ Data map[string]any }
	if text != "" {
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			e.t.Fatal(err)
		}
	}
	return a.Data
}

// acmeAddresses: names lead to 127.0.0.1; those that begin with "private" to a
// private network, those that begin with "none" are not there.
func acmeAddresses(name string, ipv6 bool) []netip.Addr {
	switch {
	case strings.HasPrefix(name, "none"):
		return nil
	case strings.HasPrefix(name, "private") && !ipv6:
		return []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	}
	return dnstest.Loopback(name, ipv6)
}

// rawPost sends a body to an ACME resource.
func (e *acmeEnv) rawPost(url, contentType string, body []byte) (*http.Response, string) {
	e.t.Helper()
	resp, err := http.Post(url, contentType, bytes.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return resp, string(text)
}
