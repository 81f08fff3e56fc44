package programs

import (
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/test/harness"
)

// claviger is a server with an authority, the mount transit, and an agent.
type claviger struct {
	server *harness.Server
	root   *client.Client
	dir    string
	socket string // of the server, for the module
	https  string // the listener with TLS, and its certificate's file
	cert   string
	agent  *agent // nil where programs reach the server's own socket
}

// agent is a running claviger agent.
type agent struct {
	*process
	config, socket string
	network        *network // where it runs, if that is not here
}

// embedded starts a server on the embedded token.
func embedded(t testing.TB) *claviger {
	t.Helper()
	return launch(t, harness.Embedded)
}

// onSoftHSM starts a server on a new SoftHSM2 token.
func onSoftHSM(t testing.TB) *claviger {
	t.Helper()
	return launch(t, harness.SoftHSM)
}

// launch starts a server that listens at the same addresses after each restart,
// with and without TLS, and at a socket for the module.
func launch(t testing.TB, start func(testing.TB, harness.Options) *harness.Server) *claviger {
	t.Helper()
	socket, https, dir := shortSocket(t), free(t), t.TempDir()
	cert, key := selfSigned(t, dir)
	c := prepare(t, start(t, harness.Options{Address: free(t), Sections: fmt.Sprintf(`[[listener]]
address = %q
tls_cert = %q
tls_key = %q
[front.pkcs11]
enabled = true
address = "unix:%s"
mode = "0666"
`, https, cert, key, socket)}))
	c.socket, c.https, c.cert = socket, "https://"+https, cert
	return c
}

