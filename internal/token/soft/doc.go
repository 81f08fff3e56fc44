// Package soft is the embedded token: pure Go, no HSM, so that Claviger runs
// anywhere at once. It has two parts:
//
//   - Engine performs every operation on secrets in server memory; it is also
//     what the protection "software" uses beside an HSM.
//   - Device is a token whose keys lie in one file, sealed under the PIN, or in
//     memory only (development mode).
//
// Promise: the file without a PIN reveals nothing but its label, serial number
// and size, and no change to it goes unnoticed; a key that Generate returned is
// on the disk; failures to open a ciphertext are told by one error, whatever
// failed (promise P7).
//
// It trusts the process it runs in: open keys are in its memory, and so promise
// P1 (secrets never in server memory) is a promise of the HSM drivers only.
// Wrong PINs are not counted: the file can be copied and tried elsewhere, so a
// counter would protect nothing. The strength lies in the PIN, which Claviger
// makes at random, and in Argon2id.
package soft
