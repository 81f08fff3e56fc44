package api

import "encoding/json"

// Protection is where a key version's secret lives.
type Protection = string

// The protections of a key.
const (
	ProtectionToken    Protection = "token"    // an object of the HSM
	ProtectionWrapped  Protection = "wrapped"  // outside, wrapped by the HSM's KEK, opened only inside the HSM
	ProtectionSoftware Protection = "software" // opened in server memory
)

// KeyName is the request of operations that take only a key's name.
type KeyName struct {
	Name string `json:"-" path:"name" audit:"plain" doc:"name of the key"`
}

// ReadKey asks for the description of a key.
type ReadKey struct {
	Name    string `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	Context []byte `json:"context,omitempty" doc:"with a derived key of type ed25519: the context whose public keys are shown"`
}

// CreateKey makes a named key. If it exists nothing changes and a warning says so.
type CreateKey struct {
	Name                 string     `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	Type                 string     `json:"type,omitempty" audit:"plain" doc:"key type; default aes256-gcm96"`
	Protection           Protection `json:"protection,omitempty" audit:"plain" doc:"where the secret lives: token, wrapped or software; default wrapped on an HSM, software on the embedded token"`
	KeySize              int        `json:"key_size,omitempty" doc:"size in bytes of an hmac key, 32 to 512"`
	Derived              bool       `json:"derived,omitempty" doc:"derive a key per context, with AEAD types and ed25519"`
	ConvergentEncryption bool       `json:"convergent_encryption,omitempty" doc:"the same plaintext and context give the same ciphertext; needs derived"`
	Exportable           bool       `json:"exportable,omitempty" doc:"refused: secrets do not leave"`
	AllowPlaintextBackup bool       `json:"allow_plaintext_backup,omitempty" doc:"refused: secrets do not leave"`
	AutoRotatePeriod     Seconds    `json:"auto_rotate_period,omitempty" doc:"rotate by itself after this time, 0 never, else at least 1h"`
	ExternalKeyRef       string     `json:"external_key_ref,omitempty" audit:"plain" doc:"with type external-key: CONFIG:KEY of sys/external-keys, the key in the HSM token that it is made of"`
}

