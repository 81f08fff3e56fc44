// Package transfer moves keys from one HSM token to another: the KEK alone, so that
// a second token serves every wrapped key, or named keys with their versions and
// rules, from one server to another.
//
// The destination makes an RSA pair in its token, the KEKEK, and hands out a signed
// statement of it: what the token showed of itself and of the pair. The source
// checks the statement, shows it to its custodians, and lets nothing out before as
// many of them as unseal the server have confirmed with their shares. What leaves is
// a ring: a signed header and numbered chunks, each signed by the source token's
// audit key, so that a ring that was cut is resumed and one that was changed is
// refused. docs/operations/transfer.md
// has the bytes.
//
// Promise: secrets of the KEK and of wrapped keys are wrapped in one token and
// unwrapped in the other, and are never in the memory of a process. Around them, and
// around the secrets of software keys, lies AES-256-GCM under keys that need both the
// KEKEK and ML-KEM-768 (FIPS 203). A KEK that was not made transferable, and the keys
// under it, never leave. A ring that is wrong leaves nothing that it did not before.
//
// It trusts both tokens and both servers' memory, and the people who compare the
// fingerprint of the statement over another way: anybody can make a statement.
package transfer
