// Package client calls a Claviger server, or any server with Vault's HTTP API.
//
// Promise: a call is sent again only where that changes nothing: after a failure
// to connect (it was never sent), or for operations that may be repeated, after
// a broken connection or a 503. What is not safe to repeat (rotate, init,
// unseal, making a client token) is sent once. The same holds for going on to the
// next of several addresses. Redirects are not followed, so the client token
// reaches no other server than the configured ones.
//
// Signer, Decrypter and Sealer use a named key from where programs want a
// crypto.Signer (TLS, X.509, JWT), a crypto.Decrypter, or authenticated
// encryption; the secret stays with the server.
//
// A failed call is an *api.Error with the server's status and messages;
// everything else is an error of the way there. The package needs the standard
// library and package api only.
package client
