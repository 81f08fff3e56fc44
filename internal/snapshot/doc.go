// Package snapshot writes and reads snapshots of a store: everything that the
// database holds at one moment, in one file that is signed by the HSM token.
//
// A snapshot is a tar archive (POSIX.1-2001) compressed by gzip (RFC 1952), with
// these files in this order and no others:
//
//	manifest.json       what this is: see Manifest
//	records.bin         the records, see below
//	proofs.bin          test ciphertexts, see below
//	SHA256SUMS          the SHA-256 of the files above, in the form of sha256sum
//	SHA256SUMS.sealed   JSON: key_id, public_key, signature
//
// The names of the last two are those of the snapshots of Vault's integrated
// storage, whose clients look for them to see that a snapshot is complete.
//
// records.bin is a row of
//
//	len(table) (2 bytes) ‖ table ‖ len(key) (4) ‖ key ‖ version (8) ‖ len(data) (4) ‖ data
//
// numbers big endian, in rising order of table and key by their bytes. proofs.bin
// is a row of len (4 bytes) ‖ bytes; what the bytes mean is the caller's matter.
// The signature is ECDSA P-256, r ‖ s, of
//
//	SHA-256("claviger snapshot 1" ‖ 0 ‖ SHA256SUMS)
//
// by the HSM token's audit key; public_key is that key as PKIX, in base64, and
// key_id its SHA-256 in hex.
//
// Promise: nothing of a snapshot counts before all of it was read and its
// signature verified. A file that was cut, altered, or put together of two is
// refused and says what is wrong. Reading takes memory for one record, however
// large the snapshot.
//
// What a snapshot shows: what the database file shows, which is names of tables and
// keys, sizes and numbers; secrets in it are sealed under the storage key, which is
// in it too, sealed by the HSM token. Trust: the public key that the caller gives.
// Without one the signature says only that nothing was altered by accident.
package snapshot
