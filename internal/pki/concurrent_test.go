package pki

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/token"
)

// meeting is a token whose signatures are made when as many callers as expected
// are in it at once.
type meeting struct {
	token.Token
	expected int64
	inside   atomic.Int64
	complete chan struct{}
}

func (m *meeting) Key(s token.Stored) (token.Key, error) {
	k, err := m.Token.Key(s)
	return meetingKey{k, m}, err
}

type meetingKey struct {
	token.Key
	meeting *meeting
}

func (k meetingKey) Do(ctx context.Context, op token.Op, items []token.Item) error {
	if op.Kind == token.Sign {
		if k.meeting.inside.Add(1) == k.meeting.expected {
			close(k.meeting.complete)
		}
		select {
		case <-k.meeting.complete:
		case <-time.After(20 * time.Second):
			return errors.New("the other callers did not come")
		}
	}
	return k.Key.Do(ctx, op, items)
}

// TestSigningIsNotSerial: requests for certificates of one issuer reach the token
// all at once, with their intents recorded; no lock and no transaction is held
// meanwhile. So all workers of a token have work.
func TestSigningIsNotSerial(t *testing.T) {
	t.Parallel()
	const callers = 64
	e := newEnv(t)
	root := &api.PKIGenerateRoot{Kind: "internal"}
	root.CommonName, root.KeyType, root.KeyBits, root.Protection = "Root", "ec", 256, "token"
	_, err := e.generateRoot(bg, call(), root)
	must(t, err)
	e.makeRole("web", nil)
	csr, _ := newCSR(t, nil)
	inner, err := e.holder.Get()
	must(t, err)
	m := &meeting{Token: inner, expected: callers, complete: make(chan struct{})}
	e.holder.Set(m)
	e.restart()
	results := make(chan error, callers)
	for range callers {
		go func() {
			_, err := e.signRole(bg, call(), &api.PKISign{Role: "web", CSR: csr})
			results <- err
		}()
	}
	for range callers {
		must(t, <-results)
	}
	if n := m.inside.Load(); n != callers {
		t.Errorf("%d callers were in the token, want %d", n, callers)
	}
	if n := e.count(tableCerts); n < callers {
		t.Errorf("%d certificates have a record, want %d", n, callers)
	}
	if n := e.count(tableIntents); n != 0 {
		t.Errorf("%d intents stayed", n)
	}
}
