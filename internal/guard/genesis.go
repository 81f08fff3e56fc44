package guard

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

// Genesis makes what a new server begins with: the salt, a root token, the policy
// default, and an engine of keys at transit/. Nothing is written: the changes go
// into one transaction with whatever else makes the server initialised. The
// storage key must be known. The token's text is kept nowhere else.
func (g *Guard) Genesis(context.Context) (rootToken string, changes []store.Change, err error) {
	s := saltRecord{Salt: make([]byte, saltSize)}
	rand.Read(s.Salt)
	defer clear(s.Salt)
	rootToken = newText(textPrefix)
	_, changes, err = insertion(g.store, s.Salt, rootToken, g.rootRecord())
	if err != nil {
		return "", nil, fmt.Errorf("making the root token: %w", err)
	}
	mount := newMount(kindTransit+"/", kindTransit, "keys that encrypt and sign", g.now())
	for _, r := range []struct {
		table, key string
		value      any
	}{
		{tableGuard, keySalt, &s},
		{tablePolicies, policyDefault, &policyRecord{defaultPolicyText}},
		{tableMounts, mount.Path, mount},
	} {
		change, err := g.store.Put(r.table, r.key, 0, r.value)
		if err != nil {
			return "", nil, fmt.Errorf("making the first records: %w", err)
		}
		changes = append(changes, change)
	}
	return rootToken, changes, nil
}

func (g *Guard) rootRecord() *tokenRecord {
	return &tokenRecord{Accessor: newText(""), Policies: []string{policyRoot}, DisplayName: "root",
		Path: "auth/token/root", Created: g.now().Unix()}
}

// CreateRootToken writes a root token of a chosen text, for servers that are
// thrown away. The server must be initialised and unsealed.
func (g *Guard) CreateRootToken(ctx context.Context, id string) error {
	if err := checkChosenText(id); err != nil {
		return err
	}
	l, err := g.current(ctx)
	if err != nil {
		return err
	}
	if l == nil {
		return fault.New(fault.Sealed, msgSealed)
	}
	return l.createRoot(ctx, id, g.rootRecord())
}

// TokenLength is how many characters the text of a token has that nobody chose.
const TokenLength = len(textPrefix) + textLetters

// NewRootToken writes a root token of a random text, which is kept nowhere else.
// That its caller may have one is for who calls this to know.
func (g *Guard) NewRootToken(ctx context.Context) (text string, err error) {
	l, err := g.open()
	if err != nil {
		return "", err
	}
	text = newText(textPrefix)
	return text, l.createRoot(ctx, text, g.rootRecord())
}

func (l *loaded) createRoot(ctx context.Context, text string, r *tokenRecord) error {
	err := l.tokens.create(ctx, text, r, nil)
	if errors.Is(err, store.ErrConflict) {
		return fault.New(fault.Conflict, "there is a client token of this text already")
	}
	return storeFault(err, "making a root token")
}
