package pki

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/pki/acme"
	"github.com/claviger/claviger/internal/store"
)

const (
	// orderLife is for how long an order and its authorizations are good.
	orderLife = 24 * time.Hour
	// finalizeTime is after how long a certificate that was being made counts as
	// not made: the server was stopped meanwhile.
	finalizeTime   = 2 * time.Minute
	maxIdentifiers = 100
)

// newOrder begins the way to a certificate (RFC 8555 section 7.4).
func (s *Service) newOrder(ctx context.Context, c *acmeCall) (*api.ACMEAnswer, error) {
	r, err := parseOrder(c.payload)
	if err != nil {
		return nil, err
	}
	if err := c.useProfile(r.Profile); err != nil {
		return nil, err
	}
	if c.role.NoStore {
		return nil, acme.New(acme.Unauthorized, "the role of this directory keeps no certificates (no_store), which ACME needs")
	}
	for _, id := range r.Identifiers {
		if err := c.allowedByRole(id); err != nil {
			return nil, err
		}
	}
	now := s.now().UTC()
	ok, wait := s.acme.limits.Add("orders of "+c.mount+c.account.ID, c.rules.OrdersPerHour, now)
	if err := limited(ok, wait, "this account made too many orders within an hour"); err != nil {
		return nil, err
	}
	if err := s.forgetOrders(ctx, c, now); err != nil {
		return nil, err
	}
	o := &acmeOrder{ID: acmeID(), Account: c.account.ID, Identifiers: r.Identifiers, Expires: now.Add(orderLife).Truncate(time.Second), NotAfter: r.NotAfter, Profile: r.Profile}
	changes, err := s.newAuthz(c, o)
	if err != nil {
		return nil, err
	}
	if r.Replaces != "" {
		change, err := s.replaces(ctx, c, o, r.Replaces)
		if err != nil {
			return nil, err
		}
		changes = append(changes, change)
	}
	if err := s.putOrder(ctx, c.mount, o, changes...); err != nil {
		return nil, err
	}
	return s.showOrder(ctx, c, o, http.StatusCreated)
}

// orderRequest is the payload of newOrder (RFC 8555 section 7.4, RFC 9773 section
// 5, draft-ietf-acme-profiles section 3).
type orderRequest struct {
	Identifiers []api.ACMEIdentifier `json:"identifiers"`
	NotBefore   string               `json:"notBefore"`
	NotAfter    string               `json:"notAfter"`
	Replaces    string               `json:"replaces"`
	Profile     string               `json:"profile"`
}

// parseOrder reads and checks the payload of newOrder, as far as that needs no
// role. Its identifiers come out in their one form, each once.
func parseOrder(payload []byte) (*orderRequest, error) {
	var r orderRequest
	err := json.Unmarshal(payload, &r)
	switch {
	case err != nil:
		return nil, acme.New(acme.Malformed, "the payload is no JSON object as new-order takes it")
	case r.NotBefore != "":
		return nil, acme.New(acme.Malformed, "notBefore is not taken: certificates are valid from now")
	case r.NotAfter != "":
		if _, err := parseTime("notAfter", r.NotAfter); err != nil {
			return nil, acme.New(acme.Malformed, "%s", fault.Message(err))
		}
	}
	r.Identifiers, err = checkIdentifiers(r.Identifiers)
	return &r, err
}

// checkIdentifiers gives names their one form.
func checkIdentifiers(list []api.ACMEIdentifier) ([]api.ACMEIdentifier, error) {
	if len(list) == 0 || len(list) > maxIdentifiers {
		return nil, acme.New(acme.Malformed, "the order has %d identifiers; it has 1 to %d", len(list), maxIdentifiers)
	}
	var out []api.ACMEIdentifier
	for _, id := range list {
		checked, err := checkIdentifier(id)
		if err != nil {
			acme.Problem(err).Identifier = &id
			return nil, err
		}
		if !slices.Contains(out, checked) {
			out = append(out, checked)
		}
	}
	return out, nil
}

