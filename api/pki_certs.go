package api

// PKICertsQuery chooses certificates of a list; what is absent chooses all.
type PKICertsQuery struct {
	After         string  `json:"after,omitempty" audit:"plain" doc:"serial number behind which the list begins"`
	Limit         int     `json:"limit,omitempty" doc:"how many are listed; 0 for all"`
	Role          string  `json:"role,omitempty" audit:"plain" doc:"only those that this role issued"`
	Issuer        string  `json:"issuer,omitempty" audit:"plain" doc:"only those of this issuer, by name or id"`
	Name          string  `json:"name,omitempty" audit:"plain" doc:"only those with a common name, host name, address or IP that fits; * stands for any text"`
	ExpiresWithin Seconds `json:"expires_within,omitempty" doc:"only those that are valid now and end within this time"`
	Revoked       *bool   `json:"revoked,omitempty" doc:"only those that are revoked, or are not"`
}

// PKICertList lists certificates with what people want to know of them.
type PKICertList struct {
	Keys    []string               `json:"keys" audit:"plain" doc:"serial numbers"`
	KeyInfo map[string]PKICertInfo `json:"key_info" audit:"-"`
}

// IsEmpty tells fronts to answer "not found".
func (l *PKICertList) IsEmpty() bool { return len(l.Keys) == 0 }

// PKICertInfo is a certificate in a list.
type PKICertInfo struct {
	CommonName     string   `json:"common_name"`
	Names          []string `json:"names" doc:"alternative names"`
	IssuerID       string   `json:"issuer_id"`
	Role           string   `json:"role"`
	NotBefore      int64    `json:"not_before" doc:"Unix time"`
	Expiration     int64    `json:"expiration" doc:"Unix time"`
	RevocationTime int64    `json:"revocation_time" doc:"Unix time, 0 if it is not revoked"`
}

// PKISelfIssued asks for a certificate for another authority that certifies itself.
type PKISelfIssued struct {
	IssuerRef   string `json:"-" path:"issuer" audit:"plain" doc:"issuer that signs"`
	Certificate string `json:"certificate,omitempty" audit:"-" doc:"the self-issued certificate in PEM"`
	PKIForm
	RequireMatchingCertificateAlgorithms bool `json:"require_matching_certificate_algorithms,omitempty" doc:"refuse if both keys are not of one kind"`
}

// PKIDeleted says what DELETE root removed.
type PKIDeleted struct {
	DeletedIssuers []string `json:"deleted_issuers" audit:"plain" doc:"ids"`
	DeletedKeys    []string `json:"deleted_keys" audit:"plain" doc:"ids"`
}
