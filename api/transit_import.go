package api

// WrappingKey is the public key that keys to be imported are wrapped with.
type WrappingKey struct {
	PublicKey string `json:"public_key" audit:"-" doc:"PEM of an RSA-4096 public key"`
}

// ImportKey makes a named key of a secret that was made elsewhere.
//
// A wrapped secret is RSA-OAEP(wrapping key, AES-256 key), 512 bytes, followed
// by AES-KWP(AES-256 key, secret), RFC 5649. The secret is raw bytes for
// symmetric and HMAC keys and PKCS #8 DER for the others.
type ImportKey struct {
	Name                 string     `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	Type                 string     `json:"type,omitempty" audit:"plain" doc:"key type; default aes256-gcm96"`
	Protection           Protection `json:"protection,omitempty" audit:"plain" doc:"where the secret lives: token, wrapped or software; default as for a key that is made here. It is unwrapped inside the HSM token, but for software"`
	Ciphertext           []byte     `json:"ciphertext,omitempty" audit:"-" doc:"the wrapped secret"`
	HashFunction         string     `json:"hash_function,omitempty" audit:"plain" doc:"hash of RSA-OAEP: SHA1, SHA224, SHA256 (default), SHA384 or SHA512"`
	PublicKey            string     `json:"public_key,omitempty" doc:"PEM of a public key, instead of ciphertext: it verifies or encrypts only"`
	PKCS11               bool       `json:"pkcs11,omitempty" audit:"plain" doc:"of an AES key: it is for the ciphers of pkcs11/:name/encrypt, whose callers choose the IV; encrypt and datakey refuse it"`
	AllowRotation        bool       `json:"allow_rotation,omitempty" doc:"rotation may add versions made here"`
	Derived              bool       `json:"derived,omitempty" doc:"derive a key per context: not possible for imported keys"`
	Exportable           bool       `json:"exportable,omitempty" doc:"refused: secrets do not leave"`
	AllowPlaintextBackup bool       `json:"allow_plaintext_backup,omitempty" doc:"refused: secrets do not leave"`
	AutoRotatePeriod     Seconds    `json:"auto_rotate_period,omitempty" doc:"must be 0 for imported keys"`
}

// ImportKeyVersion adds a version to an imported key, or the private key to a
// version that has only the public one.
type ImportKeyVersion struct {
	Name         string `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	Ciphertext   []byte `json:"ciphertext,omitempty" audit:"-" doc:"as for ImportKey"`
	HashFunction string `json:"hash_function,omitempty" audit:"plain" doc:"as for ImportKey"`
	PublicKey    string `json:"public_key,omitempty" doc:"as for ImportKey"`
	Version      int    `json:"version,omitempty" doc:"version with a public key alone, whose private key this is; default a new version"`
}