// RotateKey adds a version to a key.
type RotateKey struct {
	Name           string `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	ExternalKeyRef string `json:"external_key_ref,omitempty" audit:"plain" doc:"CONFIG:KEY of sys/external-keys: the new version is this key of the HSM token; default one that is made here"`
}

// Key is a named key as callers see it.
type Key struct {
	Name                 string     `json:"name" audit:"plain"`
	Type                 string     `json:"type" audit:"plain"`
	Protection           Protection `json:"protection" audit:"plain"`
	LatestVersion        int        `json:"latest_version"`
	MinAvailableVersion  int        `json:"min_available_version"`
	MinDecryptionVersion int        `json:"min_decryption_version"`
	MinEncryptionVersion int        `json:"min_encryption_version"`
	DeletionAllowed      bool       `json:"deletion_allowed"`
	Derived              bool       `json:"derived"`
	Exportable           bool       `json:"exportable"`
	AllowPlaintextBackup bool       `json:"allow_plaintext_backup"`
	SupportsEncryption   bool       `json:"supports_encryption"`
	SupportsDecryption   bool       `json:"supports_decryption"`
	SupportsSigning      bool       `json:"supports_signing"`
	SupportsDerivation   bool       `json:"supports_derivation"`

	KDF                         string `json:"kdf,omitempty" audit:"plain" doc:"of a derived key"`
	ConvergentEncryption        *bool  `json:"convergent_encryption,omitempty" doc:"of a derived key"`
	ConvergentEncryptionVersion int    `json:"convergent_encryption_version,omitempty"`

	AutoRotatePeriod Seconds                    `json:"auto_rotate_period"`
	ImportedKey      bool                       `json:"imported_key"`
	Adopted          bool                       `json:"adopted,omitempty" doc:"it was an object of the HSM token before it was a named key"`
	AllowRotation    *bool                      `json:"imported_key_allow_rotation,omitempty" doc:"imported keys only: whether rotation may add a version made here"`
	SoftDeleted      bool                       `json:"soft_deleted" doc:"refused for every use until it is restored"`
	BackupInfo       *KeyMoment                 `json:"backup_info,omitempty" doc:"the last backup"`
	RestoreInfo      *KeyMoment                 `json:"restore_info,omitempty" doc:"the restore that made this key"`
	KeySize          int                        `json:"key_size,omitempty"`
	Keys             map[string]json.RawMessage `json:"keys" audit:"-" doc:"per version: the Unix time of its making, or an object of type KeyVersion for asymmetric keys"`
}

// KeyVersion is a version of an asymmetric key in Key.Keys.
type KeyVersion struct {
	Name             string `json:"name"`
	PublicKey        string `json:"public_key"` // PEM of PKIX; raw base64 for ed25519
	CreationTime     string `json:"creation_time"`
	CertificateChain string `json:"certificate_chain"`
}

// ConfigKey changes the rules of a key; absent fields stay as they are.
type ConfigKey struct {
	Name                 string   `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	MinDecryptionVersion *int     `json:"min_decryption_version,omitempty" doc:"oldest version that still decrypts and verifies"`
	MinEncryptionVersion *int     `json:"min_encryption_version,omitempty" doc:"oldest version that may encrypt and sign; 0 means every version that still decrypts"`
	DeletionAllowed      *bool    `json:"deletion_allowed,omitempty" doc:"whether the key may be deleted"`
	Exportable           *bool    `json:"exportable,omitempty" doc:"refused: secrets do not leave"`
	AllowPlaintextBackup *bool    `json:"allow_plaintext_backup,omitempty" doc:"refused: secrets do not leave"`
	AutoRotatePeriod     *Seconds `json:"auto_rotate_period,omitempty" doc:"rotate by itself after this time, 0 never"`
}

// ExportKey asks for a key's material; only public keys are given.
type ExportKey struct {
	Kind    string `json:"-" path:"kind" audit:"plain" doc:"public-key or certificate-chain; encryption-key, signing-key and hmac-key are refused"`
	Name    string `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	Version string `json:"-" path:"version" audit:"plain" doc:"a version or latest"`
	Format  string `json:"format,omitempty" audit:"plain" doc:"of a public key: pem (default), der (base64 of PKIX), or raw (base64 of the 32 bytes of an ed25519 key, and its default)"`
}

// ExportedKey is the public halves of a key's versions.
type ExportedKey struct {
	Name string            `json:"name" audit:"plain"`
	Type string            `json:"type" audit:"plain"`
	Keys map[string]string `json:"keys" audit:"-"`
}

// Encrypt is the request of encryption: one plaintext, or a batch.
type Encrypt struct {
	Name           string `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	Plaintext      []byte `json:"plaintext,omitzero" doc:"what to encrypt"`
	AssociatedData []byte `json:"associated_data,omitempty" doc:"authenticated with the ciphertext, needed to decrypt"`
	Context        []byte `json:"context,omitempty" doc:"of a derived key"`
	KeyVersion     int    `json:"key_version,omitempty" doc:"version to use, default the newest"`
	Type           string `json:"type,omitempty" audit:"plain" doc:"type of the key that is made if there is none"`

	ConvergentEncryption bool `json:"convergent_encryption,omitempty" doc:"of the key that is made if there is none; needs context"`

	BatchInput     []EncryptItem `json:"batch_input,omitempty" doc:"items to encrypt; the fields outside are ignored then"`
	PartialFailure int           `json:"partial_failure_response_code,omitempty" doc:"HTTP status if only some items fail"`
}

