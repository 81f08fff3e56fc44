package pki

import (
	"time"

	"github.com/claviger/claviger/api"
)

// Tables of the store. Their keys begin with the path of the mount.
const (
	tableConfig  = "pki_config"  // one configRecord a mount
	tableIssuers = "pki_issuers" // one issuerRecord an issuer, by its id
	tableKeys    = "pki_keys"    // one keyRecord a key that has a name, by the key's id
	tableRoles   = "pki_roles"   // one api.PKIRole a role, by its name
	tableCerts   = "pki_certs"   // one certRecord a certificate, by its serial number
	tableIntents = "pki_intents" // one intentRecord a certificate about to be signed, by its serial number
	tableRevoked = "pki_revoked" // one revokedRecord a revoked certificate, by issuer id and serial number
)

// configRecord is what holds for a whole mount.
type configRecord struct {
	DefaultIssuer string         `json:"default_issuer,omitempty"` // id
	FollowLatest  bool           `json:"follow_latest,omitempty"`
	DefaultKey    string         `json:"default_key,omitempty"` // id
	URLs          api.PKIURLs    `json:"urls"`
	Cluster       api.PKICluster `json:"cluster"`
	CRL           crlConfig      `json:"crl,omitzero"`
	AutoTidy      tidyConfig     `json:"auto_tidy,omitzero"`
	AutoTidied    time.Time      `json:"auto_tidied,omitzero"` // when it was last started
}

// issuerRecord is an authority: a certificate, and mostly its key.
type issuerRecord struct {
	ID                  string      `json:"id"`
	Name                string      `json:"name,omitempty"`
	KeyID               string      `json:"key_id,omitempty"` // "" if the key is not here
	Certificate         []byte      `json:"certificate"`      // DER
	Created             time.Time   `json:"created"`
	ManualChain         []string    `json:"manual_chain,omitempty"` // ids, its own first
	NotAfter            string      `json:"not_after,omitempty"`    // leaf_not_after_behavior, "" is err
	Usage               usage       `json:"usage"`
	RevocationAlgorithm string      `json:"revocation_algorithm,omitempty"`
	URLs                api.PKIURLs `json:"urls"`
	Revoked             time.Time   `json:"revoked,omitzero"`
}

// keyRecord names a key. Keys without a name have no record.
type keyRecord struct {
	Name string `json:"name"`
}

// certRecord is an issued certificate. Interrupted ones have no Certificate:
// it is not known whether the signature was made.
type certRecord struct {
	IssuerID    string    `json:"issuer_id"`
	Certificate []byte    `json:"certificate,omitempty"` // DER
	TBS         []byte    `json:"tbs,omitempty"`         // DER, of an interrupted one
	NotAfter    time.Time `json:"not_after"`
	Role        string    `json:"role,omitempty"`
	Revoked     time.Time `json:"revoked,omitzero"`
}

// intentRecord is a certificate that is about to be signed.
type intentRecord struct {
	IssuerID string    `json:"issuer_id"`
	TBS      []byte    `json:"tbs"` // DER
	NotAfter time.Time `json:"not_after"`
	Role     string    `json:"role,omitempty"`
	Time     time.Time `json:"time"`
}

// revokedRecord is an entry of an issuer's CRL.
type revokedRecord struct {
	Time     time.Time `json:"time"`
	Reason   int       `json:"reason,omitempty"` // RFC 5280 section 5.3.1
	NotAfter time.Time `json:"not_after"`        // the entry may go when the certificate has expired
}
