package api

// PKISubject is the subject of an authority's certificate.
type PKISubject struct {
	OU            []string `json:"ou,omitempty" audit:"plain" doc:"organizational units of the subject"`
	Organization  []string `json:"organization,omitempty" audit:"plain" doc:"organizations of the subject"`
	Country       []string `json:"country,omitempty" audit:"plain" doc:"countries of the subject"`
	Locality      []string `json:"locality,omitempty" audit:"plain" doc:"localities of the subject"`
	Province      []string `json:"province,omitempty" audit:"plain" doc:"provinces of the subject"`
	StreetAddress []string `json:"street_address,omitempty" audit:"plain" doc:"street addresses of the subject"`
	PostalCode    []string `json:"postal_code,omitempty" audit:"plain" doc:"postal codes of the subject"`
}

// PKIConstraints limit what an authority may certify (RFC 5280 section 4.2.1.10).
type PKIConstraints struct {
	MaxPathLength       *int     `json:"max_path_length,omitempty" doc:"how many authorities may stand below; -1 any"`
	PermittedDNSDomains []string `json:"permitted_dns_domains,omitempty" audit:"plain" doc:"domains that it may certify"`
	ExcludedDNSDomains  []string `json:"excluded_dns_domains,omitempty" audit:"plain" doc:"domains that it may not certify"`
	PermittedIPRanges   []string `json:"permitted_ip_ranges,omitempty" audit:"plain" doc:"networks that it may certify"`
	ExcludedIPRanges    []string `json:"excluded_ip_ranges,omitempty" audit:"plain" doc:"networks that it may not certify"`
}

// PKINewKey says which key an authority gets.
type PKINewKey struct {
	KeyType        string     `json:"key_type,omitempty" audit:"plain" doc:"rsa (default), ec or ed25519"`
	KeyBits        int        `json:"key_bits,omitempty" doc:"rsa 2048 (default), 3072 or 4096; ec 256 (default), 384 or 521"`
	KeyName        string     `json:"key_name,omitempty" audit:"plain" doc:"name of the new key"`
	KeyRef         string     `json:"key_ref,omitempty" audit:"plain" doc:"with existing: the key, by name or id; default the default key"`
	Protection     Protection `json:"protection,omitempty" audit:"plain" doc:"where the key lives: token, wrapped or software; default wrapped on an HSM"`
	ExternalKeyRef string     `json:"external_key_ref,omitempty" audit:"plain" doc:"with kms: CONFIG:KEY of sys/external-keys, a key that lies in the HSM token"`
}

// PKIGenerateRoot makes a self-signed authority.
type PKIGenerateRoot struct {
	Kind       string `json:"-" path:"kind" audit:"plain" doc:"internal: a new key; existing: key_ref; kms: external_key_ref; exported is refused"`
	IssuerName string `json:"issuer_name,omitempty" audit:"plain" doc:"name of the new issuer"`
	PKINewKey
	PKINames
	PKISubject
	PKIValidity
	PKIConstraints
	PKIForm
	NotBeforeDuration *Seconds `json:"not_before_duration,omitempty" doc:"how far the validity begins in the past, default 30s"`
	SignatureBits     int      `json:"signature_bits,omitempty" doc:"size of the hash that is signed: 0, 256, 384 or 512"`
	UsePSS            bool     `json:"use_pss,omitempty" doc:"sign with RSA-PSS"`
}

// PKIGenerateIntermediate makes a key and a certificate request for an
// authority that another one certifies.
type PKIGenerateIntermediate struct {
	Kind string `json:"-" path:"kind" audit:"plain" doc:"internal: a new key; existing: key_ref; kms: external_key_ref; exported is refused"`
	PKINewKey
	PKINames
	PKISubject
	PKIForm
	SignatureBits       int  `json:"signature_bits,omitempty" doc:"size of the hash that is signed: 0, 256, 384 or 512"`
	UsePSS              bool `json:"use_pss,omitempty" doc:"sign with RSA-PSS"`
	AddBasicConstraints bool `json:"add_basic_constraints,omitempty" doc:"ask for CA:TRUE in the request"`
}

// PKICSR is the answer to PKIGenerateIntermediate.
type PKICSR struct {
	CSR     string `json:"csr" audit:"-"`
	KeyID   string `json:"key_id" audit:"plain"`
	KeyName string `json:"key_name,omitempty" audit:"plain"`
}

