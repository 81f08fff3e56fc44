package guard

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

const (
	typeBatch        = "batch"
	typeDefaultBatch = "default-batch"

	batchPrefix = "b."
	// batchInfo is the HKDF info (RFC 5869) of the key of batch tokens, and the
	// associated data of each.
	batchInfo = "claviger batch token 1"
	// maxBatchText bounds the text of a batch token, in bytes: it travels in a
	// header of every call.
	maxBatchText = 8 << 10
)

// batchPayload is what a batch token says of itself; see tokenRecord.
type batchPayload struct {
	Parent      string            `json:"parent,omitempty"`
	Depth       int               `json:"depth,omitempty"`
	Policies    []string          `json:"policies"`
	DisplayName string            `json:"display_name"`
	Path        string            `json:"path"`
	Meta        map[string]string `json:"meta,omitempty"`
	Created     int64             `json:"created"`
	TTL         int64             `json:"ttl"`
	Expires     int64             `json:"expires"`
	Role        string            `json:"role,omitempty"`
}

// newBatchAEAD returns what seals batch tokens: XChaCha20-Poly1305, whose nonces
// may be random for any number of tokens, under HKDF-SHA256 of the salt. The salt
// is a sealed record, so batch tokens outlive restarts and changes of the storage
// key.
func newBatchAEAD(salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, salt, nil, batchInfo, chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("deriving the key of batch tokens: %w", err)
	}
	defer clear(key)
	return chacha20poly1305.NewX(key)
}

// sealBatch returns the text of a batch token: "b." and in unpadded URL base64
//
//	format (1 byte, 1) ‖ nonce (24 bytes) ‖ ciphertext of the payload's JSON ‖ tag (16 bytes)
func sealBatch(aead cipher.AEAD, p *batchPayload) (string, error) {
	data, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("encoding a batch token: %w", err)
	}
	head := 1 + aead.NonceSize()
	out := make([]byte, head, head+len(data)+aead.Overhead())
	out[0] = 1
	rand.Read(out[1:])
	text := batchPrefix + base64.RawURLEncoding.EncodeToString(aead.Seal(out, out[1:], data, []byte(batchInfo)))
	if len(text) > maxBatchText {
		return "", fault.New(fault.Invalid, "the batch token would have %d bytes, more than %d: give it fewer policies or less meta",
			len(text), maxBatchText)
	}
	return text, nil
}

// openBatch is the reverse of sealBatch; ok is false if the text is no batch
// token of this server.
func openBatch(aead cipher.AEAD, text string) (p *batchPayload, ok bool) {
	encoded, ok := strings.CutPrefix(text, batchPrefix)
	if !ok || len(text) > maxBatchText {
		return nil, false
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	head := 1 + aead.NonceSize()
	if err != nil || len(sealed) < head || sealed[0] != 1 {
		return nil, false
	}
	data, err := aead.Open(nil, sealed[1:head], sealed[head:], []byte(batchInfo))
	if err != nil {
		return nil, false
	}
	p = &batchPayload{}
	return p, json.Unmarshal(data, p) == nil
}

// loadBatch returns the entry of a batch token's text with its ancestors, or
// store.ErrNotFound, also if its parent is no more. The caller holds mu.
func (t *tokens) loadBatch(ctx context.Context, text string) (*entry, error) {
	p, ok := openBatch(t.batch, text)
	if !ok {
		return nil, store.ErrNotFound
	}
	e := &entry{id: hashed(t.salt, text)}
	e.state.Store(&tokenState{tokenRecord: tokenRecord{
		Batch: true, Parent: p.Parent, Depth: p.Depth, Policies: p.Policies, DisplayName: p.DisplayName, Path: p.Path,
		Meta: p.Meta, Created: p.Created, TTL: p.TTL, Expires: p.Expires, Role: p.Role,
	}})
	if p.Parent != "" {
		parent, err := t.load(ctx, p.Parent)
		if err != nil {
			return nil, fmt.Errorf("parent of a batch token: %w", err)
		}
		e.parent.Store(parent)
	}
	return e, nil
}

// createBatch returns the text of a new batch token below parent, nil for an
// orphan. Nothing is stored.
func (t *tokens) createBatch(r *tokenRecord, parent *entry) (string, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.salt == nil {
		return "", store.ErrSealed
	}
	if parent != nil {
		if parent.ended(t.now()) != nil {
			return "", errEnded
		}
		r.Parent, r.Depth = parent.id, parent.state.Load().Depth+1
	}
	return sealBatch(t.batch, &batchPayload{
		Parent: r.Parent, Depth: r.Depth, Policies: r.Policies, DisplayName: r.DisplayName, Path: r.Path,
		Meta: r.Meta, Created: r.Created, TTL: r.TTL, Expires: r.Expires, Role: r.Role,
	})
}

// batchType decides of which type a new token is: as its role says, else as it is
// asked for.
func (m *tokenMaker) batchType() (batch bool, err error) {
	asked := m.req.Type
	if m.role != nil {
		switch m.role.TokenType {
		case typeService, typeBatch:
			asked = m.role.TokenType
		case typeDefaultBatch:
			if asked == "" {
				asked = typeBatch
			}
		}
	}
	switch asked {
	case "", typeService:
		return false, nil
	case typeBatch:
		return true, nil
	}
	return false, fault.New(fault.Invalid, "invalid 'token_type' value %.40q: use \"service\" or \"batch\"", asked)
}

// checkBatch refuses what a batch token can't have: nothing counts its uses or
// notes its renewals. A role that demands it would be evaded.
func (m *tokenMaker) checkBatch(r *tokenRecord) error {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"explicit_max_ttl", r.ExplicitMaxTTL != 0}, {"num_uses", r.Limited}, {"period", r.Period != 0}, {"id", m.req.ID != ""},
	} {
		if f.set {
			return fault.New(fault.Invalid, "batch tokens cannot have %q set", f.name)
		}
	}
	if r.isRoot() {
		return fault.New(fault.Invalid, "batch tokens cannot be root tokens")
	}
	return nil
}

// checkBatch refuses roles whose tokens could not be what the role says.
func (r *roleRecord) checkBatch() error {
	if r.TokenType != typeBatch && r.TokenType != typeDefaultBatch {
		return nil
	}
	strict := r.TokenType == typeBatch
	switch {
	case r.NumUses != 0:
		return errors.New("'token_type' cannot be 'batch' or 'default_batch' when set to generate tokens with limited use count")
	case r.Period != 0:
		return errors.New("'token_type' cannot be 'batch' or 'default_batch' when set to generate periodic tokens")
	case strict && !r.Orphan:
		return errors.New("'token_type' cannot be 'batch' when role is set to generate non-orphan tokens")
	case strict && !r.NotRenewable:
		return errors.New("'token_type' cannot be 'batch' when role is set to generate renewable tokens")
	case strict && r.ExplicitMaxTTL != 0:
		return errors.New("'token_type' cannot be 'batch' when role is set to generate tokens with an explicit max TTL")
	}
	return nil
}
