// Package est is the way in for EST clients (RFC 7030, clarified by RFC 8951):
// paths, header fields and media types that they expect, the password of HTTP
// Basic and the certificate that TLS showed. Whom to trust and what to certify is
// the service's concern.
//
// It serves /.well-known/est/ and hands everything else to the next front. A
// client token that stands in the password is a caller like any other; without
// one, the front's own identity makes the call, and the service decides by the
// certificate.
//
// It trusts TLS: that whoever showed a certificate holds its key. It does not
// trust the certificate.
package est
