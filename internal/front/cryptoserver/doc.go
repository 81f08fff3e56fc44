// Package cryptoserver is the wire format of the program cryptoserver: POST of
// raw bytes to /hmac, answered by the 32 raw bytes of an HMAC.
//
// Promise: what that program's clients send is answered as they know it: status
// 200 with the code, or 400 with an empty body for everything that is wrong, from
// the method to a missing file; causes are in the log. Two answers are new: 403,
// also empty, where a client token is required and does not open the pool, and
// 400 for a body beyond the limit, where the original read on.
//
// It trusts the guard for everything but the format.
package cryptoserver
