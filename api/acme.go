package api

import "strconv"

// ACMEGet asks for a resource of an ACME server (RFC 8555) that needs no
// account: directory, new-nonce, renewal-info/….
type ACMEGet struct {
	Role     string `json:"-" path:"role" audit:"plain" doc:"role of the directory; none is the default directory"`
	Issuer   string `json:"-" path:"issuer" audit:"plain" doc:"issuer of the directory; none is that of the role"`
	Resource string `json:"-" path:"resource" audit:"plain" doc:"directory, new-nonce, or renewal-info/ID"`
}

// ACMEPost is a signed request to an ACME server: a JSON Web Signature in the
// flattened form (RFC 8555 section 6.2, RFC 7515 section 7.2.2).
type ACMEPost struct {
	Role      string `json:"-" path:"role" audit:"plain" doc:"role of the directory; none is the default directory"`
	Issuer    string `json:"-" path:"issuer" audit:"plain" doc:"issuer of the directory; none is that of the role"`
	Resource  string `json:"-" path:"resource" audit:"plain" doc:"new-account, new-order, order/ID, order/ID/finalize, order/ID/cert, authorization/ID, challenge/ID/KIND, account/ID, orders, revoke-cert or key-change"`
	Protected string `json:"protected" doc:"protected header, base64url"`
	Payload   string `json:"payload" doc:"payload, base64url; empty for reading"`
	Signature string `json:"signature" doc:"signature, base64url"`
}

// ACMEAnswer is what an ACME server answers, header fields included.
type ACMEAnswer struct {
	Status      int      `json:"status" doc:"status of HTTP; 0 is 200"`
	Account     string   `json:"account,omitempty" audit:"plain" doc:"the account that asked"`
	Nonce       string   `json:"nonce,omitempty" doc:"Replay-Nonce"`
	Location    string   `json:"location,omitempty" audit:"plain" doc:"Location"`
	Links       []string `json:"links,omitempty" audit:"plain" doc:"values of Link"`
	RetryAfter  int      `json:"retry_after,omitempty" doc:"Retry-After in seconds; 0 is none"`
	ContentType string   `json:"content_type,omitempty" audit:"plain" doc:"media type of the body"`
	Body        string   `json:"body,omitempty" doc:"the body"`
}

// HTTPStatus is the status of the answer.
func (a *ACMEAnswer) HTTPStatus() int { return a.Status }

// Raw is the body of the answer.
func (a *ACMEAnswer) Raw() (contentType string, body []byte) {
	if a.ContentType == "" {
		return "application/json", []byte(a.Body)
	}
	return a.ContentType, []byte(a.Body)
}

// ACMEIdentifier is what a certificate is to be about (RFC 8555 section 9.7.7,
// RFC 8738).
type ACMEIdentifier struct {
	Type  string `json:"type"` // dns or ip
	Value string `json:"value"`
}

// ACMEProblem is a problem document (RFC 8555 section 6.7, RFC 9457). It is an
// error too.
type ACMEProblem struct {
	Type        string          `json:"type"` // urn:ietf:params:acme:error:…
	Detail      string          `json:"detail"`
	Status      int             `json:"status"` // of HTTP
	Identifier  *ACMEIdentifier `json:"identifier,omitempty"`
	Algorithms  []string        `json:"algorithms,omitempty"` // with badSignatureAlgorithm
	Subproblems []ACMEProblem   `json:"subproblems,omitempty"`

	// What the header of the answer carries.
	Nonce      string `json:"-"`
	RetryAfter int    `json:"-"` // seconds
	Location   string `json:"-"`
}

// Error is the problem's type and detail.
func (p *ACMEProblem) Error() string {
	return p.Type + " (" + strconv.Itoa(p.Status) + "): " + p.Detail
}

// PKIACME are the rules of a mount's ACME server.
type PKIACME struct {
	Enabled                bool     `json:"enabled" doc:"whether there is an ACME server at all"`
	AllowedRoles           []string `json:"allowed_roles" audit:"plain" doc:"roles that have a directory; * is all"`
	AllowedIssuers         []string `json:"allowed_issuers" audit:"plain" doc:"issuers that have a directory; * is all"`
	DefaultDirectoryPolicy string   `json:"default_directory_policy" audit:"plain" doc:"what directories without a role issue: sign-verbatim, forbid, or role:NAME"`
	AllowRoleExtKeyUsage   bool     `json:"allow_role_ext_key_usage" doc:"whether the extended key usages of the role hold; else certificates are for servers only"`
	EABPolicy              string   `json:"eab_policy" audit:"plain" doc:"not-required, new-account-required or always-required"`
	DNSResolver            string   `json:"dns_resolver" audit:"plain" doc:"host:port of the name server that validation asks; empty is the system's"`
	AllowedNetworks        []string `json:"allowed_networks" audit:"plain" doc:"networks that validation may connect to beside public addresses, such as 10.0.0.0/8"`
	HTTPPort               int      `json:"http_port" doc:"port of http-01"`
	TLSPort                int      `json:"tls_port" doc:"port of tls-alpn-01"`
	AccountsPerHour        int      `json:"accounts_per_hour" doc:"how many accounts may be made in an hour"`
	OrdersPerHour          int      `json:"orders_per_hour" doc:"how many orders an account may make in an hour"`
	FailuresPerHour        int      `json:"failures_per_hour" doc:"how many validations of an account may fail in an hour"`

	Profiles map[string]string `json:"profiles" audit:"plain" doc:"profiles that orders may name in directories without a role, and the role of each"`
}

