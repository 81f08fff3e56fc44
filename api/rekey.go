package api

// StartRekey begins to replace the shares of the unseal secret.
type StartRekey struct {
	SecretShares        int      `json:"secret_shares" doc:"number of new shares, 1 to 255"`
	SecretThreshold     int      `json:"secret_threshold" doc:"how many of them unseal, 1 to secret_shares"`
	PGPKeys             []string `json:"pgp_keys,omitempty" audit:"-" doc:"the custodians' OpenPGP public keys, one each share: base64 of the binary form, or armored"`
	Backup              bool     `json:"backup,omitempty" doc:"keep the encrypted shares at sys/rekey/backup; needs pgp_keys"`
	RequireVerification bool     `json:"require_verification,omitempty" doc:"nothing changes before as many new shares as the new threshold were given to sys/rekey/verify"`
	NewPIN              bool     `json:"new_pin,omitempty" doc:"also give the HSM token a new user PIN and SO PIN; needs require_verification"`
	Ceremony            string   `json:"ceremony,omitempty" audit:"plain" doc:"SHA-256, in hexadecimal, of what describes the act beforehand: the server signs a statement that names it"`
}

// CancelRekey forgets an attempt.
type CancelRekey struct {
	Nonce string `json:"nonce,omitempty" audit:"plain" doc:"of the attempt; one of another is refused"`
}

// BodyOfDelete says that the fields may be in the body, where Vault's clients put
// them, and not in the query alone.
func (*CancelRekey) BodyOfDelete() {}

// GiveRekeyShare gives a share, to the attempt or to its verification.
type GiveRekeyShare struct {
	Key   string `json:"key" audit:"-" doc:"a share in hex or base64"`
	Nonce string `json:"nonce" audit:"plain" doc:"of the attempt or of its verification, so that no share goes to another one"`
}

// RekeyStatus is the state of an attempt to replace the shares; with complete, its result.
type RekeyStatus struct {
	Nonce                string   `json:"nonce" audit:"plain"`
	Started              bool     `json:"started"`
	T                    int      `json:"t" doc:"threshold of the new shares"`
	N                    int      `json:"n" doc:"number of the new shares"`
	Progress             int      `json:"progress" doc:"shares given so far"`
	Required             int      `json:"required" doc:"shares that are needed, of those in force"`
	PGPFingerprints      []string `json:"pgp_fingerprints" audit:"plain" doc:"of the keys to which the new shares are encrypted, null without keys"`
	Backup               bool     `json:"backup"`
	VerificationRequired bool     `json:"verification_required"`
	VerificationNonce    string   `json:"verification_nonce,omitempty" audit:"plain" doc:"present once the new shares were made and wait for their verification"`
	NewPIN               bool     `json:"new_pin" doc:"the HSM token gets new PINs"`
	Ceremony             string   `json:"ceremony,omitempty" audit:"plain" doc:"as it was begun with"`

	Complete   bool      `json:"complete" doc:"the new shares were made by this call"`
	Keys       []string  `json:"keys,omitempty" audit:"-" doc:"the new shares in hex, or OpenPGP messages in hex; shown once"`
	KeysBase64 []string  `json:"keys_base64,omitempty" audit:"-" doc:"the same in base64"`
	ShareSet   *ShareSet `json:"share_set,omitempty" audit:"plain" doc:"what everybody may know of the new shares"`

	Statement *SignedStatement `json:"statement,omitempty" audit:"-" doc:"the signed statement of the act, if the new shares are in force and a ceremony was named"`
}

// RekeyVerifyStatus is the state of a verification.
type RekeyVerifyStatus struct {
	Nonce    string `json:"nonce" audit:"plain"`
	Started  bool   `json:"started"`
	T        int    `json:"t"`
	N        int    `json:"n"`
	Progress int    `json:"progress" doc:"new shares given so far"`
	Complete bool   `json:"complete" doc:"the new shares are in force since this call"`

	Statement *SignedStatement `json:"statement,omitempty" audit:"-" doc:"with complete: the signed statement of the act, if a ceremony was named"`
}

// RekeyBackup is the encrypted shares of the last rekey that asked for a backup.
type RekeyBackup struct {
	Nonce      string              `json:"nonce" audit:"plain"`
	Keys       map[string][]string `json:"keys" audit:"-" doc:"by OpenPGP fingerprint: messages in hex"`
	KeysBase64 map[string][]string `json:"keys_base64" audit:"-" doc:"the same in base64"`
}

// ShareSet is what everybody may know of a set of shares. With it a custodian checks
// a share without the server (claviger share verify).
type ShareSet struct {
	SetID       string   `json:"set_id" audit:"plain" doc:"16 hexadecimal digits that every share of the set holds"`
	Shares      int      `json:"shares" doc:"number of shares"`
	Threshold   int      `json:"threshold" doc:"how many of them unseal"`
	Commitments [][]byte `json:"commitments" audit:"-" doc:"threshold points of ristretto255 (RFC 9496) in base64: Feldman's commitments to the polynomial's coefficients"`
}
