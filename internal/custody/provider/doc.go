// Package provider holds the keepers of the unseal secret of servers that open by
// themselves: a TPM, the transit engine of another server, a systemd credential, a
// cloud KMS. Each protects a key of 32 bytes and gives it back; package custody
// binds what lies under that key to one server.
//
// Promise: an error says whether trying again may help (fault.Unavailable: it did
// not answer; fault.Denied: it answered that it may not), or that somebody has to
// set something right first (fault.Conflict, fault.Invalid). No error shows a
// secret. Nothing is kept between two calls.
//
// It trusts the providers: whoever may use one, and has the server's database, opens
// the server.
package provider
