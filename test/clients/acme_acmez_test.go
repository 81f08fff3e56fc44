package clients

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// answers serve what validation looks for: an acmez.Solver of one kind of challenge.
type answers struct {
	w     *acmeWorld
	kind  string
	wrong bool
	files *sync.Map // path to content
	certs *sync.Map // name to *tls.Certificate
}

func (a *answers) Present(_ context.Context, ch acme.Challenge) error {
	if a.wrong {
		ch.KeyAuthorization = "wrong"
	}
	switch a.kind {
	case acme.ChallengeTypeHTTP01:
		a.files.Store(ch.HTTP01ResourcePath(), ch.KeyAuthorization)
	case acme.ChallengeTypeDNS01:
		a.w.tell("set-txt", map[string]any{"host": ch.DNS01TXTRecordName() + ".", "value": ch.DNS01KeyAuthorization()})
	case acme.ChallengeTypeTLSALPN01:
		cert, err := acmez.TLSALPN01ChallengeCert(ch)
		a.certs.Store(ch.Identifier.Value, cert)
		return err
	}
	return nil
}

func (a *answers) CleanUp(_ context.Context, ch acme.Challenge) error {
	if a.kind == acme.ChallengeTypeDNS01 {
		a.w.tell("clear-txt", map[string]any{"host": ch.DNS01TXTRecordName() + "."})
	}
	return nil
}

// acmezUser is an account and its solvers.
type acmezUser struct {
	t       *testing.T
	w       *acmeWorld
	a       *authority
	o       *outcomes
	client  *acmez.Client
	account acme.Account
	solvers map[string]acmez.Solver
}

// listen serves answers over HTTP and TLS, and returns their solvers.
func (w *acmeWorld) listen() map[string]acmez.Solver {
	files, certs, solvers := &sync.Map{}, &sync.Map{}, map[string]acmez.Solver{}
	for _, kind := range []string{acme.ChallengeTypeHTTP01, acme.ChallengeTypeDNS01, acme.ChallengeTypeTLSALPN01} {
		solvers[kind] = &answers{w: w, kind: kind, files: files, certs: certs}
	}
	plain := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if text, ok := files.Load(r.URL.Path); ok {
			fmt.Fprint(rw, text)
			return
		}
		http.NotFound(rw, r)
	})}
	secure := &http.Server{Handler: http.NotFoundHandler(), TLSConfig: &tls.Config{NextProtos: []string{acmez.ACMETLS1Protocol}, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if cert, ok := certs.Load(h.ServerName); ok {
			return cert.(*tls.Certificate), nil
		}
		return nil, fmt.Errorf("no certificate for %s", h.ServerName)
	}}}
	for s, port := range map[*http.Server]int{plain: w.httpPort, secure: w.tlsPort} {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { s.Close() })
		if s == secure {
			go s.ServeTLS(l, "", "")
		} else {
			go s.Serve(l)
		}
	}
	return solvers
}

// only lets the client use one kind of challenge.
func (u *acmezUser) only(kind string) {
	u.client.ChallengeSolvers = map[string]acmez.Solver{kind: u.solvers[kind]}
}

// step notes what a call came to.
func (u *acmezUser) step(name, good string, err error) bool {
	u.t.Helper()
	return u.o.step(name, good, "", err)
}

// prove makes an order and proves its names by HTTP.
func (u *acmezUser) prove(order acme.Order) (acme.Order, error) {
	ctx := u.t.Context()
	order, err := u.client.NewOrder(ctx, u.account, order)
	if err != nil {
		return order, err
	}
	for _, url := range order.Authorizations {
		z, err := u.client.GetAuthorization(ctx, u.account, url)
		if err != nil {
			return order, err
		}
		for _, ch := range z.Challenges {
			if ch.Type != acme.ChallengeTypeHTTP01 {
				continue
			}
			if err := u.solvers[ch.Type].Present(ctx, ch); err != nil {
				return order, err
			}
			if _, err := u.client.InitiateChallenge(ctx, u.account, ch); err != nil {
				return order, err
			}
		}
		if _, err := u.client.PollAuthorization(ctx, u.account, z); err != nil {
			return order, err
		}
	}
	return order, nil
}

// finish gets the certificate of an order with a request for names.
func (u *acmezUser) finish(order acme.Order, key crypto.Signer, names ...string) (acme.Order, *x509.Certificate, error) {
	ctx := u.t.Context()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, key)
	if err != nil {
		u.t.Fatal(err)
	}
	if order, err = u.client.FinalizeOrder(ctx, u.account, order, csr); err != nil {
		return order, nil, err
	}
	chains, err := u.client.GetCertificateChain(ctx, u.account, order.Certificate)
	if err != nil {
		return order, nil, err
	}
	return order, u.w.verify(u.a, chains[0].ChainPEM, names...), nil
}

