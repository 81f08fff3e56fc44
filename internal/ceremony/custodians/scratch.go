package custodians

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/claviger/claviger/internal/ceremony"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/pgp"
)

// scratchKeys take the place of the custodians' keys in a rehearsal.
type scratchKeys struct {
	pairs    []*pgp.Scratch
	messages []string
}

// withScratchKeys returns the ceremony with keys in memory.
func (c *Ceremony) withScratchKeys() (*Ceremony, *scratchKeys, error) {
	s := &scratchKeys{}
	next := *c
	next.asked.Shares, next.keys = nil, nil
	for i, h := range c.asked.Shares {
		pair, holder, key, err := scratchHolder(fmt.Sprintf("Share %d", i+1), h)
		if err != nil {
			return nil, nil, err
		}
		s.pairs = append(s.pairs, pair)
		next.asked.Shares, next.keys = append(next.asked.Shares, *holder), append(next.keys, key)
	}
	if c.rootKey != nil {
		_, holder, key, err := scratchHolder("Root token", *c.asked.Root)
		if err != nil {
			return nil, nil, err
		}
		next.asked.Root, next.rootKey = holder, key
	}
	return &next, s, nil
}

func scratchHolder(name string, h ceremony.Holder) (*pgp.Scratch, *ceremony.Holder, *pgp.Key, error) {
	pair, err := pgp.NewScratch(name)
	if err != nil {
		return nil, nil, nil, err
	}
	if h.PublicKey, err = pair.Public(); err != nil {
		return nil, nil, nil, err
	}
	key, err := pgp.Parse(base64.StdEncoding.EncodeToString(h.PublicKey), time.Now())
	if err != nil {
		return nil, nil, nil, err
	}
	h.Fingerprint = key.Fingerprint
	return pair, &h, key, nil
}

// keep remembers the encrypted shares.
func (s *scratchKeys) keep(messages []string) {
	if s != nil {
		s.messages = messages
	}
}

// share opens new share n, from 1.
func (s *scratchKeys) share(n int) ([]byte, error) {
	if n > len(s.messages) {
		return nil, fault.New(fault.Internal, "the rehearsal has %d shares, and share %d is asked for", len(s.messages), n)
	}
	message, err := base64.StdEncoding.DecodeString(s.messages[n-1])
	if err != nil {
		return nil, fmt.Errorf("read a share of a rehearsal: %w", err)
	}
	return s.pairs[n-1].Decrypt(message)
}

// Share asks for a share, or opens a new one in a rehearsal with scratch keys.
func (a *act) Share(ctx context.Context, w Wanted) ([]byte, error) {
	if a.scratch != nil && w.New {
		return a.scratch.share(w.N)
	}
	return a.Env.Share(ctx, w)
}
