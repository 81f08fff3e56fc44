package server

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/openapi"
	"github.com/claviger/claviger/test/conformance"
)

// TestMatrix calls every operation of the table without a client token, with one
// that is denied the path, with one that has every capability but the needed one,
// with exactly the needed one, with a wrong body, for an unknown object, and on
// servers that are sealed and not initialised. Every answer must be as the OpenAPI
// document says. An operation without a row fails.
func TestMatrix(t *testing.T) {
	t.Parallel()
	m := newMatrix(t)
	table := m.open.guard.Table()
	rows := maps.Clone(matrixRows)
	maps.Copy(rows, pkiRows)
	maps.Copy(rows, acmeRows)
	maps.Copy(rows, estRows)
	for _, o := range table {
		row, ok := rows[o.Name]
		if !ok {
			t.Errorf("%s has no row in the matrix", o.Name)
			continue
		}
		t.Run(o.Name, func(t *testing.T) { m.run(t, o, row) })
	}
	for name := range rows {
		if !slices.ContainsFunc(table, func(o *op.Operation) bool { return o.Name == name }) {
			t.Errorf("the matrix has %s, which is no operation", name)
		}
	}
}

type matrix struct {
	open, sealed, fresh *Server
	document            *conformance.Document
	words, authority    *strings.Replacer
}

// newMatrix starts the servers, and makes the objects that the rows name.
func newMatrix(t *testing.T) *matrix {
	dir := t.TempDir()
	withRoot := config.Dev(dir)
	withRoot.Custody.GenerateRootWithoutToken = true
	m := &matrix{
		open:   running(t, withRoot, Options{Dev: &Dev{RootTokenID: "root"}}),
		sealed: running(t, config.Dev(t.TempDir()), Options{}),
		fresh:  running(t, config.Dev(t.TempDir()), Options{}),
	}
	mountEngines(t, m.open)
	m.document = documentOf(t, m.open)
	var init api.InitResult
	if status := do(t, m.sealed, "PUT", "sys/init", "", api.Init{SecretShares: 1, SecretThreshold: 1}, &init); status != 200 {
		t.Fatalf("init: status %d", status)
	}
	pool := makePool(t, filepath.Join(dir, "hmacpool"))
	m.make(t, "hmacpool/config", `{"mode":"MODE0","directory":"`+pool+`"}`)
	m.make(t, "transit/keys/aes", `{}`)
	m.make(t, "transit/keys/p256", `{"type":"ecdsa-p256"}`)
	m.make(t, "transit/keys/old", `{}`)
	m.make(t, "transit/keys/old/config", `{"deletion_allowed":true}`)
	m.make(t, "sys/policies/acl/known", `{"policy":"path \"x\" {}"}`)
	m.make(t, "sys/policies/acl/old", `{"policy":"path \"x\" {}"}`)
	m.make(t, "auth/token/roles/known", `{"orphan":true}`)
	m.make(t, "auth/token/roles/old", `{"orphan":true}`)
	m.make(t, "sys/external-keys/configs/matrix", `{"plugin":"pkcs11"}`)
	m.make(t, "sys/external-keys/configs/matrix/keys/k", `{"label":"later","verify":false}`)
	m.make(t, "sys/external-keys/configs/matrix/keys/k/grants/known", "")
	m.make(t, "transit/keys/soft", `{}`)
	m.make(t, "transit/keys/saved", `{}`)
	m.make(t, "transit/keys/saved/config", `{"deletion_allowed":true}`)
	m.make(t, "transit/keys/long", `{}`)
	m.make(t, "transit/keys/long/rotate", `{}`)
	m.make(t, "transit/keys/long/config", `{"min_decryption_version":2,"min_encryption_version":2}`)
	m.call(t, m.open, "GET", "sys/storage/raft/snapshot", "root", "") // sys/snapshot shows the last one
	saved := m.call(t, m.open, "GET", "transit/backup/saved", "root", "")
	if saved.Status != 200 {
		t.Fatalf("backup: status %d %v", saved.Status, saved.Errors)
	}
	m.make(t, "sys/mounts/moving", `{"type":"transit"}`)
	moved := m.make(t, "sys/remount", `{"from":"moving","to":"moved-before"}`)
	encrypted := m.make(t, "transit/encrypt/aes", `{"plaintext":"aGk="}`)
	signed := m.make(t, "transit/sign/p256", `{"input":"aGk="}`)
	m.make(t, "transit/pkcs11/p11aes/create", `{"type":"aes256-gcm96"}`)
	m.make(t, "transit/pkcs11/p11agree/create", `{"type":"ecdsa-p256","uses":["agree"]}`)
	m.make(t, "transit/pkcs11-objects/00112233445566778899aabbccddeeff", `{"attributes":[{"type":0,"form":2,"value":"AAAAAAAAAAA="}]}`)
	exported := m.call(t, m.open, "GET", "transit/export/public-key/p256", "root", "")
	public := strings.ReplaceAll(exported.Data["keys"].(map[string]any)["1"].(string), "\n", `\n`)
	m.make(t, "transit/keys/imported/import", `{"type":"ecdsa-p256","public_key":"`+public+`"}`)
	m.make(t, "auth/token/create", `{"policies":["known"]}`)
	leases := m.call(t, m.open, "LIST", "sys/leases/lookup/auth/token/create", "root", "")
	m.words = strings.NewReplacer("$PUBLIC", public, "$POOL", pool, "$POINT", pointOnP256(t), "$LEASE", "auth/token/create/"+leases.Data["keys"].([]any)[0].(string),
		"$CIPHERTEXT", encrypted.Data["ciphertext"].(string), "$SIGNATURE", signed.Data["signature"].(string),
		"$BACKUP", saved.Data["backup"].(string), "$MIGRATION", moved.Data["migration_id"].(string))
	m.authority = m.makeAuthority(t)
	m.makeACME(t)
	m.makeEST(t)
	return m
}

