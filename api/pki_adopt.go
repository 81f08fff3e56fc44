package api

// PKIAdopt makes an authority of a certificate and a key that is in the HSM token
// already.
type PKIAdopt struct {
	Certificate    string `json:"certificate,omitempty" audit:"-" doc:"the authority's certificate in PEM; certificates of those above may follow"`
	PEMBundle      string `json:"pem_bundle,omitempty" audit:"-" doc:"the same as certificate"`
	PKCS11KeyLabel string `json:"pkcs11_key_label,omitempty" audit:"plain" doc:"CKA_LABEL of the private key"`
	PKCS11KeyID    string `json:"pkcs11_key_id,omitempty" audit:"plain" doc:"CKA_ID of the private key, hexadecimal, with or without 0x"`
	IssuerName     string `json:"issuer_name,omitempty" audit:"plain" doc:"name of the new issuer"`
	KeyName        string `json:"key_name,omitempty" audit:"plain" doc:"name of the key"`
}
