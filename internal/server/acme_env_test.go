package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
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
	dns     *testDNS
	files   sync.Map // path of the client's web server to its content
	web     string   // host:port
}

// newACMEEnv starts all that, with the default directory and one for the role
// web. Ports of 0 stand for ports of the environment's own.
func newACMEEnv(t *testing.T, tlsPort int) *acmeEnv {
	t.Helper()
	e := &acmeEnv{t: t, dir: t.TempDir(), dns: newTestDNS(t)}
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
	t.Cleanup(func() { e.stop() })
	if status := do(t, e.current.Load(), "PUT", "sys/init", "", api.Init{SecretShares: 1, SecretThreshold: 1}, &e.init); status != 200 {
		t.Fatalf("init: status %d", status)
	}
	unseal(t, e.current.Load(), e.init.Keys)
	_, webPort, _ := net.SplitHostPort(e.web)
	e.set("sys/mounts/pki", map[string]any{"type": "pki"})
	e.set("pki/root/generate/internal", map[string]any{"common_name": "Test root", "key_type": "ec", "issuer_name": "root"})
	e.set("pki/roles/web", map[string]any{"allowed_domains": "example.com", "allow_subdomains": true, "key_type": "any", "ttl": "720h"})
	e.set("pki/config/cluster", map[string]any{"path": e.base + "pki"})
	e.set("pki/config/acme", map[string]any{"enabled": true, "dns_resolver": e.dns.address, "allowed_networks": []string{"127.0.0.0/8"},
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

// testDNS is a name server: every name has the address 127.0.0.1 unless it
// begins with "private" or "none", and the texts that were set.
type testDNS struct {
	address string
	texts   sync.Map // name with its final dot to []string
}

func newTestDNS(t *testing.T) *testDNS {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	d := &testDNS{address: conn.LocalAddr().String()}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := d.answer(buf[:n]); answer != nil {
				conn.WriteTo(answer, from)
			}
		}
	}()
	return d
}

func (d *testDNS) answer(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	name := strings.ToLower(q.Name.String())
	out := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionAvailable: true}, Questions: m.Questions}
	h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
	switch q.Type {
	case dnsmessage.TypeA:
		address := [4]byte{127, 0, 0, 1}
		if strings.HasPrefix(name, "private") {
			address = [4]byte{10, 0, 0, 1}
		}
		if !strings.HasPrefix(name, "none") {
			out.Answers = append(out.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: address}})
		}
	case dnsmessage.TypeTXT:
		if texts, ok := d.texts.Load(name); ok {
			for _, text := range texts.([]string) {
				out.Answers = append(out.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.TXTResource{TXT: []string{text}}})
			}
		}
	}
	if strings.HasPrefix(name, "none") {
		out.RCode = dnsmessage.RCodeNameError
	}
	packed, err := out.Pack()
	if err != nil {
		return nil
	}
	return packed
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
