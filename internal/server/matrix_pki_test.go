package server

import (
	"strings"
	"testing"
)

const (
	caBody    = `{"common_name":"Matrix","key_type":"ec"}`
	namesBody = `{"common_name":"www.example.com"}`
	csrBody   = `{"common_name":"www.example.com","csr":"$CSR"}`
)

// pkiRows are the rows of the certificate authority; see matrixRows.
var pkiRows = map[string]matrixRow{
	"pki.issuers.list":         {path: "issuers", status: 200},
	"pki.issuers.read":         {path: "issuer/known", status: 200, unknown: "issuer/unknown"},
	"pki.issuers.set":          {path: "issuer/known", body: `{"issuer_name":"known"}`, status: 200, unknown: `issuer/unknown {"issuer_name":"x"}`},
	"pki.issuers.patch":        {path: "issuer/known", body: `{"leaf_not_after_behavior":"truncate"}`, status: 200, unknown: `issuer/unknown {"leaf_not_after_behavior":"err"}`},
	"pki.issuers.delete":       {path: "issuer/old", status: 204, takesAny: noMatter},
	"pki.issuers.default.read": {path: "config/issuers", status: 200},
	"pki.issuers.default.set":  {path: "config/issuers", body: `{"default":"known"}`, status: 200, unknown: `config/issuers {"default":"unknown"}`},
	"pki.root.replace":         {path: "root/replace", body: `{"default":"known"}`, status: 200, unknown: `root/replace {"default":"unknown"}`},

	"pki.keys.list":         {path: "keys", status: 200},
	"pki.keys.read":         {path: "key/known", status: 200, unknown: "key/unknown"},
	"pki.keys.set":          {path: "key/known", body: `{"key_name":"known"}`, status: 200, unknown: `key/unknown {"key_name":"x"}`},
	"pki.keys.delete":       {path: "key/old", status: 204, takesAny: noMatter},
	"pki.keys.generate":     {path: "keys/generate/internal", body: `{"key_type":"ec"}`, status: 200, unknown: `keys/generate/nothing {"key_type":"ec"}`},
	"pki.keys.default.read": {path: "config/keys", status: 200},
	"pki.keys.default.set":  {path: "config/keys", body: `{"default":"known"}`, status: 200, unknown: `config/keys {"default":"unknown"}`},

	"pki.roles.list":   {path: "roles", status: 200},
	"pki.roles.read":   {path: "roles/known", status: 200, unknown: "roles/unknown"},
	"pki.roles.set":    {path: "roles/written", body: `{"allow_any_name":true}`, status: 200, takesAny: makesIt},
	"pki.roles.patch":  {path: "roles/known", body: `{"max_ttl":"24h"}`, status: 200, unknown: `roles/unknown {"max_ttl":"24h"}`},
	"pki.roles.delete": {path: "roles/old", status: 204, takesAny: noMatter},

	"pki.root.generate":                 {path: "root/generate/internal", body: caBody, status: 200, unknown: `root/generate/nothing ` + caBody},
	"pki.root.generate.issuers":         {path: "issuers/generate/root/internal", body: caBody, status: 200, unknown: `issuers/generate/root/nothing ` + caBody},
	"pki.root.rotate":                   {path: "root/rotate/internal", body: caBody, status: 200, unknown: `root/rotate/nothing ` + caBody},
	"pki.intermediate.generate":         {path: "intermediate/generate/internal", body: caBody, status: 200, unknown: `intermediate/generate/nothing ` + caBody},
	"pki.intermediate.generate.issuers": {path: "issuers/generate/intermediate/internal", body: caBody, status: 200, unknown: `issuers/generate/intermediate/nothing ` + caBody},
	"pki.intermediate.cross":            {path: "intermediate/cross-sign", body: `{"common_name":"Matrix"}`, status: 200},
	"pki.intermediate.set":              {path: "intermediate/set-signed", body: `{"certificate":"$ROOT"}`, status: 200, unknown: `intermediate/set-signed {"certificate":"none"}`},
	"pki.config.ca":                     {path: "config/ca", body: `{"pem_bundle":"$ROOT"}`, status: 200, unknown: `config/ca {"pem_bundle":"none"}`},
	"pki.config.pkcs11ca":               {path: "config/pkcs11ca", body: `{"certificate":"$ROOT","pkcs11_key_label":"nothing"}`, status: 200, unknown: `config/pkcs11ca {"certificate":"none","pkcs11_key_label":"nothing"}`},
	"pki.issuers.import.bundle":         {path: "issuers/import/bundle", body: `{"pem_bundle":"$ROOT"}`, status: 200, unknown: `issuers/import/bundle {"pem_bundle":"none"}`},
	"pki.issuers.import.cert":           {path: "issuers/import/cert", body: `{"pem_bundle":"$ROOT"}`, status: 200, unknown: `issuers/import/cert {"pem_bundle":"none"}`},

	"pki.issue":                     {path: "issue/known", body: namesBody, status: 200, unknown: "issue/unknown " + namesBody},
	"pki.issue.issuer":              {path: "issuer/known/issue/known", body: namesBody, status: 200, unknown: "issuer/unknown/issue/known " + namesBody},
	"pki.sign":                      {path: "sign/known", body: csrBody, status: 200, unknown: `sign/unknown {"csr":"x"}`},
	"pki.sign.issuer":               {path: "issuer/known/sign/known", body: csrBody, status: 200, unknown: `issuer/unknown/sign/known {"csr":"x"}`},
	"pki.sign.verbatim":             {path: "sign-verbatim", body: csrBody, status: 200, unknown: `sign-verbatim {"csr":"x"}`},
	"pki.sign.verbatim.role":        {path: "sign-verbatim/known", body: csrBody, status: 200, unknown: `sign-verbatim/unknown {"csr":"x"}`},
	"pki.sign.verbatim.issuer":      {path: "issuer/known/sign-verbatim", body: csrBody, status: 200, unknown: `issuer/unknown/sign-verbatim {"csr":"x"}`},
	"pki.sign.verbatim.issuer.role": {path: "issuer/known/sign-verbatim/known", body: csrBody, status: 200, unknown: `issuer/known/sign-verbatim/unknown {"csr":"x"}`},
	"pki.sign.intermediate":         {path: "root/sign-intermediate", body: csrBody, status: 200, unknown: `root/sign-intermediate {"csr":"x"}`},
	"pki.sign.intermediate.issuer":  {path: "issuer/known/sign-intermediate", body: csrBody, status: 200, unknown: `issuer/unknown/sign-intermediate {"csr":"x"}`},

	"pki.urls.read":       {path: "config/urls", status: 200},
	"pki.urls.set":        {path: "config/urls", body: `{"ocsp_servers":["http://ca.example.com/ocsp"]}`, status: 200},
	"pki.cluster.read":    {path: "config/cluster", status: 200},
	"pki.cluster.set":     {path: "config/cluster", body: `{"path":"https://ca.example.com/v1/pki"}`, status: 200},
	"pki.crl.config.read": {path: "config/crl", status: 200},
	"pki.crl.config.set":  {path: "config/crl", body: `{"expiry":"80h"}`, status: 200},

	"pki.certs.list":       {path: "certs", status: 200},
	"pki.certs.detailed":   {path: "certs/detailed", status: 200},
	"pki.issuers.revoke":   {path: "issuer/revoked/revoke", status: 200, unknown: "issuer/unknown/revoke"},
	"pki.root.delete":      {path: "root", status: 200, alone: true},
	"pki.sign.self":        {path: "root/sign-self-issued", body: `{"certificate":"$ROOT"}`, status: 200, unknown: `root/sign-self-issued {"certificate":"none"}`},
	"pki.sign.self.issuer": {path: "issuer/known/sign-self-issued", body: `{"certificate":"$ROOT"}`, status: 200, unknown: `issuer/unknown/sign-self-issued {"certificate":"$ROOT"}`},
	"pki.tidy":             {path: "tidy", body: `{"tidy_cert_store":true}`, status: 202},
	"pki.tidy.status":      {path: "tidy-status", status: 200},
	"pki.tidy.cancel":      {path: "tidy-cancel", status: 200},
	"pki.tidy.auto.read":   {path: "config/auto-tidy", status: 200},
	"pki.tidy.auto.set":    {path: "config/auto-tidy", body: `{"interval_duration":"6h"}`, status: 200},
	"pki.certs.revoked":    {path: "certs/revoked", status: 200},
	"pki.cert.read":        {path: "cert/$SERIAL", status: 200, unknown: "cert/00:11"},
	"pki.cert.raw":         {path: "cert/$SERIAL/raw", status: 200, unknown: "cert/00:11/raw"},
	"pki.cert.raw.pem":     {path: "cert/$SERIAL/raw/pem", status: 200, unknown: "cert/00:11/raw/pem"},
	"pki.ca":               {path: "ca", status: 200},
	"pki.ca.pem":           {path: "ca/pem", status: 200},
	"pki.ca.chain":         {path: "ca_chain", status: 200},
	"pki.issuers.json":     {path: "issuer/known/json", status: 200, unknown: "issuer/unknown/json"},
	"pki.issuers.der":      {path: "issuer/known/der", status: 200, unknown: "issuer/unknown/der"},
	"pki.issuers.pem":      {path: "issuer/known/pem", status: 200, unknown: "issuer/unknown/pem"},

	"pki.revoke":     {path: "revoke", body: `{"serial_number":"$SERIAL"}`, status: 200, unknown: `revoke {"serial_number":"00:11"}`},
	"pki.revoke.key": {path: "revoke-with-key", body: `{"serial_number":"$SERIAL","private_key":"$PRIVATE"}`, status: 200, unknown: `revoke-with-key {"serial_number":"00:11","private_key":"x"}`},

	"pki.crl":                   {path: "crl", status: 200},
	"pki.crl.pem":               {path: "crl/pem", status: 200},
	"pki.crl.delta":             {path: "crl/delta", status: 200},
	"pki.crl.delta.pem":         {path: "crl/delta/pem", status: 200},
	"pki.issuers.crl":           {path: "issuer/known/crl", status: 200, unknown: "issuer/unknown/crl"},
	"pki.issuers.crl.der":       {path: "issuer/known/crl/der", status: 200, unknown: "issuer/unknown/crl/der"},
	"pki.issuers.crl.pem":       {path: "issuer/known/crl/pem", status: 200, unknown: "issuer/unknown/crl/pem"},
	"pki.issuers.crl.delta":     {path: "issuer/known/crl/delta", status: 200, unknown: "issuer/unknown/crl/delta"},
	"pki.issuers.crl.delta.der": {path: "issuer/known/crl/delta/der", status: 200, unknown: "issuer/unknown/crl/delta/der"},
	"pki.issuers.crl.delta.pem": {path: "issuer/known/crl/delta/pem", status: 200, unknown: "issuer/unknown/crl/delta/pem"},
	"pki.issuers.crl.shard":     {path: "issuer/known/crl/shard/4/1", status: 200, unknown: "issuer/known/crl/shard/8/1"},
	"pki.crl.rotate":            {path: "crl/rotate", status: 200},
	"pki.crl.rotate.delta":      {path: "crl/rotate-delta", status: 200},

	// A request that is none gets an answer of OCSP's own.
	"pki.ocsp.get":  {path: "ocsp/MAA=", status: 400, unknown: "ocsp/nothing"},
	"pki.ocsp.post": {path: "ocsp", body: `{}`, status: 400},
}