// EncryptItem is an item of a batch of Encrypt.
type EncryptItem struct {
	BatchItem
	Plaintext      []byte `json:"plaintext,omitzero"`
	AssociatedData []byte `json:"associated_data,omitempty"`
	Context        []byte `json:"context,omitempty"`
	KeyVersion     int    `json:"key_version,omitempty"`
	Reference      string `json:"reference,omitempty" audit:"plain"`
}

// Encrypted is the answer to Encrypt and Rewrap.
type Encrypted struct {
	Ciphertext   string            `json:"ciphertext,omitempty" audit:"-"`
	KeyVersion   int               `json:"key_version,omitempty"`
	BatchResults []EncryptedResult `json:"batch_results,omitempty"`
	Status       int               `json:"-" audit:"-"`
}

// EncryptedResult is an item of Encrypted.
type EncryptedResult struct {
	Ciphertext string `json:"ciphertext,omitempty" audit:"-"`
	KeyVersion int    `json:"key_version,omitempty"`
	Error      string `json:"error,omitempty" audit:"plain"`
	Reference  string `json:"reference" audit:"plain"`
}

// HTTPStatus is the status that a front with statuses answers, 0 for its own choice.
func (e *Encrypted) HTTPStatus() int { return e.Status }

// Decrypt is the request of decryption: one ciphertext, or a batch.
type Decrypt struct {
	Name           string        `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	Ciphertext     string        `json:"ciphertext,omitempty" doc:"as Encrypt returned it: vault:v1:…"`
	AssociatedData []byte        `json:"associated_data,omitempty" doc:"as given to Encrypt"`
	Context        []byte        `json:"context,omitempty" doc:"of a derived key"`
	BatchInput     []DecryptItem `json:"batch_input,omitempty" doc:"items to decrypt; the fields outside are ignored then"`
	PartialFailure int           `json:"partial_failure_response_code,omitempty" doc:"HTTP status if only some items fail"`
}

// DecryptItem is an item of a batch of Decrypt.
type DecryptItem struct {
	BatchItem
	Ciphertext     string `json:"ciphertext,omitempty"`
	AssociatedData []byte `json:"associated_data,omitempty"`
	Context        []byte `json:"context,omitempty"`
	Reference      string `json:"reference,omitempty" audit:"plain"`
}

// Decrypted is the answer to Decrypt. Plaintext is a pointer, since an empty
// plaintext must be shown as "".
type Decrypted struct {
	Plaintext    *[]byte           `json:"plaintext,omitempty" audit:"-"`
	BatchResults []DecryptedResult `json:"batch_results,omitempty"`
	Status       int               `json:"-" audit:"-"`
}

// DecryptedResult is an item of Decrypted.
type DecryptedResult struct {
	Plaintext *[]byte `json:"plaintext,omitempty" audit:"-"`
	Error     string  `json:"error,omitempty" audit:"plain"`
	Reference string  `json:"reference" audit:"plain"`
}

// HTTPStatus is the status that a front with statuses answers, 0 for its own choice.
func (d *Decrypted) HTTPStatus() int { return d.Status }

// Rewrap decrypts and encrypts again with another version of the same key.
type Rewrap struct {
	Name           string       `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	Ciphertext     string       `json:"ciphertext,omitempty" doc:"as Encrypt returned it"`
	AssociatedData []byte       `json:"associated_data,omitempty" doc:"as given to Encrypt"`
	Context        []byte       `json:"context,omitempty" doc:"of a derived key"`
	KeyVersion     int          `json:"key_version,omitempty" doc:"version to encrypt with, default the newest"`
	BatchInput     []RewrapItem `json:"batch_input,omitempty" doc:"items to rewrap; the fields outside are ignored then"`
}

// RewrapItem is an item of a batch of Rewrap.
type RewrapItem struct {
	BatchItem
	Ciphertext     string `json:"ciphertext,omitempty"`
	AssociatedData []byte `json:"associated_data,omitempty"`
	Context        []byte `json:"context,omitempty"`
	KeyVersion     int    `json:"key_version,omitempty"`
	Reference      string `json:"reference,omitempty" audit:"plain"`
}

