package programs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

// compile builds a program of docs/guides/go-tls.md in a module of this
// repository, and returns the binary's path.
func compile(t *testing.T, path, module string) string {
	t.Helper()
	source := write(t, t.TempDir(), "main.go", strings.TrimPrefix(file(t, "go-tls.md", path), "// "+path+"\n"))
	if out, err := exec.Command("gofmt", "-l", source).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("gofmt would change %s: %v\n%s", path, err, out)
	}
	binary := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", "build", "-o", binary, source)
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", path, err, out)
	}
	return binary
}

var listening = regexp.MustCompile(`listening on (\S+)`)

// address waits until a program of the guide listens and returns where.
func (p *process) address(t *testing.T) string {
	t.Helper()
	p.wait(t, "it does not listen", func() bool { return listening.MatchString(p.out.String()) })
	return listening.FindStringSubmatch(p.out.String())[1]
}

// TestGoClient runs server and caller of docs/guides/go-tls.md with package
// client.
func TestGoClient(t *testing.T) {
	t.Parallel()
	server, caller := compile(t, "/src/server/main.go", "../.."), compile(t, "/src/caller/main.go", "../..")
	for name, start := range map[string]func(testing.TB) *claviger{"embedded": embedded, "softhsm2": onSoftHSM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			goClient(t, start(t), server, caller)
		})
	}
}

func goClient(t *testing.T, c *claviger, server, caller string) {
	p := &provider{dir: c.dir, cas: filepath.Join(c.dir, "ca.pem"), maker: c, claviger: c}
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			here, there := p.key(t, "www-"+kind, kind), p.key(t, "caller-"+kind, kind)
			env := func(name string) []string {
				token := c.policy(t, name, `path "transit/keys/`+name+`" { capabilities = ["read"] }
path "transit/sign/`+name+`" { capabilities = ["update"] }`)
				return environment("CLAVIGER_ADDR="+c.server.Addr, "CLAVIGER_TOKEN="+token)
			}
			running := start(t, env(here.name), server, here.name, here.cert, p.cas, "127.0.0.1:0")
			address := running.address(t)
			_, port, _ := strings.Cut(address, ":")
			out, err := run(t, env(there.name), "", caller, there.name, there.cert, p.cas, "https://localhost:"+port)
			if err != nil || !strings.HasPrefix(out, "hello ") {
				t.Errorf("%q, %v", out, err)
			}
			client, _, _ := p.peer(t, "peer-"+kind)
			d := &dialer{address: address, pool: p.pool(t), client: &client}
			d.serves(t, here, "hello ")
			d.client = nil
			if _, body, err := d.get(t.Context()); err == nil {
				t.Errorf("without a client certificate: %q", body)
			}
			worked(t, "Go, package client", here)
		})
	}
}

// TestGoPKCS11 runs the server of docs/guides/go-tls.md with crypto11 and the
// module.
func TestGoPKCS11(t *testing.T) {
	t.Parallel()
	harness.Binary(t) // build it before, or both compete
	program := compile(t, "/src/mtls/main.go", "../clients")
	source, err := os.ReadFile("../clients/mtls/main.go")
	if err != nil {
		t.Fatal(err)
	}
	if shown := strings.TrimPrefix(file(t, "go-tls.md", "/src/mtls/main.go"), "// /src/mtls/main.go\n"); !strings.HasSuffix(string(source), shown) {
		t.Error("the guide shows another program than test/clients/mtls/main.go")
	}
	each(t, func(t *testing.T, p *provider) {
		client, _, _ := p.peer(t, "caller")
		for _, kind := range kinds() {
			t.Run(kind, func(t *testing.T) {
				k := p.key(t, "www-"+kind, kind)
				running := start(t, p.environ("PIN="+p.pin), program, p.module, tokenLabel, k.name, p.cas, "127.0.0.1:0")
				d := &dialer{address: running.address(t), pool: p.pool(t), client: &client}
				d.serves(t, k, "hello ")
				d.client = nil
				if _, body, err := d.get(t.Context()); err == nil {
					t.Errorf("without a client certificate: %q", body)
				}
				worked(t, "Go, crypto11", k)
			})
		}
	})
}
