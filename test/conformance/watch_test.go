package conformance

import (
	"net/http"
	"strings"
	"testing"

	"github.com/claviger/claviger/test/harness"
	"github.com/claviger/claviger/test/lint"
)

// watcher holds every answer of a server against the server's own OpenAPI
// document, and notes which operations were called.
type watcher struct {
	t        *testing.T
	document *Document
	good     map[string]bool // operations that were done
	bad      map[string]bool // operations that were refused
}

func watch(t *testing.T, s *harness.Server) *watcher {
	t.Helper()
	for _, engine := range Engines { // the document shows what is mounted
		s.OK(t, "POST", "sys/mounts/"+engine, map[string]any{"type": engine})
		defer s.OK(t, "DELETE", "sys/mounts/"+engine, nil)
	}
	target := &Target{Addr: s.Addr, Token: s.RootToken, client: http.DefaultClient}
	req, err := target.request(t.Context(), "GET", "sys/internal/specs/openapi", s.RootToken, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, text, err := target.do(req)
	if err != nil {
		t.Fatal(err)
	}
	document, err := ParseDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	return &watcher{t: t, document: document, good: map[string]bool{}, bad: map[string]bool{}}
}

func (w *watcher) observe(e *Exchange, req *http.Request, _ []byte, resp *http.Response, body []byte) {
	for _, complaint := range lint.Text(body) {
		w.t.Errorf("%q: %s %s: the answer breaks %s", e.Name, req.Method, req.URL.Path, complaint)
	}
	if acmeAnswer(req, resp) {
		w.note(req, resp)
		return
	}
	if resp.Header.Get("Cache-Control") != "no-store" && resp.Header.Get("Etag") == "" {
		w.t.Errorf("%s %s: Cache-Control is %q", req.Method, req.URL.Path, resp.Header.Get("Cache-Control"))
	}
	path, ok := w.note(req, resp)
	if !ok {
		return
	}
	if Wrapped(req, resp) {
		return
	}
	if err := w.document.Check(req.Method, path, resp, body); err != nil {
		w.t.Errorf("%q: %s %s: the answer is not as the OpenAPI document says: %v", e.Name, req.Method, req.URL.Path, err)
	}
}

// note remembers how an operation ended, and returns its path in the document.
func (w *watcher) note(req *http.Request, resp *http.Response) (path string, ok bool) {
	path, ok = Place(req)
	if !ok {
		return path, ok
	}
	if name, ok := w.document.Find(req.Method, path); ok {
		w.good[name] = w.good[name] || resp.StatusCode < 300
		w.bad[name] = w.bad[name] || resp.StatusCode >= 400
	}
	return path, ok
}

// acmeAnswer tells whether an answer is a refusal in ACME's own form, which RFC
// 8555 describes and the document does not.
func acmeAnswer(req *http.Request, resp *http.Response) bool {
	kind := resp.Header.Get("Content-Type")
	return strings.Contains(req.URL.Path, "/acme/") && (kind == "application/problem+json" || resp.StatusCode == http.StatusNotFound && kind == "")
}

const (
	noPool              = "it needs the files of a pool, which no exchange can make"
	needsShares         = "it needs shares, which no exchange knows"
	openGenerateRoot    = "the configuration of the tests leaves it off"
	noSignature         = "it needs a signature by an account's key, which no exchange makes"
	noTransfer          = "the embedded token takes part in no transfer"
	noClientCertificate = "it renews the certificate of a TLS client, and no exchange has one"
	nothingToAsk        = "it needs a request in DER, which no exchange makes"
	renewedElsewhere    = "leases are those of client tokens, which are renewed below auth/token"
)

// onlyGood and onlyBad are the operations that are called with one outcome only.
var (
	onlyGood = map[string]string{
		"get /sys/health":             "it refuses nothing but wrong overrides",
		"get /sys/init":               "it refuses nothing",
		"get /sys/leader":             "it refuses nothing",
		"get /sys/internal/ui/mounts": "it shows every caller what is meant for it",
		"get /sys/seal-status":        "it refuses nothing",
		"get /sys/share-set":          "it refuses nothing",
	}
	onlyBad = map[string]string{
		"post /sys/init":                                         "it is done once, before there is a token",
		"post /sys/seal":                                         "it would end the run",
		"post /sys/audit/{path}":                                 "the configuration names the audit log",
		"delete /sys/audit/{path}":                               "the configuration names the audit log",
		"post /sys/auth/{path}":                                  "there is no other way to log in",
		"post /sys/transfer/prepare":                             noTransfer,
		"post /sys/transfer/export":                              noTransfer,
		"get /sys/transfer/export":                               noTransfer,
		"post /sys/transfer/confirm":                             noTransfer,
		"post /sys/transfer/fetch":                               noTransfer,
		"post /sys/transfer/import":                              noTransfer,
		"post /sys/transfer/import/line":                         noTransfer,
		"post /sys/generate-root-token/update":                   "it needs a share, which no exchange knows",
		"post /sys/rekey/update":                                 needsShares,
		"get /sys/ceremony/{act}":                                needsShares,
		"get /sys/rekey/verify":                                  needsShares,
		"post /sys/rekey/verify":                                 needsShares,
		"delete /sys/rekey/verify":                               needsShares,
		"get /sys/rekey/backup":                                  needsShares,
		"post /sys/rotate/root/update":                           needsShares,
		"get /sys/rotate/root/verify":                            needsShares,
		"post /sys/rotate/root/verify":                           needsShares,
		"delete /sys/rotate/root/verify":                         needsShares,
		"get /sys/rotate/root/backup":                            needsShares,
		"post /sys/rotate/recovery/update":                       needsShares,
		"post /sys/rekey-recovery-key/update":                    needsShares,
		"get /sys/rotate/recovery/verify":                        needsShares,
		"get /sys/rekey-recovery-key/verify":                     needsShares,
		"post /sys/rotate/recovery/verify":                       needsShares,
		"post /sys/rekey-recovery-key/verify":                    needsShares,
		"delete /sys/rotate/recovery/verify":                     needsShares,
		"delete /sys/rekey-recovery-key/verify":                  needsShares,
		"get /sys/rotate/recovery/backup":                        needsShares,
		"get /sys/rekey/recovery-key-backup":                     needsShares,
		"get /sys/generate-root/attempt":                         openGenerateRoot,
		"post /sys/generate-root/attempt":                        openGenerateRoot,
		"delete /sys/generate-root/attempt":                      openGenerateRoot,
		"post /sys/generate-root/update":                         openGenerateRoot,
		"post /sys/leases/renew":                                 renewedElsewhere,
		"post /sys/leases/renew/{url_lease_id}":                  renewedElsewhere,
		"post /sys/renew":                                        renewedElsewhere,
		"post /sys/renew/{url_lease_id}":                         renewedElsewhere,
		"post /hmacpool/config":                                  noPool,
		"get /hmacpool/config":                                   noPool,
		"post /hmacpool/hmac":                                    noPool,
		"get /hmacpool/status":                                   noPool,
		"post /pki/ocsp":                                         nothingToAsk,
		"get /pki/ocsp/{request}":                                nothingToAsk,
		"post /pki/acme/{resource}":                              noSignature,
		"post /pki/issuer/{issuer}/acme/{resource}":              noSignature,
		"post /pki/roles/{role}/acme/{resource}":                 noSignature,
		"post /pki/issuer/{issuer}/roles/{role}/acme/{resource}": noSignature,
		"post /pki/est/simplereenroll":                           noClientCertificate,
		"post /pki/est/{label}/simplereenroll":                   noClientCertificate,
		"post /transit/keys/{name}/adopt":                        "it needs an object that another program made in the HSM token",
		"post /transit/keys/{name}/set-certificate":              "it needs a certificate of the key, which nobody here can issue",
	}
)

// complete fails for operations without an exchange.
func (w *watcher) complete(t *testing.T) {
	t.Helper()
	for _, o := range w.document.Operations() {
		if !w.good[o] && onlyBad[o] == "" {
			t.Errorf("no exchange does %q: add one to a file of %s", o, Dir)
		}
		if !w.bad[o] && onlyGood[o] == "" {
			t.Errorf("no exchange is refused by %q: add one to a file of %s", o, Dir)
		}
		if w.good[o] && onlyBad[o] != "" || w.bad[o] && onlyGood[o] != "" && o != "get /sys/health" {
			t.Errorf("%q is done and refused: take it out of onlyGood and onlyBad", o)
		}
	}
}