func dnsOrder(names ...string) (o acme.Order) {
	for _, n := range names {
		o.Identifiers = append(o.Identifiers, acme.Identifier{Type: "dns", Value: n})
	}
	return o
}

// obtain gets a certificate by HTTP.
func (u *acmezUser) obtain(order acme.Order) (acme.Order, *x509.Certificate, crypto.Signer, error) {
	var names []string
	for _, id := range order.Identifiers {
		names = append(names, id.Value)
	}
	order, err := u.prove(order)
	if err != nil {
		return order, nil, nil, err
	}
	key := newACMEKey(u.t)
	order, cert, err := u.finish(order, key, names...)
	return order, cert, key, err
}

const whyBadCSR = "RFC 8555 section 7.4 has badCSR for a request whose names are not those of the order; pebble says unauthorized"

// TestACMEz: everything that the library can do, and what must fail.
func TestACMEz(t *testing.T) {
	t.Parallel()
	w := newACMEWorld(t, false)
	solvers := w.listen()
	onBoth(t, w, map[string]string{
		"register": "done", "http-01": "obtained", "dns-01": "obtained", "tls-alpn-01": "obtained",
		"change of key": "done", "old key": "refused accountDoesNotExist", "after the change": "obtained",
		"wrong answer": "refused incorrectResponse", "wrong certificate": "refused incorrectResponse",
		"request for another name": "refused badCSR", "request with more names": "refused badCSR", "request with the account's key": "refused badCSR",
		"request that is none": "refused badCSR", "nothing proved": "refused",
		"unknown account": "refused accountDoesNotExist", "kind of name": "refused unsupportedIdentifier", "bad name": "refused rejectedIdentifier",
		"renewal information": "done", "replaces": "obtained", "replaces again": "refused alreadyReplaced",
		"profile": "obtained", "unknown profile": "refused",
		"revoked by a stranger": "refused unauthorized", "bad reason": "refused badRevocationReason", "revoked by its key": "done", "revoke": "done", "revoke again": "refused alreadyRevoked",
		"deactivate": "done", "deactivated": "refused unauthorized",
	}, map[string]difference{
		"wrong answer":             {"refused incorrectResponse", "refused unauthorized", whyIncorrect},
		"wrong certificate":        {"refused incorrectResponse", "refused unauthorized", whyIncorrect},
		"request for another name": {"refused badCSR", "refused unauthorized", whyBadCSR},
		"request with more names":  {"refused badCSR", "refused unauthorized", whyBadCSR},
		"kind of name":             {"refused unsupportedIdentifier", "refused malformed", "RFC 8555 section 6.7 has unsupportedIdentifier; pebble says malformed"},
		"bad name":                 {"refused rejectedIdentifier", "refused malformed", "a name that no certificate may have; pebble says malformed"},
		"request that is none":     {"refused badCSR", "refused malformed", "RFC 8555 section 7.4 has badCSR for a request that is not acceptable; pebble says malformed"},
		"renewal information":      {"done", "refused", "this pebble is older than RFC 9773"},
		"replaces again":           {"refused alreadyReplaced", "obtained", "this pebble is older than RFC 9773 and passes over the field"},
		"profile":                  {"obtained", "refused", "this pebble is older than profiles; the library refuses for it"},
	}, func(a *authority, o *outcomes) {
		u := &acmezUser{t: t, w: w, a: a, o: o, solvers: solvers}
		if a.server != nil { // before the first client: the library remembers directories
			a.server.OK(t, "POST", "pki/roles/short", map[string]any{"allow_any_name": true, "key_type": "any", "ttl": "24h"})
			a.set(map[string]any{"profiles": map[string]string{"one-day": "short"}})
		}
		u.client = &acmez.Client{Client: &acme.Client{Directory: a.directory, HTTPClient: w.httpClient(), PollInterval: 100 * time.Millisecond}}
		u.issues()
		u.changesKey()
		u.isRefused()
		u.renews()
		u.usesProfiles()
		u.revokes()
	})
}

func (u *acmezUser) register() (acme.Account, error) {
	return u.client.NewAccount(u.t.Context(), acme.Account{Contact: []string{"mailto:admin@example.com"}, TermsOfServiceAgreed: true, PrivateKey: newACMEKey(u.t)})
}

