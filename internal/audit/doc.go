// Package audit writes the audit log: one JSON object a line for the intent and
// one for the outcome of every operation, chained by hashes and signed at
// checkpoints by a key in the HSM token.
//
// Promise: an operation whose record cannot be written does not happen (Write
// returns an error, the guard refuses). A record that was written survives
// kill -9. No record can be changed, dropped or reordered without Verify saying
// where, with two limits that it states itself: records after the newest
// checkpoint are chained but not signed yet, and lines missing at the end are
// only noticed by who knows how far the log went. The server knows: it keeps
// the newest place of the log in the sealed store and refuses to go on with a
// file that was cut or rewritten before it.
//
// Trusts: the kernel's page cache between two checkpoints (a loss of power may
// cost the records of up to CheckpointInterval), the HSM key that signs, and
// the storage key that seals the place. Somebody who can put back an older
// database *and* cut the log to the same moment is not noticed at the next
// start, but by anybody who kept a later checkpoint.
//
// # Format
//
// A line is
//
//	{"seq":N,"time":"…","type":"…",…,"chain":"<64 hex digits>"}
//
// seq counts lines from 1 through all files of a log. time is UTC with nine
// decimals. chain is SHA-256(chain of the line before ‖ this line up to, and
// without, the comma before "chain"). Types:
//
//	file        first line of every file: "format":1, "prev" (chain of the line
//	            before it, zeros at the very beginning), "key" (as below), and
//	            "restart":true where the operator let the log begin anew
//	request     the intent of an operation
//	response    its outcome; "error" and "kind" if it failed
//	repair      "cut":N bytes of a line that was not written whole were removed
//	checkpoint  "covers" and "head", seq and chain of an earlier line, "key"
//	            (SHA-256 of the PKIX public key), "signature" (ECDSA P-256, r‖s)
//	            of SHA-256("claviger audit checkpoint 1\n" ‖ covers as 8 bytes,
//	            big endian ‖ head as 32 bytes); hex digits all of them
//
// Sensitive strings and bytes are shown as "hmac-sha256:<hex>" under a key of
// the log, so that equal values can be recognised and nothing can be guessed
// without the server (Hash computes the same). Bytes are hashed as such, not in
// the base64 form of the wire. What is plain say the tags described in package
// api.
//
// # Rotation
//
// Rename the file and call Reopen (SIGHUP): the new file continues numbers and
// chain. A file that was renamed while the server stood still is found under
// its new name as long as it begins with the old one ("audit.log.1") and is not
// compressed. Where Open refuses, Config.Restart is the way out: the misfit is
// kept beside under another name and the log goes on after the known place,
// with a first line that says so.
package audit