// pointOnP256 is a public key of the curve P-256 as an uncompressed point in base64.
func pointOnP256(t *testing.T) string {
	t.Helper()
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(private.PublicKey().Bytes())
}

// mountEngines mounts those that are not there from the beginning, each at its name:
// the OpenAPI document and the help show what is mounted. root is a root token.
func mountEngines(t *testing.T, s *Server) {
	t.Helper()
	for _, engine := range conformance.Engines {
		if status := do(t, s, "POST", "sys/mounts/"+engine, "root", map[string]string{"type": engine}, nil); status != 204 {
			t.Fatalf("mounting %s: status %d", engine, status)
		}
	}
}

// documentOf is the OpenAPI document of a server.
func documentOf(t *testing.T, s *Server) *conformance.Document {
	t.Helper()
	var text string
	if status := do(t, s, "GET", "sys/internal/specs/openapi", "root", nil, &text); status != 200 {
		t.Fatalf("the OpenAPI document: status %d", status)
	}
	d, err := conformance.ParseDocument([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

type matrixAnswer struct {
	Status int
	Errors []string
	Data   map[string]any
	Auth   *api.Auth
}

func (m *matrix) make(t *testing.T, path, body string) matrixAnswer {
	t.Helper()
	a := m.call(t, m.open, "POST", path, "root", body)
	if a.Status >= 300 {
		t.Fatalf("POST %s: status %d %v", path, a.Status, a.Errors)
	}
	return a
}

// call sends a request whose body is sent as it is.
func (m *matrix) call(t *testing.T, s *Server, method, path, token, body string) matrixAnswer {
	t.Helper()
	req, err := http.NewRequest(method, s.Addresses()[0]+"/v1/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", token)
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	place, _, _ := strings.Cut(path, "?")
	if err := m.document.Check(method, "/"+place, resp, text); err != nil && !acmeAnswered(resp) {
		t.Errorf("%s %s: the answer is not as the OpenAPI document says: %v", method, path, err)
	}
	a := matrixAnswer{Status: resp.StatusCode}
	if bytes.HasPrefix(text, []byte("{")) {
		if err := json.Unmarshal(text, &a); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, text)
		}
	}
	a.Status = resp.StatusCode
	return a
}

// token makes a client token that has capabilities on a path, and none else.
func (m *matrix) token(t *testing.T, path string, capabilities ...string) (text, accessor string) {
	t.Helper()
	policy := "m" + fmt.Sprint(len(path)) + "-" + strings.ToLower(t.Name()[strings.LastIndexByte(t.Name(), '/')+1:]) + "-" + strings.Join(capabilities, "-")
	rules := fmt.Sprintf("path %q { capabilities = [\"%s\"] }", path, strings.Join(capabilities, `", "`))
	if len(capabilities) == 0 {
		rules = `path "nothing" {}`
	}
	body, err := json.Marshal(api.WritePolicy{Policy: rules})
	if err != nil {
		t.Fatal(err)
	}
	m.make(t, "sys/policies/acl/"+policy, string(body))
	a := m.make(t, "auth/token/create", fmt.Sprintf(`{"policies":[%q],"no_default_policy":true,"no_parent":true}`, policy))
	return a.Auth.ClientToken, a.Auth.Accessor
}

var matrixMethods = map[op.Verb]string{op.Read: "GET", op.List: "LIST", op.Write: "POST", op.Delete: "DELETE", op.Patch: "PATCH"}

// run is one operation's part of the matrix.
func (m *matrix) run(t *testing.T, o *op.Operation, row matrixRow) {
	path := o.Mount + "/" + m.authority.Replace(m.words.Replace(row.path))
	subject, accessor := m.token(t, path)
	words := strings.NewReplacer("$TOKEN", subject, "$ACCESSOR", accessor)
	c := &matrixCalls{m: m, t: t, o: o, method: matrixMethods[o.Verb], path: path, body: m.authority.Replace(words.Replace(m.words.Replace(row.body)))}

	c.expect("no client token", m.open, "", c.path, c.body, refusedUnless(o.Public, 403))
	c.expect("unknown client token", m.open, "s.unknown", c.path, c.body, refusedUnless(o.Public, 403))
	denied, _ := m.token(t, "*", "deny")
	c.expect("denied", m.open, denied, c.path, c.body, refusedUnless(o.Public, 403))
	c.expect("all but the capability", m.open, c.with(others(o)...), c.path, c.body, refusedUnless(o.Public || o.AnyToken, 403))
	if o.Sudo {
		c.expect("without sudo", m.open, c.with(needs(o)[:len(needs(o))-1]...), c.path, c.body, 403)
	}
	c.wrong()
	switch {
	case row.unknown != "" && row.takesAny != "":
		t.Error("the row has an unknown object and a reason for none")
	case row.unknown != "":
		unknownPath, unknownBody, _ := strings.Cut(row.unknown, " ")
		c.expect("unknown object", m.open, "root", o.Mount+"/"+unknownPath, unknownBody, row.unknownStatuses()...)
	case row.takesAny == "" && (strings.Contains(o.Path, "{") || strings.Contains(row.body, "$")):
		t.Error("the row names no unknown object, and no reason why there is none")
	}
	c.closed()
	c.allowed(row)
}

type matrixCalls struct {
	m      *matrix
	t      *testing.T
	o      *op.Operation
	method string
	path   string
	body   string
}

// refusedUnless is the status of a refusal, or none where there must be none.
func refusedUnless(open bool, status int) int {
	if open {
		return -status
	}
	return status
}

// expect calls and compares the status with those wanted, of which a negative
// one must not come. A call that is to be allowed here must change nothing: it is
// sent with a wrong body.
func (c *matrixCalls) expect(what string, s *Server, token, path, body string, want ...int) matrixAnswer {
	c.t.Helper()
	if want[0] < 0 && c.o.Verb.HasBody() {
		body = "{"
	}
	a := c.m.call(c.t, s, c.method, path, token, body)
	if want[0] < 0 && a.Status == -want[0] || want[0] > 0 && !slices.Contains(want, a.Status) {
		c.t.Errorf("%s: %s %s: status %d %v, want %v", what, c.method, path, a.Status, a.Errors, want)
	}
	if s := openapi.Statuses(c.o); !slices.Contains(s, a.Status) && !slices.Contains(s, 0) {
		c.t.Errorf("%s: %s %s: status %d is not in the OpenAPI document: %v", what, c.method, path, a.Status, s)
	}
	return a
}

// needs are the capabilities that suffice, sudo last.
func needs(o *op.Operation) []string {
	names := map[op.Verb][]string{op.Read: {"read"}, op.List: {"list"}, op.Write: {"update"}, op.Delete: {"delete"}, op.Patch: {"patch"}}[o.Verb]
	if o.HasExists() {
		names = []string{"create", "update"}
	}
	if o.Sudo {
		names = append(slices.Clone(names), "sudo")
	}
	return names
}

// others are all capabilities that do not suffice.
func others(o *op.Operation) []string {
	return slices.DeleteFunc([]string{"create", "read", "update", "delete", "list", "patch", "sudo"}, func(name string) bool {
		return name != "sudo" && slices.Contains(needs(o), name)
	})
}

func (c *matrixCalls) with(capabilities ...string) string {
	c.t.Helper()
	text, _ := c.m.token(c.t, c.path, capabilities...)
	return text
}

// wrong sends what can't be decoded, with a token that may.
func (c *matrixCalls) wrong() {
	c.t.Helper()
	token := c.with(needs(c.o)...)
	if !c.o.Verb.HasBody() {
		c.expect("wrong query", c.m.open, token, c.path+"?x=%zz", "", 400)
		return
	}
	for _, body := range []string{`{"a":`, `[1]`, `"text"`, `{} {}`, "\x00"} {
		c.expect("wrong body "+body, c.m.open, token, c.path, body, 400)
	}
}

// closed calls servers that are sealed and not initialised.
func (c *matrixCalls) closed() {
	c.t.Helper()
	for what, s := range map[string]*Server{"sealed": c.m.sealed, "not initialised": c.m.fresh} {
		a := c.m.call(c.t, s, c.method, c.path, "root", c.body)
		refused := a.Status == 503 && slices.Equal(a.Errors, []string{"Vault is sealed"})
		if refused == c.o.Sealed {
			c.t.Errorf("%s: %s %s: status %d %v", what, c.method, c.path, a.Status, a.Errors)
		}
		if !slices.Contains(openapi.Statuses(c.o), a.Status) && !slices.Contains(openapi.Statuses(c.o), 0) {
			c.t.Errorf("%s: status %d is not in the OpenAPI document", what, a.Status)
		}
	}
}

// allowed calls with exactly the capabilities that are needed.
func (c *matrixCalls) allowed(row matrixRow) {
	c.t.Helper()
	s := c.m.open
	token := c.with(needs(c.o)...)
	if row.alone {
		s, token = running(c.t, config.Dev(c.t.TempDir()), Options{Dev: &Dev{RootTokenID: "root"}}), "root"
		mountEngines(c.t, s)
	}
	c.expect("allowed", s, token, c.path, c.body, row.status)
}
