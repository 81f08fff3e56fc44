package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const whyIncorrect = "RFC 8555 section 6.7 has incorrectResponse for an answer that does not match the challenge; pebble says unauthorized"

// http01 is a command that puts the answer to a challenge where it is looked for:
// token and value are expressions of the shell. dns01 is the same for DNS.
func (w *acmeWorld) http01(token, value string) string {
	return fmt.Sprintf(`printf '{"token":"%%s","content":"%%s"}' "%s" "%s" | curl -sf -o /dev/null --data-binary @- %s/add-http01`, token, value, w.manage)
}

func (w *acmeWorld) dns01(name, value string) string {
	return fmt.Sprintf(`printf '{"host":"%%s","value":"%%s"}' "%s" "%s" | curl -sf -o /dev/null --data-binary @- %s/set-txt`, name, value, w.manage)
}

// TestACMECertbot: certificates by HTTP and by DNS, renewal, revocation, and
// what must fail.
func TestACMECertbot(t *testing.T) {
	t.Parallel()
	needFull(t)
	needProgram(t, "certbot", "certbot")
	w := newACMEWorld(t, true)
	const refused = "refused incorrectResponse"
	onBoth(t, w, map[string]string{
		"register": "done", "http-01": "obtained", "renew": "obtained", "dns-01": "obtained", "wrong answer": refused,
		"no such name": "refused dns", "revoke": "done", "revoke again": "refused alreadyRevoked", "unregister": "done",
	}, map[string]difference{
		"wrong answer": {refused, "refused unauthorized", whyIncorrect},
		"no such name": {"refused dns", "refused connection", "RFC 8555 section 6.7 has dns for a name that can't be looked up; pebble says connection"},
	}, func(a *authority, o *outcomes) {
		dir := t.TempDir()
		common := []string{"--server", a.directory, "--config-dir", dir + "/c", "--work-dir", dir + "/w", "--non-interactive"}
		certbot := func(step, good string, args ...string) {
			logs := t.TempDir()
			out, err := w.program(nil, "certbot", append(append(args, common...), "--logs-dir", logs)...)
			if log, lerr := os.ReadFile(logs + "/letsencrypt.log"); lerr == nil {
				out += string(log) // has the types of problems, which certbot does not print
			}
			o.step(step, good, out, err)
		}
		file := w.script(w.http01("$CERTBOT_TOKEN", "$CERTBOT_VALIDATION"))
		wrong := w.script(w.http01("$CERTBOT_TOKEN", "wrong"))
		text := w.script(w.dns01("_acme-challenge.$CERTBOT_DOMAIN.", "$CERTBOT_VALIDATION"))
		manual := func(challenge, hook string, names ...string) []string {
			args := []string{"certonly", "--manual", "--preferred-challenges", challenge, "--manual-auth-hook", hook}
			for _, n := range names {
				args = append(args, "-d", n)
			}
			return args
		}
		certbot("register", "done", "register", "--agree-tos", "-m", "admin@example.com")
		a.restart()
		certbot("http-01", "obtained", manual("http", file, "a.example.com", "b.example.com")...)
		w.verifyFile(a, dir+"/c/live/a.example.com/fullchain.pem", "a.example.com", "b.example.com")
		a.restart()
		certbot("renew", "obtained", "renew", "--force-renewal", "--no-random-sleep-on-renew")
		w.verifyFile(a, dir+"/c/live/a.example.com/fullchain.pem", "a.example.com", "b.example.com")
		certbot("dns-01", "obtained", manual("dns", text, "*.w.example.com")...)
		w.verifyFile(a, dir+"/c/live/w.example.com/fullchain.pem", "*.w.example.com")
		certbot("wrong answer", "obtained", manual("http", wrong, "c.example.com")...)
		w.tell("set-servfail", map[string]any{"host": "servfail.example.com."})
		certbot("no such name", "obtained", manual("http", file, "servfail.example.com")...)
		revoke := []string{"revoke", "--cert-path", dir + "/c/live/a.example.com/cert.pem", "--reason", "superseded", "--no-delete-after-revoke"}
		certbot("revoke", "done", revoke...)
		a.restart()
		certbot("revoke again", "done", revoke...)
		certbot("unregister", "done", "unregister")
	})
}

