package pki

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/mail"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/pki/acme"
	"github.com/claviger/claviger/internal/store"
)

// newAccount makes an account for a key, or finds the one that it has (RFC 8555
// section 7.3).
func (s *Service) newAccount(ctx context.Context, c *acmeCall) (*api.ACMEAnswer, error) {
	if c.message.JWK == nil {
		return nil, acme.New(acme.Malformed, "new-account is signed by the key of the account, which is in jwk")
	}
	var r struct {
		Contact            []string        `json:"contact"`
		Agreed             bool            `json:"termsOfServiceAgreed"`
		OnlyReturnExisting bool            `json:"onlyReturnExisting"`
		Binding            json.RawMessage `json:"externalAccountBinding"`
	}
	if err := c.decode(&r); err != nil {
		return nil, err
	}
	owner, err := s.keyOwner(ctx, c.acmeDir, c.message.JWK)
	if err != nil {
		return nil, err
	}
	if owner != nil {
		return s.knownAccount(ctx, c, owner.Account)
	}
	if r.OnlyReturnExisting {
		return nil, acme.New(acme.AccountDoesNotExist, "there is no account with this key in this directory")
	}
	if err := checkContact(r.Contact); err != nil {
		return nil, err
	}
	if err := checkAccountKey(c.message.JWK); err != nil {
		return nil, err
	}
	eab, changes, err := s.bind(ctx, c, r.Binding, c.message.JWK)
	if err != nil {
		return nil, err
	}
	ok, wait := s.acme.limits.Add("accounts of "+c.mount, c.rules.AccountsPerHour, s.now())
	if err := limited(ok, wait, "too many accounts were made within an hour"); err != nil {
		return nil, err
	}
	jwk, err := c.message.JWK.MarshalJSON()
	if err != nil {
		return nil, acme.New(acme.BadPublicKey, "the key can't be stored: %v", err)
	}
	a := &acmeAccount{ID: acmeID(), Directory: c.prefix, JWK: jwk, Contact: r.Contact, Agreed: r.Agreed, Status: statusValid, Created: s.now().UTC(), EAB: eab}
	if err := s.keepAccount(ctx, c.acmeDir, a, c.message.JWK, changes); err != nil {
		return nil, err
	}
	c.account = a
	return c.showAccount(http.StatusCreated)
}

func (s *Service) knownAccount(ctx context.Context, c *acmeCall, id string) (*api.ACMEAnswer, error) {
	a, err := s.acmeAccount(ctx, c.acmeDir, id)
	if err != nil {
		return nil, err
	}
	if a.Status != statusValid {
		return nil, acme.New(acme.Unauthorized, "the account of this key is %s", a.Status)
	}
	c.account = a
	return c.showAccount(http.StatusOK)
}

// checkAccountKey refuses keys that are no protection.
func checkAccountKey(key *jose.JSONWebKey) error {
	if err := checkPublic(key.Key); err != nil {
		return acme.New(acme.BadPublicKey, "%s", fault.Message(err))
	}
	return nil
}

// keyOwner finds the account of a key, nil if there is none.
func (s *Service) keyOwner(ctx context.Context, d *acmeDir, key *jose.JSONWebKey) (*acmeKeyOwner, error) {
	name, err := keyName(d, key)
	if err != nil {
		return nil, err
	}
	owner := new(acmeKeyOwner)
	_, err = s.store.Get(ctx, tableACMEKeys, name, owner)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return owner, storeFault(err, "find the account of the key")
}

// keyName is where the owner of a key is found.
func keyName(d *acmeDir, key *jose.JSONWebKey) (string, error) {
	thumb, err := acme.Thumbprint(key)
	if err != nil {
		return "", acme.New(acme.BadPublicKey, "the key can't be read")
	}
	return d.mount + recordName(d.prefix, thumb), nil
}

func (s *Service) keepAccount(ctx context.Context, d *acmeDir, a *acmeAccount, key *jose.JSONWebKey, changes []store.Change) error {
	name, err := keyName(d, key)
	if err != nil {
		return err
	}
	owner, err := s.store.Put(tableACMEKeys, name, 0, acmeKeyOwner{a.ID})
	if err != nil {
		return storeFault(err, "store the account")
	}
	put, err := s.store.Put(tableACMEAccounts, d.mount+a.ID, a.version, a)
	if err != nil {
		return storeFault(err, "store the account")
	}
	if err := s.store.Apply(ctx, append(changes, owner, put)...); err != nil {
		return storeFault(err, "store the account")
	}
	a.version++
	return nil
}

const maxContacts = 10

// checkContact takes addresses of e-mail (RFC 8555 section 7.3).
func checkContact(contact []string) error {
	if len(contact) > maxContacts {
		return acme.New(acme.InvalidContact, "there are %d contacts; at most %d are taken", len(contact), maxContacts)
	}
	for _, text := range contact {
		address, ok := strings.CutPrefix(text, "mailto:")
		if !ok {
			return acme.New(acme.UnsupportedContact, "the contact %q is no mailto: URL; only these are taken", text)
		}
		a, err := mail.ParseAddress(address)
		if err != nil || a.Address != address || len(address) > 254 || strings.ContainsAny(address, "?,%") {
			return acme.New(acme.InvalidContact, "the contact %q is no e-mail address", text)
		}
	}
	return nil
}