// selfSigned makes a certificate for a listener and its key.
func selfSigned(t testing.TB, dir string) (cert, key string) {
	t.Helper()
	cert, key = filepath.Join(dir, "listener.pem"), filepath.Join(dir, "listener.key")
	mustRun(t, environment(), need(t, "openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1", "-keyout", key, "-out", cert)
	return cert, key
}

// prepare mounts the engines and makes an authority.
func prepare(t testing.TB, s *harness.Server) *claviger {
	t.Helper()
	root, err := client.New(client.Config{Address: s.Addr, Token: s.RootToken, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	c := &claviger{server: s, root: root, dir: t.TempDir()}
	_, body := s.Do(t, "GET", "sys/mounts", nil)
	if mounts, _ := body["data"].(map[string]any); mounts["transit/"] == nil {
		s.OK(t, "POST", "sys/mounts/transit", map[string]any{"type": "transit"})
	}
	s.OK(t, "POST", "sys/mounts/pki", map[string]any{"type": "pki"})
	ca := s.OK(t, "POST", "pki/root/generate/internal", map[string]any{"common_name": "Test CA", "key_type": "ec", "ttl": "24h", "issuer_name": "root"})
	s.OK(t, "POST", "pki/roles/services", map[string]any{
		"allow_any_name": true, "key_type": "any", "max_ttl": "12h", "server_flag": true, "client_flag": true,
		"code_signing_flag": true, "email_protection_flag": true, "key_usage": []string{"DigitalSignature", "KeyEncipherment"},
	})
	if err := os.WriteFile(filepath.Join(c.dir, "ca.pem"), []byte(ca["certificate"].(string)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return c
}

// restart starts the server again after it was stopped or killed.
func (c *claviger) restart(t testing.TB) {
	t.Helper()
	c.server.Start(t)
	c.server.Unseal(t, c.server.Shares...)
}

func (c *claviger) certify(t testing.TB, request []byte) []byte {
	t.Helper()
	data := c.server.OK(t, "POST", "pki/sign/services", map[string]any{"csr": string(request), "ttl": "6h", "common_name": "localhost"})
	return []byte(data["certificate"].(string) + "\n" + data["issuing_ca"].(string) + "\n")
}

// generate makes a named key and keeps its certificate beside it.
func (c *claviger) generate(t testing.TB, name, kind string) ([]byte, crypto.PublicKey, []byte) {
	t.Helper()
	if _, err := c.root.CreateKey(t.Context(), api.CreateKey{Name: name, Type: kind}); err != nil {
		t.Fatal(err)
	}
	signer, err := c.root.Signer(t.Context(), name, 1)
	if err != nil {
		t.Fatal(err)
	}
	chain := c.certify(t, request(t, name, signer))
	if err := c.root.SetCertificate(t.Context(), api.SetCertificate{Name: name, CertificateChain: string(chain)}); err != nil {
		t.Fatal(err)
	}
	return publicID(t, signer.Public()), signer.Public(), chain
}

// policy writes a policy and returns a client token that has it.
func (c *claviger) policy(t testing.TB, name, text string) string {
	t.Helper()
	if err := c.root.WritePolicy(t.Context(), api.WritePolicy{Name: name, Policy: text}); err != nil {
		t.Fatal(err)
	}
	auth, err := c.root.CreateToken(t.Context(), api.CreateToken{Policies: []string{name}})
	if err != nil {
		t.Fatal(err)
	}
	return auth.ClientToken
}

// startAgent starts the agent, again if it ended.
func (c *claviger) startAgent(t testing.TB) {
	t.Helper()
	line := []string{harness.Binary(t), "agent", "--config", c.agent.config}
	if c.agent.network != nil {
		line = c.agent.network.inside(line...)
	}
	c.agent.process = start(t, environment(), line[0], line[1:]...)
	c.agent.wait(t, "the agent does not listen", func() bool { return listens(c.agent.socket) })
}

// ways to a server, by which programs reach it through the module. The first
// is taken in every run.
var ways = []way{
	{"agent", func(t testing.TB) *provider { return byAgent(t, embedded(t)) }},
	{"agent-softhsm2", func(t testing.TB) *provider { return byAgent(t, onSoftHSM(t)) }},
	{"socket", func(t testing.TB) *provider { return bySocket(t, embedded(t)) }},
	{"socket-softhsm2", func(t testing.TB) *provider { return bySocket(t, onSoftHSM(t)) }},
}

// loginWays are ways to a server by which the application shows its own client
// token.
var loginWays = ways[2:4]

type way struct {
	name  string
	start func(t testing.TB) *provider
}

// eachWay runs a test over the ways to the server that this run knows.
func eachWay(t *testing.T, test func(t *testing.T, p *provider)) {
	for i, way := range ways {
		if i > 0 && !full {
			break
		}
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			test(t, way.start(t))
		})
	}
}

// bySocket is the way through the server's own socket, with a client token as PIN.
func bySocket(t testing.TB, c *claviger) *provider {
	t.Helper()
	return &provider{
		name: "socket", module: module(t), env: []string{"CLAVIGER_PKCS11_SOCKET=" + c.socket}, pin: c.policy(t, "programs", keyPolicy),
		dir: c.dir, cas: filepath.Join(c.dir, "ca.pem"), maker: c, claviger: c,
	}
}

// keyPolicy lets a program use every key.
const keyPolicy = `path "transit/*" { capabilities = ["create", "read", "update", "delete", "list"] }`

// byAgent is the way through an agent, which has the client token.
func byAgent(t testing.TB, c *claviger) *provider {
	t.Helper()
	return withAgent(t, c, c.overTLS(), nil)
}

// overTLS is an agent's section [server].
func (c *claviger) overTLS() string {
	return fmt.Sprintf("addresses = [%q]\nca_cert = %q\n", c.https, c.cert)
}

// withAgent starts an agent with a section [server] and a client token that may
// use every key, in a network namespace if there is one.
func withAgent(t testing.TB, c *claviger, server string, n *network) *provider {
	t.Helper()
	return withToken(t, c, server, n, c.policy(t, "programs", keyPolicy))
}

// withToken is withAgent for a client token.
func withToken(t testing.TB, c *claviger, server string, n *network, own string) *provider {
	t.Helper()
	token := write(t, c.dir, "token", own+"\n")
	if err := os.Chmod(token, 0o600); err != nil {
		t.Fatal(err)
	}
	c.agent = &agent{socket: shortSocket(t), network: n}
	c.agent.config = write(t, c.dir, "agent.toml", fmt.Sprintf("socket = %q\nmode = \"0666\"\n[server]\n%s[token]\nsource = \"file\"\nfile = %q\n", c.agent.socket, server, token))
	c.startAgent(t)
	return &provider{
		name: "agent", module: module(t), env: []string{"CLAVIGER_PKCS11_SOCKET=" + c.agent.socket},
		dir: c.dir, cas: filepath.Join(c.dir, "ca.pem"), maker: c, claviger: c,
	}
}