// makeAuthority makes the objects that pkiRows names, and returns what stands
// for them.
func (m *matrix) makeAuthority(t *testing.T) *strings.Replacer {
	t.Helper()
	m.make(t, "pki/config/cluster", `{"path":"https://ca.example.com/v1/pki"}`)
	m.make(t, "pki/config/crl", `{"auto_rebuild":true,"enable_delta":true,"shards":4}`)
	root := m.make(t, "pki/root/generate/internal", `{"common_name":"Known","key_type":"ec","issuer_name":"known","key_name":"known"}`)
	m.make(t, "pki/root/generate/internal", `{"common_name":"Old","key_type":"ec","issuer_name":"old"}`)
	m.make(t, "pki/root/generate/internal", `{"common_name":"Revoked","key_type":"ec","issuer_name":"revoked"}`)
	m.make(t, "pki/keys/generate/internal", `{"key_type":"ec","key_name":"old"}`)
	m.make(t, "pki/roles/known", `{"allowed_domains":"example.com","allow_subdomains":true,"key_type":"ec"}`)
	m.make(t, "pki/roles/old", `{}`)
	for _, path := range []string{"pki/crl/rotate", "pki/crl/rotate-delta"} {
		if a := m.call(t, m.open, "GET", path, "root", ""); a.Status != 200 {
			t.Fatalf("%s: status %d %v", path, a.Status, a.Errors)
		}
	}
	csr := m.make(t, "pki/intermediate/generate/internal", `{"common_name":"www.example.com","key_type":"ec"}`)
	leaf := m.make(t, "pki/issue/known", `{"common_name":"leaf.example.com"}`)
	revoked := m.make(t, "pki/issue/known", `{"common_name":"revoked.example.com"}`)
	m.make(t, "pki/revoke", `{"serial_number":"`+text(revoked, "serial_number")+`"}`)
	return strings.NewReplacer("$ROOT", text(root, "certificate"), "$CSR", text(csr, "csr"),
		"$SERIAL", text(leaf, "serial_number"), "$PRIVATE", text(leaf, "private_key"))
}

// text is a member of an answer's data, as it stands inside a text of JSON.
func text(a matrixAnswer, member string) string {
	s, _ := a.Data[member].(string)
	return strings.ReplaceAll(s, "\n", `\n`)
}
