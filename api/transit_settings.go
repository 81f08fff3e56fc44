package api

// TrimKey destroys the oldest versions of a key.
type TrimKey struct {
	Name                string `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	MinAvailableVersion *int   `json:"min_available_version,omitempty" doc:"oldest version that is kept, at most min_decryption_version and min_encryption_version, both of which must be set; all versions before it are destroyed for ever"`
}

// KeySettings holds for all keys of a mount.
type KeySettings struct {
	DisableUpsert     bool       `json:"disable_upsert" doc:"whether encryption with a key that does not exist fails, instead of making the key"`
	DefaultProtection Protection `json:"default_protection" audit:"plain" doc:"protection of new keys that ask for none: token, wrapped or software; empty for the default of the HSM token"`
}

// SetKeySettings changes what holds for all keys of a mount; absent fields stay
// as they are.
type SetKeySettings struct {
	DisableUpsert     *bool       `json:"disable_upsert,omitempty" audit:"plain" doc:"whether encryption with a key that does not exist fails, instead of making the key"`
	DefaultProtection *Protection `json:"default_protection,omitempty" audit:"plain" doc:"protection of new keys that ask for none: token, wrapped or software; a type of key that can't have it must ask for another; empty for the default of the HSM token"`
}

// CacheSettings is kept and shown for clients that set it. It changes nothing:
// the server chooses the size of its caches.
type CacheSettings struct {
	Size int `json:"size" doc:"number of keys, 0 or at least 10; kept and shown, without an effect"`
}

// Hash asks for the digest of an input.
type Hash struct {
	URLAlgorithm string `json:"-" path:"algorithm" audit:"plain" doc:"hash algorithm, instead of algorithm"`
	Algorithm    string `json:"algorithm,omitempty" audit:"plain" doc:"sha2-224, sha2-256 (default), sha2-384, sha2-512, sha3-224, sha3-256, sha3-384 or sha3-512"`
	Input        []byte `json:"input,omitzero" doc:"what to hash"`
	Format       string `json:"format,omitempty" audit:"plain" doc:"hex (default) or base64"`
}

// HashSum is the answer to Hash.
type HashSum struct {
	Sum string `json:"sum"`
}
