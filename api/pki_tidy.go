package api

// PKITidy removes what is no longer needed, in the background.
type PKITidy struct {
	TidyCertStore      bool     `json:"tidy_cert_store,omitempty" doc:"remove the records of expired certificates"`
	TidyRevokedCerts   bool     `json:"tidy_revoked_certs,omitempty" doc:"remove the revocations and the records of revoked certificates that have expired"`
	TidyExpiredIssuers bool     `json:"tidy_expired_issuers,omitempty" doc:"forget expired issuers but the default one; their keys stay"`
	SafetyBuffer       *Seconds `json:"safety_buffer,omitempty" doc:"how long after its end a certificate is kept, default 72h"`
	IssuerSafetyBuffer *Seconds `json:"issuer_safety_buffer,omitempty" doc:"how long after its end an issuer is kept, default 8760h"`
	PauseDuration      Seconds  `json:"pause_duration,omitempty" doc:"pause after each thousand certificates, default none"`

	TidyACME                bool     `json:"tidy_acme,omitempty" doc:"remove ACME orders that are over, revoke and later remove accounts without orders"`
	ACMEAccountSafetyBuffer *Seconds `json:"acme_account_safety_buffer,omitempty" doc:"how old an account without orders is when it is revoked, and how long after its end it is removed; default 720h"`

	TidyRevokedCertIssuerAssociations bool `json:"tidy_revoked_cert_issuer_associations,omitempty" doc:"accepted for other programs; the records here always name their issuer"`
}

// PKITidyStatus says how tidying goes or went.
type PKITidyStatus struct {
	State                   string `json:"state" audit:"plain" doc:"Inactive, Running, Cancelling, Finished, Cancelled or Error"`
	Error                   string `json:"error" audit:"plain"`
	Message                 string `json:"message" audit:"plain"`
	TimeStarted             string `json:"time_started" audit:"plain" doc:"RFC 3339, empty if it never ran since the server was unsealed"`
	TimeFinished            string `json:"time_finished" audit:"plain" doc:"RFC 3339"`
	LastAutoTidyFinished    string `json:"last_auto_tidy_finished" audit:"plain" doc:"RFC 3339"`
	CertStoreDeletedCount   int    `json:"cert_store_deleted_count"`
	RevokedCertDeletedCount int    `json:"revoked_cert_deleted_count"`
	MissingIssuerCertCount  int    `json:"missing_issuer_cert_count"`

	TotalACMEAccountCount   int `json:"total_acme_account_count" doc:"ACME accounts that were looked at"`
	ACMEAccountRevokedCount int `json:"acme_account_revoked_count" doc:"ACME accounts without orders that were revoked"`
	ACMEAccountDeletedCount int `json:"acme_account_deleted_count" doc:"ACME accounts that had ended and were removed"`
	ACMEOrdersDeletedCount  int `json:"acme_orders_deleted_count" doc:"ACME orders that were removed, with their authorizations"`

	TidyCertStore                     bool    `json:"tidy_cert_store"`
	TidyRevokedCerts                  bool    `json:"tidy_revoked_certs"`
	TidyRevokedCertIssuerAssociations bool    `json:"tidy_revoked_cert_issuer_associations"`
	TidyExpiredIssuers                bool    `json:"tidy_expired_issuers"`
	TidyACME                          bool    `json:"tidy_acme"`
	SafetyBuffer                      Seconds `json:"safety_buffer"`
	IssuerSafetyBuffer                Seconds `json:"issuer_safety_buffer"`
	ACMEAccountSafetyBuffer           Seconds `json:"acme_account_safety_buffer"`
	PauseDuration                     string  `json:"pause_duration" audit:"plain"`
}

// PKIAutoTidy are the rules of tidying that the server starts by itself.
type PKIAutoTidy struct {
	Enabled                           bool    `json:"enabled"`
	IntervalDuration                  Seconds `json:"interval_duration"`
	TidyCertStore                     bool    `json:"tidy_cert_store"`
	TidyRevokedCerts                  bool    `json:"tidy_revoked_certs"`
	TidyRevokedCertIssuerAssociations bool    `json:"tidy_revoked_cert_issuer_associations"`
	TidyExpiredIssuers                bool    `json:"tidy_expired_issuers"`
	TidyACME                          bool    `json:"tidy_acme"`
	SafetyBuffer                      Seconds `json:"safety_buffer"`
	IssuerSafetyBuffer                Seconds `json:"issuer_safety_buffer"`
	ACMEAccountSafetyBuffer           Seconds `json:"acme_account_safety_buffer"`
	PauseDuration                     string  `json:"pause_duration" audit:"plain"`
}

// SetPKIAutoTidy changes PKIAutoTidy; absent fields stay as they are.
type SetPKIAutoTidy struct {
	Enabled                           *bool    `json:"enabled,omitempty" doc:"tidy now and then"`
	IntervalDuration                  *Seconds `json:"interval_duration,omitempty" doc:"how often, default 12h"`
	TidyCertStore                     *bool    `json:"tidy_cert_store,omitempty" doc:"as in tidy"`
	TidyRevokedCerts                  *bool    `json:"tidy_revoked_certs,omitempty" doc:"as in tidy"`
	TidyRevokedCertIssuerAssociations *bool    `json:"tidy_revoked_cert_issuer_associations,omitempty" doc:"as in tidy"`
	TidyExpiredIssuers                *bool    `json:"tidy_expired_issuers,omitempty" doc:"as in tidy"`
	SafetyBuffer                      *Seconds `json:"safety_buffer,omitempty" doc:"as in tidy"`
	IssuerSafetyBuffer                *Seconds `json:"issuer_safety_buffer,omitempty" doc:"as in tidy"`
	PauseDuration                     *Seconds `json:"pause_duration,omitempty" doc:"as in tidy"`
	TidyACME                          *bool    `json:"tidy_acme,omitempty" doc:"as in tidy"`
	ACMEAccountSafetyBuffer           *Seconds `json:"acme_account_safety_buffer,omitempty" doc:"as in tidy"`
}
