package est

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/guard"
)

// door plays the guard: it decodes and answers.
type door struct {
	data  any
	err   error
	panic bool
	req   *guard.Request
	sent  api.ESTEnroll
}

func (d *door) Handle(_ context.Context, req *guard.Request) (*guard.Answer, error) {
	if d.panic {
		panic("secret")
	}
	d.req = req
	if _, err := req.Decode(&d.sent); err != nil {
		return nil, err
	}
	return &guard.Answer{Data: d.data}, d.err
}

var next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })

func mount(_ context.Context, label string) (string, error) {
	if label == "none" {
		return "", fault.New(fault.NotFound, "there is no EST server with the label %q here", label)
	}
	if label == "sealed" {
		return "", fault.New(fault.Sealed, "Vault is sealed")
	}
	return "pki/", nil
}

func ask(t *testing.T, d *door, r *http.Request) (*http.Response, string) {
	t.Helper()
	w := httptest.NewRecorder()
	New(next, Options{Door: d, Mount: mount, MaxBody: 1000}).ServeHTTP(w, r)
	resp := w.Result()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func get(path string) *http.Request { return httptest.NewRequest("GET", path, nil) }

func post(path, contentType, body string) *http.Request {
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	return r
}

// TestPaths: what is not EST's goes to the next front, the rest to the mount of
// its label.
func TestPaths(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]struct {
		status int
		path   string
	}{
		"/v1/pki/est/cacerts":               {http.StatusTeapot, ""},
		"/.well-known/acme-challenge/x":     {http.StatusTeapot, ""},
		"/.well-known/est/cacerts":          {200, "pki/est/cacerts"},
		"/.well-known/est/a/cacerts":        {200, "pki/est/a/cacerts"},
		"/.well-known/est/a/b/cacerts":      {404, ""},
		"/.well-known/est//cacerts":         {404, ""},
		"/.well-known/est/":                 {404, ""},
		"/.well-known/est/a/":               {404, ""},
		"/.well-known/est/unknown":          {404, ""},
		"/.well-known/est/none/cacerts":     {404, ""},
		"/.well-known/est/sealed/cacerts":   {503, ""},
		"/.well-known/est/serverkeygen":     {501, ""},
		"/.well-known/est/a/fullcmc":        {501, ""},
		"/.well-known/est/simpleenroll":     {405, ""},
		"/.well-known/est/a/simplereenroll": {405, ""},
	} {
		d := &door{data: &api.ESTCertificates{Body: "AAAA\r\n"}}
		resp, text := ask(t, d, get(path))
		got := ""
		if d.req != nil {
			got = d.req.Path
			if d.req.Token != "" || d.req.As != nil {
				t.Errorf("%s: a call of somebody", path)
			}
		}
		if resp.StatusCode != want.status || got != want.path || want.status >= 400 && want.status != http.StatusTeapot && len(text) < 10 {
			t.Errorf("%s: status %d %q, path %q", path, resp.StatusCode, text, got)
		}
		if want.status == 503 && resp.Header.Get("Retry-After") != "30" || want.status == 405 && resp.Header.Get("Allow") != "POST" {
			t.Errorf("%s: header %v", path, resp.Header)
		}
	}
	if resp, _ := ask(t, &door{}, post("/.well-known/est/cacerts", "", "")); resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST cacerts: status %d %v", resp.StatusCode, resp.Header)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	const path = "/.well-known/est/simpleenroll"
	d := &door{data: &api.ESTCertificates{SerialNumber: "01", Body: "AAAA\r\n"}}
	r := post(path, "application/pkcs10; charset=x", "BODY")
	r.SetBasicAuth("anybody", "s.token")
	resp, text := ask(t, d, r)
	if h := resp.Header; resp.StatusCode != 200 || text != "AAAA\r\n" || h.Get("Content-Type") != "application/pkcs7-mime; smime-type=certs-only" ||
		h.Get("Content-Transfer-Encoding") != "base64" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("status %d %q %v", resp.StatusCode, text, resp.Header)
	}
	if d.req.Token != "s.token" || d.sent.CSR != "BODY" || d.sent.Certificates != nil || d.sent.ChannelBinding != nil {
		t.Errorf("asked %+v %+v", d.req, d.sent)
	}
	if resp, text := ask(t, &door{data: &api.ESTAttributes{}}, get("/.well-known/est/csrattrs")); resp.StatusCode != 204 || text != "" {
		t.Errorf("no attributes: status %d %q", resp.StatusCode, text)
	}
	head := httptest.NewRequest("HEAD", "/.well-known/est/csrattrs", nil)
	if resp, text := ask(t, &door{data: &api.ESTAttributes{Body: "MAA="}}, head); resp.StatusCode != 200 || text != "" || resp.Header.Get("Content-Length") != "4" {
		t.Errorf("HEAD: status %d %q %v", resp.StatusCode, text, resp.Header)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	const path = "/.well-known/est/simpleenroll"
	for _, row := range []struct {
		name, kind, body, password string
		err                        error
		panic                      bool
		status                     int
		text                       string
	}{
		{"media type", "application/json", "x", "t", nil, false, 415, "application/pkcs10, in base64"},
		{"too large", "application/pkcs10", strings.Repeat("A", 1001), "t", nil, false, 413, "larger than 1000 bytes"},
		{"invalid", "application/pkcs10", "x", "t", fault.New(fault.Invalid, "a reason"), false, 400, "a reason"},
		{"token", "application/pkcs10", "x", "t", fault.New(fault.Denied, "permission denied"), false, 401, "the password of HTTP Basic must be a client token"},
		{"nobody", "application/pkcs10", "x", "", fault.New(fault.Denied, "permission denied"), false, 401, "show a client certificate in TLS, or use HTTP Basic"},
		{"certificate", "application/pkcs10", "x", "", fault.New(fault.Denied, "it expired"), false, 401, "it expired"},
		{"internal", "application/pkcs10", "x", "t", io.ErrUnexpectedEOF, false, 500, "internal error"},
		{"panic", "application/pkcs10", "x", "t", nil, true, 500, "internal error"},
		{"unavailable", "application/pkcs10", "x", "t", fault.New(fault.Unavailable, "later"), false, 503, "later"},
		{"no answer", "application/pkcs10", "x", "t", nil, false, 500, "internal error"},
	} {
		r := post(path, row.kind, row.body)
		if row.password != "" {
			r.SetBasicAuth("", row.password)
		}
		resp, text := ask(t, &door{err: row.err, panic: row.panic}, r)
		h := resp.Header
		if resp.StatusCode != row.status || !strings.Contains(text, row.text) || strings.Contains(text, "secret") || h.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s: status %d %q %v", row.name, resp.StatusCode, text, h)
		}
		if (h.Get("WWW-Authenticate") != "") != (row.status == 401) || (h.Get("Retry-After") != "") != (row.status == 503) {
			t.Errorf("%s: %v", row.name, h)
		}
	}
}

// FuzzPath: whatever the path is, the guard is asked for what lies below est/ of
// the mount only.
func FuzzPath(f *testing.F) {
	f.Add("cacerts")
	f.Add("a/simpleenroll")
	f.Add("../../sys/seal")
	f.Fuzz(func(t *testing.T, rest string) {
		r := get("/.well-known/est/cacerts")
		r.URL.Path = prefix + rest
		d := &door{data: &api.ESTCertificates{Body: "AAAA"}}
		if resp, _ := ask(t, d, r); resp.StatusCode == http.StatusTeapot {
			t.Errorf("%q went to the next front", rest)
		}
		if d.req != nil && (!strings.HasPrefix(d.req.Path, "pki/est/") || strings.Count(d.req.Path, "/") > 3) {
			t.Errorf("%q became %q", rest, d.req.Path)
		}
	})
}
