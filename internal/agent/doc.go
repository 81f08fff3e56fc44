// Package agent is the daemon that lets PKCS#11 modules of this machine use the keys
// of a server: package internal/p11 on a Unix socket, with the API over TLS behind
// it.
//
// Promise: secrets of keys never come here. The client token of the agent is held in
// memory only, and shown to the configured servers only; it is in no log. Programs
// get what that token, or their own, may do, nothing else.
//
// It trusts the servers that its configuration names, and whoever may connect to its
// socket, as far as the agent has a client token of its own.
package agent
