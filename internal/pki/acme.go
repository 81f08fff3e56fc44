package pki

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/pki/acme"
)

// acmeServer is what the ACME servers of all mounts have in memory.
type acmeServer struct {
	nonces     *acme.Nonces
	limits     acme.Limits
	validating chan struct{} // one for each validation under way
}

// maxValidating is how many validations may be under way at a time.
const maxValidating = 32

func newACMEServer() *acmeServer {
	return &acmeServer{nonces: acme.NewNonces(), validating: make(chan struct{}, maxValidating)}
}

// acmePlaces are the paths of directories below a mount (RFC 8555 section 7.1.1),
// with what the names of their operations end in.
var acmePlaces = []struct{ name, path string }{
	{"", "acme/"}, {".role", "roles/{role}/acme/"}, {".issuer", "issuer/{issuer}/acme/"}, {".issuer.role", "issuer/{issuer}/roles/{role}/acme/"},
}

func (s *Service) acmeOperations() []*op.Operation {
	ops := []*op.Operation{
		op.Define(meta("acme.config.read", "config/acme", op.Read, "Show the rules of the ACME server."), s.readACMEConfig),
		op.Define(meta("acme.config.set", "config/acme", op.Write, "Change the rules of the ACME server; it is off until enabled."), s.setACMEConfig),
		op.Define(meta("acme.eab.list", "eab", op.List, "List the keys for external account bindings that were not used yet."), s.listEABs),
		op.Define(meta("acme.eab.delete", "eab/{key_id}", op.Delete, "Delete a key for an external account binding."), s.deleteEAB),
	}
	for _, p := range acmePlaces {
		get := meta("acme.get"+p.name, p.path+"{resource...}", op.Read, "ACME (RFC 8555): directory, nonces and renewal information.")
		post := meta("acme.post"+p.name, p.path+"{resource...}", op.Write, "ACME (RFC 8555): signed requests.")
		get.Public, post.Public = true, true
		ops = append(ops, op.Define(get, s.acmeGet), op.Define(post, s.acmePost),
			op.Define(meta("acme.eab.new"+p.name, p.path+"new-eab", op.Write, "Make a key that binds one new account of this directory."), s.newEAB))
	}
	return ops
}

// acmeDir is a directory: where a client begins, and what it may get there.
type acmeDir struct {
	mount  string
	prefix string // below the mount: "roles/web/acme"
	base   string // URL
	rules  *api.PKIACME
	st     *state
	role   *api.PKIRole // what may be issued, its issuer included
	name   string       // of the role, "" if there is none
	issuer string       // of the directory, "" if that of the role counts
	byRole bool         // the directory is a role's
}

// url is the URL of something in the directory.
func (d *acmeDir) url(parts ...string) string { return d.base + "/" + strings.Join(parts, "/") }

func acmePrefix(role, issuer string) string {
	prefix := "acme"
	if role != "" {
		prefix = "roles/" + role + "/acme"
	}
	if issuer != "" {
		prefix = "issuer/" + issuer + "/" + prefix
	}
	return prefix
}

// acmeTTL is for how long certificates of directories without a role are valid.
const acmeTTL = api.Seconds(90 * 24 * time.Hour / time.Second)

