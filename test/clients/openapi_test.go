package clients

import (
	"bytes"
	"cmp"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	problems "github.com/pb33f/libopenapi-validator/errors"

	"github.com/claviger/claviger/test/conformance"
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

// TestAnswersFollowTheDocument plays the exchanges of the conformance suite and holds
// the answers, and the requests that were done, against the document.
func TestAnswersFollowTheDocument(t *testing.T) {
	t.Parallel()
	s := harness.Dev(t)
	files, err := conformance.Load()
	if err != nil {
		t.Fatal(err)
	}
	c := newDocumentCheck(t, s)
	target := &conformance.Target{Addr: s.Addr, Token: s.RootToken, Observe: c.observe}
	for _, f := range files {
		if _, err := target.Play(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	if c.answers < 300 || c.requests < 100 {
		t.Errorf("only %d answers and %d requests were checked", c.answers, c.requests)
	}
}

type documentCheck struct {
	t                 *testing.T
	addr              string
	document          *conformance.Document
	validator         validator.Validator
	answers, requests int
}

func newDocumentCheck(t *testing.T, s *harness.Server) *documentCheck {
	t.Helper()
	text, err := exec.Command(harness.Binary(t), "openapi").Output()
	if err != nil {
		t.Fatal(err)
	}
	model, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(model)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	document, err := conformance.ParseDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	return &documentCheck{t: t, addr: s.Addr, document: document, validator: v}
}

// methods are those of the document for others that mean the same.
var methods = map[string]string{"LIST": "GET", "PUT": "POST"}

func (c *documentCheck) observe(e *conformance.Exchange, req *http.Request, sent []byte, resp *http.Response, body []byte) {
	path, ok := conformance.Place(req)
	name, described := c.document.Find(req.Method, path)
	if !ok || !described || conformance.Wrapped(req, resp) || req.Method == http.MethodHead {
		return
	}
	_, pattern, _ := strings.Cut(name, " ")
	if short, ok := conformance.OneSegment(pattern); ok {
		path = short
	}
	query := req.URL.RawQuery
	if req.Method == "LIST" {
		query = "list=true"
	}
	method := cmp.Or(methods[req.Method], req.Method)
	documented, err := http.NewRequest(method, c.addr+"/v1"+strings.TrimRight(path, "/")+"?"+query, bytes.NewReader(sent))
	if err != nil {
		c.t.Fatal(err)
	}
	documented.Header.Set("X-Vault-Token", "any")
	if len(sent) > 0 {
		documented.Header.Set("Content-Type", "application/json") // whatever it calls itself
		if req.Method == http.MethodPatch {
			documented.Header.Set("Content-Type", req.Header.Get("Content-Type"))
		}
	}
	if resp.StatusCode < 300 && !e.Loose {
		c.requests++
		c.report(e, c.validator.ValidateHttpRequest, documented)
	}
	if refusedBefore[resp.StatusCode] || resp.Header.Get("Content-Type") == "application/problem+json" { // ACME's own form
		return
	}
	c.answers++
	c.report(e, func(req *http.Request) (bool, []*problems.ValidationError) {
		return c.validator.ValidateHttpResponse(req, &http.Response{
			StatusCode: resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(body)), Request: req,
		})
	}, documented)
}

// refusedBefore are the statuses of requests that belong to no operation, because of
// their verb or their headers.
var refusedBefore = map[int]bool{404: true, 405: true, 415: true}

func (c *documentCheck) report(e *conformance.Exchange, validate func(*http.Request) (bool, []*problems.ValidationError), req *http.Request) {
	valid, list := validate(req)
	if valid {
		return
	}
	for _, p := range list {
		c.t.Errorf("%q: %s %s: %v", e.Name, req.Method, req.URL.Path, p)
	}
}
