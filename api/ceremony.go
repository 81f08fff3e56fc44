package api

import "time"

// Acts of custodians of which the server makes signed statements.
const (
	ActInit         = "init"
	ActRekey        = "rekey"
	ActGenerateRoot = "generate-root"
)

// CeremonyAct names an act of custodians.
type CeremonyAct struct {
	Act string `json:"-" path:"act" audit:"plain" doc:"init, rekey or generate-root"`
}

// SignedStatement is what the server says of an act of custodians that it performed,
// signed by the HSM token: ECDSA P-256 over the SHA-256 of "claviger ceremony
// statement 1", a line feed, and the bytes of Statement.
type SignedStatement struct {
	Statement []byte `json:"statement" audit:"-" doc:"the statement as JSON, in base64: these bytes are signed"`
	PublicKey []byte `json:"public_key" audit:"-" doc:"public key of the HSM token's audit key: PKIX DER in base64"`
	Signature []byte `json:"signature" audit:"-" doc:"r and s, 32 bytes each, in base64"`
}

// ActStatement is the statement itself. Times are in UTC.
type ActStatement struct {
	Format   int       `json:"format"`   // 1
	Act      string    `json:"act"`      // ActInit, ActRekey or ActGenerateRoot
	Ceremony string    `json:"ceremony"` // the SHA-256 that the one who began named
	Time     time.Time `json:"time"`     // when the act was done

	Server StatedServer `json:"server"`
	Token  StatedToken  `json:"hsm_token"`

	// The shares that the act made; those in force with ActGenerateRoot.
	ShareSet ShareSet `json:"share_set"`
	// Given are the numbers of the shares that were given, of the set FormerSet; none
	// with ActInit.
	Given     []int  `json:"given"`
	FormerSet string `json:"former_set,omitempty"`
	// Verified are the numbers of the new shares that were given back, with ActRekey.
	Verified []int `json:"verified,omitempty"`
	NewPIN   bool  `json:"new_pin,omitempty"`  // with ActRekey
	Adopted  bool  `json:"adopted,omitempty"`  // the HSM token was there before ActInit
	Recovery bool  `json:"recovery,omitempty"` // the shares are recovery shares

	Shares []StatedResult `json:"shares"`               // the encrypted shares, in their order
	Root   *StatedResult  `json:"root_token,omitempty"` // the encrypted root token
}

// StatedServer is the server that made a statement.
type StatedServer struct {
	Release   string `json:"release"`
	ClusterID string `json:"cluster_id"`
}

// StatedToken is the HSM token that signed a statement.
type StatedToken struct {
	Driver       string `json:"driver"`
	Module       string `json:"module,omitempty"`
	Label        string `json:"label"`
	Serial       string `json:"serial"`
	Manufacturer string `json:"manufacturer"`
	Model        string `json:"model"`
	Firmware     string `json:"firmware,omitempty"`
}

// StatedResult is a secret that was handed over encrypted.
type StatedResult struct {
	For    string `json:"for"`    // OpenPGP fingerprint in hexadecimal, or "otp" for a one-time pad
	SHA256 string `json:"sha256"` // of the OpenPGP message in binary form, or of the text in base64
}

// ForOTP stands for a one-time pad where an OpenPGP fingerprint could.
const ForOTP = "otp"
