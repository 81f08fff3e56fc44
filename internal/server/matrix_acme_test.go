package server

import (
	"net/http"
	"testing"
)

const jwsBody = `{"protected":"e30","payload":"","signature":"AA"}`

// acmeRows are the rows of the ACME server; see matrixRows.
var acmeRows = map[string]matrixRow{
	"pki.acme.config.read": {path: "config/acme", status: 200},
	"pki.acme.config.set":  {path: "config/acme", body: `{"enabled":true}`, status: 200, unknown: `config/acme {"default_directory_policy":"role:unknown"}`},
	"pki.acme.eab.list":    {path: "eab", status: 200},
	"pki.acme.eab.delete":  {path: "eab/old", status: 204, takesAny: noMatter},

	"pki.acme.eab.new":             {path: "acme/new-eab", status: 200},
	"pki.acme.eab.new.role":        {path: "roles/known/acme/new-eab", status: 200, unknown: "roles/unknown/acme/new-eab {}"},
	"pki.acme.eab.new.issuer":      {path: "issuer/known/acme/new-eab", status: 200, unknown: "issuer/unknown/acme/new-eab {}"},
	"pki.acme.eab.new.issuer.role": {path: "issuer/known/roles/known/acme/new-eab", status: 200, unknown: "issuer/known/roles/unknown/acme/new-eab {}"},

	"pki.acme.get":             {path: "acme/directory", status: 200, unknown: "acme/renewal-info/a.YQ"},
	"pki.acme.get.role":        {path: "roles/known/acme/directory", status: 200, unknown: "roles/unknown/acme/directory"},
	"pki.acme.get.issuer":      {path: "issuer/known/acme/directory", status: 200, unknown: "issuer/unknown/acme/directory"},
	"pki.acme.get.issuer.role": {path: "issuer/known/roles/known/acme/directory", status: 200, unknown: "issuer/unknown/roles/known/acme/directory"},

	// A signature that is none gets a problem of ACME's own.
	"pki.acme.post":             {path: "acme/new-order", body: jwsBody, status: 400, unknown: "acme/account/unknown " + jwsBody},
	"pki.acme.post.role":        {path: "roles/known/acme/new-order", body: jwsBody, status: 400, unknown: "roles/unknown/acme/new-order " + jwsBody},
	"pki.acme.post.issuer":      {path: "issuer/known/acme/new-order", body: jwsBody, status: 400, unknown: "issuer/unknown/acme/new-order " + jwsBody},
	"pki.acme.post.issuer.role": {path: "issuer/known/roles/known/acme/new-order", body: jwsBody, status: 400, unknown: "issuer/unknown/roles/known/acme/new-order " + jwsBody},
}

// makeACME switches the ACME server on.
func (m *matrix) makeACME(t *testing.T) {
	t.Helper()
	m.make(t, "pki/config/cluster", `{"path":"https://ca.example.com/v1/pki"}`)
	m.make(t, "pki/config/acme", `{"enabled":true}`)
	m.make(t, "pki/acme/new-eab", `{}`)
}

// acmeAnswered tells whether an answer is a refusal in ACME's own form, which
// RFC 8555 describes and the OpenAPI document does not.
func acmeAnswered(resp *http.Response) bool {
	kind := resp.Header.Get("Content-Type")
	return kind == "application/problem+json" || resp.StatusCode == http.StatusNotFound && kind == ""
}
