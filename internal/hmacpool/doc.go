// Package hmacpool computes HMAC-SHA-256 with one of 1, 2^16 or 2^32 secrets,
// chosen by the message itself, and makes and checks the files that hold them.
//
// Promises:
//   - Directories and answers are those of the program cryptoserver: the same
//     secret for the same message, byte for byte.
//   - A request costs one positioned read. Nothing of a pool stays in memory but
//     the key of a sealed one, so memory does not grow with the pool. A file that
//     is replaced, cut or deleted counts from the next request on; one that is
//     moved aside, within a second.
//   - A secret is wiped when its code is computed. No file that is there is ever
//     overwritten: what exists may have been used.
//   - Missing, short or altered files are an error of the one request.
//
// It trusts the directories that the configuration allows, and the HSM key that
// opens a sealed pool. A sealed pool is worthless without that key: its records
// are encrypted and can be neither altered nor swapped unnoticed.
//
// # Files
//
//	mode    files                                secrets
//	MODE0   secret                               1
//	MODE16  0000                                 2^16
//	MODE32  0000 to ffff, lower case; a name     2^32, 2^16 a file
//	        without its leading zeros is
//	        accepted as well
//
// A file of a plain pool is its secrets, 32 bytes each, one after the other, and
// nothing else.
//
// The message's number is MurmurHash3_x86_32 of it with seed 0xC13F64AF. Its low
// 16 bits choose the secret in a file, its high 16 bits the file of MODE32.
//
// # Sealed pools
//
// The directory of a sealed pool has a file pool.json (see Header). Its "wrapped"
// is the pool key, 32 bytes, encrypted under a named key of the HSM token with the
// associated data
//
//	"claviger hmacpool key 1" ‖ 0 ‖ ID (16 bytes) ‖ mode (1 byte: 0, 16, 32)
//
// The files have the names of a plain pool and consist of chunks of 16 secrets
// (MODE0: of the one). A chunk is
//
//	nonce (12 bytes) ‖ AES-256-GCM(pool key, secrets) ‖ tag (16 bytes)
//
// with the associated data
//
//	"claviger hmacpool chunk 1" ‖ 0 ‖ ID ‖ mode ‖ file (2 bytes) ‖ chunk (2 bytes)
//
// numbers big endian, both from 0. Nonces are random: a whole MODE32 pool is 2^28
// chunks, far below the 2^32 that SP 800-38D, section 8.3, allows under one key.
package hmacpool