// TestACMELego: certificates by TLS, by HTTP and by DNS, renewal, revocation, and
// what must fail.
func TestACMELego(t *testing.T) {
	t.Parallel()
	needProgram(t, "lego", "lego")
	w := newACMEWorld(t, false)
	onBoth(t, w, map[string]string{
		"tls-alpn-01": "obtained", "http-01": "obtained", "dns-01": "obtained", "renew": "obtained", "nobody answers": "refused connection",
		"revoke": "done", "revoke again": "refused alreadyRevoked",
	}, nil, func(a *authority, o *outcomes) {
		dir := t.TempDir()
		common := []string{"--server", a.directory, "--path", dir, "--email", "admin@example.com", "--accept-tos"}
		lego := func(step, good string, args ...string) {
			hook := w.script(`[ "$1" = present ] || exit 0; ` + w.dns01("$2", "$3"))
			out, err := w.program([]string{"EXEC_PATH=" + hook, "EXEC_POLLING_INTERVAL=1"}, "lego", append(common[:len(common):len(common)], args...)...)
			o.step(step, good, out, err)
		}
		tls := []string{"--tls", "--tls.port", fmt.Sprintf("127.0.0.1:%d", w.tlsPort), "-d", "tls.example.org"}
		with := func(list []string, more ...string) []string { return append(list[:len(list):len(list)], more...) }
		lego("tls-alpn-01", "obtained", with(tls, "run")...)
		w.verifyFile(a, dir+"/certificates/tls.example.org.crt", "tls.example.org")
		a.restart()
		lego("http-01", "obtained", "--http", "--http.port", fmt.Sprintf("127.0.0.1:%d", w.httpPort), "-d", "http.example.org", "run")
		w.verifyFile(a, dir+"/certificates/http.example.org.crt", "http.example.org")
		lego("dns-01", "obtained", "--dns", "exec", "--dns.disable-cp", "--dns.resolvers", w.dns, "-d", "*.dns.example.org", "run")
		w.verifyFile(a, dir+"/certificates/_.dns.example.org.crt", "*.dns.example.org")
		a.restart()
		lego("renew", "obtained", with(tls, "renew", "--days", "36500", "--no-random-sleep")...)
		lego("nobody answers", "obtained", "--http", "--http.port", fmt.Sprintf("127.0.0.1:%d", freePort(t)), "-d", "closed.example.org", "run")
		lego("revoke", "done", with(tls, "revoke", "--keep")...)
		a.restart()
		lego("revoke again", "done", with(tls, "revoke", "--keep")...)
	})
}

// TestACMEDehydrated: a certificate with its hook, again, and what must fail.
func TestACMEDehydrated(t *testing.T) {
	t.Parallel()
	needFull(t)
	needProgram(t, "dehydrated", "dehydrated")
	w := newACMEWorld(t, true)
	const refused = "refused incorrectResponse"
	onBoth(t, w, map[string]string{
		"register": "done", "http-01": "obtained", "renew": "obtained", "dns-01": "obtained", "wrong answer": refused,
		"revoke": "done", "revoke again": "refused alreadyRevoked",
	}, map[string]difference{
		"wrong answer": {refused, "refused unauthorized", whyIncorrect},
	}, func(a *authority, o *outcomes) {
		dir := t.TempDir()
		hook := w.script(`[ "$1" = deploy_challenge ] || exit 0
value=$4; [ -z "$WRONG" ] || value=wrong
if [ -n "$BY_DNS" ]; then ` + w.dns01("_acme-challenge.$2.", "$value") + `; else ` + w.http01("$3", "$value") + `; fi`)
		conf := filepath.Join(dir, "config")
		text := fmt.Sprintf("CA=%q\nBASEDIR=%q\nWELLKNOWN=%q\nHOOK=%q\nCONTACT_EMAIL=admin@example.com\nKEY_ALGO=prime256v1\n", a.directory, dir, dir, hook)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		dehydrated := func(step, good, env string, args ...string) {
			out, err := w.program(strings.Fields(env), "dehydrated", append([]string{"-f", conf}, args...)...)
			o.step(step, good, out, err)
		}
		dehydrated("register", "done", "", "--register", "--accept-terms")
		for _, step := range []string{"http-01", "renew"} {
			a.restart()
			dehydrated(step, "obtained", "", "-c", "-x", "-d", "dehydrated.example.org")
			w.verifyFile(a, dir+"/certs/dehydrated.example.org/fullchain.pem", "dehydrated.example.org")
		}
		dehydrated("dns-01", "obtained", "BY_DNS=1", "-c", "-t", "dns-01", "-d", "*.d.example.org", "--alias", "wild")
		w.verifyFile(a, dir+"/certs/wild/fullchain.pem", "*.d.example.org")
		dehydrated("wrong answer", "obtained", "WRONG=1", "-c", "-d", "wrong.example.org")
		cert := dir + "/certs/dehydrated.example.org/cert.pem"
		kept := filepath.Join(dir, "kept.pem")
		if text, err := os.ReadFile(cert); err != nil || os.WriteFile(kept, text, 0o600) != nil {
			t.Error(err)
		}
		dehydrated("revoke", "done", "", "--revoke", kept)
		a.restart()
		if _, err := os.Stat(kept); err != nil { // it renames what it revoked
			kept += "-revoked"
		}
		dehydrated("revoke again", "done", "", "--revoke", kept)
	})
}

