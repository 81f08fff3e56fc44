package api

// The operations behind the PKCS#11 front and the agent. What a policy allows
// below transit/sign, transit/hmac and transit/keys is used as it is; these are
// what those lack: ciphers without Vault's ciphertext format, key agreement,
// objects that are no keys, and a search that needs no list of everything.

// P11Cipher encrypts or decrypts as a PKCS#11 mechanism does: the ciphertext is
// bare, without the prefix vault:v1:.
type P11Cipher struct {
	Name      string `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	KeyID     string `json:"key_id,omitempty" audit:"plain" doc:"key_id of the key that is meant: one that has its name now and is another is not used"`
	Version   int    `json:"version,omitempty" audit:"plain" doc:"version of the key; default the newest"`
	Scheme    string `json:"scheme" audit:"plain" doc:"decrypt only: rsa-pkcs1v15, rsa-oaep; both: aes-gcm, aes-cbc (no padding), aes-cbc-pad (PKCS #7)"`
	Hash      string `json:"hash,omitempty" audit:"plain" doc:"of rsa-oaep, for its label and MGF1 alike: sha1, sha2-224, sha2-256 (default), sha2-384 or sha2-512"`
	Label     []byte `json:"label,omitempty" audit:"-" doc:"of rsa-oaep, in base64"`
	IV        []byte `json:"iv,omitempty" audit:"-" doc:"of aes-gcm: the nonce, 12 bytes; of aes-cbc and aes-cbc-pad: the IV, 16 bytes; in base64"`
	AAD       []byte `json:"aad,omitempty" audit:"-" doc:"of aes-gcm: additional authenticated data, in base64"`
	TagLength int    `json:"tag_length,omitempty" audit:"plain" doc:"of aes-gcm: bytes, 12 to 16; default 16"`
	Input     []byte `json:"input" doc:"what to encrypt or decrypt, in base64"`
}

// P11Output is the answer to P11Cipher.
type P11Output struct {
	Output []byte `json:"output" audit:"-" doc:"in base64"`
}

// P11Agree asks for the secret that a private key shares with another's public
// key: the x-coordinate (ECDH, SP 800-56A section 5.7.1.2), without a key
// derivation function.
type P11Agree struct {
	Name    string `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	KeyID   string `json:"key_id,omitempty" audit:"plain" doc:"key_id of the key that is meant: one that has its name now and is another is not used"`
	Version int    `json:"version,omitempty" audit:"plain" doc:"version of the key; default the newest"`
	Public  []byte `json:"public" doc:"the other's public key: an uncompressed point, in base64"`
}

// P11Shared is the answer to P11Agree.
type P11Shared struct {
	Secret []byte `json:"secret" audit:"-" doc:"as long as the curve's field, in base64"`
}

// P11Find looks for keys and objects of the mount that the caller may use or read.
type P11Find struct {
	Label   *string `json:"label,omitempty" audit:"plain" doc:"CKA_LABEL: a key's is its name unless it was given another"`
	ID      []byte  `json:"id,omitempty" audit:"plain" doc:"CKA_ID, in base64"`
	Class   string  `json:"class,omitempty" audit:"plain" doc:"key, certificate or data; default all"`
	Object  string  `json:"object,omitempty" audit:"plain" doc:"record of one key or object (key_id or id of an answer)"`
	After   string  `json:"after,omitempty" audit:"plain" doc:"next of the answer before"`
	Limit   int     `json:"limit,omitempty" audit:"plain" doc:"most entries, 1 to 1000; default 256"`
	Changed uint64  `json:"changed,omitempty" audit:"-" doc:"change of an earlier answer to the same question of the same client token: if nothing changed since, the answer has unchanged set and no entries"`
}

// P11Found is the answer to P11Find.
type P11Found struct {
	Keys      []P11Key    `json:"keys,omitempty" audit:"-"`
	Objects   []P11Object `json:"objects,omitempty" audit:"-"`
	Next      string      `json:"next,omitempty" doc:"there is more: ask again with it as after"`
	Change    uint64      `json:"change" doc:"counts the changes of keys, objects and policies since the server was unsealed, above a random beginning"`
	Unchanged bool        `json:"unchanged,omitempty"`
}