func (c *acmeCall) showAccount(status int) (*api.ACMEAnswer, error) {
	a := c.account
	answer, err := jsonAnswer(status, struct {
		Status  string   `json:"status"`
		Contact []string `json:"contact,omitempty"`
		Agreed  bool     `json:"termsOfServiceAgreed,omitempty"`
		Orders  string   `json:"orders"`
	}{a.Status, a.Contact, a.Agreed, c.url("orders")})
	answer.Location = c.url("account", a.ID)
	return answer, err
}

// acmeUpdate shows, changes or deactivates an account (RFC 8555 sections 7.3.2
// and 7.3.6).
func (s *Service) acmeUpdate(ctx context.Context, c *acmeCall) (*api.ACMEAnswer, error) {
	if c.parts[1] != c.account.ID {
		return nil, acme.New(acme.Unauthorized, "the request is signed by another account")
	}
	if len(c.payload) == 0 {
		return c.showAccount(http.StatusOK)
	}
	var r struct {
		Contact *[]string `json:"contact"`
		Agreed  *bool     `json:"termsOfServiceAgreed"`
		Status  string    `json:"status"`
	}
	if err := c.decode(&r); err != nil {
		return nil, err
	}
	a := *c.account
	switch r.Status {
	case "", statusValid:
	case statusDeactivated:
		a.Status, a.Ended = statusDeactivated, s.now().UTC()
	default:
		return nil, acme.New(acme.Malformed, "the status of an account can be changed to deactivated only")
	}
	if r.Contact != nil {
		if err := checkContact(*r.Contact); err != nil {
			return nil, err
		}
		a.Contact = *r.Contact
	}
	set(&a.Agreed, r.Agreed)
	put, err := s.store.Put(tableACMEAccounts, c.mount+a.ID, a.version, a)
	if err == nil {
		err = s.store.Apply(ctx, put)
	}
	if err != nil {
		return nil, storeFault(err, "store the account")
	}
	c.account = &a
	return c.showAccount(http.StatusOK)
}

// keyChange gives an account another key (RFC 8555 section 7.3.5): the payload
// is a request of its own, signed by the new key.
func (s *Service) keyChange(ctx context.Context, c *acmeCall) (*api.ACMEAnswer, error) {
	inner, err := acme.ParseJSON(c.payload)
	if err != nil {
		return nil, err
	}
	if inner.JWK == nil || inner.Nonce != "" || inner.URL != c.message.URL {
		return nil, acme.New(acme.Malformed, "the inner request has the jwk of the new key, the url of the outer one, and no nonce")
	}
	payload, err := inner.Verify(inner.JWK.Key)
	if err != nil {
		return nil, err
	}
	var r struct {
		Account string          `json:"account"`
		OldKey  jose.JSONWebKey `json:"oldKey"`
	}
	if err := json.Unmarshal(payload, &r); err != nil || !r.OldKey.Valid() {
		return nil, acme.New(acme.Malformed, "the payload of the inner request is an object of account and oldKey")
	}
	old, err := c.account.key()
	if err != nil {
		return nil, err
	}
	if same, err := acme.SameKey(&r.OldKey, old); err != nil || !same || r.Account != c.url("account", c.account.ID) {
		return nil, acme.New(acme.Malformed, "account and oldKey are not those of the account that signed the outer request")
	}
	if err := checkAccountKey(inner.JWK); err != nil {
		return nil, err
	}
	return s.replaceKey(ctx, c, old, inner.JWK)
}

func (s *Service) replaceKey(ctx context.Context, c *acmeCall, old, fresh *jose.JSONWebKey) (*api.ACMEAnswer, error) {
	owner, err := s.keyOwner(ctx, c.acmeDir, fresh)
	if err != nil {
		return nil, err
	}
	if owner != nil {
		e := acme.New(acme.Malformed, "the new key has an account already")
		p := acme.Problem(e)
		p.Status, p.Location, e.Kind = http.StatusConflict, c.url("account", owner.Account), fault.Conflict
		return nil, e
	}
	name, err := keyName(c.acmeDir, old)
	if err != nil {
		return nil, err
	}
	version, err := s.store.Get(ctx, tableACMEKeys, name, new(acmeKeyOwner))
	if err != nil {
		return nil, storeFault(err, "find the key")
	}
	a := *c.account
	if a.JWK, err = fresh.MarshalJSON(); err != nil {
		return nil, acme.New(acme.BadPublicKey, "the key can't be stored: %v", err)
	}
	if err := s.keepAccount(ctx, c.acmeDir, &a, fresh, []store.Change{s.store.Remove(tableACMEKeys, name, version)}); err != nil {
		return nil, err
	}
	c.account = &a
	return c.showAccount(http.StatusOK)
}
