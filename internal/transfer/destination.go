package transfer

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/keys"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// importRecord is how far the import of a ring is.
type importRecord struct {
	Format   int       `json:"format"`
	Time     time.Time `json:"time"`
	Header   []byte    `json:"header"` // the line
	Stream   []byte    `json:"stream"` // nil when it is complete
	Next     int       `json:"next"`
	Imported int       `json:"imported"`

	version int64
	header  *Header
}

func (r *importRecord) status() *api.ImportStatus {
	return &api.ImportStatus{ID: r.header.ID, Keys: r.header.Keys, Chunks: r.header.Chunks, Next: r.Next, Imported: r.Imported,
		Complete: r.Next > r.header.Chunks, SignerFingerprint: r.header.SignerFingerprint()}
}

// imported returns the record of a ring's import; nil if there is none.
func (s *Service) imported(ctx context.Context, id string) (*importRecord, error) {
	r := new(importRecord)
	var err error
	r.version, err = s.Store.Get(ctx, table, importKey(id), r)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, storeFault(err, "read the import")
	}
	if r.Format != recordFormat {
		return nil, fault.New(fault.Internal, "the import is a record of format %d, this release reads %d", r.Format, recordFormat)
	}
	r.header, err = ParseHeader(r.Header)
	return r, fault.Wrap(fault.Internal, err, "the record of the import can't be read")
}

