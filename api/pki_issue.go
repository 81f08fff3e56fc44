package api

// PKINames are the names that a certificate is asked for.
type PKINames struct {
	CommonName        string   `json:"common_name,omitempty" audit:"plain" doc:"common name of the subject; also an alternative name unless exclude_cn_from_sans"`
	AltNames          []string `json:"alt_names,omitempty" audit:"plain" doc:"host names and e-mail addresses"`
	IPSANs            []string `json:"ip_sans,omitempty" audit:"plain" doc:"IP addresses"`
	URISANs           []string `json:"uri_sans,omitempty" audit:"plain" doc:"URIs"`
	OtherSANs         []string `json:"other_sans,omitempty" audit:"plain" doc:"other names, as OID;UTF8:text"`
	SerialNumber      string   `json:"serial_number,omitempty" audit:"plain" doc:"serial number in the subject (not of the certificate)"`
	UserIDs           []string `json:"user_ids,omitempty" audit:"plain" doc:"user ids in the subject"`
	ExcludeCNFromSANs bool     `json:"exclude_cn_from_sans,omitempty" doc:"leave the common name out of the alternative names"`
}

// PKIValidity is for how long a certificate is asked for.
type PKIValidity struct {
	TTL       Seconds `json:"ttl,omitempty" doc:"validity from now"`
	NotAfter  string  `json:"not_after,omitempty" audit:"plain" doc:"end of validity, RFC 3339, instead of ttl"`
	NotBefore string  `json:"not_before,omitempty" audit:"plain" doc:"begin of validity, RFC 3339; default a moment ago"`
}

// PKIForm is how an answer shows certificates and keys.
type PKIForm struct {
	Format           string `json:"format,omitempty" audit:"plain" doc:"pem (default), der (base64), or pem_bundle"`
	PrivateKeyFormat string `json:"private_key_format,omitempty" audit:"plain" doc:"der (default: as format), or pkcs8"`
}

// PKIIssue asks for a key and a certificate for it. The key is made here and
// kept nowhere.
type PKIIssue struct {
	Role      string `json:"-" path:"role" audit:"plain" doc:"name of the role"`
	IssuerRef string `json:"-" path:"issuer" audit:"plain" doc:"issuer that signs, instead of the role's"`
	PKINames
	PKIValidity
	PKIForm
	RemoveRootsFromChain bool `json:"remove_roots_from_chain,omitempty" doc:"leave self-signed certificates out of ca_chain"`
}

// PKISign asks for a certificate for a request's key.
type PKISign struct {
	Role      string `json:"-" path:"role" audit:"plain" doc:"name of the role"`
	IssuerRef string `json:"-" path:"issuer" audit:"plain" doc:"issuer that signs, instead of the role's"`
	CSR       string `json:"csr,omitempty" audit:"-" doc:"certificate request in PEM, PKCS #10"`
	PKINames
	PKIValidity
	PKIForm
	RemoveRootsFromChain bool `json:"remove_roots_from_chain,omitempty" doc:"leave self-signed certificates out of ca_chain"`

	KeyUsage        *[]string `json:"key_usage,omitempty" audit:"plain" doc:"sign-verbatim without a role: as in a role"`
	ExtKeyUsage     *[]string `json:"ext_key_usage,omitempty" audit:"plain" doc:"sign-verbatim without a role: as in a role"`
	ExtKeyUsageOIDs *[]string `json:"ext_key_usage_oids,omitempty" audit:"plain" doc:"sign-verbatim without a role: as in a role"`
	SignatureBits   int       `json:"signature_bits,omitempty" doc:"sign-verbatim without a role: as in a role"`
	UsePSS          bool      `json:"use_pss,omitempty" doc:"sign-verbatim without a role: as in a role"`
}

// PKICertificate is a certificate that was just issued.
type PKICertificate struct {
	Certificate    string   `json:"certificate" audit:"-"`
	IssuingCA      string   `json:"issuing_ca" audit:"-"`
	CAChain        []string `json:"ca_chain,omitempty" audit:"-"`
	PrivateKey     string   `json:"private_key,omitempty" audit:"-" doc:"issue only; kept nowhere"`
	PrivateKeyType string   `json:"private_key_type,omitempty" audit:"plain"`
	SerialNumber   string   `json:"serial_number" audit:"plain"`
	Expiration     int64    `json:"expiration" doc:"Unix time"`
	NotBefore      int64    `json:"not_before" doc:"Unix time"`
	IssuerID       string   `json:"issuer_id,omitempty" audit:"plain"`
	IssuerName     string   `json:"issuer_name,omitempty" audit:"plain"`
	KeyID          string   `json:"key_id,omitempty" audit:"plain"`
	KeyName        string   `json:"key_name,omitempty" audit:"plain"`
}

// PKISerial names a certificate.
type PKISerial struct {
	Serial string `json:"-" path:"serial" audit:"plain" doc:"serial number, hexadecimal with : or -; or ca, ca_chain, crl, delta-crl"`
}

// PKIKept is a certificate as it is kept.
type PKIKept struct {
	Certificate           string `json:"certificate" audit:"-"`
	CAChain               string `json:"ca_chain,omitempty" audit:"-"`
	RevocationTime        int64  `json:"revocation_time" doc:"Unix time, 0 if it is not revoked"`
	RevocationTimeRFC3339 string `json:"revocation_time_rfc3339" audit:"plain"`
	IssuerID              string `json:"issuer_id" audit:"plain"`
}
