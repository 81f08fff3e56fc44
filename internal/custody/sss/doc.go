// Package sss is the share format of the programs secret-share-split and
// secret-share-combine (dsprenkels/sss), in which Mo-Vault hands out its PINs.
//
// A share is a line of lower-case hex:
//
//	x (1 byte, 1 to n) ‖ share of a random key K (32) ‖ Poly1305 tag (16) ‖ ciphertext
//
// For each byte of K there is a polynomial of degree t-1 over GF(2^8) modulo
// x^8+x^4+x^3+x+1 whose constant term is that byte; the share is its value at x. Tag
// and ciphertext are the same in all shares: the secret in an XSalsa20-Poly1305
// secretbox under K with a nonce of zeros, which is right because K is used once.
//
// It is not Vault's format, which has x at the end and no tag, and not the verifiable
// one of custodians' shares.
//
// Promise: what Combine returns is what was split; wrong, too few and mixed shares are
// an error. The arithmetic takes the same time for all secrets.
package sss
