package api

// LegacyEncrypt encrypts as an older program does.
type LegacyEncrypt struct {
	Name      string `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	Plaintext []byte `json:"plaintext" doc:"what to encrypt, in base64"`
	Scheme    string `json:"scheme" audit:"plain" doc:"rsa-oaep-sha1 or aes-cbc"`
	IV        []byte `json:"iv,omitempty" doc:"of aes-cbc: 16 bytes that must be random, in base64"`
}

// LegacyEncrypted is the answer to LegacyEncrypt.
type LegacyEncrypted struct {
	Ciphertext []byte `json:"ciphertext" audit:"-"`
}
