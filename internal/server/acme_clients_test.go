package server

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hooks serves what the hooks of clients ask for: texts in DNS and files on the
// web server.
func (e *acmeEnv) hooks() string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		switch r.URL.Path {
		case "/txt":
			name := strings.TrimSuffix(q.Get("name"), ".") + "."
			texts, _ := e.dns.Texts.LoadOrStore(name, []string(nil))
			e.dns.Texts.Store(name, append(texts.([]string), q.Get("value")))
		case "/file":
			e.files.Store("/.well-known/acme-challenge/"+q.Get("name"), q.Get("value"))
		}
	}))
	e.t.Cleanup(s.Close)
	return s.URL
}

// run runs a client and returns what it wrote.
func (e *acmeEnv) run(env []string, program string, args ...string) string {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.WaitDelay = e.t.TempDir(), time.Second
	cmd.Env = append(os.Environ(), append(env, "HOME="+cmd.Dir)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		e.t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (e *acmeEnv) script(text string) string {
	e.t.Helper()
	path := filepath.Join(e.t.TempDir(), "hook.sh")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		e.t.Fatal(err)
	}
	return path
}

// chainIn verifies the certificates in a file.
func (e *acmeEnv) chainIn(path string, names ...string) {
	e.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		e.t.Fatal(err)
	}
	var chain [][]byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		chain = append(chain, block.Bytes)
	}
	if len(chain) == 0 {
		e.t.Fatalf("%s holds no certificate", path)
	}
	e.verify(chain, names...)
}

func needProgram(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed; scripts/install-test-packages.sh does that", name)
	}
}

// TestCertbot registers with a binding, gets a certificate over HTTP, and after
// a restart a wildcard one over DNS; then it revokes.
func TestCertbot(t *testing.T) {
	needProgram(t, "certbot")
	t.Parallel()
	e := newACMEEnv(t, 0)
	e.set("pki/config/acme", map[string]any{"eab_policy": "always-required"})
	eab := e.set("pki/roles/web/acme/new-eab", nil)
	dir, url := t.TempDir(), e.hooks()
	common := []string{"--server", e.base + "pki/roles/web/acme/directory", "--config-dir", dir + "/c", "--work-dir", dir + "/w", "--logs-dir", dir + "/l", "--non-interactive"}
	certbot := func(args ...string) { e.run(nil, "certbot", append(args, common...)...) }
	certbot("register", "--agree-tos", "-m", "admin@example.com", "--eab-kid", eab["id"].(string), "--eab-hmac-key", eab["key"].(string))
	e.restart()
	file := e.script(`curl -sfG "` + url + `/file" --data-urlencode "name=$CERTBOT_TOKEN" --data-urlencode "value=$CERTBOT_VALIDATION"`)
	certbot("certonly", "--manual", "--preferred-challenges", "http", "--manual-auth-hook", file, "-d", "a.example.com", "-d", "b.example.com")
	e.chainIn(dir+"/c/live/a.example.com/fullchain.pem", "a.example.com", "b.example.com")
	e.restart()
	txt := e.script(`curl -sfG "` + url + `/txt" --data-urlencode "name=_acme-challenge.$CERTBOT_DOMAIN" --data-urlencode "value=$CERTBOT_VALIDATION"`)
	certbot("certonly", "--manual", "--preferred-challenges", "dns", "--manual-auth-hook", txt, "-d", "*.w.example.com", "-d", "x.w.example.com")
	e.chainIn(dir+"/c/live/w.example.com/fullchain.pem", "*.w.example.com", "x.w.example.com")
	certbot("revoke", "--cert-name", "a.example.com", "--reason", "superseded", "--no-delete-after-revoke")
	if status := do(t, e.current.Load(), "LIST", "pki/certs/revoked", e.init.RootToken, nil, nil); status != 200 {
		t.Errorf("nothing is revoked: status %d", status)
	}
}

