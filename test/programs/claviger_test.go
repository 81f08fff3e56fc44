package programs

import (
	"crypto"
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
	agent  *agent // nil where programs reach the server's own socket
}

// agent is a running claviger agent.
type agent struct {
	*process
	config, socket string
}

// embedded starts a server on the embedded token.
func embedded(t testing.TB) *claviger {
	t.Helper()
	return prepare(t, harness.Embedded(t, harness.Options{Listen: free(t)}))
}

// onSoftHSM starts a server on a new SoftHSM2 token.
func onSoftHSM(t testing.TB) *claviger {
	t.Helper()
	return prepare(t, harness.SoftHSM(t, harness.Options{Listen: free(t)}))
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

// startAgent starts the agent again after it ended.
func (c *claviger) startAgent(t testing.TB) {
	t.Helper()
	c.agent.process = start(t, environment(), harness.Binary(t), "agent", "--config", c.agent.config)
	c.agent.wait(t, "the agent does not listen", func() bool { return listens(c.agent.socket) })
}

// ways to a server, by which programs reach it through the module. The first
// is taken in every run.
var ways []way

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

// withAgent starts an agent for a server at an address, in a network namespace if
// there is one, with a client token of its own.
func withAgent(t testing.TB, c *claviger, address string, n *network) *provider {
	t.Helper()
	return nil
}
