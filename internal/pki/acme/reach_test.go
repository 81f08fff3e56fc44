package acme

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/pki/acme/dnstest"
)

// reach is a validator that may connect to 127.0.0.1 only, a web server there,
// and at the same port of 127.0.0.2 a service that nobody may reach.
type reach struct {
	*Validator
	dns     *dnstest.Server
	web     atomic.Pointer[http.HandlerFunc]
	port    int
	knocked atomic.Int32 // connections to 127.0.0.2
}

const keyAuthorization = "token.thumbprint"

func newReach(t *testing.T) *reach {
	t.Helper()
	r := &reach{dns: dnstest.New(t)}
	inner, outer := twoListeners(t)
	t.Cleanup(func() { inner.Close() })
	go func() {
		for {
			conn, err := inner.Accept()
			if err != nil {
				return
			}
			r.knocked.Add(1)
			conn.Close()
		}
	}()
	r.port = inner.Addr().(*net.TCPAddr).Port
	s := &httptest.Server{Listener: outer, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { (*r.web.Load())(w, req) })}}
	s.Start()
	t.Cleanup(s.Close)
	r.serve(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, keyAuthorization) })
	r.Validator = &Validator{Resolver: r.dns.Address, Networks: networks("127.0.0.1/32"), HTTPPort: r.port, TLSPort: r.port}
	return r
}

// twoListeners listens at one port of 127.0.0.2 and of 127.0.0.1. Another program may
// have the port of the latter; then it tries others.
func twoListeners(t *testing.T) (inner, outer net.Listener) {
	t.Helper()
	for range 20 {
		inner, err := net.Listen("tcp", "127.0.0.2:0")
		if err != nil {
			t.Fatal(err)
		}
		outer, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", inner.Addr().(*net.TCPAddr).Port))
		if err == nil {
			return inner, outer
		}
		inner.Close()
	}
	t.Fatal("no port is free on both addresses")
	return nil, nil
}

func (r *reach) serve(f http.HandlerFunc) { r.web.Store(&f) }

// names gives names addresses; others lead to 127.0.0.1.
func (r *reach) names(of map[string]string) {
	r.dns.Set(func(name string, ipv6 bool) []netip.Addr {
		text, ok := of[strings.TrimSuffix(name, ".")]
		if !ok {
			return dnstest.Loopback(name, ipv6)
		}
		list := []netip.Addr{}
		for _, one := range strings.Fields(text) {
			if a := netip.MustParseAddr(one); a.Is6() == ipv6 {
				list = append(list, a)
			}
		}
		return list
	})
}

func (r *reach) once(t *testing.T, kind, name string) *fault.Error {
	t.Helper()
	return r.attempt(t.Context(), kind, &Subject{Name: name, Token: "token", KeyAuthorization: keyAuthorization})
}

func kindOf(e *fault.Error) string {
	if e == nil {
		return ""
	}
	return strings.TrimPrefix(Problem(e).Type, typePrefix)
}

// insideAddresses are addresses that validation must never connect to.
var insideAddresses = []string{
	"127.0.0.2", "127.255.255.254", "0.0.0.0", "10.1.2.3", "172.31.255.255", "192.168.1.1", "100.64.0.1",
	"169.254.1.1", "169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "255.255.255.255", "224.0.0.1",
	"::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.2", "::ffff:10.1.2.3", "::ffff:169.254.169.254",
	"::7f00:2", "64:ff9b::7f00:2", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:2", "2002:7f00:2::1", "2001:0:7f00:2::1",
}

// TestValidationStaysOutside: a name that leads inside is refused by http-01 and
// by tls-alpn-01, at once, and the refusal does not tell the address.
func TestValidationStaysOutside(t *testing.T) {
	t.Parallel()
	r := newReach(t)
	of := map[string]string{}
	for i, a := range insideAddresses {
		of[fmt.Sprintf("n%d.test", i)] = a
	}
	r.names(of)
	if err := r.once(t, HTTP01, "ok.test"); err != nil {
		t.Fatalf("what is allowed: %v", err)
	}
	for name, a := range of {
		for _, kind := range []string{HTTP01, TLSALPN01} {
			ctx, cancel := context.WithTimeout(t.Context(), pause)
			err := r.Validate(ctx, kind, &Subject{Name: name, Token: "token", KeyAuthorization: keyAuthorization})
			cancel()
			if kindOf(err) != RejectedIdentifier || strings.Contains(err.Msg, a) {
				t.Errorf("%s, %s: %v", a, kind, err)
			}
		}
	}
	for _, a := range []string{"127.0.0.2", "::ffff:127.0.0.2"} {
		if err := r.once(t, HTTP01, a); kindOf(err) != RejectedIdentifier {
			t.Errorf("the address %s itself: %v", a, err)
		}
	}
	if n := r.knocked.Load(); n != 0 {
		t.Errorf("%d connections to what is inside", n)
	}
}

