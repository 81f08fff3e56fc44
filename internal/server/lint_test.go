package server

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/claviger/claviger/test/lint"
)

// lintAuthorities complains of everything that the authorities of a server signed
// and that breaks the rules for certificates, CRLs and OCSP answers.
func lintAuthorities(t *testing.T, s *Server, token string) {
	if token == "" || s == nil {
		return
	}
	_, complaints := lint.Authorities(func(method, path string) (int, []byte, error) {
		r := httptest.NewRequest(method, "/v1/"+path, http.NoBody)
		r.Header.Set("X-Vault-Token", token)
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		return w.Code, w.Body.Bytes(), nil
	})
	for _, c := range complaints {
		t.Error(c)
	}
}
