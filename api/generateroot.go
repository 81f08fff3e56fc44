package api

// StartGenerateRoot begins to make a root token. Give one of both, or none: then
// the server makes the one-time pad and shows it once.
type StartGenerateRoot struct {
	OTP    string `json:"otp,omitempty" audit:"-" doc:"one-time pad that the token is encrypted with, of otp_length characters"`
	PGPKey string `json:"pgp_key,omitempty" audit:"-" doc:"OpenPGP public key to which the token is encrypted (base64 of the binary form, or armored)"`

	Ceremony string `json:"ceremony,omitempty" audit:"plain" doc:"SHA-256, in hexadecimal, of what describes the act beforehand: the server signs a statement that names it"`
}

// GiveRootShare gives a share towards a root token.
type GiveRootShare struct {
	Key   string `json:"key" audit:"-" doc:"a share in hex or base64"`
	Nonce string `json:"nonce" audit:"plain" doc:"of the attempt, so that no share goes to another one"`
}

// GenerateRootStatus is the state of an attempt to make a root token.
type GenerateRootStatus struct {
	Nonce            string `json:"nonce" audit:"plain"`
	Started          bool   `json:"started"`
	Progress         int    `json:"progress" doc:"shares given so far"`
	Required         int    `json:"required" doc:"shares that are needed"`
	Complete         bool   `json:"complete" doc:"the token was made by this call"`
	EncodedToken     string `json:"encoded_token" audit:"-" doc:"the token XOR the one-time pad, in base64 without padding; or an OpenPGP message in base64"`
	EncodedRootToken string `json:"encoded_root_token" audit:"-" doc:"the same under its old name"`
	PGPFingerprint   string `json:"pgp_fingerprint" audit:"plain"`
	OTP              string `json:"otp" audit:"-" doc:"the one-time pad that the server made, shown once"`
	OTPLength        int    `json:"otp_length" doc:"characters of a one-time pad"`

	Ceremony  string           `json:"ceremony,omitempty" audit:"plain" doc:"as it was begun with"`
	Statement *SignedStatement `json:"statement,omitempty" audit:"-" doc:"with complete: the signed statement of the act, if a ceremony was named"`
}