func (u *acmezUser) issues() {
	account, err := u.register()
	if u.account = account; !u.step("register", "done", err) {
		u.t.FailNow()
	}
	for _, row := range [][2]string{{acme.ChallengeTypeHTTP01, "http.example.org"}, {acme.ChallengeTypeDNS01, "*.dns.example.org"}, {acme.ChallengeTypeTLSALPN01, "tls.example.org"}} {
		kind, name := row[0], row[1]
		u.a.restart()
		u.only(kind)
		chains, err := u.client.ObtainCertificateForSANs(u.t.Context(), u.account, newACMEKey(u.t), []string{name})
		if u.step(kind, "obtained", err) {
			u.w.verify(u.a, chains[0].ChainPEM, name)
		}
	}
}

func (u *acmezUser) changesKey() {
	old := u.account
	account, err := u.client.AccountKeyRollover(u.t.Context(), u.account, newACMEKey(u.t))
	if u.step("change of key", "done", err) {
		u.account = account
	}
	u.a.restart()
	old.Location = ""
	_, err = u.client.GetAccount(u.t.Context(), old)
	u.step("old key", "done", err)
	_, _, _, err = u.obtain(dnsOrder("after.example.org"))
	u.step("after the change", "obtained", err)
}

func (u *acmezUser) isRefused() {
	ctx := u.t.Context()
	wrong := u.solvers[acme.ChallengeTypeHTTP01].(*answers)
	wrong.wrong = true
	_, _, _, err := u.obtain(dnsOrder("wrong.example.org"))
	u.step("wrong answer", "obtained", err)
	wrong.wrong = false
	wrong = u.solvers[acme.ChallengeTypeTLSALPN01].(*answers)
	wrong.wrong = true
	u.only(acme.ChallengeTypeTLSALPN01)
	_, err = u.client.ObtainCertificateForSANs(ctx, u.account, newACMEKey(u.t), []string{"wrongtls.example.org"})
	u.step("wrong certificate", "obtained", err)
	wrong.wrong = false
	order := func() acme.Order {
		o, err := u.prove(dnsOrder("csr.example.org"))
		if err != nil {
			u.t.Fatal(err)
		}
		return o
	}
	_, _, err = u.finish(order(), newACMEKey(u.t), "other.example.org")
	u.step("request for another name", "obtained", err)
	_, _, err = u.finish(order(), newACMEKey(u.t), "csr.example.org", "more.example.org")
	u.step("request with more names", "obtained", err)
	_, _, err = u.finish(order(), u.account.PrivateKey, "csr.example.org")
	u.step("request with the account's key", "obtained", err)
	_, err = u.client.FinalizeOrder(ctx, u.account, order(), []byte("no request"))
	u.step("request that is none", "obtained", err)
	unproved, err := u.client.NewOrder(ctx, u.account, dnsOrder("unproved.example.org"))
	if err != nil {
		u.t.Fatal(err)
	}
	_, _, err = u.finish(unproved, newACMEKey(u.t), "unproved.example.org")
	u.step("nothing proved", "obtained", err)
	unknown := u.account
	unknown.Location += "0"
	_, err = u.client.NewOrder(ctx, unknown, dnsOrder("a.example.org"))
	u.step("unknown account", "obtained", err)
	_, err = u.client.NewOrder(ctx, u.account, acme.Order{Identifiers: []acme.Identifier{{Type: "email", Value: "a@example.org"}}})
	u.step("kind of name", "obtained", err)
	_, err = u.client.NewOrder(ctx, u.account, dnsOrder("*.*.example.org"))
	u.step("bad name", "obtained", err)
}

func (u *acmezUser) renews() {
	ctx := u.t.Context()
	_, cert, _, err := u.obtain(dnsOrder("renewed.example.org"))
	if err != nil {
		u.t.Fatal(err)
	}
	info, err := u.client.GetRenewalInfo(ctx, cert)
	if err == nil && (!info.HasWindow() || info.SuggestedWindow.Start.After(cert.NotAfter) || info.SuggestedWindow.Start.Before(cert.NotBefore)) {
		err = fmt.Errorf("window %+v of a certificate from %v to %v", info.SuggestedWindow, cert.NotBefore, cert.NotAfter)
	}
	u.step("renewal information", "done", err)
	id, err := acme.ARIUniqueIdentifier(cert)
	if err != nil {
		u.t.Fatal(err)
	}
	for _, step := range []string{"replaces", "replaces again"} {
		o := dnsOrder("renewed.example.org")
		o.Replaces = id
		_, _, _, err = u.obtain(o)
		u.step(step, "obtained", err)
		u.a.restart()
	}
}

