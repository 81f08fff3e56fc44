package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/pki/acme"
)

// wantProblem checks the type of a problem.
func wantProblem(t *testing.T, err error, kind string) {
	t.Helper()
	f, ok := err.(*fault.Error)
	if !ok || acme.Problem(f) == nil || !strings.HasSuffix(acme.Problem(f).Type, ":"+kind) {
		t.Errorf("%v, want the problem %s", err, kind)
	}
}

// order makes an order with a payload, and shows it.
func (e *env) order(c *acmeCall, payload string) (shown struct{ Status, Profile, Replaces string }, id string, err error) {
	c.payload, c.parts = []byte(payload), []string{"new-order"}
	answer, err := e.newOrder(bg, c)
	if err != nil {
		return shown, "", err
	}
	must(e.t, json.Unmarshal([]byte(answer.Body), &shown))
	return shown, answer.Location[strings.LastIndexByte(answer.Location, '/')+1:], nil
}

// TestACMEProfiles: a profile stands for a role, in directories that are of none.
func TestACMEProfiles(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	e.makeRole("short", func(r *api.SetPKIRole) {
		r.TTL, r.AllowedDomains, r.AllowSubdomains = new(api.Seconds(3600)), &[]string{"example.com"}, new(true)
	})
	e.makeRole("other", func(*api.SetPKIRole) {})
	_, key := newCSR(t, nil)
	c := e.acmeAccountFor(&jose.JSONWebKey{Key: key.Public()})
	const payload = `{"identifiers":[{"type":"dns","value":"a.example.com"}],"profile":"six-days"}`
	_, _, err := e.order(c, payload)
	wantProblem(t, err, acme.InvalidProfile)

	set := func(r *api.SetPKIACME) error { _, err := e.setACMEConfig(bg, call(), r); return err }
	must(t, set(&api.SetPKIACME{Profiles: &map[string]string{"six-days": "short", "plain": "other"}}))
	for want, bad := range map[string]map[string]string{
		"not there": {"x": "unknown"}, "letters": {"a b": "short"}, "1 to 64": {"": "short"}, "the first a letter": {"-x": "short"},
	} {
		wantFault(t, set(&api.SetPKIACME{Profiles: &bad}), fault.Invalid, want)
	}
	fresh := func(role string) *acmeDir {
		d, err := e.acmeDir(bg, call(), role, "")
		must(t, err)
		return d
	}
	c.acmeDir = fresh("")
	answer, err := c.directory()
	if err != nil || !strings.Contains(answer.Body, `"profiles":{"plain":"certificates by the role other"`) ||
		!strings.Contains(answer.Body, `"six-days":"certificates by the role short, for 1h0m0s"`) {
		t.Errorf("%v %+v", err, answer)
	}
	shown, id, err := e.order(c, payload)
	if err != nil || shown.Profile != "six-days" || c.name != "short" || c.role.TTL != 3600 {
		t.Errorf("%v %+v %s", err, shown, c.name)
	}
	o, err := e.orderByID(bg, c, id)
	if err != nil || o.Profile != "six-days" {
		t.Errorf("%v %+v", err, o)
	}
	c.acmeDir = fresh("")
	_, _, err = e.order(c, strings.Replace(payload, "a.example.com", "a.example.org", 1))
	wantProblem(t, err, acme.RejectedIdentifier)

	byRole := fresh("other")
	if answer, err := byRole.directory(); err != nil || strings.Contains(answer.Body, "profiles") {
		t.Errorf("the directory of a role: %v %s", err, answer.Body)
	}
	wantProblem(t, byRole.useProfile("six-days"), acme.InvalidProfile)
	must(t, set(&api.SetPKIACME{AllowedRoles: &[]string{"other"}, Profiles: &map[string]string{"plain": "other"}}))
	c.acmeDir, c.parts = fresh(""), []string{"order", id, "finalize"}
	must(t, e.makeReady(c, o))
	c.payload = []byte(`{"csr":""}`)
	_, err = e.finalize(bg, c)
	wantProblem(t, err, acme.InvalidProfile)
}

// makeReady proves the names of an order.
func (e *env) makeReady(c *acmeCall, o *acmeOrder) error {
	for _, id := range o.Authz {
		a, err := e.authzByID(bg, c, id)
		if err != nil {
			return err
		}
		a.Status = statusValid
		if err := e.putAuthz(bg, c.mount, a); err != nil {
			return err
		}
	}
	return nil
}

