package programs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/test/harness"
)

// nginx is an nginx with a master process and workers, in the background.
type nginx struct {
	address string
	config  string
	pid     int // of the master
	log     string
}

// startNginx starts nginx with the configuration of docs/guides/nginx.md, for a
// key, with further replacements of text in it.
func startNginx(t testing.TB, k *key, pairs ...string) *nginx {
	t.Helper()
	engine(t)
	program := need(t, "nginx", "nginx-light")
	p, dir := k.provider, t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	n := &nginx{address: free(t), log: filepath.Join(dir, "error.log")}
	temp := fmt.Sprintf("http {\n    client_body_temp_path %[1]s/body;\n    proxy_temp_path %[1]s/proxy;\n    fastcgi_temp_path %[1]s/fastcgi;\n    uwsgi_temp_path %[1]s/uwsgi;\n    scgi_temp_path %[1]s/scgi;\n", dir)
	pairs = append(pairs,
		"/run/nginx.pid", dir+"/pid", "/var/log/nginx", dir, "http {\n", temp, "listen 443", "listen "+n.address,
		"/etc/nginx/www.pem", k.cert, "/etc/nginx/ca.pem", p.cas, "pkcs11:token=claviger;object=www;type=private", k.uri)
	text := replace(t, file(t, "nginx.md", "/etc/nginx/nginx.conf"), pairs...)
	// What nginx's workers need of the environment.
	for _, e := range p.env {
		name, _, _ := strings.Cut(e, "=")
		text = "env " + name + ";\n" + text
	}
	if p.direct() {
		// SoftHSM2's files belong to who made them.
		text = replace(t, text, "user www-data;", "user root;")
	}
	n.config = write(t, dir, "nginx.conf", text)
	unit := replace(t, file(t, "nginx.md", "/etc/systemd/system/nginx.service.d/claviger.conf"), "/etc/claviger/openssl.cnf", opensslConf(t, p, dir))
	_, environment, _ := strings.Cut(strings.TrimSpace(unit), "Environment=")
	if out, err := run(t, p.environ(environment), "", program, "-c", n.config, "-e", n.log); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, n.errors())
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("nginx printed:\n%s", n.errors())
		}
	})
	t.Cleanup(func() { n.stop(t) })
	for end := time.Now().Add(10 * time.Second); n.pid == 0; time.Sleep(10 * time.Millisecond) {
		b, _ := os.ReadFile(filepath.Join(dir, "pid"))
		n.pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		if time.Now().After(end) {
			t.Fatalf("nginx did not write its pid\n%s", n.errors())
		}
	}
	return n
}

func (n *nginx) errors() string {
	b, _ := os.ReadFile(n.log)
	return string(b)
}

// reload makes the master start new workers with the configuration as it is now.
func (n *nginx) reload(t testing.TB) {
	t.Helper()
	if err := syscall.Kill(n.pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// reloaded reloads, waits until all of its four workers are new, and returns them.
func (n *nginx) reloaded(t testing.TB) []int {
	t.Helper()
	old := n.settle(t, 4, nil)
	n.reload(t)
	return n.settle(t, 4, old)
}

// settle waits until there are only so many workers, none of the old ones.
func (n *nginx) settle(t testing.TB, workers int, old []int) []int {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		now := children(n.pid)
		if len(now) == workers && !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(old, pid) }) {
			return now
		}
		if time.Now().After(end) {
			t.Fatalf("nginx has the workers %v, before %v\n%s", now, old, n.errors())
		}
	}
}

// stop ends the master and its workers.
func (n *nginx) stop(t testing.TB) {
	workers := children(n.pid)
	syscall.Kill(n.pid, syscall.SIGTERM)
	for end := time.Now().Add(10 * time.Second); alive(n.pid); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("nginx does not end; its workers are %v", workers)
			for _, pid := range append(workers, n.pid) {
				syscall.Kill(pid, syscall.SIGKILL)
			}
			return
		}
	}
}

