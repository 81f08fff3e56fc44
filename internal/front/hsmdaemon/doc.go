// Package hsmdaemon is the front for clients of ownCloud's hsmdaemon: an HTTP API
// with two calls, protected by a JWT, and a line protocol protected by a token.
//
//	POST /keys/new          makes an RSA-2048 key pair in the HSM token
//	                        → {"publicKey": "<PEM>", "privateKeyId": "<UUID>"}
//	POST /decrypt/{keyId}   body: RSA ciphertext, PKCS#1 v1.5 → the plaintext, raw
//
// Promise: without a JWT (RFC 7519) that is signed with the shared secret by
// HMAC-SHA-256, made for hsmdaemon and not expired, and on the line protocol
// without the token, nothing reaches the guard. What went wrong with a
// ciphertext is never told: every failed decryption is the same answer. No
// answer is a redirect. Slow, half-open and endless callers cost one connection
// for a bounded time.
//
// Statuses: 200; 400 a label that no key can have, or no ciphertext; 401 the JWT;
// 404 no such key or path; 405 another method than POST; 413 a body beyond 64 KiB;
// 500 a decryption that failed (clients handle 5xx only); 503 sealed, or the HSM
// token does not answer.
//
// It trusts the clock, the shared secret's holders, and the guard. The front acts
// as one identity of the configuration, which may make, adopt and decrypt with
// keys of one mount and nothing else.
package hsmdaemon
