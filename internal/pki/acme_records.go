package pki

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/pki/acme"
	"github.com/claviger/claviger/internal/store"
)

// Tables of the ACME servers. Their keys begin with the path of the mount.
const (
	tableACMEConfig   = "pki_acme_config"   // one api.PKIACME a mount
	tableACMEAccounts = "pki_acme_accounts" // one acmeAccount, by its id
	tableACMEKeys     = "pki_acme_keys"     // one acmeKeyOwner a key of an account, by digest of directory and thumbprint
	tableACMEOrders   = "pki_acme_orders"   // one acmeOrder, by account and id
	tableACMEAuthz    = "pki_acme_authz"    // one acmeAuthz, by account and id
	tableACMECerts    = "pki_acme_certs"    // one acmeCertOwner, by serial number
	tableACMEEAB      = "pki_acme_eab"      // one eabRecord, by its id
)

var acmeTables = []string{tableACMEConfig, tableACMEAccounts, tableACMEKeys, tableACMEOrders, tableACMEAuthz, tableACMECerts, tableACMEEAB}

// Statuses of RFC 8555 section 7.1.6.
const (
	statusPending     = "pending"
	statusProcessing  = "processing"
	statusReady       = "ready"
	statusValid       = "valid"
	statusInvalid     = "invalid"
	statusExpired     = "expired"
	statusDeactivated = "deactivated"
	statusRevoked     = "revoked" // of an account, by the server
)

// acmeAccount is who asks for certificates (RFC 8555 section 7.1.2). It belongs
// to one directory.
type acmeAccount struct {
	ID        string          `json:"id"`
	Directory string          `json:"directory"` // prefix
	JWK       json.RawMessage `json:"jwk"`       // public
	Contact   []string        `json:"contact,omitempty"`
	Agreed    bool            `json:"agreed,omitempty"` // to terms of service
	Status    string          `json:"status"`
	Created   time.Time       `json:"created"`
	EAB       string          `json:"eab,omitempty"`  // id of the key of its external account binding
	Ended     time.Time       `json:"ended,omitzero"` // when it was deactivated or revoked

	version int64
}

func (a *acmeAccount) key() (*jose.JSONWebKey, error) {
	key := new(jose.JSONWebKey)
	return key, key.UnmarshalJSON(a.JWK)
}

// acmeKeyOwner finds the account of a key.
type acmeKeyOwner struct {
	Account string `json:"account"`
}

// acmeOrder is a certificate that is asked for (RFC 8555 section 7.1.3).
type acmeOrder struct {
	ID          string               `json:"id"`
	Account     string               `json:"account"`
	Identifiers []api.ACMEIdentifier `json:"identifiers"`
	Authz       []string             `json:"authz"`            // ids
	Status      string               `json:"status,omitempty"` // processing, valid or invalid; else what the authorizations say
	Expires     time.Time            `json:"expires"`
	NotAfter    string               `json:"not_after,omitempty"` // RFC 3339, as asked for
	Replaces    string               `json:"replaces,omitempty"`  // identifier of a certificate, RFC 9773 section 5
	Profile     string               `json:"profile,omitempty"`   // draft-ietf-acme-profiles
	Began       time.Time            `json:"began,omitzero"`      // of processing
	Serial      string               `json:"serial,omitempty"`    // of the certificate, digits
	CertEnds    time.Time            `json:"cert_ends,omitzero"`
	Error       *api.ACMEProblem     `json:"error,omitempty"`

	version int64
}

// acmeAuthz is what a client has to prove, and has proved (RFC 8555 section 7.1.4).
type acmeAuthz struct {
	ID         string             `json:"id"`
	Account    string             `json:"account"`
	Identifier api.ACMEIdentifier `json:"identifier"` // without "*."
	Wildcard   bool               `json:"wildcard,omitempty"`
	Status     string             `json:"status"`
	Expires    time.Time          `json:"expires"`
	Challenges []acmeChallenge    `json:"challenges"`

	version int64
}

// status is the status at a time.
func (a *acmeAuthz) status(now time.Time) string {
	if now.After(a.Expires) && (a.Status == statusPending || a.Status == statusValid) {
		return statusExpired
	}
	return a.Status
}

// acmeChallenge is one way to prove it (RFC 8555 section 8).
type acmeChallenge struct {
	Kind      string           `json:"kind"`
	Token     string           `json:"token"`
	Status    string           `json:"status"`
	Validated time.Time        `json:"validated,omitzero"`
	Error     *api.ACMEProblem `json:"error,omitempty"`
}

// acmeCertOwner says who ordered a certificate, and which order replaces it.
type acmeCertOwner struct {
	Account  string `json:"account"`
	Replaced string `json:"replaced,omitempty"` // id of an order
}

// eabRecord is a key that binds one new account.
type eabRecord struct {
	ID        string    `json:"id"`
	Directory string    `json:"directory"` // prefix
	Key       []byte    `json:"key"`
	Created   time.Time `json:"created"`
}

// acmeID is an identifier that nobody guesses.
func acmeID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// getACME reads a record of a table; what is not there is a problem of its own.
func getACME[T any](ctx context.Context, s *Service, table, key string, missing error) (*T, int64, error) {
	rec := new(T)
	version, err := s.store.Get(ctx, table, key, rec)
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, missing
	}
	return rec, version, storeFault(err, "read a record of the ACME server")
}

func (s *Service) acmeAccount(ctx context.Context, d *acmeDir, id string) (*acmeAccount, error) {
	missing := acme.New(acme.AccountDoesNotExist, "there is no such account in this directory")
	a, version, err := getACME[acmeAccount](ctx, s, tableACMEAccounts, d.mount+id, missing)
	if err != nil {
		return nil, err
	}
	if a.Directory != d.prefix {
		return nil, missing
	}
	a.version = version
	return a, nil
}

// orderByID finds an order of the caller.
func (s *Service) orderByID(ctx context.Context, c *acmeCall, id string) (*acmeOrder, error) {
	o, version, err := getACME[acmeOrder](ctx, s, tableACMEOrders, c.mount+c.account.ID+"/"+id, acmeNotFound("there is no such order of this account"))
	if err != nil {
		return nil, err
	}
	o.version = version
	return o, nil
}

// authzByID finds an authorization of the caller.
func (s *Service) authzByID(ctx context.Context, c *acmeCall, id string) (*acmeAuthz, error) {
	a, version, err := getACME[acmeAuthz](ctx, s, tableACMEAuthz, c.mount+c.account.ID+"/"+id, acmeNotFound("there is no such authorization of this account"))
	if err != nil {
		return nil, err
	}
	a.version = version
	return a, nil
}

// putOrder stores an order, with other changes.
func (s *Service) putOrder(ctx context.Context, mount string, o *acmeOrder, more ...store.Change) error {
	put, err := s.store.Put(tableACMEOrders, mount+o.Account+"/"+o.ID, o.version, o)
	if err == nil {
		err = s.store.Apply(ctx, append(more, put)...)
	}
	if err == nil {
		o.version++
	}
	return storeFault(err, "store the order")
}

func (s *Service) putAuthz(ctx context.Context, mount string, a *acmeAuthz) error {
	put, err := s.store.Put(tableACMEAuthz, mount+a.Account+"/"+a.ID, a.version, a)
	if err == nil {
		err = s.store.Apply(ctx, put)
	}
	if err == nil {
		a.version++
	}
	return storeFault(err, "store the authorization")
}
