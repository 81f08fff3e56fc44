package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

const (
	maxKeys      = 1_000_000
	chunkKeys    = 32
	chunkSecrets = 128
	// freightKeys is how many secrets share one AES key of the moment.
	freightKeys = 128
	// confirmedFor is how long an export can be fetched after its confirmation.
	confirmedFor = 24 * time.Hour
)

// exportRecord is the export under way.
type exportRecord struct {
	Format    int       `json:"format"`
	Nonce     string    `json:"nonce"`
	Required  int       `json:"required"`
	Confirmed time.Time `json:"confirmed,omitzero"`
	Statement []byte    `json:"statement"` // the line
	Header    []byte    `json:"header"`    // the line
	Stream    []byte    `json:"stream"`    // the stream key
	Keys      []keyRef  `json:"keys,omitempty"`
	Bounds    []int     `json:"bounds,omitempty"` // where each chunk ends in Keys
	LeftOut   []string  `json:"left_out,omitempty"`
	// Reasons say of each of LeftOut why it stays.
	Reasons map[string]string `json:"reasons,omitempty"`

	version int64
	to      *Statement
	header  *Header
}

// keyRef names a key: by the path of its mount, as people know it, and by the name
// that the keys' service knows the mount by.
type keyRef struct {
	At    string `json:"at"`
	Mount string `json:"mount"`
	Name  string `json:"name"`
}

// export returns the export under way.
func (s *Service) export(ctx context.Context) (*exportRecord, error) {
	r := new(exportRecord)
	var err error
	r.version, err = s.Store.Get(ctx, table, exportKey, r)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault.New(fault.NotFound, "no export is under way").WithHint("begin one with sys/transfer/export and the statement of its destination")
	}
	if err != nil {
		return nil, storeFault(err, "read the export")
	}
	if r.Format != recordFormat {
		return nil, fault.New(fault.Internal, "the export is a record of format %d, this release reads %d", r.Format, recordFormat)
	}
	if r.to, err = ParseStatement(r.Statement); err == nil {
		r.header, err = ParseHeader(r.Header)
	}
	return r, fault.Wrap(fault.Internal, err, "the record of the export can't be read")
}

func (s *Service) start(ctx context.Context, _ *op.Call, req *api.StartTransfer) (*api.TransferStatus, error) {
	t, err := s.hsm()
	if err != nil {
		return nil, err
	}
	to, err := ParseStatement([]byte(req.Statement))
	if err != nil {
		return nil, err
	}
	if req.Fingerprint != "" && !strings.EqualFold(req.Fingerprint, to.Fingerprint()) {
		return nil, invalid("the statement has the fingerprint %s, not the expected one; nothing was begun", to.Fingerprint())
	}
	if !t.Info().Transferable {
		return nil, invalid("the KEK of this server's HSM token was not made transferable: neither it nor the keys under it can leave").
			WithHint("that is decided for ever at initialisation (transferable_kek); keys can be made anew on the other server")
	}
	r := &exportRecord{Format: recordFormat, Statement: []byte(req.Statement), to: to}
	if err := s.choose(ctx, r, req); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, err := s.export(ctx); err == nil {
		if s.fetchable(before) == nil {
			return nil, fault.New(fault.Conflict, "another export was confirmed, and is under way").WithHint("finish it, or end it with sys/transfer/export (DELETE)")
		}
		r.version = before.version
	} else if fault.KindOf(err) != fault.NotFound {
		return nil, err
	}
	contents, chunks := ContentsKeys, len(r.Bounds)
	if req.KEK {
		contents, chunks = ContentsKEK, 1
	}
	if r.header, r.Header, r.Stream, err = newHeader(ctx, t, to, contents, len(r.Keys), chunks, s.Now()); err != nil {
		return nil, err
	}
	defer clear(r.Stream)
	if r.Nonce, r.Required, err = s.Custodians.BeginConfirmation(); err != nil {
		return nil, err
	}
	if err := s.put(ctx, exportKey, r.version, r); err != nil {
		s.Custodians.CancelConfirmation()
		return nil, err
	}
	s.Logger.Warn("An export of keys was begun; custodians must confirm it", "nonce", r.Nonce, "contents", contents, "keys", len(r.Keys),
		"destination", to.Device.Serial, "statement", to.Fingerprint())
	return s.describe(r), nil
}