// SetPKIACME changes PKIACME; absent fields stay as they are.
type SetPKIACME struct {
	Enabled                *bool     `json:"enabled,omitempty" doc:"whether there is an ACME server at all; config/cluster needs a path first"`
	AllowedRoles           *[]string `json:"allowed_roles,omitempty" audit:"plain" doc:"roles that have a directory; * (default) is all"`
	AllowedIssuers         *[]string `json:"allowed_issuers,omitempty" audit:"plain" doc:"issuers that have a directory; * (default) is all"`
	DefaultDirectoryPolicy *string   `json:"default_directory_policy,omitempty" audit:"plain" doc:"what directories without a role issue: sign-verbatim (default: all that was validated), forbid, or role:NAME"`
	AllowRoleExtKeyUsage   *bool     `json:"allow_role_ext_key_usage,omitempty" doc:"whether the extended key usages of the role hold; else certificates are for servers only"`
	EABPolicy              *string   `json:"eab_policy,omitempty" audit:"plain" doc:"whether accounts need an external account binding: not-required (default), new-account-required or always-required"`
	DNSResolver            *string   `json:"dns_resolver,omitempty" audit:"plain" doc:"host:port of the name server that validation asks; empty (default) is the system's"`
	AllowedNetworks        *[]string `json:"allowed_networks,omitempty" audit:"plain" doc:"networks that validation may connect to beside public addresses, such as 10.0.0.0/8; default none"`
	HTTPPort               *int      `json:"http_port,omitempty" doc:"port of http-01, default 80"`
	TLSPort                *int      `json:"tls_port,omitempty" doc:"port of tls-alpn-01, default 443"`
	AccountsPerHour        *int      `json:"accounts_per_hour,omitempty" doc:"how many accounts may be made in an hour, default 1000"`
	OrdersPerHour          *int      `json:"orders_per_hour,omitempty" doc:"how many orders an account may make in an hour, default 300"`
	FailuresPerHour        *int      `json:"failures_per_hour,omitempty" doc:"how many validations of an account may fail in an hour, default 60"`

	Profiles *map[string]string `json:"profiles,omitempty" audit:"plain" doc:"profiles that orders may name in directories without a role, and the role of each; default none"`
}

// PKINewEAB asks for a key that binds one new ACME account (RFC 8555 section 7.3.4).
type PKINewEAB struct {
	Role   string `json:"-" path:"role" audit:"plain" doc:"role of the directory; none is the default directory"`
	Issuer string `json:"-" path:"issuer" audit:"plain" doc:"issuer of the directory; none is that of the role"`
}

// PKIEAB is a key that binds one new ACME account. It is shown once.
type PKIEAB struct {
	ID            string `json:"id" audit:"plain" doc:"identifier of the key"`
	KeyType       string `json:"key_type" audit:"plain" doc:"hs: a key of HMAC"`
	ACMEDirectory string `json:"acme_directory" audit:"plain" doc:"the directory where it is good, below the mount"`
	CreatedOn     string `json:"created_on" audit:"plain" doc:"when it was made"`
	Key           string `json:"key" doc:"the key, base64url"`
}

// PKIEABInfo is what a list shows of a key.
type PKIEABInfo struct {
	KeyType       string `json:"key_type" audit:"plain"`
	ACMEDirectory string `json:"acme_directory" audit:"plain"`
	CreatedOn     string `json:"created_on" audit:"plain"`
}

// PKIEABList lists the keys that no account has used yet.
type PKIEABList struct {
	Keys    []string              `json:"keys" audit:"plain" doc:"identifiers"`
	KeyInfo map[string]PKIEABInfo `json:"key_info" doc:"what is known of each"`
}

// IsEmpty tells whether there are none.
func (l *PKIEABList) IsEmpty() bool { return len(l.Keys) == 0 }

// PKIEABName names a key of an external account binding.
type PKIEABName struct {
	KeyID string `json:"-" path:"key_id" audit:"plain" doc:"identifier of the key"`
}
