// Package unsealer gives one custodian's share to servers that are sealed: to
// Claviger, and to whatever speaks sys/seal-status and sys/unseal as Vault does.
//
// Promise: a server that was restarted has the share within one interval, without
// a person, and whatever the other servers do. Nothing is given to a server that
// is not initialised, that unseals itself, that has the share already, or whose
// certificate or public key is not the expected one. The share is read when it is
// needed, into memory that is not swapped, and wiped afterwards; no log line, error
// or metric holds it, even where a server repeats it in an answer.
//
// It trusts the servers that its configuration names with the share, and nothing
// else that they say. Copies of the share pass through the buffers of net/http
// while it is sent: they are why the whole process is kept out of core dumps and,
// as far as its limits allow, of swap.
package unsealer
