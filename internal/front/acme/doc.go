// Package acme is the way in for ACME clients (RFC 8555): the header fields,
// media types and problem documents that they expect. Directories, accounts and
// signatures are the service's concern.
//
// ACME lives below mounts of Vault's API, so this front serves what the guard
// knows as ACME and hands everything else to the next front.
//
// It trusts the guard for which operation a path is.
package acme