// TestRedirectsStayOutside: a redirect is followed to other paths and names, but
// not inside, nor to another port, nor with another protocol, nor for ever.
func TestRedirectsStayOutside(t *testing.T) {
	t.Parallel()
	r := newReach(t)
	r.names(map[string]string{"inner.test": "127.0.0.2", "mapped.test": "::ffff:127.0.0.2", "nat64.test": "64:ff9b::7f00:2", "2130706434": "127.0.0.2", "0x7f000002": "127.0.0.2"})
	var location string
	r.serve(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/end" {
			io.WriteString(w, keyAuthorization)
			return
		}
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusFound)
	})
	port := strconv.Itoa(r.port)
	for _, row := range []struct{ location, want string }{ // a want after a slash is in the text
		{"/end", ""},
		{"http://other.test:" + port + "/end", ""},
		{"http://127.0.0.2:" + port + "/", RejectedIdentifier},
		{"//127.0.0.2:" + port + "/", RejectedIdentifier},
		{"https://127.0.0.2:" + port + "/", RejectedIdentifier},
		{"http://127.0.0.1:" + port + "@127.0.0.2:" + port + "/", RejectedIdentifier},
		{"http://[::ffff:127.0.0.2]:" + port + "/", RejectedIdentifier},
		{"http://[::ffff:7f00:2]:" + port + "/", RejectedIdentifier},
		{"http://inner.test:" + port + "/", RejectedIdentifier},
		{"http://mapped.test:" + port + "/", RejectedIdentifier},
		{"http://nat64.test:" + port + "/", RejectedIdentifier},
		{"http://2130706434:" + port + "/", DNS}, // no name,
		{"http://0x7f000002:" + port + "/", RejectedIdentifier},
		{"http://169.254.169.254/latest/meta-data/", RejectedIdentifier},
		{"http://[fd00:ec2::254]/latest/meta-data/", RejectedIdentifier},
		{"http://ok.test:22/", Connection + "/another port"},
		{"http://127.0.0.1:6379/", Connection + "/another port"},
		{"https://ok.test:8443/", Connection + "/another port"},
		{"ftp://ok.test/", Connection + "/neither http nor https"},
		{"gopher://ok.test:70/", Connection + "/neither http nor https"},
		{"file:///etc/passwd", Connection + "/neither http nor https"},
		{"/again", Connection + "/more than 10 redirects"}, // for ever
	} {
		location = row.location
		err := r.once(t, HTTP01, "ok.test")
		want, text, _ := strings.Cut(row.want, "/")
		if kindOf(err) != want || text != "" && !strings.Contains(err.Msg, text) {
			t.Errorf("%s: %v, want %q", location, err, row.want)
		}
	}
	if n := r.knocked.Load(); n != 0 {
		t.Errorf("%d connections to what is inside", n)
	}
}

// TestRebinding: the address that was checked is the one that is connected to,
// whatever the name server says a moment later, and of several only the allowed.
func TestRebinding(t *testing.T) {
	t.Parallel()
	r := newReach(t)
	var asked atomic.Int32
	r.dns.Set(func(name string, ipv6 bool) []netip.Addr {
		outside, inside := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
		switch {
		case ipv6:
			return []netip.Addr{}
		case name == "both.test.":
			return []netip.Addr{inside, outside}
		case asked.Add(1) == 1:
			return []netip.Addr{outside}
		}
		return []netip.Addr{inside}
	})
	if err := r.once(t, HTTP01, "flips.test"); err != nil || asked.Load() != 1 {
		t.Errorf("%v after %d questions", err, asked.Load())
	}
	if err := r.once(t, HTTP01, "both.test"); err != nil {
		t.Errorf("one allowed address of two: %v", err)
	}
	asked.Store(0)
	r.serve(func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, req.URL.Path, http.StatusFound) })
	if err := r.once(t, HTTP01, "flips.test"); kindOf(err) != RejectedIdentifier {
		t.Errorf("a redirect to the name, which leads inside by then: %v", err)
	}
	if n := r.knocked.Load(); n != 0 {
		t.Errorf("%d connections to what is inside", n)
	}
}

// TestValidationReadsLittle: an endless body or header costs little.
func TestValidationReadsLittle(t *testing.T) {
	t.Parallel()
	r := newReach(t)
	for name, row := range map[string]struct {
		begin, want string
	}{
		"body":   {"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", IncorrectResponse},
		"header": {"HTTP/1.1 200 OK\r\nX: ", Connection},
	} {
		sent := make(chan int, 1)
		r.serve(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				sent <- -1
				return
			}
			defer conn.Close()
			io.WriteString(conn, row.begin)
			junk, n := []byte(strings.Repeat("x", 64<<10)), 0
			for n < 64<<20 {
				m, err := conn.Write(junk)
				if n += m; err != nil {
					break
				}
			}
			sent <- n
		})
		if err := r.once(t, HTTP01, "ok.test"); kindOf(err) != row.want {
			t.Errorf("%s: %v", name, err)
		}
		if n := <-sent; n < 0 || n > 16<<20 { // what the buffers of the system hold
			t.Errorf("%s: %d bytes were taken", name, n)
		}
	}
}

// TestValidationEnds: who answers slowly or never holds a validation for no
// longer than its time.
func TestValidationEnds(t *testing.T) {
	t.Parallel()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for name, kind := range map[string]string{"slow body": HTTP01, "no handshake": TLSALPN01, "no answer": HTTP01, "silent name server": DNS01} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReach(t)
			r.serve(func(w http.ResponseWriter, req *http.Request) {
				for name == "no answer" && req.Context().Err() == nil {
					time.Sleep(10 * time.Millisecond)
				}
				for req.Context().Err() == nil {
					io.WriteString(w, "x")
					w.(http.Flusher).Flush()
					time.Sleep(100 * time.Millisecond)
				}
			})
			if kind == TLSALPN01 {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { l.Close() })
				r.TLSPort = l.Addr().(*net.TCPAddr).Port
			}
			if kind == DNS01 {
				r.Resolver = silent.LocalAddr().String()
			}
			began := time.Now()
			s := &Subject{Name: "ok.test", Token: "token", KeyAuthorization: strings.Repeat("k", 4096)}
			if err := r.attempt(t.Context(), kind, s); err == nil || time.Since(began) > attemptTimeout+3*time.Second {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		})
	}
}
