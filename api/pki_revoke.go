package api

// PKIRevoke revokes a certificate.
type PKIRevoke struct {
	SerialNumber string `json:"serial_number,omitempty" audit:"plain" doc:"serial number, hexadecimal with : or -"`
	Certificate  string `json:"certificate,omitempty" audit:"-" doc:"the certificate in PEM, instead of its serial number; needed for roles with no_store"`
	PrivateKey   string `json:"private_key,omitempty" audit:"-" doc:"revoke-with-key: the certificate's private key in PEM, as proof"`
	Reason       int    `json:"reason,omitempty" doc:"RFC 5280 section 5.3.1: 0 unspecified, 1 key compromise, 4 superseded, 5 cessation of operation, …"`
}

// PKIRevocation says when a certificate was revoked.
type PKIRevocation struct {
	RevocationTime        int64  `json:"revocation_time" doc:"Unix time"`
	RevocationTimeRFC3339 string `json:"revocation_time_rfc3339" audit:"plain"`
	State                 string `json:"state" audit:"plain" doc:"revoked"`
}

// PKICRLConfig are the rules of CRLs and OCSP answers.
type PKICRLConfig struct {
	Expiry                     string `json:"expiry" audit:"plain" doc:"validity of a CRL"`
	Disable                    bool   `json:"disable" doc:"make no CRLs"`
	OCSPDisable                bool   `json:"ocsp_disable" doc:"answer no OCSP requests"`
	OCSPExpiry                 string `json:"ocsp_expiry" audit:"plain" doc:"validity of an OCSP answer; 0 for answers that hold for the moment"`
	AutoRebuild                bool   `json:"auto_rebuild" doc:"make CRLs when they are about to expire, not at each revocation"`
	AutoRebuildGracePeriod     string `json:"auto_rebuild_grace_period" audit:"plain" doc:"how long before its end a CRL is replaced"`
	EnableDelta                bool   `json:"enable_delta" doc:"make delta CRLs of what was revoked since the CRL; needs auto_rebuild"`
	DeltaRebuildInterval       string `json:"delta_rebuild_interval" audit:"plain" doc:"how often delta CRLs are made"`
	AllowExpiredCertRevocation bool   `json:"allow_expired_cert_revocation" doc:"take revocations of certificates that have expired"`
	Shards                     int    `json:"shards" doc:"how many shards of the CRL new certificates are distributed over, 0 for none"`
}

// SetPKICRLConfig changes PKICRLConfig; absent fields stay as they are.
type SetPKICRLConfig struct {
	Expiry                     *Seconds `json:"expiry,omitempty" doc:"validity of a CRL, default 72h"`
	Disable                    *bool    `json:"disable,omitempty" doc:"make no CRLs"`
	OCSPDisable                *bool    `json:"ocsp_disable,omitempty" doc:"answer no OCSP requests"`
	OCSPExpiry                 *Seconds `json:"ocsp_expiry,omitempty" doc:"validity of an OCSP answer, default 12h; 0 for answers that hold for the moment"`
	AutoRebuild                *bool    `json:"auto_rebuild,omitempty" doc:"make CRLs when they are about to expire, not at each revocation"`
	AutoRebuildGracePeriod     *Seconds `json:"auto_rebuild_grace_period,omitempty" doc:"how long before its end a CRL is replaced, default 12h"`
	EnableDelta                *bool    `json:"enable_delta,omitempty" doc:"make delta CRLs of what was revoked since the CRL; needs auto_rebuild"`
	DeltaRebuildInterval       *Seconds `json:"delta_rebuild_interval,omitempty" doc:"how often delta CRLs are made, default 15m"`
	AllowExpiredCertRevocation *bool    `json:"allow_expired_cert_revocation,omitempty" doc:"take revocations of certificates that have expired"`
	Shards                     *int     `json:"shards,omitempty" doc:"divide the CRL: new certificates name one of so many shards, a power of two up to 256; needs config/cluster; default 0, none"`
}

// PKICRLShard names a part of a CRL.
type PKICRLShard struct {
	Issuer string `json:"-" path:"issuer" audit:"plain" doc:"the issuer: its name, its id, or default"`
	Count  int    `json:"-" path:"count" doc:"how many shards there are"`
	Index  int    `json:"-" path:"index" doc:"which of them, from 0"`
}

// PKISuccess tells that it was done.
type PKISuccess struct {
	Success bool `json:"success"`
}

// PKICRL is a CRL in PEM.
type PKICRL struct {
	CRL string `json:"crl" audit:"-"`
}
