package distribution

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/guard"
)

// door answers every call with what it was asked.
type door struct {
	err   error
	calls []string
}

type answered struct{ contentType, body string }

func (a *answered) Raw() (string, []byte) { return a.contentType, []byte(a.body) }

func (a *answered) Fresh() (made, until time.Time) { return time.Unix(1e9, 0), time.Time{} }

func (d *door) Handle(_ context.Context, r *guard.Request) (*guard.Answer, error) {
	call := fmt.Sprintf("%v %s", r.Verb, r.Path)
	if r.Token != "" || r.As != nil {
		call += " as somebody"
	}
	if r.Decode != nil {
		var o api.PKIOCSP
		if _, err := r.Decode(&o); err != nil {
			return nil, err
		}
		call += fmt.Sprintf(" %x", o.DER)
	}
	d.calls = append(d.calls, call)
	if d.err != nil {
		return nil, d.err
	}
	if strings.HasSuffix(r.Path, "panic/der") {
		panic("a bug")
	}
	return &guard.Answer{Data: &answered{"application/pkix-crl", "the body"}}, nil
}

func newFront(t testing.TB, d *door) *Front {
	t.Helper()
	f, err := New(Options{Door: d, Mounts: []string{"pki/", "pki/inner/"}, MaxBody: 64, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func send(f *Front, method, target string, header http.Header, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://host/", strings.NewReader(body))
	r.URL.Path = target
	if header != nil {
		r.Header = header
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		method, path string
		status       int
		call         string // "" if the guard must not be asked
	}{
		{"GET", "/v1/pki/ca", 200, "read pki/ca"},
		{"HEAD", "/v1/pki/ca/pem", 200, "read pki/ca/pem"},
		{"GET", "/v1/pki/ca_chain", 200, "read pki/ca_chain"},
		{"GET", "/v1/pki/crl", 200, "read pki/crl"},
		{"GET", "/v1/pki/crl/delta/pem", 200, "read pki/crl/delta/pem"},
		{"GET", "/v1/pki/issuer/a.b-c/crl/der", 200, "read pki/issuer/a.b-c/crl/der"},
		{"GET", "/v1/pki/issuer/a/crl/delta/pem", 200, "read pki/issuer/a/crl/delta/pem"},
		{"GET", "/v1/pki/issuer/a/pem", 200, "read pki/issuer/a/pem"},
		{"GET", "/v1/pki/issuer/a/crl/shard/4/3", 200, "read pki/issuer/a/crl/shard/4/3"},
		{"GET", "/v1/pki/issuer/a/crl/shard/4/x", 404, ""},
		{"GET", "/v1/pki/inner/crl", 200, "read pki/inner/crl"},
		{"GET", "/v1/pki/ocsp/MAMCAQE=", 200, "write pki/ocsp 3003020101"},
		{"GET", "/v1/pki/ocsp/MAUEA////w", 200, "write pki/ocsp 30050403ffffff"}, // what the API's paths can't carry
		{"GET", "/v1/pki/ocsp/MAQEAv//", 200, "write pki/ocsp 30040402ffff"},
		{"GET", "/v1/pki/ocsp", 400, ""},
		{"GET", "/v1/pki/ocsp/", 400, ""},
		{"GET", "/v1/pki/ocsp/!!", 400, ""},
		{"GET", "/v1/pki/ocsp/" + strings.Repeat("A", 65), 400, ""},
		{"GET", "/", 404, ""},
		{"GET", "/v1/pki", 404, ""},
		{"GET", "/v1/pki/", 404, ""},
		{"GET", "/v1/pkix/ca", 404, ""},
		{"GET", "/v2/pki/ca", 404, ""},
		{"GET", "/v1/other/ca", 404, ""},
		{"GET", "/v1/pki/ca/", 404, ""},
		{"GET", "/v1/pki/certs", 404, ""},
		{"GET", "/v1/pki/cert/ca", 404, ""},
		{"GET", "/v1/pki/config/urls", 404, ""},
		{"GET", "/v1/pki/issuer/a", 404, ""},
		{"GET", "/v1/pki/issuer/a/crl", 404, ""},
		{"GET", "/v1/pki/issuer/a\nb/der", 404, ""},
		{"GET", "/v1/pki/issuer/a/json", 404, ""},
		{"GET", "/v1/pki/acme/directory", 404, ""},
		{"GET", "/v1/pki/inner/../certs", 404, ""},
		{"GET", "/v1/sys/health", 404, ""},
		{"POST", "/v1/pki/crl", 405, ""},
		{"DELETE", "/v1/pki/ca", 405, ""},
		{"LIST", "/v1/pki/ca", 405, ""},
		{"POST", "/v1/pki/ocsp/MAMCAQE=", 405, ""},
		{"PUT", "/v1/pki/ocsp", 405, ""},
		{"POST", "/v1/pki/issue/web", 404, ""},
		{"GET", "/v1/pki/issuer/panic/der", 500, "read pki/issuer/panic/der"},
	} {
		d := new(door)
		w := send(newFront(t, d), tt.method, tt.path, http.Header{"X-Vault-Token": {"s.token"}, "Authorization": {"Bearer x"}}, "")
		if w.Code != tt.status || strings.Join(d.calls, "; ") != tt.call {
			t.Errorf("%s %q: status %d, asked %q; want %d, %q", tt.method, tt.path, w.Code, d.calls, tt.status, tt.call)
		}
		if w.Code == 200 && (w.Body.Len() == 0) != (tt.method == "HEAD") {
			t.Errorf("%s %s: body of %d bytes", tt.method, tt.path, w.Body.Len())
		}
	}
}

func TestPost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		contentType, body string
		status            int
	}{
		{"application/ocsp-request", "\x30\x03\x02\x01\x01", 200},
		{"Application/OCSP-request; x=y", "\x30\x03\x02\x01\x01", 200},
		{"application/json", "{}", 415},
		{"", "{}", 415},
		{"application/ocsp-request", strings.Repeat("x", 65), 413},
	} {
		d := new(door)
		w := send(newFront(t, d), "POST", "/v1/pki/ocsp", http.Header{"Content-Type": {tt.contentType}}, tt.body)
		if w.Code != tt.status || (len(d.calls) == 1) != (tt.status == 200) {
			t.Errorf("%q: status %d, asked %q", tt.contentType, w.Code, d.calls)
		}
		if w.Code == 200 && (d.calls[0] != "write pki/ocsp 3003020101" || w.Header().Get("Cache-Control") != "no-store") {
			t.Errorf("asked %q, header %v", d.calls, w.Header())
		}
	}
}

// TestCaches: a cache keeps an answer, and is told whether it is still the one.
func TestCaches(t *testing.T) {
	t.Parallel()
	f := newFront(t, new(door))
	first := send(f, "GET", "/v1/pki/crl", nil, "")
	tag := first.Header().Get("ETag")
	if tag == "" || first.Header().Get("Cache-Control") != "public, no-cache" || first.Body.String() != "the body" {
		t.Fatalf("%v %s", first.Header(), first.Body)
	}
	again := send(f, "GET", "/v1/pki/crl", http.Header{"If-None-Match": {`"x", ` + tag}}, "")
	if again.Code != 304 || again.Body.Len() > 0 {
		t.Errorf("status %d %s", again.Code, again.Body)
	}
	if since := send(f, "HEAD", "/v1/pki/crl", http.Header{"If-Modified-Since": first.Header()["Last-Modified"]}, ""); since.Code != 304 {
		t.Errorf("status %d", since.Code)
	}
	if other := send(f, "GET", "/v1/pki/crl", http.Header{"If-None-Match": {`"x"`}}, ""); other.Code != 200 {
		t.Errorf("status %d", other.Code)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err    error
		status int
		text   string
	}{
		{fault.New(fault.Sealed, "sealed"), 503, "sealed"},
		{fault.New(fault.NotFound, "no such issuer"), 404, "no such issuer"},
		{fault.New(fault.Denied, "permission denied"), 404, "there is nothing here"},
		{errors.New("the store's secret"), 500, "internal error"},
	} {
		w := send(newFront(t, &door{err: tt.err}), "GET", "/v1/pki/crl", nil, "")
		if w.Code != tt.status || !strings.HasPrefix(w.Body.String(), tt.text) || w.Header().Get("ETag") != "" {
			t.Errorf("%v: status %d %s", tt.err, w.Code, w.Body)
		}
	}
	for _, o := range []Options{{Door: new(door)}, {Mounts: []string{"pki/"}}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v makes a front", o)
		}
	}
}