// P11Key is a named key as PKCS#11 wants to know it.
type P11Key struct {
	Name       string       `json:"name"`
	KeyID      string       `json:"key_id" doc:"never used again for another key"`
	Label      string       `json:"label,omitempty" doc:"CKA_LABEL; absent: the name"`
	ID         []byte       `json:"id,omitempty" doc:"CKA_ID that was set; versions show the one that counts"`
	Type       string       `json:"type"`
	KeySize    int          `json:"key_size,omitempty" doc:"bytes, of type hmac"`
	Protection Protection   `json:"protection"`
	Session    bool         `json:"session,omitempty" doc:"it ends when it is not used"`
	Imported   bool         `json:"imported,omitempty" doc:"CKA_LOCAL is false"`
	Deletable  bool         `json:"deletable,omitempty"`
	May        []string     `json:"may" doc:"what the key is for and the caller's policies allow: sign, hmac, encrypt, decrypt, agree; change, delete"`
	Subject    []byte       `json:"subject,omitempty" doc:"CKA_SUBJECT that was set, DER"`
	Versions   []P11Version `json:"versions" doc:"newest first"`
}

// P11Version is a version of a key.
type P11Version struct {
	Version      int      `json:"version"`
	ID           []byte   `json:"id" doc:"CKA_ID: of the newest version what was set, else the first 20 bytes of the SHA-256 of the public key (PKIX DER), or of key_id and version for a secret key"`
	Public       []byte   `json:"public,omitempty" doc:"PKIX DER"`
	Certificates [][]byte `json:"certificates,omitempty" doc:"chain that was set for the version, DER, its own first"`
	Signs        bool     `json:"signs" doc:"new signatures and ciphertexts may be made with it"`
	Created      int64    `json:"created" doc:"Unix seconds"`
}

// P11Object is an object that is no named key: a certificate, data, or a public
// key that a program stored.
type P11Object struct {
	ID         string         `json:"id" path:"id" doc:"record of the object, 32 hex digits"`
	Attributes []P11Attribute `json:"attributes" doc:"all of them, by type"`
	May        []string       `json:"may,omitempty" doc:"what the caller's policies allow: change, delete"`
}

// P11Attribute is an attribute as the protocol of the module has it.
type P11Attribute struct {
	Type  uint64 `json:"type" doc:"CKA number"`
	Form  uint8  `json:"form" doc:"0 bytes, 1 bool, 2 number"`
	Value []byte `json:"value" doc:"in base64; a number in 8 bytes, big-endian"`
}

// P11PutObject makes an object of a name that the caller chooses at random, or
// replaces its attributes.
type P11PutObject struct {
	ID         string         `json:"-" path:"id" audit:"plain" doc:"record of the object, 32 hex digits"`
	Attributes []P11Attribute `json:"attributes" audit:"-" doc:"all of them; CKA_CLASS must be certificate, data or public key; 64 KiB together"`
}

// P11ObjectName names a stored object.
type P11ObjectName struct {
	ID string `json:"-" path:"id" audit:"plain" doc:"record of the object, 32 hex digits"`
}

// P11Settings changes what PKCS#11 shows of a key.
type P11Settings struct {
	Name    string  `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	KeyID   string  `json:"key_id,omitempty" audit:"plain" doc:"key_id of the key that is meant: one that has its name now and is another is not used"`
	Label   *string `json:"label,omitempty" audit:"plain" doc:"CKA_LABEL, up to 255 bytes; empty: the name again"`
	ID      *[]byte `json:"id,omitempty" audit:"plain" doc:"CKA_ID, up to 64 bytes, in base64, of the newest version only; empty: what it was by itself"`
	Subject *[]byte `json:"subject,omitempty" audit:"-" doc:"CKA_SUBJECT, DER, in base64"`
	Keep    string  `json:"keep,omitempty" audit:"plain" doc:"of a key of a session: the name under which it stays for good; needs update on pkcs11/NAME/create of that name"`
}

// P11Create makes a key as C_GenerateKey and C_GenerateKeyPair do. The answer is
// the key.
type P11Create struct {
	Name       string     `json:"-" path:"name" audit:"plain" doc:"name of the key; of a session's key session- and 32 random hex digits"`
	Type       string     `json:"type" audit:"plain" doc:"key type"`
	KeySize    int        `json:"key_size,omitempty" audit:"plain" doc:"bytes, of type hmac"`
	Protection Protection `json:"protection,omitempty" audit:"plain" doc:"default that of the mount"`
	Session    bool       `json:"session,omitempty" audit:"plain" doc:"it ends after ten minutes without use"`
	Label      string     `json:"label,omitempty" audit:"plain" doc:"CKA_LABEL, if not the name"`
	ID         []byte     `json:"id,omitempty" audit:"plain" doc:"CKA_ID, 1 to 64 bytes, in base64"`
	Subject    []byte     `json:"subject,omitempty" audit:"-" doc:"CKA_SUBJECT, DER, in base64"`
	Uses       []string   `json:"uses,omitempty" audit:"plain" doc:"of type ecdsa-*: sign (default), agree, or both"`
	Deletable  bool       `json:"deletable,omitempty" audit:"plain" doc:"C_DestroyObject may delete it, if policies allow; always of a session's key"`
}
