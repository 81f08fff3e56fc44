package httpwire

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

type freshAnswer struct{ made, until time.Time }

func (f freshAnswer) Fresh() (made, until time.Time) { return f.made, f.until }

func TestHeaders(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	made := now.Add(-time.Hour + time.Millisecond)
	const tag = `"cc5f82e8a0b02fb83a3d3b1eae4a8f3c"`
	body := []byte("answer")
	ask := func(data any, method string, status int, header ...string) (http.Header, bool) {
		r := httptest.NewRequest(method, "/v1/pki/crl", nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Add(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		has := Headers(w, r, data, status, body, now)
		return w.Header(), has
	}
	h, _ := ask(freshAnswer{made, now.Add(time.Minute)}, "GET", 200)
	if h.Get("Cache-Control") != "max-age=60, public, no-transform, must-revalidate" || h.Get("Expires") != "Fri, 02 Jan 2026 03:05:05 GMT" ||
		h.Get("Last-Modified") != "Fri, 02 Jan 2026 02:04:05 GMT" || len(h.Get("Etag")) != len(tag) {
		t.Errorf("%v", h)
	}
	own := h.Get("Etag")
	if h, _ := ask(freshAnswer{made: made}, "GET", 200); h.Get("Cache-Control") != "public, no-cache" || h.Get("Expires") != "" {
		t.Errorf("%v", h)
	}
	for what, f := range map[string]func() (http.Header, bool){
		"not to be kept": func() (http.Header, bool) { return ask(freshAnswer{}, "GET", 200) },
		"by POST":        func() (http.Header, bool) { return ask(freshAnswer{made, now}, "POST", 200, "If-None-Match", "*") },
		"an error":       func() (http.Header, bool) { return ask(freshAnswer{made, now}, "GET", 400, "If-None-Match", "*") },
		"of no kind":     func() (http.Header, bool) { return ask(struct{}{}, "GET", 200, "If-None-Match", "*") },
	} {
		if h, has := f(); has || len(h) > 0 {
			t.Errorf("%s: %t %v", what, has, h)
		}
	}
	for _, tc := range []struct {
		header []string
		want   bool
	}{
		{nil, false},
		{[]string{"If-None-Match", own}, true}, {[]string{"If-None-Match", "W/" + own}, true}, {[]string{"If-None-Match", `"x", ` + own}, true},
		{[]string{"If-None-Match", `"x"`, "If-None-Match", own}, true}, {[]string{"If-None-Match", "*"}, true}, {[]string{"If-None-Match", tag}, false},
		{[]string{"If-Modified-Since", "Fri, 02 Jan 2026 02:04:05 GMT"}, true}, {[]string{"If-Modified-Since", "Fri, 02 Jan 2026 02:04:04 GMT"}, false},
		{[]string{"If-Modified-Since", "yesterday"}, false},
		{[]string{"If-None-Match", tag, "If-Modified-Since", "Fri, 02 Jan 2026 02:04:05 GMT"}, false},
	} {
		if _, has := ask(freshAnswer{made, now.Add(time.Minute)}, "GET", 200, tc.header...); has != tc.want {
			t.Errorf("%q: %t", tc.header, has)
		}
	}
}