// FuzzRequest: whatever the path, nothing but the reads of the mounts' authorities
// reaches the guard, and there is an answer.
func FuzzRequest(f *testing.F) {
	for _, path := range []string{"/v1/pki/crl", "/v1/pki/issuer/a/der", "/v1/pki/ocsp/MAMCAQE=", "/v1/pki/inner/ca_chain", "/v1/sys/seal", "/v1/pki//crl", "/v1/pki/issuer/%2e%2e/der"} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			f.Add(method, path, []byte("\x30\x00"))
		}
	}
	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		d := new(door)
		r := httptest.NewRequest("GET", "http://host/", io.NopCloser(bytes.NewReader(body)))
		r.Method, r.URL = method, &url.URL{Path: path}
		r.Header.Set("Content-Type", "application/ocsp-request")
		w := httptest.NewRecorder()
		newFront(t, d).ServeHTTP(w, r)
		for _, call := range d.calls {
			verb, rest, _ := strings.Cut(call, " pki/")
			rest = strings.TrimPrefix(rest, "inner/")
			switch {
			case verb == "write" && (rest == "ocsp" || strings.HasPrefix(rest, "ocsp ")):
			case verb == "read" && (strings.HasPrefix(rest, "ca") || strings.HasPrefix(rest, "crl") || strings.HasPrefix(rest, "issuer/")) && method != "POST":
			default:
				t.Errorf("%s %q asked for %q", method, path, call)
			}
		}
		if w.Code < 200 || w.Code > 599 {
			t.Errorf("status %d", w.Code)
		}
	})
}