// PKISignIntermediate certifies an authority.
type PKISignIntermediate struct {
	IssuerRef string `json:"-" path:"issuer" audit:"plain" doc:"issuer that signs"`
	CSR       string `json:"csr,omitempty" audit:"-" doc:"certificate request in PEM, PKCS #10"`
	PKINames
	PKISubject
	PKIValidity
	PKIConstraints
	PKIForm
	UseCSRValues      bool     `json:"use_csr_values,omitempty" doc:"take subject, names and extensions of the request"`
	NotBeforeDuration *Seconds `json:"not_before_duration,omitempty" doc:"how far the validity begins in the past, default 30s"`
	SignatureBits     int      `json:"signature_bits,omitempty" doc:"size of the hash that is signed: 0, 256, 384 or 512"`
	UsePSS            bool     `json:"use_pss,omitempty" doc:"sign with RSA-PSS"`
}

// PKIBundle brings certificates and keys of elsewhere.
type PKIBundle struct {
	PEMBundle   string `json:"pem_bundle,omitempty" audit:"-" doc:"certificates, and private keys, in PEM"`
	Certificate string `json:"certificate,omitempty" audit:"-" doc:"intermediate/set-signed: the signed certificate, and its issuers"`
	IssuerName  string `json:"issuer_name,omitempty" audit:"plain" doc:"name of the first new issuer"`

	Protection Protection `json:"protection,omitempty" audit:"plain" doc:"where private keys are kept: token, wrapped or software; default in the HSM token, where its module can take them"`
}

// PKIImported says what an import brought.
type PKIImported struct {
	ImportedIssuers []string          `json:"imported_issuers" audit:"plain" doc:"ids of new issuers"`
	ImportedKeys    []string          `json:"imported_keys" audit:"plain" doc:"ids of new keys"`
	ExistingIssuers []string          `json:"existing_issuers" audit:"plain" doc:"ids of issuers that were here already"`
	ExistingKeys    []string          `json:"existing_keys" audit:"plain" doc:"ids of keys that were here already"`
	Mapping         map[string]string `json:"mapping" doc:"issuer id to the id of its key, empty if that is not here"`
}

// PKIIssuerRef names an issuer.
type PKIIssuerRef struct {
	Issuer string `json:"-" path:"issuer" audit:"plain" doc:"name or id of the issuer, or default"`
}

// PKIIssuer is an issuer as callers see it.
type PKIIssuer struct {
	IssuerID                     string   `json:"issuer_id" audit:"plain"`
	IssuerName                   string   `json:"issuer_name" audit:"plain"`
	KeyID                        string   `json:"key_id" audit:"plain" doc:"empty if the key is not here"`
	Certificate                  string   `json:"certificate" audit:"-"`
	ManualChain                  []string `json:"manual_chain" audit:"plain"`
	CAChain                      []string `json:"ca_chain" audit:"-"`
	LeafNotAfterBehavior         string   `json:"leaf_not_after_behavior" audit:"plain"`
	Usage                        string   `json:"usage" audit:"plain"`
	RevocationSignatureAlgorithm string   `json:"revocation_signature_algorithm" audit:"plain"`
	IssuingCertificates          []string `json:"issuing_certificates" audit:"plain"`
	CRLDistributionPoints        []string `json:"crl_distribution_points" audit:"plain"`
	DeltaCRLDistributionPoints   []string `json:"delta_crl_distribution_points" audit:"plain"`
	OCSPServers                  []string `json:"ocsp_servers" audit:"plain"`
	EnableAIAURLTemplating       bool     `json:"enable_aia_url_templating"`
	Revoked                      bool     `json:"revoked"`
	RevocationTime               int64    `json:"revocation_time,omitempty"`
	RevocationTimeRFC3339        string   `json:"revocation_time_rfc3339,omitempty" audit:"plain"`
}

