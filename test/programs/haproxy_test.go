package programs

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestHAProxy serves mutual TLS by stunnel in front of HAProxy, as
// docs/guides/haproxy.md says, and checks why it says so.
func TestHAProxy(t *testing.T) {
	t.Parallel()
	engine(t)
	program := need(t, "haproxy", "haproxy")
	stunnel := need(t, "stunnel4", "stunnel4")
	if out := mustRun(t, environment(), program, "-vv"); !strings.Contains(out, " -ENGINE ") {
		t.Errorf("the guide says that HAProxy is built without engines:\n%s", out)
	}
	each(t, func(t *testing.T, p *provider) {
		client, _, _ := p.peer(t, "caller")
		service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, "hello", r.Header.Get("X-Forwarded-For"))
		}))
		t.Cleanup(service.Close)
		for _, kind := range kinds() {
			t.Run(kind, func(t *testing.T) {
				k := p.key(t, "www-"+kind, kind)
				dir, address := t.TempDir(), free(t)
				socket := shortSocket(t)
				config := write(t, dir, "haproxy.cfg", replace(t, file(t, "haproxy.md", "/etc/haproxy/haproxy.cfg"),
					"/run/haproxy/www.sock", socket, "10.0.0.11:8080 check", service.Listener.Addr().String()))
				balancer := start(t, environment(), program, "-db", "-f", config)
				balancer.wait(t, "it does not listen", func() bool { return listens(socket) })
				config = write(t, dir, "stunnel.conf", replace(t, file(t, "haproxy.md", "/etc/stunnel/www.conf"),
					"0.0.0.0:443", address, "/run/haproxy/www.sock", socket, modulePath, p.module, "/etc/stunnel/www.pem", k.cert,
					"/etc/stunnel/ca.pem", p.cas, "pkcs11:token=claviger;object=www;type=private", k.uri))
				front := start(t, p.environ(), stunnel, config)
				front.wait(t, "it does not listen", func() bool { return listens(address) })
				d := &dialer{address: address, pool: p.pool(t), client: &client}
				d.serves(t, k, "hello 127.0.0.1")
				// It closes its socket and opens another one.
				before := listener(t, address)
				if err := syscall.Kill(front.Process.Pid, syscall.SIGHUP); err != nil {
					t.Fatal(err)
				}
				front.wait(t, "it is not loaded again", func() bool {
					now := listener(t, address)
					return now != before && now != ""
				})
				d.serves(t, k, "hello 127.0.0.1")
				d.client = nil
				if _, body, err := d.get(t.Context()); err == nil {
					t.Errorf("without a client certificate: %q", body)
				}
				worked(t, "haproxy behind stunnel", k)
			})
		}
	})
}

// listener is the inode of the socket that listens at an address of IPv4, "" if
// there is none (proc(5), /proc/net/tcp).
func listener(t testing.TB, address string) string {
	t.Helper()
	at := netip.MustParseAddrPort(address)
	for line := range strings.Lines(string(read(t, "/proc/net/tcp"))) {
		f := strings.Fields(line)
		if len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", at.Port())) {
			return f[9]
		}
	}
	return ""
}

// shortSocket returns a path for a socket; names of tests make paths longer than
// sockets may have.
func shortSocket(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "claviger-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	return path
}