// DataKey asks for a random key, encrypted under a named key.
type DataKey struct {
	Kind           string `json:"-" path:"kind" audit:"plain" doc:"plaintext or wrapped: whether the answer shows the plain data key too"`
	Name           string `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	Bits           int    `json:"bits,omitempty" doc:"128, 256 or 512; default 256"`
	AssociatedData []byte `json:"associated_data,omitempty" doc:"needed to decrypt the data key"`
	Context        []byte `json:"context,omitempty" doc:"of a derived key"`
	KeyVersion     int    `json:"key_version,omitempty" doc:"version to encrypt with, default the newest"`
}

// DataKeyResult is the answer to DataKey.
type DataKeyResult struct {
	Ciphertext string `json:"ciphertext" audit:"-"`
	KeyVersion int    `json:"key_version"`
	Plaintext  []byte `json:"plaintext,omitempty" audit:"-"`
}

// Sign is the request of a signature: one input, or a batch.
type Sign struct {
	Name                string      `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	URLHash             string      `json:"-" path:"hash" audit:"plain" doc:"hash algorithm, instead of hash_algorithm"`
	Input               []byte      `json:"input,omitzero" doc:"message, or digest if prehashed"`
	HashAlgorithm       string      `json:"hash_algorithm,omitempty" audit:"plain" doc:"sha1, sha2-224, sha2-256, sha2-384, sha2-512, sha3-224, sha3-256, sha3-384, sha3-512 or none; default sha2-256"`
	Algorithm           string      `json:"algorithm,omitempty" audit:"plain" doc:"old name of hash_algorithm"`
	Prehashed           bool        `json:"prehashed,omitempty" doc:"input is the digest"`
	SignatureAlgorithm  string      `json:"signature_algorithm,omitempty" audit:"plain" doc:"RSA: pss (default) or pkcs1v15"`
	MarshalingAlgorithm string      `json:"marshaling_algorithm,omitempty" audit:"plain" doc:"ECDSA: asn1 (default) or jws"`
	SaltLength          string      `json:"salt_length,omitempty" audit:"plain" doc:"RSA-PSS: auto (default, as 0 is), hash (as -1 is), none (no salt; for signing only) or a number of bytes"`
	Context             []byte      `json:"context,omitempty" doc:"of a derived key"`
	KeyVersion          int         `json:"key_version,omitempty" doc:"version to use, default the newest"`
	KeyID               string      `json:"key_id,omitempty" audit:"plain" doc:"key_id of the key that is meant: one that has its name now and is another is not used"`
	BatchInput          []InputItem `json:"batch_input,omitempty" doc:"items to sign; input outside is ignored then"`
}

// InputItem is an item of a batch of Sign and HMAC.
type InputItem struct {
	BatchItem
	Input     []byte `json:"input,omitzero"`
	Context   []byte `json:"context,omitempty"`
	Reference string `json:"reference,omitempty" audit:"plain"`
}

// Signature is the answer to Sign.
type Signature struct {
	Signature    string            `json:"signature,omitempty" audit:"-"`
	KeyVersion   int               `json:"key_version,omitempty"`
	PublicKey    []byte            `json:"public_key,omitempty" doc:"of a derived key: the 32 bytes of the context's public key"`
	BatchResults []SignatureResult `json:"batch_results,omitempty"`
}

// SignatureResult is an item of Signature.
type SignatureResult struct {
	Signature  string `json:"signature,omitempty" audit:"-"`
	KeyVersion int    `json:"key_version,omitempty"`
	PublicKey  []byte `json:"publickey,omitempty" doc:"as public_key outside of a batch; the name is Vault's"`
	Error      string `json:"error,omitempty" audit:"plain"`
	Reference  string `json:"reference" audit:"plain"`
}