// TestNginx serves mutual TLS with four workers and as a client of a service
// behind it, as docs/guides/nginx.md says.
func TestNginx(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p *provider) {
		backend, _, _ := p.peer(t, "backend.example.com")
		behind := serve(t, backend, p.pool(t))
		client, _, _ := p.peer(t, "caller")
		for _, kind := range kinds() {
			t.Run(kind, func(t *testing.T) {
				k := p.key(t, "www-"+kind, kind)
				n := startNginx(t, k, "https://backend.example.com:8443", "https://"+behind)
				d := &dialer{address: n.address, pool: p.pool(t), client: &client}
				d.serves(t, k, "hello CN=")
				if strings.HasPrefix(kind, "rsa") && d.withoutSecrecy(t) {
					t.Error("the guide says that there is no TLS without forward secrecy")
				}
				d.path = "/behind/"
				if _, body, err := d.get(t.Context()); err != nil || !strings.Contains(body, "hello "+k.name) {
					t.Errorf("the service behind: %q, %v", body, err)
				}
				d.path = "/"
				n.reloaded(t)
				d.serves(t, k, "hello CN=")
				d.client = nil
				if _, body, err := d.get(t.Context()); err == nil || !strings.Contains(err.Error(), "400") {
					t.Errorf("without a client certificate: %q, %v", body, err)
				}
				worked(t, "nginx", k)
			})
		}
	})
}

// TestNginxKey makes key, certificate and client token as docs/guides/nginx.md
// says; nginx needs no more than these.
func TestNginxKey(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "openssl")
	c, dir := embedded(t), t.TempDir()
	write(t, dir, "www.hcl", file(t, "nginx.md", "/etc/claviger/www.hcl"))
	env := environment("CLAVIGER_ADDR="+c.server.Addr, "CLAVIGER_TOKEN="+c.server.RootToken, "PATH="+filepath.Dir(harness.Binary(t))+":"+os.Getenv("PATH"))
	out, err := run(t, env, "", "sh", "-c", "set -eu\ncd "+dir+"\n"+commands(t, "nginx.md", "claviger key create"))
	if err != nil {
		t.Fatal(err)
	}
	token := regexp.MustCompile(`(?m)^Token +(\S+)$`).FindStringSubmatch(out)
	if token == nil {
		t.Fatalf("no client token was made:\n%s", out)
	}
	cert := filepath.Join(dir, "www.pem")
	mustRun(t, env, "openssl", "verify", "-CAfile", filepath.Join(c.dir, "ca.pem"), "-verify_hostname", "www.example.com", cert)

	p := withToken(t, c, c.overTLS(), nil, token[1])
	k := &key{provider: p, name: "www", kind: "ecdsa-p256", cert: cert, public: publicKey(t, p, "www", 1), uri: "pkcs11:token=claviger;object=www;type=private"}
	n := startNginx(t, k, "https://backend.example.com:8443", "https://127.0.0.1:1")
	caller, _, _ := p.peer(t, "caller")
	dialer{address: n.address, pool: p.pool(t), client: &caller, name: "www.example.com"}.serves(t, k, "hello CN=caller")
}

// TestNginxRotation rotates the key below a running nginx, gives it the new
// certificate, and deletes the key, as docs/guides/nginx.md says.
func TestNginxRotation(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, p *provider) {
		c := p.claviger
		k := p.key(t, "www", "ecdsa-p256")
		n := startNginx(t, k, "https://backend.example.com:8443", "https://127.0.0.1:1")
		caller, _, _ := p.peer(t, "caller")
		d := &dialer{address: n.address, pool: p.pool(t), client: &caller}
		d.serves(t, k, "hello")
		if _, err := c.root.RotateKey(t.Context(), k.name); err != nil {
			t.Fatal(err)
		}
		d.serves(t, k, "hello")

		signer, err := c.root.Signer(t.Context(), k.name, 2)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(k.cert, c.certify(t, request(t, k.name, signer)), 0o644); err != nil {
			t.Fatal(err)
		}
		second := *k
		second.public = signer.Public()
		n.reloaded(t)
		d.serves(t, &second, "hello")

		yes := true
		if _, err := c.root.ConfigKey(t.Context(), api.ConfigKey{Name: k.name, DeletionAllowed: &yes}); err != nil {
			t.Fatal(err)
		}
		if err := c.root.DeleteKey(t.Context(), k.name); err != nil {
			t.Fatal(err)
		}
		if _, body, err := d.get(t.Context()); err == nil || !strings.Contains(err.Error(), "internal error") {
			t.Errorf("with a key that is gone: %q, %v", body, err)
		}
	})
}
