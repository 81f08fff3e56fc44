package api

// PKIRoleName is the request of operations that take only a role's name.
type PKIRoleName struct {
	Name string `json:"-" path:"name" audit:"plain" doc:"name of the role"`
}

// SetPKIRole makes or replaces a role of a certificate authority: what it
// issues, and for which names. A field that is absent has its default, or with
// PATCH stays as it is.
type SetPKIRole struct {
	Name string `json:"-" path:"name" audit:"plain" doc:"name of the role"`

	IssuerRef *string  `json:"issuer_ref,omitempty" audit:"plain" doc:"issuer that signs: its name, its id, or default"`
	TTL       *Seconds `json:"ttl,omitempty" doc:"validity of a certificate for which nothing else is asked; 0 takes the mount's"`
	MaxTTL    *Seconds `json:"max_ttl,omitempty" doc:"longest validity; 0 takes the mount's"`
	NotAfter  *string  `json:"not_after,omitempty" audit:"plain" doc:"fixed end of validity instead of a duration, RFC 3339"`

	NotBeforeDuration *Seconds `json:"not_before_duration,omitempty" doc:"how far the validity begins in the past, default 30s"`
	NotBefore         *string  `json:"not_before,omitempty" audit:"plain" doc:"fixed begin of validity instead of a duration, RFC 3339"`
	NotBeforeBound    *string  `json:"not_before_bound,omitempty" audit:"plain" doc:"not_before of requests: permit (default), forbid, or duration, which allows it within not_before_duration"`
	NotAfterBound     *string  `json:"not_after_bound,omitempty" audit:"plain" doc:"not_after of requests: permit (default), forbid, or ttl-limited, which allows it within ttl; or the latest end of all certificates, RFC 3339"`

	AllowLocalhost            *bool     `json:"allow_localhost,omitempty" doc:"allow localhost and localdomain; default true"`
	AllowedDomains            *[]string `json:"allowed_domains,omitempty" audit:"plain" doc:"domains that the following rules speak of"`
	AllowedDomainsTemplate    *bool     `json:"allowed_domains_template,omitempty" doc:"allowed_domains may have templates such as {{identity.entity.name}}; client tokens have no entities, so those match nothing"`
	AllowTokenDisplayName     *bool     `json:"allow_token_displayname,omitempty" doc:"allow the caller's display name, and with allow_subdomains names below it"`
	AllowGlobsInTemplates     *bool     `json:"allow_globs_in_identity_templates,omitempty" doc:"kept for other programs; templates have no values that could hold a *"`
	AllowBareDomains          *bool     `json:"allow_bare_domains,omitempty" doc:"allow the domains themselves"`
	AllowSubdomains           *bool     `json:"allow_subdomains,omitempty" doc:"allow names below the domains, wildcards included"`
	AllowGlobDomains          *bool     `json:"allow_glob_domains,omitempty" doc:"* in a domain stands for any text"`
	AllowWildcardCertificates *bool     `json:"allow_wildcard_certificates,omitempty" doc:"allow names with a wildcard label; default true"`
	AllowAnyName              *bool     `json:"allow_any_name,omitempty" doc:"allow every name"`
	EnforceHostnames          *bool     `json:"enforce_hostnames,omitempty" doc:"names must be host names; default true"`
	AllowIPSANs               *bool     `json:"allow_ip_sans,omitempty" doc:"allow IP addresses; default true"`
	AllowedIPSANsCIDR         *[]string `json:"allowed_ip_sans_cidr,omitempty" audit:"plain" doc:"networks that IP addresses must lie in; none means any"`
	AllowedURISANs            *[]string `json:"allowed_uri_sans,omitempty" audit:"plain" doc:"URIs that are allowed; * stands for any text"`
	AllowedURISANsTemplate    *bool     `json:"allowed_uri_sans_template,omitempty" doc:"allowed_uri_sans may have templates; see allowed_domains_template"`
	AllowedOtherSANs          *[]string `json:"allowed_other_sans,omitempty" audit:"plain" doc:"other names that are allowed, as OID;UTF8:glob, or *"`
	AllowedSerialNumbers      *[]string `json:"allowed_serial_numbers,omitempty" audit:"plain" doc:"globs of serial numbers that the subject may have"`
	AllowedUserIDs            *[]string `json:"allowed_user_ids,omitempty" audit:"plain" doc:"globs of user ids that the subject may have"`

	ServerFlag          *bool     `json:"server_flag,omitempty" doc:"for TLS servers; default true"`
	ClientFlag          *bool     `json:"client_flag,omitempty" doc:"for TLS clients; default true"`
	CodeSigningFlag     *bool     `json:"code_signing_flag,omitempty" doc:"for code signing"`
	EmailProtectionFlag *bool     `json:"email_protection_flag,omitempty" doc:"for S/MIME"`
	KeyUsage            *[]string `json:"key_usage,omitempty" audit:"plain" doc:"default DigitalSignature, KeyAgreement, KeyEncipherment"`
	ExtKeyUsage         *[]string `json:"ext_key_usage,omitempty" audit:"plain" doc:"beside those of the flags, such as TimeStamping"`
	ExtKeyUsageOIDs     *[]string `json:"ext_key_usage_oids,omitempty" audit:"plain" doc:"further ones by object identifier"`

	KeyType       *string `json:"key_type,omitempty" audit:"plain" doc:"rsa (default), ec, ed25519, or any for requests"`
	KeyBits       *int    `json:"key_bits,omitempty" doc:"0 the usual, rsa 2048 to 8192, ec 256, 384 or 521"`
	SignatureBits *int    `json:"signature_bits,omitempty" doc:"size of the hash that is signed: 0, 256, 384 or 512"`
	UsePSS        *bool   `json:"use_pss,omitempty" doc:"sign with RSA-PSS where the issuer's key is RSA"`

	UseCSRCommonName *bool     `json:"use_csr_common_name,omitempty" doc:"take the common name of the request; default true"`
	UseCSRSANs       *bool     `json:"use_csr_sans,omitempty" doc:"take the alternative names of the request; default true"`
	RequireCN        *bool     `json:"require_cn,omitempty" doc:"a common name is needed; default true"`
	CNValidations    *[]string `json:"cn_validations,omitempty" audit:"plain" doc:"what a common name may be: email, hostname (both the default), or disabled"`

	OU            *[]string `json:"ou,omitempty" audit:"plain" doc:"organizational units of the subject"`
	Organization  *[]string `json:"organization,omitempty" audit:"plain" doc:"organizations of the subject"`
	Country       *[]string `json:"country,omitempty" audit:"plain" doc:"countries of the subject"`
	Locality      *[]string `json:"locality,omitempty" audit:"plain" doc:"localities of the subject"`
	Province      *[]string `json:"province,omitempty" audit:"plain" doc:"provinces of the subject"`
	StreetAddress *[]string `json:"street_address,omitempty" audit:"plain" doc:"street addresses of the subject"`
	PostalCode    *[]string `json:"postal_code,omitempty" audit:"plain" doc:"postal codes of the subject"`

	GenerateLease                 *bool     `json:"generate_lease,omitempty" doc:"refused if true: certificates have no leases; revoke them by serial number"`
	NoStore                       *bool     `json:"no_store,omitempty" doc:"keep no record of the certificates: they can't be listed, looked up or revoked by serial number alone"`
	PolicyIdentifiers             *[]string `json:"policy_identifiers,omitempty" audit:"plain" doc:"certificate policies: object identifiers, or objects of JSON with oid and optionally cps, a URL, and notice, a text"`
	BasicConstraintsValidForNonCA *bool     `json:"basic_constraints_valid_for_non_ca,omitempty" doc:"say in the certificate that it is no authority"`
	LintExceptions                *[]string `json:"lint_exceptions,omitempty" audit:"plain" doc:"names of lints that certificates of this role may break"`
}

