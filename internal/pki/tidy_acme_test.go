package pki

import (
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

const day = 24 * time.Hour

// tidyAt tidies what ACME leaves behind at a time after the beginning.
func (e *env) tidyAt(after time.Duration) *api.PKITidyStatus {
	e.t.Helper()
	e.clock.Store(int64(after / time.Second))
	_, err := e.tidyNow(bg, call(), &api.PKITidy{TidyACME: true})
	must(e.t, err)
	status := e.await()
	if status.State != "Finished" || !status.TidyACME {
		e.t.Errorf("after %v: %+v", after, status)
	}
	return status
}

// TestTidyACME: orders go when they and their certificates are over, accounts
// without orders are revoked, then removed, with all that names them.
func TestTidyACME(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	_, key := newCSR(t, nil)
	_, other := newCSR(t, nil)
	c := e.acmeAccountFor(&jose.JSONWebKey{Key: key.Public()})
	idle := e.acmeAccountFor(&jose.JSONWebKey{Key: other.Public()})
	order := func() *acmeOrder {
		c.payload = []byte(`{"identifiers":[{"type":"dns","value":"a.example.org"}]}`)
		_, err := e.newOrder(bg, c)
		must(t, err)
		entries, err := e.sealed.List(bg, tableACMEOrders, "", "", 0)
		must(t, err)
		for _, entry := range entries {
			var o acmeOrder
			must(t, entry.Decode(&o))
			if o.Status == "" {
				o.version = entry.Version
				return &o
			}
		}
		t.Fatal("no order")
		return nil
	}
	certified := order()
	certified.Status, certified.Serial, certified.CertEnds = statusValid, "0a0b", certified.Expires.Add(89*day)
	owner, err := e.sealed.Put(tableACMECerts, "pki/0a0b", 0, acmeCertOwner{Account: c.account.ID})
	must(t, err)
	must(t, e.putOrder(bg, "pki/", certified, owner))
	order()
	type counts struct{ total, revoked, accounts, orders, certs, left, authz, keys int }
	for _, row := range []struct {
		after time.Duration
		want  counts
	}{
		{0, counts{2, 0, 0, 0, 1, 2, 2, 2}},
		{orderLife + defaultSafety - time.Minute, counts{2, 0, 0, 0, 1, 2, 2, 2}},
		{orderLife + defaultSafety + time.Minute, counts{2, 0, 0, 1, 1, 1, 1, 2}},
		{30*day - time.Minute, counts{2, 0, 0, 0, 1, 1, 1, 2}},
		{30*day + time.Minute, counts{2, 1, 0, 0, 1, 1, 1, 2}}, // the one without orders
		{60 * day, counts{2, 0, 0, 0, 1, 1, 1, 2}},
		{61 * day, counts{2, 0, 1, 0, 1, 1, 1, 1}},
		{93*day - time.Minute, counts{1, 0, 0, 0, 1, 1, 1, 1}},
		{93*day + time.Minute, counts{1, 1, 0, 1, 0, 0, 0, 1}}, // the certificate and its margin are over
		{124 * day, counts{1, 0, 1, 0, 0, 0, 0, 0}},
	} {
		s := e.tidyAt(row.after)
		got := counts{s.TotalACMEAccountCount, s.ACMEAccountRevokedCount, s.ACMEAccountDeletedCount, s.ACMEOrdersDeletedCount,
			e.count(tableACMECerts), e.count(tableACMEOrders), e.count(tableACMEAuthz), e.count(tableACMEKeys)}
		if got != row.want {
			t.Errorf("after %v: %+v, want %+v", row.after, got, row.want)
		}
		if row.after == 30*day+time.Minute {
			_, err := e.knownAccount(bg, idle, idle.account.ID)
			wantFault(t, err, fault.Denied, "is revoked")
		}
	}
	if e.count(tableACMEAccounts) != 0 {
		t.Error("an account is left")
	}
}

// TestTidyACMEOldRecords: an account that an earlier version deactivated, without
// the time of that, is removed too, but not at once.
func TestTidyACMEOldRecords(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	_, key := newCSR(t, nil)
	c := e.acmeAccountFor(&jose.JSONWebKey{Key: key.Public()})
	a := *c.account
	a.Status = statusDeactivated
	put, err := e.sealed.Put(tableACMEAccounts, "pki/"+a.ID, a.version, a)
	must(t, err)
	must(t, e.sealed.Apply(bg, put))
	if s := e.tidyAt(100 * day); s.ACMEAccountDeletedCount != 0 || e.count(tableACMEAccounts) != 1 {
		t.Errorf("removed at once: %+v", s)
	}
	if s := e.tidyAt(131 * day); s.ACMEAccountDeletedCount != 1 || e.count(tableACMEAccounts)+e.count(tableACMEKeys) != 0 {
		t.Errorf("not removed: %+v", s)
	}
}

// TestTidyACMESettings: the margin is checked, and auto-tidy knows it.
func TestTidyACMESettings(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	_, err := e.tidyNow(bg, call(), &api.PKITidy{TidyACME: true, ACMEAccountSafetyBuffer: new(api.Seconds(0))})
	wantFault(t, err, fault.Invalid, "acme_account_safety_buffer must be greater than zero")
	_, err = e.setAutoTidy(bg, call(), &api.SetPKIAutoTidy{ACMEAccountSafetyBuffer: new(api.Seconds(-1))})
	wantFault(t, err, fault.Invalid, "negative")
	got, err := e.setAutoTidy(bg, call(), &api.SetPKIAutoTidy{Enabled: new(true), TidyACME: new(true)})
	if err != nil || !got.TidyACME || got.ACMEAccountSafetyBuffer != 720*3600 {
		t.Error(err, got)
	}
	_, err = e.setAutoTidy(bg, call(), &api.SetPKIAutoTidy{ACMEAccountSafetyBuffer: new(api.Seconds(3600))})
	must(t, err)
	must(t, e.Tend(bg, map[string]string{"pki/": "pki/"}, runNow))
	if s := e.await(); !s.TidyACME || s.ACMEAccountSafetyBuffer != 3600 || s.TidyCertStore {
		t.Errorf("%+v", s)
	}
}
