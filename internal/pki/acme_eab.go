package pki

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/pki/acme"
	"github.com/claviger/claviger/internal/store"
)

// eabKeySize is the length of a key in bytes.
const eabKeySize = 32

// newEAB makes a key for one account of a directory. It is shown here only.
func (s *Service) newEAB(ctx context.Context, c *op.Call, r *api.PKINewEAB) (*api.PKIEAB, error) {
	key, text := newEABKey()
	defer clear(key)
	rec := &eabRecord{ID: newUUID(), Directory: acmePrefix(r.Role, r.Issuer), Key: key, Created: s.now().UTC()}
	if err := s.checkEABPlace(ctx, c.Mount, r); err != nil {
		return nil, err
	}
	put, err := s.store.Put(tableACMEEAB, c.Mount+rec.ID, 0, rec)
	if err != nil {
		return nil, storeFault(err, "store the key")
	}
	if err := s.store.Apply(ctx, put); err != nil {
		return nil, storeFault(err, "store the key")
	}
	return &api.PKIEAB{
		ID: rec.ID, KeyType: "hs", ACMEDirectory: rec.Directory + "/directory", CreatedOn: rec.Created.Format(time.RFC3339),
		Key: text,
	}, nil
}

// newEABKey draws a key, with the base64url text that people give to their ACME
// clients. One text in 64 would begin with "-", which certbot takes for an option;
// those keys are not used.
func newEABKey() (key []byte, text string) {
	key = make([]byte, eabKeySize)
	for text == "" || text[0] == '-' {
		rand.Read(key)
		text = base64.RawURLEncoding.EncodeToString(key)
	}
	return key, text
}

// checkEABPlace refuses a key for a directory of what is not there.
func (s *Service) checkEABPlace(ctx context.Context, mount string, r *api.PKINewEAB) error {
	st, err := s.state(ctx, mount)
	if err != nil {
		return err
	}
	if r.Role != "" {
		if _, err := st.role(r.Role); err != nil {
			return err
		}
	}
	if r.Issuer != "" {
		_, err = st.issuer(r.Issuer)
	}
	return err
}

func (s *Service) listEABs(ctx context.Context, c *op.Call, _ *api.Empty) (*api.PKIEABList, error) {
	out := &api.PKIEABList{KeyInfo: map[string]api.PKIEABInfo{}}
	return out, storeFault(s.each(ctx, tableACMEEAB, c.Mount, func(id string, e store.Entry) error {
		var rec eabRecord
		if err := e.Decode(&rec); err != nil {
			return err
		}
		clear(rec.Key)
		out.Keys = append(out.Keys, id)
		out.KeyInfo[id] = api.PKIEABInfo{KeyType: "hs", ACMEDirectory: rec.Directory + "/directory", CreatedOn: rec.Created.Format(time.RFC3339)}
		return nil
	}), "list the keys")
}

func (s *Service) deleteEAB(ctx context.Context, c *op.Call, r *api.PKIEABName) (*api.Empty, error) {
	var rec eabRecord
	version, err := s.store.Get(ctx, tableACMEEAB, c.Mount+r.KeyID, &rec)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	clear(rec.Key)
	if err == nil {
		err = s.store.Apply(ctx, s.store.Remove(tableACMEEAB, c.Mount+r.KeyID, version))
	}
	return nil, storeFault(err, "delete the key")
}

// bind checks the external account binding of a new account. It returns the id
// of the key, and the change that uses it up.
func (s *Service) bind(ctx context.Context, c *acmeCall, text json.RawMessage, account *jose.JSONWebKey) (string, []store.Change, error) {
	if len(text) == 0 || string(text) == "null" {
		if c.rules.EABPolicy != eabNotRequired {
			return "", nil, acme.New(acme.ExternalAccountRequired, "a new account needs an external account binding; ask the operator for a key")
		}
		return "", nil, nil
	}
	b, err := acme.ParseBinding(text, c.url(c.resource))
	if err != nil {
		return "", nil, err
	}
	unknown := acme.New(acme.Unauthorized, "the key of externalAccountBinding is not known in this directory, or was used already")
	rec, version, err := getACME[eabRecord](ctx, s, tableACMEEAB, c.mount+b.KeyID, unknown)
	if err != nil {
		return "", nil, err
	}
	defer clear(rec.Key)
	if rec.Directory != c.prefix {
		return "", nil, unknown
	}
	if err := b.Verify(rec.Key, account); err != nil {
		return "", nil, err
	}
	return rec.ID, []store.Change{s.store.Remove(tableACMEEAB, c.mount+rec.ID, version)}, nil
}