// TestACMEProfileIssues: the certificate of an order is by the role of its profile.
func TestACMEProfileIssues(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	e.makeRole("short", func(r *api.SetPKIRole) {
		r.TTL, r.AllowAnyName, r.KeyType = new(api.Seconds(3600)), new(true), new("any")
	})
	_, accountKey := newCSR(t, nil)
	c := e.acmeAccountFor(&jose.JSONWebKey{Key: accountKey.Public()})
	_, err := e.setACMEConfig(bg, call(), &api.SetPKIACME{Profiles: &map[string]string{"short": "short"}})
	must(t, err)
	for profile, life := range map[string]time.Duration{"": 90 * day, "short": time.Hour} {
		c.acmeDir, err = e.acmeDir(bg, call(), "", "")
		must(t, err)
		_, id, err := e.order(c, `{"identifiers":[{"type":"dns","value":"a.example.com"}],"profile":"`+profile+`"}`)
		must(t, err)
		o, err := e.orderByID(bg, c, id)
		must(t, err)
		must(t, e.makeReady(c, o))
		text, _ := newCSR(t, func(r *x509.CertificateRequest) { r.Subject, r.DNSNames = pkix.Name{}, []string{"a.example.com"} })
		csr, _ := pem.Decode([]byte(text))
		c.acmeDir, err = e.acmeDir(bg, call(), "", "")
		must(t, err)
		c.parts, c.payload = []string{"order", id, "finalize"}, []byte(`{"csr":"`+base64.RawURLEncoding.EncodeToString(csr.Bytes)+`"}`)
		if _, err := e.finalize(bg, c); err != nil {
			t.Fatal(err)
		}
		o, err = e.orderByID(bg, c, id)
		must(t, err)
		if got := o.CertEnds.Sub(e.time()); got < life-time.Minute || got > life+time.Minute {
			t.Errorf("profile %q: the certificate is for %v, want %v", profile, got, life)
		}
	}
}

// TestACMEReplaces: one order replaces a certificate (RFC 9773 section 5); another
// may when that came to nothing.
func TestACMEReplaces(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	e.makeRole("web", func(r *api.SetPKIRole) { r.TTL = new(api.Seconds(30 * 24 * 3600)) })
	_, key := newCSR(t, nil)
	_, second := newCSR(t, nil)
	c := e.acmeAccountFor(&jose.JSONWebKey{Key: key.Public()})
	stranger := e.acmeAccountFor(&jose.JSONWebKey{Key: second.Public()})
	cert := e.signed("web")
	serial, err := serialRecord(serialText(cert.SerialNumber))
	must(t, err)
	put, err := e.sealed.Put(tableACMECerts, "pki/"+serial, 0, acmeCertOwner{Account: c.account.ID})
	must(t, err)
	must(t, e.sealed.Apply(bg, put))
	b64 := base64.RawURLEncoding.EncodeToString
	id := b64(cert.AuthorityKeyId) + "." + b64(cert.SerialNumber.Bytes())
	payload := func(name, id string) string {
		return `{"identifiers":[{"type":"dns","value":"` + name + `"}],"replaces":"` + id + `"}`
	}
	name := cert.DNSNames[0]
	_, _, err = e.order(c, payload(name, "x"))
	wantProblem(t, err, acme.Malformed)
	_, _, err = e.order(c, payload(name, b64([]byte("other"))+"."+b64(cert.SerialNumber.Bytes())))
	wantProblem(t, err, acme.Malformed)
	_, _, err = e.order(c, payload("unrelated.example.net", id))
	wantProblem(t, err, acme.Malformed)
	_, _, err = e.order(stranger, payload(name, id))
	wantProblem(t, err, acme.Unauthorized)
	shown, first, err := e.order(c, payload(name, id))
	if err != nil || shown.Replaces != id {
		t.Fatalf("%v %+v", err, shown)
	}
	_, _, err = e.order(c, payload(name, id))
	wantProblem(t, err, acme.AlreadyReplaced)
	if f, ok := err.(*fault.Error); !ok || acme.Problem(f).Status != 409 {
		t.Errorf("not with status 409: %v", err)
	}
	o, err := e.orderByID(bg, c, first)
	must(t, err)
	o.Status = statusInvalid
	must(t, e.putOrder(bg, "pki/", o))
	if _, _, err = e.order(c, payload(name, id)); err != nil {
		t.Errorf("after an order that came to nothing: %v", err)
	}
}

// FuzzParseOrder: what is taken has names in their one form, each once, and what
// is not gets a problem.
func FuzzParseOrder(f *testing.F) {
	for _, text := range []string{
		`{"identifiers":[{"type":"dns","value":"A.example.org"},{"type":"dns","value":"*.example.org"},{"type":"ip","value":"2001:db8::1"}]}`,
		`{"identifiers":[{"type":"dns","value":"a.org"}],"notAfter":"2030-01-01T00:00:00Z","replaces":"a.b","profile":"p"}`,
		`{"identifiers":[{"type":"dns","value":"xn--4-0ga.org\u0000"}],"notBefore":"x"}`, `{"identifiers":[]}`, `null`, `[]`, ``,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := parseOrder(payload)
		if err != nil {
			if e, ok := err.(*fault.Error); !ok || acme.Problem(e) == nil || e.Kind == fault.Internal {
				t.Fatalf("%q: %v is no problem", payload, err)
			}
			return
		}
		seen := map[api.ACMEIdentifier]bool{}
		for _, id := range r.Identifiers {
			again, err := checkIdentifier(id)
			if err != nil || again != id || seen[id] || strings.ContainsFunc(id.Value, func(c rune) bool { return c <= ' ' || c > '~' }) {
				t.Errorf("%q: %+v is taken: %v", payload, id, err)
			}
			seen[id] = true
			c := &acmeCall{acmeDir: &acmeDir{role: newRole()}}
			c.allowedByRole(id)
		}
		if n := len(r.Identifiers); n == 0 || n > maxIdentifiers || r.NotBefore != "" {
			t.Errorf("%q: %d identifiers", payload, n)
		}
	})
}