// choose lists the keys of an export and divides them into chunks.
func (s *Service) choose(ctx context.Context, r *exportRecord, req *api.StartTransfer) error {
	if req.KEK == (len(req.Mounts)+len(req.Keys) > 0) {
		return invalid("say what is to be exported: kek, or mounts and keys")
	}
	if req.KEK {
		return nil
	}
	mounts := s.Mounts()
	seen := map[keyRef]bool{}
	var secrets int
	add := func(ref keyRef, must bool) error {
		if seen[ref] {
			return nil
		}
		seen[ref] = true
		n, err := s.Keys.Carriable(ctx, ref.Mount, ref.Name)
		if err != nil && !must && fault.KindOf(err) == fault.Invalid {
			r.leaveOut(ref.At+ref.Name, fault.Message(err))
			return nil
		}
		if err != nil {
			return fault.Wrap(fault.KindOf(err), err, "the key %s%s can't be exported: %s", ref.At, ref.Name, fault.Message(err))
		}
		if len(r.Keys) == maxKeys {
			return invalid("more than %d keys; export the mounts one after another", maxKeys)
		}
		if last := lastBound(r.Bounds); len(r.Keys) > last && (len(r.Keys)-last == chunkKeys || secrets+n > chunkSecrets) {
			r.Bounds, secrets = append(r.Bounds, len(r.Keys)), 0
		}
		r.Keys, secrets = append(r.Keys, ref), secrets+n
		return nil
	}
	for _, name := range req.Keys {
		at := strings.LastIndexByte(name, '/') + 1
		mount, ok := mounts[name[:at]]
		if !ok {
			return invalid("%q is not MOUNT/NAME of a transit mount", name)
		}
		if err := add(keyRef{At: name[:at], Mount: mount, Name: name[at:]}, true); err != nil {
			return err
		}
	}
	for _, path := range req.Mounts {
		path = strings.TrimSuffix(path, "/") + "/"
		mount, ok := mounts[path]
		if !ok {
			return invalid("there is no transit mount %q; there are %s", path, strings.Join(slices.Sorted(maps.Keys(mounts)), ", "))
		}
		names, err := s.Keys.CarryNames(ctx, mount)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := add(keyRef{At: path, Mount: mount, Name: name}, false); err != nil {
				return err
			}
		}
	}
	if len(r.Keys) == 0 {
		return r.nothing()
	}
	r.Bounds = append(r.Bounds, len(r.Keys))
	return nil
}

func (r *exportRecord) leaveOut(name, reason string) {
	if r.Reasons == nil {
		r.Reasons = map[string]string{}
	}
	r.LeftOut, r.Reasons[name] = append(r.LeftOut, name), reason
}

// nothing is the error of an export without a key.
func (r *exportRecord) nothing() error {
	if len(r.LeftOut) == 0 {
		return invalid("there is no key to export")
	}
	name := r.LeftOut[0]
	return invalid("there is no key to export; %d can't leave the HSM token, the first is %s: %s", len(r.LeftOut), name, r.Reasons[name])
}

func lastBound(bounds []int) int {
	if len(bounds) == 0 {
		return 0
	}
	return bounds[len(bounds)-1]
}

func (s *Service) describe(r *exportRecord) *api.TransferStatus {
	d := r.to.Device
	st := &api.TransferStatus{Nonce: r.Nonce, ID: r.header.ID, Contents: r.header.Contents, Keys: r.header.Keys, Chunks: r.header.Chunks,
		LeftOut: append([]string{}, r.LeftOut...), Reasons: r.Reasons, Confirmed: !r.Confirmed.IsZero(), Required: r.Required,
		Fingerprint: r.to.Fingerprint(), KEKEKFingerprint: r.to.KEKEKFingerprint(), Created: r.to.Created.Format(time.RFC3339),
		Destination: api.TransferDevice(d), Bits: r.to.Bits, Attributes: r.to.Attributes, Paddings: []string{}}
	for _, p := range r.to.Paddings {
		st.Paddings = append(st.Paddings, string(p))
	}
	if nonce, progress := s.Custodians.Confirmation(); nonce == r.Nonce {
		st.Progress = progress
	}
	if st.Confirmed {
		st.Progress = st.Required
	}
	return st
}

func (s *Service) status(ctx context.Context, _ *op.Call, _ *api.Empty) (*api.TransferStatus, error) {
	r, err := s.export(ctx)
	if err != nil {
		return nil, err
	}
	defer clear(r.Stream)
	return s.describe(r), nil
}

func (s *Service) cancel(ctx context.Context, _ *op.Call, _ *api.Empty) (*api.Empty, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.export(ctx)
	if err != nil {
		if fault.KindOf(err) == fault.NotFound {
			return nil, nil
		}
		return nil, err
	}
	defer clear(r.Stream)
	if nonce, _ := s.Custodians.Confirmation(); nonce == r.Nonce {
		s.Custodians.CancelConfirmation()
	}
	if err := s.Store.Apply(ctx, s.Store.Remove(table, exportKey, r.version)); err != nil {
		return nil, storeFault(err, "end the export")
	}
	s.Logger.Warn("An export of keys was ended", "nonce", r.Nonce)
	return nil, nil
}