func (c *acmeCall) allowedByRole(id api.ACMEIdentifier) error {
	asked := &sans{}
	if id.Type == "ip" {
		asked.ips = []netip.Addr{netip.MustParseAddr(id.Value)}
	} else {
		asked.dns = []string{id.Value}
	}
	if err := checkSANs(rulesFor(c.role, ""), asked); err != nil {
		e := acme.New(acme.RejectedIdentifier, "%s", fault.Message(err))
		acme.Problem(e).Identifier = &id
		return e
	}
	return nil
}

func checkIdentifier(id api.ACMEIdentifier) (api.ACMEIdentifier, *fault.Error) {
	switch id.Type {
	case "dns":
		id.Value = strings.ToLower(id.Value)
		base, _ := strings.CutPrefix(id.Value, "*.")
		if _, err := netip.ParseAddr(base); err == nil || !hostname.MatchString(base) || strings.HasPrefix(base, "*") ||
			strings.HasSuffix(base, ".") || len(id.Value) > 253 {
			return id, acme.New(acme.RejectedIdentifier, "%q is no host name, as DNS has them, without a final dot; names beyond ASCII are given as A-labels", id.Value)
		}
		return id, nil
	case "ip":
		a, err := netip.ParseAddr(id.Value)
		if err != nil || a.Zone() != "" || a.Is4In6() || a.String() != id.Value {
			return id, acme.New(acme.Malformed, "%q is no IP address in its usual form", id.Value)
		}
		return id, nil
	}
	return id, acme.New(acme.UnsupportedIdentifier, "the type of identifier %q is not taken: it is dns or ip", id.Type)
}

// newAuthz makes the authorizations of an order.
func (s *Service) newAuthz(c *acmeCall, o *acmeOrder) ([]store.Change, error) {
	var changes []store.Change
	for _, id := range o.Identifiers {
		a := &acmeAuthz{ID: acmeID(), Account: o.Account, Identifier: id, Status: statusPending, Expires: o.Expires}
		a.Identifier.Value, a.Wildcard = strings.CutPrefix(id.Value, "*.")
		for _, kind := range challengeKinds(a) {
			a.Challenges = append(a.Challenges, acmeChallenge{Kind: kind, Token: acmeToken(), Status: statusPending})
		}
		put, err := s.store.Put(tableACMEAuthz, c.mount+a.Account+"/"+a.ID, 0, a)
		if err != nil {
			return nil, storeFault(err, "store the authorization")
		}
		changes = append(changes, put)
		o.Authz = append(o.Authz, a.ID)
	}
	return changes, nil
}

// challengeKinds are the ways to prove control of a name: of a wildcard only by
// DNS; of an address by HTTP (RFC 8738 section 4).
func challengeKinds(a *acmeAuthz) []string {
	switch {
	case a.Identifier.Type == "ip":
		return []string{acme.HTTP01}
	case a.Wildcard:
		return []string{acme.DNS01}
	}
	return []string{acme.HTTP01, acme.DNS01, acme.TLSALPN01}
}

// acmeToken is the random part of a challenge (RFC 8555 section 8.1): 256 bits.
func acmeToken() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// status is what an order has come to.
func (s *Service) orderStatus(ctx context.Context, c *acmeCall, o *acmeOrder) (string, error) {
	now := s.now()
	switch {
	case o.Status == statusValid || o.Status == statusInvalid:
		return o.Status, nil
	case o.Status == statusProcessing && now.Sub(o.Began) < finalizeTime:
		return statusProcessing, nil
	case now.After(o.Expires):
		return statusInvalid, nil
	}
	status := statusReady
	for _, id := range o.Authz {
		a, err := s.authzByID(ctx, c, id)
		if err != nil {
			return "", err
		}
		switch a.status(now) {
		case statusValid:
		case statusPending:
			status = statusPending
		default:
			return statusInvalid, nil
		}
	}
	return status, nil
}

