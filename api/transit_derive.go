package api

// DeriveKey makes a named key of a key agreement: two parties that derive with
// their own private key and the other's public key get the same key. The new
// key has one version, and is treated as one that was imported.
type DeriveKey struct {
	Name           string `json:"-" path:"name" audit:"plain" doc:"name of the new key"`
	BaseKeyName    string `json:"base_key_name,omitempty" audit:"plain" doc:"own key, of type ecdsa-… and with protection software"`
	BaseKeyVersion int    `json:"base_key_version,omitempty" audit:"plain" doc:"version of the own key, default the newest"`
	PeerPublicKey  string `json:"peer_public_key,omitempty" doc:"PEM of the other party's public key, on the same curve"`
	Algorithm      string `json:"key_derivation_algorithm,omitempty" audit:"plain" doc:"ecdh (default): ECDH, then HKDF-SHA256 without salt and info"`
	DerivedKeyType string `json:"derived_key_type,omitempty" audit:"plain" doc:"type of the new key: aes128-gcm96, aes256-gcm96 (default), chacha20-poly1305 or xchacha20-poly1305"`
}
