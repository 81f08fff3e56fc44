package pki

import (
	"bytes"
	"encoding/base64"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/pki/acme"
)

// acmeAccountFor makes an account and a call of it.
func (e *env) acmeAccountFor(key *jose.JSONWebKey) *acmeCall {
	e.t.Helper()
	_, err := e.setCluster(bg, call(), &api.SetPKICluster{Path: new("https://ca.example.com/v1/pki")})
	must(e.t, err)
	_, err = e.setACMEConfig(bg, call(), &api.SetPKIACME{Enabled: new(true)})
	must(e.t, err)
	d, err := e.acmeDir(bg, call(), "", "")
	must(e.t, err)
	jwk, err := key.MarshalJSON()
	must(e.t, err)
	a := &acmeAccount{ID: acmeID(), Directory: d.prefix, JWK: jwk, Status: statusValid, Created: e.time()}
	must(e.t, e.keepAccount(bg, d, a, key, nil))
	return &acmeCall{acmeDir: d, op: call(), parts: []string{"new-order"}, account: a}
}

// TestACMEForgetsOldOrders: orders expire, are deleted a day later, and nothing
// of a mount is left when it is unmounted.
func TestACMEForgetsOldOrders(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	_, key := newCSR(t, nil)
	c := e.acmeAccountFor(&jose.JSONWebKey{Key: key.Public()})
	c.payload = []byte(`{"identifiers":[{"type":"dns","value":"A.example.org"},{"type":"dns","value":"a.example.org"},{"type":"ip","value":"192.0.2.1"}]}`)
	_, err := e.newOrder(bg, c)
	must(t, err)
	if e.count(tableACMEOrders) != 1 || e.count(tableACMEAuthz) != 2 {
		t.Errorf("%d orders, %d authorizations", e.count(tableACMEOrders), e.count(tableACMEAuthz))
	}
	entries, err := e.sealed.List(bg, tableACMEOrders, "", "", 0)
	must(t, err)
	var o acmeOrder
	must(t, entries[0].Decode(&o))
	for after, want := range map[time.Duration]string{0: statusPending, orderLife + time.Minute: statusInvalid} {
		e.clock.Store(int64(after / time.Second))
		if got, err := e.orderStatus(bg, c, &o); err != nil || got != want {
			t.Errorf("after %v: %s %v", after, got, err)
		}
	}
	e.clock.Store(int64((2*orderLife + time.Hour) / time.Second))
	_, err = e.newOrder(bg, c)
	must(t, err)
	if e.count(tableACMEOrders) != 1 || e.count(tableACMEAuthz) != 2 {
		t.Errorf("two days later: %d orders, %d authorizations", e.count(tableACMEOrders), e.count(tableACMEAuthz))
	}
	must(t, e.Unmount(bg, "pki/"))
	for _, table := range acmeTables {
		if n := e.count(table); n != 0 {
			t.Errorf("%s has %d records", table, n)
		}
	}
}

func TestCheckIdentifier(t *testing.T) {
	t.Parallel()
	for _, good := range []api.ACMEIdentifier{{Type: "dns", Value: "a.example.org"}, {Type: "dns", Value: "*.example.org"}, {Type: "ip", Value: "2001:db8::1"}} {
		if got, err := checkIdentifier(good); err != nil || got != good {
			t.Errorf("%v: %v %v", good, got, err)
		}
	}
	for _, bad := range []api.ACMEIdentifier{
		{Type: "dns", Value: ""}, {Type: "dns", Value: "a..b"}, {Type: "dns", Value: "a.example.org."}, {Type: "dns", Value: "*.*.example.org"},
		{Type: "dns", Value: "a*.example.org"}, {Type: "dns", Value: "192.0.2.1"}, {Type: "dns", Value: "a.example.org/x"}, {Type: "dns", Value: "a\x00b.org"},
		{Type: "dns", Value: "ä.example.org"}, {Type: "dns", Value: "a.org:80"}, {Type: "ip", Value: "192.0.2.01"}, {Type: "ip", Value: "::ffff:1.2.3.4"}, {Type: "ip", Value: "fe80::1%eth0"},
		{Type: "email", Value: "a@example.org"},
	} {
		if _, err := checkIdentifier(bad); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

func TestCheckContact(t *testing.T) {
	t.Parallel()
	must(t, checkContact([]string{"mailto:a@example.org"}))
	for text, want := range map[string]string{"tel:1": acme.UnsupportedContact, "mailto:": acme.InvalidContact, "mailto:a@b,c@d": acme.InvalidContact, "mailto:a@b?subject=x": acme.InvalidContact} {
		if err := checkContact([]string{text}); err == nil || err.Error() == "" {
			t.Errorf("%s is taken, want %s", text, want)
		}
	}
}

// A key for a binding can be an argument of a program: its text begins with no "-".
func TestNewEABKey(t *testing.T) {
	for range 4096 {
		key, text := newEABKey()
		if b, err := base64.RawURLEncoding.DecodeString(text); err != nil || len(key) != eabKeySize || !bytes.Equal(b, key) || text[0] == '-' {
			t.Fatalf("%d bytes, %q: %v", len(key), text, err)
		}
	}
}