// Verify checks signatures or HMACs.
type Verify struct {
	Name                string       `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	URLHash             string       `json:"-" path:"hash" audit:"plain" doc:"hash algorithm, instead of hash_algorithm"`
	Input               []byte       `json:"input,omitzero" doc:"message, or digest if prehashed"`
	Signature           string       `json:"signature,omitempty" doc:"as Sign returned it"`
	HMAC                string       `json:"hmac,omitempty" doc:"as HMAC returned it, instead of signature"`
	HashAlgorithm       string       `json:"hash_algorithm,omitempty" audit:"plain" doc:"as for Sign"`
	Algorithm           string       `json:"algorithm,omitempty" audit:"plain" doc:"old name of hash_algorithm"`
	Prehashed           bool         `json:"prehashed,omitempty" doc:"input is the digest"`
	SignatureAlgorithm  string       `json:"signature_algorithm,omitempty" audit:"plain" doc:"as for Sign"`
	MarshalingAlgorithm string       `json:"marshaling_algorithm,omitempty" audit:"plain" doc:"as for Sign"`
	SaltLength          string       `json:"salt_length,omitempty" audit:"plain" doc:"as for Sign"`
	Context             []byte       `json:"context,omitempty" doc:"of a derived key"`
	BatchInput          []VerifyItem `json:"batch_input,omitempty" doc:"items to verify, all with signature or all with hmac"`
}

// VerifyItem is an item of a batch of Verify.
type VerifyItem struct {
	BatchItem
	Input     []byte `json:"input,omitzero"`
	Signature string `json:"signature,omitempty"`
	HMAC      string `json:"hmac,omitempty"`
	Context   []byte `json:"context,omitempty"`
	Reference string `json:"reference,omitempty" audit:"plain"`
}

// Verified is the answer to Verify.
type Verified struct {
	Valid        *bool            `json:"valid,omitempty"`
	BatchResults []VerifiedResult `json:"batch_results,omitempty"`
}

// VerifiedResult is an item of Verified.
type VerifiedResult struct {
	Valid     bool   `json:"valid"`
	Error     string `json:"error,omitempty" audit:"plain"`
	Reference string `json:"reference" audit:"plain"`
}

// HMAC asks for message authentication codes.
type HMAC struct {
	Name         string      `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	URLAlgorithm string      `json:"-" path:"algorithm" audit:"plain" doc:"hash algorithm, instead of algorithm"`
	Algorithm    string      `json:"algorithm,omitempty" audit:"plain" doc:"sha2-224, sha2-256 (default), sha2-384, sha2-512 or sha3-…"`
	Input        []byte      `json:"input,omitzero" doc:"message"`
	KeyVersion   int         `json:"key_version,omitempty" doc:"version to use, default the newest"`
	KeyID        string      `json:"key_id,omitempty" audit:"plain" doc:"key_id of the key that is meant: one that has its name now and is another is not used"`
	BatchInput   []InputItem `json:"batch_input,omitempty" doc:"items; input outside is ignored then"`
}

// HMACResult is the answer to HMAC.
type HMACResult struct {
	HMAC         string           `json:"hmac,omitempty" audit:"-"`
	BatchResults []HMACItemResult `json:"batch_results,omitempty"`
}

// HMACItemResult is an item of HMACResult.
type HMACItemResult struct {
	HMAC      string `json:"hmac,omitempty" audit:"-"`
	Error     string `json:"error,omitempty" audit:"plain"`
	Reference string `json:"reference" audit:"plain"`
}

// Random asks for random bytes of the token.
type Random struct {
	Source   string `json:"-" path:"source" audit:"plain" doc:"platform, seal or all: taken, and the token's generator is used in any case"`
	URLBytes int    `json:"-" path:"bytes" doc:"number of bytes, instead of bytes"`
	Bytes    int    `json:"bytes,omitempty" doc:"number of bytes, default 32, at most 131072"`
	Format   string `json:"format,omitempty" audit:"plain" doc:"base64 (default) or hex"`
}

// RandomBytes is the answer to Random.
type RandomBytes struct {
	RandomBytes string `json:"random_bytes" audit:"-"`
}
