// Package acme is what of the ACME protocol (RFC 8555) needs no records: signed
// requests, nonces, rate limits, problem documents, and the validation of names
// (http-01, dns-01, RFC 8555 section 8; tls-alpn-01, RFC 8737).
//
// Promise: a request counts only with an asymmetric signature over its URL and
// with a nonce of this process that was not used before. Validation connects
// only to public addresses and to networks that were allowed by name, whatever
// names resolve to and wherever a web server redirects.
//
// It trusts its caller for the keys of accounts and for what the rules say.
package acme
