// Package custodians has the ceremonies that a running server performs for its
// custodians: its initialisation, other shares in the place of those in force, and a
// new root token.
//
// Promise: what the server hands over is encrypted, to OpenPGP keys whose fingerprints
// the document names, or with a one-time pad; it goes to new files that only their
// owner reads, and to nothing else. Shares that were given to the server are wiped. An
// act that fails is cancelled in the server, as far as the server answers.
//
// It trusts the machine on which it runs, and the connection to the server.
package custodians
