package vault

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzRequest: whatever a request holds, the answer is a final status that blames
// the right side, never a redirect, and its body is JSON.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/v1/keys/", "list=true&l=a", "", "")
	f.Add("PUT", "/v1/echo", "", "application/json", `{"s":"x","b":"AA==","l":["a"]}`)
	f.Add("POST", "/v1/echo", "", "application/x-www-form-urlencoded", "s=x&i=5")
	f.Add("PUT", "/v1/batch", "", "", `{"i":301}`)
	f.Add("PATCH", "//v1/../echo", "%zz;", "application/merge-patch+json", "")
	f.Add("HEAD", "/v1/sys/health", "activecode=99", "", "")
	d := &testDoor{}
	defineTable(d)
	var logged bytes.Buffer
	h := New(d, Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	f.Fuzz(func(t *testing.T, method, path, query, contentType, body string) {
		for _, p := range []string{"fail", "foreign", "panic", "unencodable", "wait", "raw"} {
			if strings.Contains(path, p) {
				return // these fail on purpose
			}
		}
		logged.Reset()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, &http.Request{
			Method:        method,
			URL:           &url.URL{Path: path, RawQuery: query},
			Header:        http.Header{"X-Vault-Token": {"good"}, "Content-Type": {contentType}},
			Body:          io.NopCloser(strings.NewReader(body)),
			ContentLength: int64(len(body)),
		})
		chosen := strings.Contains(path, "batch") || strings.Contains(path, "health") // the caller chose the status
		if w.Code < 200 || w.Code >= 300 && w.Code < 400 && !chosen || w.Code >= 500 && !chosen || logged.Len() > 0 {
			t.Fatalf("status %d, log %s", w.Code, &logged)
		}
		if w.Body.Len() > 0 && w.Header().Get("Content-Type") == "application/json" && !json.Valid(w.Body.Bytes()) {
			t.Fatalf("not JSON: %s", w.Body)
		}
	})
}