// SetPKIIssuer changes an issuer. With POST an absent field has its default,
// with PATCH it stays as it is.
type SetPKIIssuer struct {
	Issuer                       string    `json:"-" path:"issuer" audit:"plain" doc:"name or id of the issuer, or default"`
	IssuerName                   *string   `json:"issuer_name,omitempty" audit:"plain" doc:"name"`
	LeafNotAfterBehavior         *string   `json:"leaf_not_after_behavior,omitempty" audit:"plain" doc:"a certificate that would outlive the issuer: err (default), truncate or permit"`
	ManualChain                  *[]string `json:"manual_chain,omitempty" audit:"plain" doc:"issuers of the chain, itself first, instead of the computed one"`
	Usage                        *[]string `json:"usage,omitempty" audit:"plain" doc:"read-only, issuing-certificates, crl-signing, ocsp-signing; default all"`
	RevocationSignatureAlgorithm *string   `json:"revocation_signature_algorithm,omitempty" audit:"plain" doc:"of CRLs and OCSP answers, such as SHA384WithRSA; default by the key"`
	IssuingCertificates          *[]string `json:"issuing_certificates,omitempty" audit:"plain" doc:"URLs of the issuer's certificate"`
	CRLDistributionPoints        *[]string `json:"crl_distribution_points,omitempty" audit:"plain" doc:"URLs of the CRL"`
	DeltaCRLDistributionPoints   *[]string `json:"delta_crl_distribution_points,omitempty" audit:"plain" doc:"URLs of the delta CRL"`
	OCSPServers                  *[]string `json:"ocsp_servers,omitempty" audit:"plain" doc:"URLs of OCSP responders"`
	EnableAIAURLTemplating       *bool     `json:"enable_aia_url_templating,omitempty" doc:"the URLs contain {{issuer_id}}, {{cluster_path}} or {{cluster_aia_path}}"`
}

// PKIIssuerList lists issuers.
type PKIIssuerList struct {
	Keys    []string                 `json:"keys" audit:"plain" doc:"ids"`
	KeyInfo map[string]PKIIssuerInfo `json:"key_info" audit:"-"`
}

// IsEmpty tells fronts to answer "not found".
func (l *PKIIssuerList) IsEmpty() bool { return len(l.Keys) == 0 }

// PKIIssuerInfo is an issuer in a list.
type PKIIssuerInfo struct {
	IssuerName   string `json:"issuer_name"`
	IsDefault    bool   `json:"is_default"`
	KeyID        string `json:"key_id"`
	SerialNumber string `json:"serial_number"`
}

// PKIKeyRef names a key of a certificate authority.
type PKIKeyRef struct {
	Key string `json:"-" path:"key" audit:"plain" doc:"name or id of the key, or default"`
}

// PKIKey is a key as callers see it.
type PKIKey struct {
	KeyID      string     `json:"key_id" audit:"plain"`
	KeyName    string     `json:"key_name" audit:"plain"`
	KeyType    string     `json:"key_type" audit:"plain"`
	Protection Protection `json:"protection" audit:"plain"`
	PublicKey  string     `json:"public_key" audit:"-" doc:"PEM of PKIX"`
}

// SetPKIKey names a key.
type SetPKIKey struct {
	Key     string `json:"-" path:"key" audit:"plain" doc:"name or id of the key, or default"`
	KeyName string `json:"key_name,omitempty" audit:"plain" doc:"new name; empty for none"`
}

// PKIKeyList lists keys.
type PKIKeyList struct {
	Keys    []string              `json:"keys" audit:"plain" doc:"ids"`
	KeyInfo map[string]PKIKeyInfo `json:"key_info" audit:"-"`
}

// IsEmpty tells fronts to answer "not found".
func (l *PKIKeyList) IsEmpty() bool { return len(l.Keys) == 0 }

// PKIKeyInfo is a key in a list.
type PKIKeyInfo struct {
	KeyName   string `json:"key_name"`
	IsDefault bool   `json:"is_default"`
}

// PKIGenerateKey makes a key without a certificate.
type PKIGenerateKey struct {
	Kind           string     `json:"-" path:"kind" audit:"plain" doc:"internal, or kms: external_key_ref; exported is refused"`
	KeyType        string     `json:"key_type,omitempty" audit:"plain" doc:"rsa (default), ec or ed25519"`
	KeyBits        int        `json:"key_bits,omitempty" doc:"rsa 2048 (default), 3072 or 4096; ec 256 (default), 384 or 521"`
	KeyName        string     `json:"key_name,omitempty" audit:"plain" doc:"name of the new key"`
	Protection     Protection `json:"protection,omitempty" audit:"plain" doc:"where the key lives: token, wrapped or software; default wrapped on an HSM"`
	ExternalKeyRef string     `json:"external_key_ref,omitempty" audit:"plain" doc:"with kms: CONFIG:KEY of sys/external-keys, a key that lies in the HSM token"`
}

// PKIIssuerPublic is what everybody may know of an issuer.
type PKIIssuerPublic struct {
	IssuerID    string   `json:"issuer_id" audit:"plain"`
	IssuerName  string   `json:"issuer_name" audit:"plain"`
	Certificate string   `json:"certificate" audit:"-"`
	CAChain     []string `json:"ca_chain" audit:"-"`
}