// TestLego gets certificates by TLS and by DNS, renews and revokes.
func TestLego(t *testing.T) {
	needProgram(t, "lego")
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().(*net.TCPAddr)
	l.Close()
	e := newACMEEnv(t, address.Port)
	dir, url := t.TempDir(), e.hooks()
	hook := e.script(`[ "$1" = present ] && curl -sfG "` + url + `/txt" --data-urlencode "name=$2" --data-urlencode "value=$3"; exit 0`)
	common := []string{"--server", e.base + "pki/acme/directory", "--path", dir, "--email", "admin@example.com", "--accept-tos"}
	tls := append(common, "--tls", "--tls.port", address.String(), "-d", "tls.example.org")
	e.run(nil, "lego", append(tls, "run")...)
	e.chainIn(dir+"/certificates/tls.example.org.crt", "tls.example.org")
	e.restart()
	e.run([]string{"EXEC_PATH=" + hook, "EXEC_POLLING_INTERVAL=1"}, "lego",
		append(common, "--dns", "exec", "--dns.disable-cp", "--dns.resolvers", e.dns.Address, "-d", "*.lego.example.org", "run")...)
	e.chainIn(dir+"/certificates/_.lego.example.org.crt", "*.lego.example.org")
	e.run(nil, "lego", append(tls, "renew", "--days", "3650", "--no-random-sleep")...)
	e.run(nil, "lego", append(tls, "revoke")...)
}

// TestDehydrated gets a certificate with its hook, again after a restart, and
// revokes it.
func TestDehydrated(t *testing.T) {
	needProgram(t, "dehydrated")
	t.Parallel()
	e := newACMEEnv(t, 0)
	dir, url := t.TempDir(), e.hooks()
	hook := e.script(`if [ "$1" = deploy_challenge ]; then curl -sfG "` + url + `/file" --data-urlencode "name=$3" --data-urlencode "value=$4"; fi; exit 0`)
	conf := filepath.Join(dir, "config")
	text := fmt.Sprintf("CA=%q\nBASEDIR=%q\nWELLKNOWN=%q\nHOOK=%q\nCONTACT_EMAIL=admin@example.com\nKEY_ALGO=prime256v1\n", e.base+"pki/acme/directory", dir, dir, hook)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e.run(nil, "dehydrated", "-f", conf, "--register", "--accept-terms")
	for range 2 {
		e.restart()
		e.run(nil, "dehydrated", "-f", conf, "-c", "-x", "-d", "dehydrated.example.org")
		e.chainIn(dir+"/certs/dehydrated.example.org/fullchain.pem", "dehydrated.example.org")
	}
	e.run(nil, "dehydrated", "-f", conf, "--revoke", dir+"/certs/dehydrated.example.org/cert.pem")
}

// TestUacme gets a certificate with its hook, changes its key, gets another one
// after a restart, and revokes it.
func TestUacme(t *testing.T) {
	needProgram(t, "uacme")
	t.Parallel()
	e := newACMEEnv(t, 0)
	dir, url := t.TempDir(), e.hooks()
	hook := e.script(`[ "$2" = http-01 ] || exit 1; [ "$1" = begin ] && curl -sfG "` + url + `/file" --data-urlencode "name=$4" --data-urlencode "value=$5"; exit 0`)
	uacme := func(args ...string) {
		e.run(nil, "uacme", append([]string{"-a", e.base + "pki/acme/directory", "-c", dir, "-v", "-y", "-h", hook, "-t", "EC"}, args...)...)
	}
	uacme("new", "admin@example.com")
	uacme("issue", "uacme.example.org")
	e.restart()
	uacme("newkey")
	uacme("-f", "issue", "uacme.example.org")
	e.chainIn(dir+"/uacme.example.org/cert.pem", "uacme.example.org")
	uacme("revoke", dir+"/uacme.example.org/cert.pem")
	uacme("deactivate")
}