// acmeDir finds a directory; what is off or not allowed is not there.
func (s *Service) acmeDir(ctx context.Context, c *op.Call, role, issuer string) (*acmeDir, error) {
	rules, _, err := s.acmeRules(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	none := fault.New(fault.NotFound, "")
	if !rules.Enabled {
		return nil, none
	}
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	d := &acmeDir{mount: c.Mount, prefix: acmePrefix(role, issuer), rules: rules, st: st, name: role, issuer: issuer, byRole: role != ""}
	d.base = st.config.Cluster.Path + "/" + d.prefix
	if d.role, err = d.findRole(role); err != nil || st.config.Cluster.Path == "" {
		return nil, none
	}
	return d, nil
}

// findRole returns what a directory issues by, a copy.
func (d *acmeDir) findRole(name string) (*api.PKIRole, error) {
	if name == "" {
		byDefault, ok := strings.CutPrefix(d.rules.DefaultDirectoryPolicy, acmeRolePolicy)
		switch {
		case ok:
			name, d.name = byDefault, byDefault
		case d.rules.DefaultDirectoryPolicy == acmeForbid:
			return nil, invalid("the default directory is off")
		default:
			role := newRole()
			role.AllowAnyName, role.KeyType, role.TTL, role.MaxTTL, role.RequireCN = true, "any", acmeTTL, acmeTTL, false
			return d.restrict(role)
		}
	}
	return d.namedRole(name)
}

// namedRole returns a role that is allowed, a copy.
func (d *acmeDir) namedRole(name string) (*api.PKIRole, error) {
	if !slices.Contains(d.rules.AllowedRoles, "*") && !slices.Contains(d.rules.AllowedRoles, name) {
		return nil, invalid("the role has no directory")
	}
	role, err := d.st.role(name)
	if err != nil {
		return nil, err
	}
	copied := *role
	return d.restrict(&copied)
}

// restrict gives a role the issuer of the directory, which must be allowed, and
// makes its certificates such for servers, unless more is allowed.
func (d *acmeDir) restrict(role *api.PKIRole) (*api.PKIRole, error) {
	if d.issuer != "" {
		role.IssuerRef = d.issuer
	}
	if i, err := d.st.issuer(refOf(role.IssuerRef, defaultRef)); err != nil || !d.allowsIssuer(i) {
		return nil, invalid("the issuer has no directory")
	}
	if !d.rules.AllowRoleExtKeyUsage {
		role.ServerFlag, role.ClientFlag, role.CodeSigningFlag, role.EmailProtectionFlag = true, false, false, false
		role.ExtKeyUsage, role.ExtKeyUsageOIDs = nil, nil
	}
	return role, nil
}

func (d *acmeDir) allowsIssuer(i *issuer) bool {
	return slices.ContainsFunc(d.rules.AllowedIssuers, func(ref string) bool {
		if ref == "*" {
			return true
		}
		allowed, err := d.st.issuer(ref)
		return err == nil && allowed == i
	})
}

// acmeGet answers what needs no account.
func (s *Service) acmeGet(ctx context.Context, c *op.Call, r *api.ACMEGet) (*api.ACMEAnswer, error) {
	d, err := s.acmeDir(ctx, c, r.Role, r.Issuer)
	if err != nil {
		return nil, err
	}
	id, isInfo := strings.CutPrefix(r.Resource, "renewal-info/")
	switch {
	case r.Resource == "directory":
		return d.directory()
	case r.Resource == "new-nonce":
		return &api.ACMEAnswer{Status: http.StatusNoContent, Nonce: s.acme.nonces.Issue(c.Mount, s.now()), Links: d.links()}, nil
	case isInfo:
		return s.renewalInfo(ctx, d, id)
	}
	return nil, acmeNotFound("there is nothing to get here; requests to an ACME server are mostly signed POSTs")
}

// acmeNotFound is a problem of something that is not there.
func acmeNotFound(format string, args ...any) error {
	e := acme.New(acme.Malformed, format, args...)
	acme.Problem(e).Status = http.StatusNotFound
	e.Kind = fault.NotFound
	return e
}

func (d *acmeDir) links() []string { return []string{`<` + d.url("directory") + `>;rel="index"`} }

func (d *acmeDir) directory() (*api.ACMEAnswer, error) {
	type meta struct {
		ExternalAccountRequired bool              `json:"externalAccountRequired"`
		Profiles                map[string]string `json:"profiles,omitempty"`
	}
	return jsonAnswer(http.StatusOK, struct {
		NewNonce    string `json:"newNonce"`
		NewAccount  string `json:"newAccount"`
		NewOrder    string `json:"newOrder"`
		RevokeCert  string `json:"revokeCert"`
		KeyChange   string `json:"keyChange"`
		RenewalInfo string `json:"renewalInfo"`
		Meta        meta   `json:"meta"`
	}{
		d.url("new-nonce"), d.url("new-account"), d.url("new-order"), d.url("revoke-cert"), d.url("key-change"), d.url("renewal-info"),
		meta{d.rules.EABPolicy != eabNotRequired, d.profiles()},
	})
}

func jsonAnswer(status int, v any) (*api.ACMEAnswer, error) {
	body, err := json.Marshal(v)
	return &api.ACMEAnswer{Status: status, Body: string(body)}, err
}

// acmePost answers a signed request. Answers and problems carry a new nonce.
func (s *Service) acmePost(ctx context.Context, c *op.Call, r *api.ACMEPost) (*api.ACMEAnswer, error) {
	d, err := s.acmeDir(ctx, c, r.Role, r.Issuer)
	if err != nil {
		return nil, err
	}
	answer, err := s.acmeSigned(ctx, c, d, r)
	nonce := s.acme.nonces.Issue(c.Mount, s.now())
	if err != nil {
		return nil, asProblem(err, nonce)
	}
	answer.Nonce = nonce
	answer.Links = append(answer.Links, d.links()...)
	return answer, nil
}

// asProblem gives an error the form of a problem, if it is the client's.
func asProblem(err error, nonce string) error {
	if p, ok := errors.AsType[*api.ACMEProblem](err); ok {
		p.Nonce = nonce
		return err
	}
	kind := ""
	switch fault.KindOf(err) {
	case fault.Invalid:
		kind = acme.Malformed
	case fault.Denied:
		kind = acme.Unauthorized
	default:
		return err
	}
	e := acme.New(kind, "%s", fault.Message(err))
	acme.Problem(e).Nonce = nonce
	return e
}

// acmeCall is a signed request on its way.
type acmeCall struct {
	*acmeDir
	op       *op.Call
	resource string
	parts    []string // of the resource
	message  *acme.Message
	account  *acmeAccount // nil if the request is signed by a key
	payload  []byte       // verified; empty means reading
}

// decode reads the payload into v.
func (c *acmeCall) decode(v any) error {
	if err := json.Unmarshal(c.payload, v); err != nil {
		return acme.New(acme.Malformed, "the payload is no JSON object as %s takes it", c.parts[0])
	}
	return nil
}

// acmeSigned checks what makes a request one of its sender: URL, signature,
// nonce, in this order, so that nobody spends the nonces of others.
func (s *Service) acmeSigned(ctx context.Context, oc *op.Call, d *acmeDir, r *api.ACMEPost) (*api.ACMEAnswer, error) {
	m, err := acme.Parse(r.Protected, r.Payload, r.Signature)
	if err != nil {
		return nil, err
	}
	c := &acmeCall{acmeDir: d, op: oc, resource: r.Resource, parts: strings.Split(r.Resource, "/"), message: m}
	if want := d.url(r.Resource); m.URL != want {
		return nil, acme.New(acme.Unauthorized, "the protected header has the url %q; the request came for %q", m.URL, want)
	}
	do, byKey := s.acmeAction(c)
	if do == nil {
		return nil, acmeNotFound("there is no resource %s", r.Resource)
	}
	if m.JWK != nil && !byKey {
		return nil, acme.New(acme.Malformed, "this request names the account by kid, not by jwk")
	}
	if err := s.authenticate(ctx, c); err != nil {
		return nil, err
	}
	if !s.acme.nonces.Take(oc.Mount, m.Nonce, s.now()) {
		return nil, acme.New(acme.BadNonce, "the nonce is not good, or was used already; here is another one")
	}
	answer, err := do(ctx, c)
	if err == nil && c.account != nil {
		answer.Account = c.account.ID
	}
	return answer, err
}

// acmeAction finds what a resource does, and whether it may be signed by a key
// that is no account's.
func (s *Service) acmeAction(c *acmeCall) (do func(context.Context, *acmeCall) (*api.ACMEAnswer, error), byKey bool) {
	switch p := c.parts; {
	case c.resource == "new-account":
		return s.newAccount, true
	case c.resource == "revoke-cert":
		return s.acmeRevoke, true
	case c.resource == "new-order":
		return s.newOrder, false
	case c.resource == "orders":
		return s.acmeOrders, false
	case c.resource == "key-change":
		return s.keyChange, false
	case p[0] == "account" && len(p) == 2:
		return s.acmeUpdate, false
	case p[0] == "order" && len(p) == 2:
		return s.acmeOrder, false
	case p[0] == "order" && len(p) == 3 && p[2] == "finalize":
		return s.finalize, false
	case p[0] == "order" && len(p) == 3 && p[2] == "cert":
		return s.acmeCert, false
	case p[0] == "authorization" && len(p) == 2:
		return s.acmeAuthz, false
	case p[0] == "challenge" && len(p) == 3:
		return s.acmeChallenge, false
	}
	return nil, false
}

// authenticate verifies the signature of a request.
func (s *Service) authenticate(ctx context.Context, c *acmeCall) (err error) {
	if c.message.JWK != nil {
		c.payload, err = c.message.Verify(c.message.JWK.Key)
		return err
	}
	id, ok := strings.CutPrefix(c.message.KeyID, c.url("account")+"/")
	if !ok || id == "" || strings.Contains(id, "/") {
		return acme.New(acme.AccountDoesNotExist, "kid is no account of this directory")
	}
	a, err := s.acmeAccount(ctx, c.acmeDir, id)
	if err != nil {
		return err
	}
	key, err := a.key()
	if err != nil {
		return err
	}
	if c.payload, err = c.message.Verify(key.Key); err != nil {
		return err
	}
	if a.Status != statusValid {
		return acme.New(acme.Unauthorized, "the account is %s", a.Status)
	}
	if c.rules.EABPolicy == eabAlways && a.EAB == "" {
		return acme.New(acme.ExternalAccountRequired, "this server takes only accounts with an external account binding")
	}
	c.account = a
	return nil
}

// limited tells the client to wait if it did something too often.
func limited(ok bool, wait time.Duration, format string, args ...any) error {
	if ok {
		return nil
	}
	e := acme.New(acme.RateLimited, format, args...)
	acme.Problem(e).RetryAfter = int(wait/time.Second) + 1
	return e
}

// recordName is a name for a record that is found by texts.
func recordName(texts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(texts, "\n")))
	return hex.EncodeToString(sum[:])
}
