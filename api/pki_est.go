package api

// ESTGet asks an EST server (RFC 7030) for what everybody may have.
type ESTGet struct {
	Label string `json:"-" path:"label" audit:"plain" doc:"label of the EST server; none is its default path"`
}

// ESTEnroll asks an EST server for a certificate (RFC 7030 section 4.2).
// Certificates and ChannelBinding come from the connection and can't be sent.
type ESTEnroll struct {
	Label string `json:"-" path:"label" audit:"plain" doc:"label of the EST server; none is its default path"`
	CSR   string `json:"csr" audit:"-" doc:"certificate request (PKCS #10): DER in base64, with or without line breaks, or PEM"`

	// Certificates is the chain that the client showed in TLS, in DER, its own
	// first. TLS has proved that it holds the key.
	Certificates [][]byte `json:"-"`
	// ChannelBinding is the tls-exporter of the connection (RFC 9266), 32 bytes;
	// empty if there is none.
	ChannelBinding []byte `json:"-"`
}

// ESTCertificates are certificates as an EST server answers with them: a
// certs-only CMS message (RFC 7030 sections 4.1.3 and 4.2.3).
type ESTCertificates struct {
	SerialNumber string `json:"serial_number,omitempty" audit:"plain" doc:"serial number of the certificate that was made"`
	Subject      string `json:"subject,omitempty" audit:"plain" doc:"its subject"`
	ShownSerial  string `json:"shown_serial,omitempty" audit:"plain" doc:"serial number of the certificate that the client showed in TLS"`
	ShownSubject string `json:"shown_subject,omitempty" audit:"plain" doc:"its subject"`
	Body         string `json:"body,omitempty" audit:"-" doc:"the message: DER in base64"`
}

// Raw is the body of the answer.
func (a *ESTCertificates) Raw() (contentType string, body []byte) {
	if a.SerialNumber != "" {
		return "application/pkcs7-mime; smime-type=certs-only", []byte(a.Body)
	}
	return "application/pkcs7-mime", []byte(a.Body)
}

// ESTAttributes say what certificate requests should have (RFC 7030 section
// 4.5.2).
type ESTAttributes struct {
	Body string `json:"body,omitempty" audit:"-" doc:"the attributes: DER in base64; empty if there are none"`
}

// Optional tells that there may be none.
func (*ESTAttributes) Optional() {}

// HTTPStatus is 204 if there are no attributes.
func (a *ESTAttributes) HTTPStatus() int {
	if a.Body == "" {
		return 204
	}
	return 0
}

// Raw is the body of the answer.
func (a *ESTAttributes) Raw() (contentType string, body []byte) {
	return "application/csrattrs", []byte(a.Body)
}

// PKIEST are the rules of a mount's EST server.
type PKIEST struct {
	Enabled               bool                         `json:"enabled" doc:"whether there is an EST server at all"`
	DefaultMount          bool                         `json:"default_mount" doc:"whether /.well-known/est/ without a label is this mount"`
	DefaultPathPolicy     string                       `json:"default_path_policy" audit:"plain" doc:"what is issued without a label: sign-verbatim or role:NAME; empty is nothing"`
	LabelToPathPolicy     map[string]string            `json:"label_to_path_policy" audit:"plain" doc:"what is issued by label: sign-verbatim or role:NAME"`
	Authenticators        map[string]map[string]string `json:"authenticators" audit:"plain" doc:"how clients show who they are: cert, token"`
	CSRAttributes         []string                     `json:"csr_attributes" audit:"plain" doc:"what csrattrs tells; empty is what follows from the role"`
	RequireChannelBinding bool                         `json:"require_channel_binding" doc:"whether requests must carry the channel binding of their connection"`
	EnableSentinelParsing bool                         `json:"enable_sentinel_parsing" doc:"false: there are no Sentinel policies"`
	AuditFields           []string                     `json:"audit_fields" audit:"plain" doc:"empty: the audit log has serial number and subject of every certificate"`
	LastUpdated           string                       `json:"last_updated" audit:"plain" doc:"when this was last changed; empty is never"`
}

// SetPKIEST changes PKIEST; absent fields stay as they are.
type SetPKIEST struct {
	Enabled               *bool                         `json:"enabled,omitempty" doc:"whether there is an EST server at all"`
	DefaultMount          *bool                         `json:"default_mount,omitempty" doc:"whether /.well-known/est/ without a label is this mount; one mount at most. It needs default_path_policy"`
	DefaultPathPolicy     *string                       `json:"default_path_policy,omitempty" audit:"plain" doc:"what is issued without a label: sign-verbatim (the request as it is) or role:NAME"`
	LabelToPathPolicy     *map[string]string            `json:"label_to_path_policy,omitempty" audit:"plain" doc:"label to what is issued there: sign-verbatim or role:NAME. A label is one mount's only"`
	Authenticators        *map[string]map[string]string `json:"authenticators,omitempty" audit:"plain" doc:"how clients show who they are (default: both): cert, client certificates, with the setting ca (PEM of further authorities whose certificates may enroll); token, HTTP Basic with a client token as password"`
	CSRAttributes         *[]string                     `json:"csr_attributes,omitempty" audit:"plain" doc:"what csrattrs tells: OID, or OID=VALUE and further values in ;, each an object identifier or a number; empty (default) is what follows from the role"`
	RequireChannelBinding *bool                         `json:"require_channel_binding,omitempty" doc:"whether challengePassword of a request must be the channel binding of its connection (tls-exporter in base64); if it is there it must in any case"`
	EnableSentinelParsing *bool                         `json:"enable_sentinel_parsing,omitempty" doc:"false only: there are no Sentinel policies"`
	AuditFields           *[]string                     `json:"audit_fields,omitempty" audit:"plain" doc:"empty only: the audit log has serial number and subject of every certificate"`
}
