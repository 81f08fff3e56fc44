package api

// CreateLegacyKey makes a key as an older program would have made it: an object of
// the HSM token with a label and an identifier that its tools look for.
type CreateLegacyKey struct {
	Name  string `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	Type  string `json:"type" audit:"plain" doc:"type of the key: rsa-2048, rsa-3072, rsa-4096 or aes128-gcm96"`
	Label string `json:"label,omitempty" audit:"plain" doc:"CKA_LABEL of the object, at most 255 bytes"`
	ID    string `json:"id" audit:"plain" doc:"CKA_ID of the object in hex, 1 to 64 bytes"`
}

// LegacyKey is what CreateLegacyKey made.
type LegacyKey struct {
	Name      string `json:"name" audit:"plain"`
	Type      string `json:"type" audit:"plain"`
	Label     string `json:"label" audit:"plain"`
	ID        string `json:"id" audit:"plain" doc:"CKA_ID in hex"`
	PublicKey string `json:"public_key" audit:"-" doc:"PEM of its PKIX form; empty for a symmetric key"`
}

// LegacyDecrypt decrypts what an older program's client encrypted.
type LegacyDecrypt struct {
	Name       string `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	Ciphertext []byte `json:"ciphertext" doc:"what to decrypt, in base64"`
	Scheme     string `json:"scheme" audit:"plain" doc:"rsa-pkcs1v15, rsa-oaep-sha1 or aes-cbc"`
	IV         []byte `json:"iv,omitempty" doc:"of aes-cbc: 16 bytes, in base64"`
}

// LegacyDecrypted is the answer to LegacyDecrypt.
type LegacyDecrypted struct {
	Plaintext []byte `json:"plaintext" audit:"-"`
}
