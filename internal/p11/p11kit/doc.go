// Package p11kit lets p11-kit-client.so use the keys of a Service: it speaks the RPC
// protocol of p11-kit, versions 0 to 2, on a Unix socket, for machines that may load
// no other module than that one.
//
// The protocol carries calls of PKCS#11 one by one, so what belongs to a program is
// kept here: sessions, logins, searches, operations of several parts, objects of
// sessions. It belongs to the connection and ends with it.
//
// Promise: whatever arrives, no other connection notices, memory stays bounded, and a
// frame that can be told from the next gets an answer. Client tokens (the PINs of
// C_Login) are in no log.
//
// It trusts whoever may connect to its socket as far as the Service has a client
// token of its own. Source of the format: p11-kit 0.24.1, 0.25.10 and 0.26.4,
// p11-kit/rpc-message.h, rpc-message.c and rpc-transport.c.
package p11kit
