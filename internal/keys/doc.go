// Package keys is the work on named keys: their life cycle, their versions and
// every cryptographic operation on them, in the terms of Vault's transit engine.
//
// Promises:
//
//   - A key, a version or a rule that was acknowledged is in the store (P2).
//     All changes of one act are one transaction. A token object that was made
//     for a version which never became visible is destroyed at the next Start;
//     so is the object of a deleted version.
//   - The secret of a key with the protection "token" or "wrapped" never
//     reaches this package (P1). That of a "software" key passes through it
//     only between the software engine, or an import, and the sealed record;
//     that of a derived software key stays here while the key is loaded. Of a
//     derived key in the HSM token, what is derived for a request passes through
//     here and is wiped after it. A backup holds secrets as the records do, sealed under
//     a key of the store.
//   - No version of a key with 96-bit nonces seals more than 2^32 times
//     (SP 800-38D section 8.3), whatever happens to the server: the count is
//     reserved in the store before it is used.
//   - Decryption failures of one key type are all the same to the caller (P7).
//
// It trusts the HSM token for secrets and for random bytes, and the store's
// seal for the integrity of a record; that a record belongs to the key it is
// found under is checked here too, by the key's random identity. It decides
// nothing about who may do what: the guard does.
//
// Loaded keys are cached. The cache is right as long as this process is the
// only one that writes the tables keys, key_versions and key_intents; changes
// themselves are compare-and-swap and stay right even if it is not.
package keys
