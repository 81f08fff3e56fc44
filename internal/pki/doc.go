// Package pki is the certificate authority: issuers whose keys are named keys
// of the HSM token, roles that say what may be issued, and the certificates.
//
// A certificate is made in steps that the types enforce:
//
//	profile   what is to be certified, from role and request; no name is in it
//	          that the role does not allow
//	prepared  the TBSCertificate that will be signed, byte for byte
//	linted    the same, after a linter found nothing wrong with these bytes
//	intent    a record that these bytes are about to be signed
//	signed    the certificate, its signature verified, and its record
//
// sign takes nothing but a linted certificate, and a linted one is made of a
// prepared one only.
//
// Promise: no certificate leaves without a record of it, unless its role says
// no_store; after a crash between intent and record the intent is the record,
// and the certificate counts as revoked. A serial number is never used twice.
//
// It trusts internal/keys for the keys, the store for its records, and the
// guard for who may ask.
package pki