func (s *Service) startImport(ctx context.Context, _ *op.Call, req *api.StartImport) (*api.ImportStatus, error) {
	t, err := s.hsm()
	if err != nil {
		return nil, err
	}
	h, err := ParseHeader([]byte(req.Header))
	if err != nil {
		return nil, err
	}
	if h.Contents == ContentsKEK {
		return nil, invalid("the ring holds a KEK, and this server's HSM token has one").
			WithHint("a KEK goes into a new HSM token before a server is initialised with it: claviger transfer import --module")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.imported(ctx, h.ID)
	if err != nil {
		return nil, err
	}
	if r != nil {
		defer clear(r.Stream)
		if r.header.Fingerprint() != h.Fingerprint() {
			return nil, fault.New(fault.Conflict, "another ring with the id %s was begun", h.ID)
		}
		return r.status(), nil
	}
	var state stateRecord
	_, err = s.Store.Get(ctx, table, stateKey(h.Statement), &state)
	if errors.Is(err, store.ErrNotFound) {
		return nil, invalid("the ring was made for another destination: this server made no statement with the fingerprint %s, or its KEKEK is used up", h.Statement)
	}
	if err != nil {
		return nil, storeFault(err, "read the state of the transfer")
	}
	r = &importRecord{Format: recordFormat, Time: s.Now().UTC(), Header: []byte(req.Header), Next: 1, header: h}
	if r.Stream, _, err = state.State.unlock(ctx, t, h); err != nil {
		return nil, err
	}
	defer clear(r.Stream)
	if err := s.put(ctx, importKey(h.ID), 0, r); err != nil {
		return nil, err
	}
	s.Logger.Warn("An import of keys was begun", "ring", h.ID, "keys", h.Keys, "source", h.Source.Serial, "signer", h.SignerFingerprint())
	return r.status(), nil
}

// importLine imports the next line. One that was imported already changes nothing,
// so that a caller who got no answer repeats it.
func (s *Service) importLine(ctx context.Context, _ *op.Call, req *api.ImportLine) (*api.ImportStatus, error) {
	t, err := s.hsm()
	if err != nil {
		return nil, err
	}
	if id, err := hex.DecodeString(req.ID); err != nil || len(id) != 16 {
		return nil, invalid("id is not one of a ring: 16 bytes in hexadecimal")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.imported(ctx, req.ID)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, fault.New(fault.NotFound, "no import of the ring %s is under way", req.ID).WithHint("begin with sys/transfer/import and the ring's first line")
	}
	defer clear(r.Stream)
	c, err := r.header.parseChunk([]byte(req.Line))
	if err != nil {
		return nil, err
	}
	switch {
	case c.number < r.Next:
		return r.status(), nil
	case c.number > r.Next:
		return nil, invalid("line %d is next, and this is line %d", r.Next, c.number)
	}
	return s.take(ctx, t, r, c)
}

// take imports a chunk and notes that it is done. What is cut between the two is
// repeated: keys that are there already are the very same.
func (s *Service) take(ctx context.Context, t Token, r *importRecord, c *chunk) (*api.ImportStatus, error) {
	l, err := c.open(r.Stream)
	if err != nil {
		return nil, err
	}
	defer l.wipe()
	mounts := s.Mounts()
	total := 0
	for i := range l.Keys {
		if _, ok := mounts[l.Keys[i].Mount]; !ok {
			return nil, invalid("the ring has keys of the mount %q, and this server has no transit mount of that path", l.Keys[i].Mount).
				WithHint("mount it and continue: claviger mount enable")
		}
		total += l.Keys[i].Secrets
	}
	wrapped, err := s.unwrap(ctx, t, r, l)
	if err != nil {
		return nil, err
	}
	if len(wrapped) != total {
		return nil, invalid("the chunk names %d wrapped secrets and has %d", total, len(wrapped))
	}
	for i := range l.Keys {
		k := &l.Keys[i]
		if k.Secrets < 0 || k.Secrets > len(wrapped) {
			return nil, invalid("the chunk names %d wrapped secrets of a key", k.Secrets)
		}
		_, made, err := s.Keys.CarryIn(ctx, mounts[k.Mount], &keys.Cargo{Record: k.Record, Wrapped: wrapped[:k.Secrets]})
		if err != nil {
			return nil, err
		}
		wrapped = wrapped[k.Secrets:]
		if made {
			r.Imported++
		}
	}
	return s.done(ctx, t, r)
}

func (s *Service) unwrap(ctx context.Context, t Token, r *importRecord, l *load) (wrapped []token.Stored, err error) {
	if len(l.Freights) == 0 {
		return nil, nil
	}
	var state stateRecord
	if _, err := s.Store.Get(ctx, table, stateKey(r.header.Statement), &state); err != nil {
		return nil, storeFault(err, "read the state of the transfer")
	}
	to, err := state.State.statement()
	if err != nil {
		return nil, err
	}
	for _, f := range l.Freights {
		part, err := t.Take(ctx, to.id(), labelKEKEK, f)
		if err != nil {
			return nil, hsmFault(err, "take the keys into the HSM token")
		}
		wrapped = append(wrapped, part...)
	}
	return wrapped, nil
}

// done notes that the next line was imported. After the last one the KEKEK goes.
func (s *Service) done(ctx context.Context, t Token, r *importRecord) (*api.ImportStatus, error) {
	stream := r.Stream
	r.Next++
	complete := r.Next > r.header.Chunks
	if complete {
		r.Stream = nil
		defer clear(stream)
	}
	if err := s.put(ctx, importKey(r.header.ID), r.version, r); err != nil {
		return nil, err
	}
	if complete {
		s.Logger.Warn("An import of keys is complete", "ring", r.header.ID, "imported", r.Imported, "of", r.header.Keys)
		if err := s.forget(ctx, t, r.header.Statement); err != nil {
			s.Logger.Error("The KEKEK of a completed import could not be destroyed", "ring", r.header.ID, "error", err)
		}
	}
	return r.status(), nil
}

// forget destroys a KEKEK and what is known of it.
func (s *Service) forget(ctx context.Context, t Token, fingerprint string) error {
	var state stateRecord
	version, err := s.Store.Get(ctx, table, stateKey(fingerprint), &state)
	if err != nil {
		return err
	}
	to, err := state.State.statement()
	if err == nil {
		err = drop(ctx, t, to.id())
	}
	if err == nil {
		err = s.Store.Apply(ctx, s.Store.Remove(table, stateKey(fingerprint), version))
	}
	return err
}
