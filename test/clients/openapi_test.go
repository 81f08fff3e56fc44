package clients

import (
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"github.com/claviger/claviger/test/harness"
)

// TestOpenAPIDocument holds the document that claviger prints against the
// OpenAPI specification's own schema.
func TestOpenAPIDocument(t *testing.T) {
	t.Parallel()
	text, err := exec.Command(harness.Binary(t), "openapi").Output()
	if err != nil {
		t.Fatal(err)
	}
	document, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := document.BuildV3Model(); err != nil {
		t.Errorf("building the model: %v", err)
	}
	v, errs := validator.NewValidator(document)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if valid, problems := v.ValidateDocument(); !valid {
		for _, p := range problems {
			t.Errorf("%s: %s", p.Message, p.Reason)
			for _, s := range p.SchemaValidationErrors {
				t.Errorf("  %s at %s", s.Reason, s.Location)
			}
		}
	}
}

// TestAnswersFollowTheDocument holds calls and their answers against the
// document that the server gives.
func TestAnswersFollowTheDocument(t *testing.T) {
	t.Parallel()
	s := harness.Dev(t)
	send := func(method, path, body string) (*http.Request, *http.Response) {
		req, err := http.NewRequest(method, s.Addr+"/v1/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Vault-Token", s.RootToken)
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return req, resp
	}
	_, resp := send("GET", "sys/internal/specs/openapi", "")
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	document, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(document)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "transit/keys/aes", `{"type":"aes256-gcm96"}`, 200},
		{"POST", "transit/keys/p256", `{"type":"ecdsa-p256"}`, 200},
		{"GET", "transit/keys/p256", "", 200},
		{"GET", "transit/keys?list=true", "", 200},
		{"GET", "transit/keys/unknown", "", 404},
		{"POST", "transit/encrypt/aes", `{"plaintext":"aGk="}`, 200},
		{"POST", "transit/encrypt/aes", `{"batch_input":[{"plaintext":"aGk=","reference":"r"},{"plaintext":""}]}`, 200},
		{"POST", "transit/decrypt/aes", `{"ciphertext":"vault:v1:AAAA"}`, 400},
		{"POST", "transit/sign/p256", `{"input":"aGk="}`, 200},
		{"POST", "transit/random/16", `{}`, 200},
		{"GET", "transit/export/public-key/p256", "", 200},
		{"DELETE", "transit/keys/aes", "", 400},
		{"GET", "sys/health", "", 200},
		{"GET", "sys/seal-status", "", 200},
		{"GET", "sys/hsm", "", 200},
		{"GET", "sys/mounts", "", 200},
		{"POST", "sys/policies/acl/p", `{"policy":"path \"x\" {}"}`, 204},
		{"GET", "sys/policies/acl/p", "", 200},
		{"GET", "sys/policy", "", 200},
		{"POST", "sys/capabilities-self", `{"paths":["x"]}`, 200},
		{"POST", "auth/token/create", `{"ttl":"1h"}`, 200},
		{"GET", "auth/token/lookup-self", "", 200},
	} {
		req, resp := send(c.method, c.path, c.body)
		if resp.StatusCode != c.status {
			t.Errorf("%s %s: status %d, want %d", c.method, c.path, resp.StatusCode, c.status)
		}
		req.Body = io.NopCloser(strings.NewReader(c.body))
		if valid, problems := v.ValidateHttpRequestResponse(req, resp); !valid {
			for _, p := range problems {
				t.Errorf("%s %s: %v", c.method, c.path, p)
			}
		}
	}
}