// PKIRole is a role as it is kept; see SetPKIRole for its fields.
type PKIRole struct {
	IssuerRef                     string   `json:"issuer_ref" audit:"plain"`
	TTL                           Seconds  `json:"ttl"`
	MaxTTL                        Seconds  `json:"max_ttl"`
	NotAfter                      string   `json:"not_after" audit:"plain"`
	NotBeforeDuration             Seconds  `json:"not_before_duration"`
	NotBefore                     string   `json:"not_before" audit:"plain"`
	NotBeforeBound                string   `json:"not_before_bound" audit:"plain"`
	NotAfterBound                 string   `json:"not_after_bound" audit:"plain"`
	AllowLocalhost                bool     `json:"allow_localhost"`
	AllowedDomains                []string `json:"allowed_domains" audit:"plain"`
	AllowedDomainsTemplate        bool     `json:"allowed_domains_template"`
	AllowTokenDisplayName         bool     `json:"allow_token_displayname"`
	AllowGlobsInTemplates         bool     `json:"allow_globs_in_identity_templates"`
	AllowBareDomains              bool     `json:"allow_bare_domains"`
	AllowSubdomains               bool     `json:"allow_subdomains"`
	AllowGlobDomains              bool     `json:"allow_glob_domains"`
	AllowWildcardCertificates     bool     `json:"allow_wildcard_certificates"`
	AllowAnyName                  bool     `json:"allow_any_name"`
	EnforceHostnames              bool     `json:"enforce_hostnames"`
	AllowIPSANs                   bool     `json:"allow_ip_sans"`
	AllowedIPSANsCIDR             []string `json:"allowed_ip_sans_cidr" audit:"plain"`
	AllowedURISANs                []string `json:"allowed_uri_sans" audit:"plain"`
	AllowedURISANsTemplate        bool     `json:"allowed_uri_sans_template"`
	AllowedOtherSANs              []string `json:"allowed_other_sans" audit:"plain"`
	AllowedSerialNumbers          []string `json:"allowed_serial_numbers" audit:"plain"`
	AllowedUserIDs                []string `json:"allowed_user_ids" audit:"plain"`
	ServerFlag                    bool     `json:"server_flag"`
	ClientFlag                    bool     `json:"client_flag"`
	CodeSigningFlag               bool     `json:"code_signing_flag"`
	EmailProtectionFlag           bool     `json:"email_protection_flag"`
	KeyUsage                      []string `json:"key_usage" audit:"plain"`
	ExtKeyUsage                   []string `json:"ext_key_usage" audit:"plain"`
	ExtKeyUsageOIDs               []string `json:"ext_key_usage_oids" audit:"plain"`
	KeyType                       string   `json:"key_type" audit:"plain"`
	KeyBits                       int      `json:"key_bits"`
	SignatureBits                 int      `json:"signature_bits"`
	UsePSS                        bool     `json:"use_pss"`
	UseCSRCommonName              bool     `json:"use_csr_common_name"`
	UseCSRSANs                    bool     `json:"use_csr_sans"`
	RequireCN                     bool     `json:"require_cn"`
	CNValidations                 []string `json:"cn_validations" audit:"plain"`
	OU                            []string `json:"ou" audit:"plain"`
	Organization                  []string `json:"organization" audit:"plain"`
	Country                       []string `json:"country" audit:"plain"`
	Locality                      []string `json:"locality" audit:"plain"`
	Province                      []string `json:"province" audit:"plain"`
	StreetAddress                 []string `json:"street_address" audit:"plain"`
	PostalCode                    []string `json:"postal_code" audit:"plain"`
	GenerateLease                 bool     `json:"generate_lease"`
	NoStore                       bool     `json:"no_store"`
	PolicyIdentifiers             []string `json:"policy_identifiers" audit:"plain"`
	BasicConstraintsValidForNonCA bool     `json:"basic_constraints_valid_for_non_ca"`
	LintExceptions                []string `json:"lint_exceptions" audit:"plain"`
}
