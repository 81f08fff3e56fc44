package server

import "testing"

const estBody = `{"csr":"$CSR"}`

// estRows are the rows of the EST server; see matrixRows.
var estRows = map[string]matrixRow{
	"pki.est.config.read": {path: "config/est", status: 200},
	"pki.est.config.set":  {path: "config/est", body: `{"enabled":true}`, status: 200, unknown: `config/est {"default_path_policy":"role:unknown"}`},

	"pki.est.cacerts":        {path: "est/cacerts", status: 200},
	"pki.est.cacerts.label":  {path: "est/known/cacerts", status: 200, unknown: "est/unknown/cacerts"},
	"pki.est.csrattrs":       {path: "est/csrattrs", status: 200},
	"pki.est.csrattrs.label": {path: "est/known/csrattrs", status: 200, unknown: "est/unknown/csrattrs"},
	"pki.est.enroll":         {path: "est/simpleenroll", body: estBody, status: 200, unknown: `est/simpleenroll {"csr":"none"}`},
	"pki.est.enroll.label":   {path: "est/known/simpleenroll", body: estBody, status: 200, unknown: "est/unknown/simpleenroll " + estBody},

	// A certificate to renew is shown in TLS only.
	"pki.est.reenroll":       {path: "est/simplereenroll", body: estBody, status: 400, unknown: `est/simplereenroll {"csr":"none"}`},
	"pki.est.reenroll.label": {path: "est/known/simplereenroll", body: estBody, status: 400, unknown: "est/unknown/simplereenroll " + estBody},
}

// makeEST switches the EST server on.
func (m *matrix) makeEST(t *testing.T) {
	t.Helper()
	m.make(t, "pki/config/est", `{"enabled":true,"default_path_policy":"role:known","label_to_path_policy":{"known":"role:known"}}`)
}
