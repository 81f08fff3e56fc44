// Package cryptech moves private keys from one HSM token to another in the way and
// in the files of Cryptech's cryptech_backup.
//
// The destination token makes an RSA pair, the KEKEK, and hands out its public half
// (setup). The source token wraps each exportable key under an AES key of its own,
// the KEK, and the KEK under the KEKEK (export). The destination unwraps the KEK and
// the key (import). Both do it inside; what travels is a JSON file. In the software
// variant the KEKEK is made in memory and kept in the file under a passphrase.
//
// Promise: the bytes of the files are those that cryptech_backup reads and writes
// (the fields, Python's json.dump with indent=4 and sort_keys, EncryptedPrivateKeyInfo
// of RFC 5208 section 6, RFC 5649, RFC 8017 section 7.2). Private keys that are not
// CKA_EXTRACTABLE are never exported. In HSM mode no private key is ever in this
// process's memory; in software mode the KEKEK and the KEKs are, while a command
// runs. A file that is wrong in any way leaves no key in the destination, and the
// answer does not tell a wrong padding from a wrong KEK.
//
// It trusts the operator to export only to a KEKEK of the destination: everybody can
// make a file with a KEKEK of his own. Setup and export show the KEKEK's
// fingerprint, so that it can be compared over another way.
package cryptech