func (u *acmezUser) usesProfiles() {
	for _, row := range [][2]string{{"profile", "one-day"}, {"unknown profile", "other"}} {
		step, o := row[0], dnsOrder("profile.example.org")
		o.Profile = row[1]
		_, cert, _, err := u.obtain(o)
		if err == nil && cert.NotAfter.Sub(cert.NotBefore) > 25*time.Hour {
			err = fmt.Errorf("the certificate is for %v", cert.NotAfter.Sub(cert.NotBefore))
		}
		u.step(step, "obtained", err)
	}
}

func (u *acmezUser) revokes() {
	ctx := u.t.Context()
	_, cert, _, err := u.obtain(dnsOrder("revoked.example.org"))
	if err != nil {
		u.t.Fatal(err)
	}
	_, other, key, err := u.obtain(dnsOrder("key.example.org"))
	if err != nil {
		u.t.Fatal(err)
	}
	stranger, err := u.register()
	if err != nil {
		u.t.Fatal(err)
	}
	u.step("revoked by a stranger", "done", u.client.RevokeCertificate(ctx, stranger, cert, stranger.PrivateKey, acme.ReasonUnspecified))
	u.step("bad reason", "done", u.client.RevokeCertificate(ctx, u.account, cert, u.account.PrivateKey, 7))
	u.step("revoked by its key", "done", u.client.RevokeCertificate(ctx, stranger, other, key, acme.ReasonKeyCompromise))
	u.step("revoke", "done", u.client.RevokeCertificate(ctx, u.account, cert, u.account.PrivateKey, acme.ReasonSuperseded))
	u.a.restart()
	u.step("revoke again", "done", u.client.RevokeCertificate(ctx, u.account, cert, u.account.PrivateKey, acme.ReasonSuperseded))
	gone := u.account
	gone.Status = acme.StatusDeactivated
	_, err = u.client.UpdateAccount(ctx, gone)
	u.step("deactivate", "done", err)
	_, err = u.client.NewOrder(ctx, u.account, dnsOrder("late.example.org"))
	u.step("deactivated", "obtained", err)
}

// TestACMEzBinding: where accounts need a binding, one with a known key gets an
// account, at both authorities; at ours once, and in the directory of the key.
func TestACMEzBinding(t *testing.T) {
	t.Parallel()
	w := newACMEWorld(t, false)
	ours, kid, mac := w.claviger(), "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	ours.set(map[string]any{"eab_policy": "new-account-required"})
	theirs := w.pebble(map[string]any{"externalAccountBindingRequired": true, "externalAccountMACKeys": map[string]string{kid: mac}})
	elsewhere := ours.server.OK(t, "POST", "pki/issuer/default/acme/new-eab", nil)
	here := ours.server.OK(t, "POST", "pki/acme/new-eab", nil)
	for a, eab := range map[*authority]acme.EAB{ours: {KeyID: here["id"].(string), MACKey: here["key"].(string)}, theirs: {KeyID: kid, MACKey: mac}} {
		client := &acme.Client{Directory: a.directory, HTTPClient: w.httpClient()}
		if d, err := client.GetDirectory(t.Context()); err != nil || d.Meta == nil || !d.Meta.ExternalAccountRequired {
			t.Errorf("%s: the directory tells nothing: %+v %v", a.name, d.Meta, err)
		}
		register := func(eab *acme.EAB) error {
			account := acme.Account{TermsOfServiceAgreed: true, PrivateKey: newACMEKey(t)}
			if eab != nil {
				if err := account.SetExternalAccountBinding(t.Context(), client, *eab); err != nil {
					return err
				}
			}
			_, err := client.NewAccount(t.Context(), account)
			return err
		}
		o := &outcomes{t: t, who: a.name, of: map[string]string{}}
		o.step("none", "done", "", register(nil))
		o.step("unknown key", "done", "", register(&acme.EAB{KeyID: "unknown", MACKey: eab.MACKey}))
		o.step("wrong key", "done", "", register(&acme.EAB{KeyID: eab.KeyID, MACKey: "AAAA" + eab.MACKey[4:]}))
		if a == ours {
			o.step("key of another directory", "done", "", register(&acme.EAB{KeyID: elsewhere["id"].(string), MACKey: elsewhere["key"].(string)}))
		}
		a.restart()
		o.step("right key", "done", "", register(&eab))
		if a == ours {
			o.step("again", "done", "", register(&eab))
		}
		want := map[string]string{"none": "refused externalAccountRequired", "unknown key": "refused unauthorized", "wrong key": "refused unauthorized",
			"key of another directory": "refused unauthorized", "right key": "done", "again": "refused unauthorized"}
		for name, got := range o.of {
			if got != want[name] {
				t.Errorf("%s: %s: %s, want %s", a.name, name, got, want[name])
			}
		}
	}
}