func (s *Service) confirm(ctx context.Context, _ *op.Call, req *api.ConfirmTransfer) (*api.TransferStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.export(ctx)
	if err != nil {
		return nil, err
	}
	defer clear(r.Stream)
	if !r.Confirmed.IsZero() {
		return nil, invalid("the export is confirmed already")
	}
	// After a restart the shares that were given are forgotten, and with them the nonce.
	if nonce, _ := s.Custodians.Confirmation(); nonce != r.Nonce {
		return nil, fault.New(fault.Conflict, "the export waits for no shares any more: the server was sealed, or another act was begun").
			WithHint("begin the export anew")
	}
	_, complete, err := s.Custodians.Confirm(ctx, req.Nonce, req.Key)
	if err != nil {
		return nil, err
	}
	if complete {
		r.Confirmed = s.Now().UTC()
		if err := s.put(ctx, exportKey, r.version, r); err != nil {
			return nil, err
		}
		s.Logger.Warn("Custodians confirmed an export of keys", "nonce", r.Nonce, "destination", r.to.Device.Serial, "statement", r.to.Fingerprint())
	}
	return s.describe(r), nil
}

// fetchable tells why an export can't be fetched.
func (s *Service) fetchable(r *exportRecord) error {
	if r.Confirmed.IsZero() {
		return fault.New(fault.Denied, "the custodians have not confirmed the export yet; nothing left this server").
			WithHint("each gives a share with sys/transfer/confirm")
	}
	if age := s.Now().Sub(r.Confirmed); age > confirmedFor {
		return fault.New(fault.Denied, "the export was confirmed more than %v ago", confirmedFor).WithHint("begin it anew")
	}
	return nil
}

func (s *Service) fetch(ctx context.Context, _ *op.Call, req *api.FetchTransfer) (*api.TransferLine, error) {
	t, err := s.hsm()
	if err != nil {
		return nil, err
	}
	r, err := s.export(ctx)
	if err != nil {
		return nil, err
	}
	defer clear(r.Stream)
	if req.Nonce != r.Nonce {
		return nil, invalid("the export under way has the nonce %q", r.Nonce)
	}
	if err := s.fetchable(r); err != nil {
		return nil, err
	}
	if req.Number < 0 || req.Number > r.header.Chunks {
		return nil, invalid("the export has the lines 0 to %d; there is no number %d", r.header.Chunks, req.Number)
	}
	if req.Number == 0 {
		return &api.TransferLine{Line: string(r.Header)}, nil
	}
	l, err := s.load(ctx, t, r, req.Number)
	if err != nil {
		return nil, err
	}
	defer l.wipe()
	line, err := s.seal(ctx, t, r, req.Number, l)
	if err != nil {
		return nil, err
	}
	return &api.TransferLine{Line: string(line)}, nil
}

// load collects what a chunk holds.
func (s *Service) load(ctx context.Context, t Token, r *exportRecord, number int) (*load, error) {
	if r.header.Contents == ContentsKEK {
		return kekLoad(ctx, t, r.to)
	}
	start := 0
	if number > 1 {
		start = r.Bounds[number-2]
	}
	l := &load{}
	var wrapped []token.Stored
	for _, ref := range r.Keys[start:r.Bounds[number-1]] {
		c, err := s.Keys.CarryOut(ctx, ref.Mount, ref.Name)
		if fault.KindOf(err) == fault.NotFound && err != nil {
			l.Gone = append(l.Gone, ref.At+ref.Name)
			continue
		}
		if err != nil {
			l.wipe()
			return nil, fault.Wrap(fault.KindOf(err), err, "the key %s%s can't be exported: %s", ref.At, ref.Name, fault.Message(err))
		}
		l.Keys = append(l.Keys, movedKey{Mount: ref.At, Record: c.Record, Secrets: len(c.Wrapped)})
		wrapped = append(wrapped, c.Wrapped...)
	}
	for part := range slices.Chunk(wrapped, freightKeys) {
		f, err := t.Carry(ctx, r.to.KEKEK, r.to.with(), part)
		if err != nil {
			l.wipe()
			return nil, hsmFault(err, "wrap the keys for the destination")
		}
		l.Freights = append(l.Freights, f)
	}
	return l, nil
}

func (s *Service) seal(ctx context.Context, t Token, r *exportRecord, number int, l *load) ([]byte, error) {
	plain, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encoding a chunk: %w", err)
	}
	defer clear(plain)
	body, err := r.header.sealChunk(r.Stream, number, plain)
	if err != nil {
		return nil, fmt.Errorf("sealing a chunk: %w", err)
	}
	signer, _, err := signingKey(ctx, t)
	if err != nil {
		return nil, err
	}
	return sign(ctx, t, signer, kindChunk, body)
}