// showOrder is an order as clients see it.
func (s *Service) showOrder(ctx context.Context, c *acmeCall, o *acmeOrder, httpStatus int) (*api.ACMEAnswer, error) {
	status, err := s.orderStatus(ctx, c, o)
	if err != nil {
		return nil, err
	}
	shown := struct {
		Status         string               `json:"status"`
		Expires        string               `json:"expires"`
		Identifiers    []api.ACMEIdentifier `json:"identifiers"`
		NotAfter       string               `json:"notAfter,omitempty"`
		Replaces       string               `json:"replaces,omitempty"`
		Profile        string               `json:"profile,omitempty"`
		Error          *api.ACMEProblem     `json:"error,omitempty"`
		Authorizations []string             `json:"authorizations"`
		Finalize       string               `json:"finalize"`
		Certificate    string               `json:"certificate,omitempty"`
	}{Status: status, Expires: o.Expires.Format(time.RFC3339), Identifiers: o.Identifiers, NotAfter: o.NotAfter, Error: o.Error,
		Finalize: c.url("order", o.ID, "finalize"), Replaces: o.Replaces, Profile: o.Profile}
	for _, id := range o.Authz {
		shown.Authorizations = append(shown.Authorizations, c.url("authorization", id))
	}
	if status == statusValid {
		shown.Certificate = c.url("order", o.ID, "cert")
	}
	answer, err := jsonAnswer(httpStatus, shown)
	answer.Location = c.url("order", o.ID)
	if status == statusProcessing {
		answer.RetryAfter = 2
	}
	return answer, err
}

// acmeOrder shows an order.
func (s *Service) acmeOrder(ctx context.Context, c *acmeCall) (*api.ACMEAnswer, error) {
	o, err := s.orderByID(ctx, c, c.parts[1])
	if err != nil {
		return nil, err
	}
	return s.showOrder(ctx, c, o, http.StatusOK)
}

// acmeOrders lists the orders of an account (RFC 8555 section 7.1.2.1).
func (s *Service) acmeOrders(ctx context.Context, c *acmeCall) (*api.ACMEAnswer, error) {
	names, err := s.store.Names(ctx, tableACMEOrders, c.mount+c.account.ID+"/", "", 0)
	if err != nil {
		return nil, storeFault(err, "list the orders")
	}
	urls := make([]string, 0, len(names))
	for _, n := range names {
		urls = append(urls, c.url("order", n[strings.LastIndex(n, "/")+1:]))
	}
	return jsonAnswer(http.StatusOK, map[string][]string{"orders": urls})
}

// forgetOrders deletes what of an account is over: orders without a certificate
// a life after they expired, others when the certificate has expired. It looks
// once an hour.
func (s *Service) forgetOrders(ctx context.Context, c *acmeCall, now time.Time) error {
	if first, _ := s.acme.limits.Add("clean "+c.mount+c.account.ID, 1, now); !first {
		return nil
	}
	prefix := c.mount + c.account.ID + "/"
	return storeFault(s.each(ctx, tableACMEOrders, prefix, func(id string, e store.Entry) error {
		var o acmeOrder
		if err := e.Decode(&o); err != nil {
			return err
		}
		if now.Before(o.Expires.Add(orderLife)) || now.Before(o.CertEnds) {
			return nil
		}
		changes, err := s.removeOrder(ctx, c.mount, prefix+id, e.Version, &o)
		if err != nil {
			return err
		}
		return s.store.Apply(ctx, changes...)
	}), "delete orders that are over")
}

// removeOrder is what deletes an order, its authorizations, and the record of
// whose its certificate is.
func (s *Service) removeOrder(ctx context.Context, mount, key string, version int64, o *acmeOrder) ([]store.Change, error) {
	changes := []store.Change{s.store.Remove(tableACMEOrders, key, version)}
	places := map[string]string{}
	for _, authz := range o.Authz {
		places[mount+o.Account+"/"+authz] = tableACMEAuthz
	}
	if o.Serial != "" {
		places[mount+o.Serial] = tableACMECerts
	}
	for key, table := range places {
		version, err := s.store.Get(ctx, table, key, new(struct{}))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		changes = append(changes, s.store.Remove(table, key, version))
	}
	return changes, nil
}
