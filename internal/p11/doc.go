// Package p11 is PKCS#11 in numbers: the protocol that the module
// libclaviger-pkcs11.so speaks over a Unix socket (docs/pkcs11-protocol.md), and
// its translation into the operations of the API. The server's own socket
// (internal/front/p11) and the agent (internal/agent) are made of it; they differ
// in the Backend only.
//
// Promise: what arrives is decoded strictly, and nothing of it makes the process
// panic or take memory beyond the limits of the protocol. A request stands alone:
// no state of a caller is kept but a cache, which is bound to the caller's client
// token and asks again every second. What a caller may do is decided by the
// server at each operation, never here; of public keys everybody may compute.
//
// It trusts its Backend. The numbers and rules are those of PKCS#11 v2.40 (OASIS,
// Base Specification and Current Mechanisms), and v3.0 for Edwards curves.
package p11
