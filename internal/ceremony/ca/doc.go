// Package ca is the ceremonies of certificate authorities: root, intermediate,
// cross-sign, crl, ocsp-responder, request. What is signed is prepared and linted by
// package pki; its types let nothing else be signed.
//
// Promise: what custodians read is taken from the bytes that will be signed, not
// from the document. A certificate leaves only if strict verification accepts it.
package ca