// TestACMEUacme: certificates with its hook, change of its key, and what must fail.
func TestACMEUacme(t *testing.T) {
	t.Parallel()
	needFull(t)
	needProgram(t, "uacme", "uacme")
	w := newACMEWorld(t, true)
	// Its library takes the roots of the system only, so it gets others in their place.
	run := []string{"-rm", "sh", "-c", `mount --bind "$TRUST" /etc/ssl/certs/ca-certificates.crt && exec "$@"`, "sh"}
	if out, err := w.program([]string{"TRUST=" + w.trust}, "unshare", append(run, "true")...); err != nil {
		t.Skipf("no user and mount namespaces here: %v %s", err, out)
	}
	const refused = "refused incorrectResponse"
	onBoth(t, w, map[string]string{
		"register": "done", "http-01": "obtained", "change of key": "done", "renew": "obtained", "dns-01": "obtained", "wrong answer": refused,
		"revoke": "done", "revoke again": "refused alreadyRevoked", "deactivate": "done", "deactivated": "refused unauthorized",
	}, map[string]difference{
		"wrong answer": {refused, "refused unauthorized", whyIncorrect},
	}, func(a *authority, o *outcomes) {
		dir := t.TempDir()
		hook := w.script(`[ "$1" = begin ] || exit 0
value=$5; [ -z "$WRONG" ] || value=wrong
case "$2:$BY_DNS" in
http-01:) ` + w.http01("$4", "$value") + `;;
dns-01:1) ` + w.dns01("_acme-challenge.$3.", "$value") + `;;
*) exit 1;;
esac`)
		uacme := func(step, good, env string, args ...string) {
			args = append([]string{"uacme", "-a", a.directory, "-c", dir, "-v", "-v", "-y", "-h", hook, "-t", "EC"}, args...)
			out, err := w.program(append(strings.Fields(env), "TRUST="+w.trust), "unshare", append(run[:len(run):len(run)], args...)...)
			o.step(step, good, out, err)
		}
		uacme("register", "done", "", "new", "admin@example.com")
		uacme("http-01", "obtained", "", "issue", "uacme.example.org")
		a.restart()
		uacme("change of key", "done", "", "newkey")
		uacme("renew", "obtained", "", "-f", "issue", "uacme.example.org")
		w.verifyFile(a, dir+"/uacme.example.org/cert.pem", "uacme.example.org")
		uacme("dns-01", "obtained", "BY_DNS=1", "issue", "*.u.example.org")
		uacme("wrong answer", "obtained", "WRONG=1", "issue", "wrong.example.org")
		cert, kept := dir+"/uacme.example.org/cert.pem", filepath.Join(dir, "kept.pem")
		text, err := os.ReadFile(cert)
		if err != nil || os.WriteFile(kept, text, 0o600) != nil {
			t.Error(err)
		}
		uacme("revoke", "done", "", "revoke", cert)
		a.restart()
		uacme("revoke again", "done", "", "revoke", kept)
		uacme("deactivate", "done", "", "deactivate")
		uacme("deactivated", "obtained", "", "-f", "issue", "late.example.org")
	})
}
