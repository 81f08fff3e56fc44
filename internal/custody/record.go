package custody

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/claviger/claviger/internal/store"
)

const (
	table        = "custody"
	recordKey    = "seal"
	recordFormat = 1
)

// record is what initialisation leaves in the store: JSON, in table "custody"
// under the key "seal". Everything in it is public but PINs and StorageKey.
//
// PINs is
//
//	nonce (12 bytes) ‖ AES-256-GCM(len ‖ user PIN ‖ len ‖ SO PIN) ‖ tag (16 bytes)
//
// under the unseal key, lengths of one byte, an unknown SO PIN empty, with the
// associated data "claviger pins 1" ‖ binding. While a change of the PINs is under
// way the two before it follow in the same form. StorageKey is sealed by the HSM
// token with the associated data "claviger storage key 1" ‖ binding. The
// binding is made of the other fields (see binding), so that none can be
// changed, and neither secret moved to another record, unnoticed.
//
// With KindAuto the unseal key is in Auto, too. With KindPIN there is no set of shares and PINs is empty. The binding begins
// with an empty SetID then, which no record with shares has.
type record struct {
	Format      int       `json:"format"`
	Kind        string    `json:"custody,omitempty"` // "" is KindShares
	SetID       string    `json:"set_id"`
	Shares      int       `json:"shares"`
	Threshold   int       `json:"threshold"`
	Commitments [][]byte  `json:"commitments"`
	ClusterID   string    `json:"cluster_id"`
	Created     time.Time `json:"created"`
	TokenLabel  string    `json:"token_label"`
	TokenSerial string    `json:"token_serial"`
	Adopted     bool      `json:"adopted"`
	PINs        []byte    `json:"pins"`
	StorageKey  []byte    `json:"storage_key"`
	// Terms are the storage keys that later rotations made, term 2 first.
	Terms []termRecord `json:"terms,omitempty"`
	// Auto is there with KindAuto.
	Auto *autoRecord `json:"auto,omitempty"`
	// Former opens the seal too, until the set above has.
	Former *formerSet `json:"former,omitempty"`

	set *Set
}

// termRecord is a later storage key. Key is sealed by the HSM token with the
// associated data "claviger storage key 2" ‖ term ‖ installed ‖ binding: numbers
// in 8 bytes, big endian, times in Unix seconds.
type termRecord struct {
	Term      int       `json:"term"`
	Installed time.Time `json:"installed"`
	Key       []byte    `json:"key"`
}

// binding encodes the public fields: texts with their length in 8 bytes, numbers
// in 8 bytes, big endian. The set's id stands for N, T and the commitments.
func (r *record) binding() []byte {
	var b []byte
	for _, s := range []string{r.SetID, r.ClusterID, r.TokenLabel, r.TokenSerial} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(r.Created.Unix()))
	if r.Adopted {
		return append(b, 1)
	}
	return append(b, 0)
}

func (r *record) pinAAD() []byte {
	return append([]byte("claviger pins 1"), r.binding()...)
}

func (r *record) storageAAD() []byte {
	return append([]byte("claviger storage key 1"), r.binding()...)
}

func (r *record) termAAD(t *termRecord) []byte {
	b := []byte("claviger storage key 2")
	b = binary.BigEndian.AppendUint64(b, uint64(t.Term))
	b = binary.BigEndian.AppendUint64(b, uint64(t.Installed.Unix()))
	return append(b, r.binding()...)
}

// term returns the number of the newest storage key, and since when it is in use.
func (r *record) term() (n int, installed time.Time) {
	if last := len(r.Terms); last > 0 {
		return last + 1, r.Terms[last-1].Installed
	}
	return 1, r.Created
}

// pins are the PINs of the HSM token; so is empty for a token that was adopted.
type pins struct {
	user, so []byte
	// before are the PINs that are being replaced, nil when that is done: which of
	// both the HSM token has is unknown then.
	before *pins
}

func (p *pins) wipe() {
	clear(p.user)
	clear(p.so)
	if p.before != nil {
		p.before.wipe()
	}
}

// sealPINs seals under the unseal key.
func sealPINs(key []byte, p *pins, aad []byte) ([]byte, error) {
	aead, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	all := [][]byte{p.user, p.so}
	if p.before != nil {
		all = append(all, p.before.user, p.before.so)
	}
	plain := make([]byte, 0, 4*256)
	defer func() { clear(plain) }()
	for _, pin := range all {
		if len(pin) > 255 {
			return nil, fmt.Errorf("a PIN has %d bytes; at most 255 can be kept", len(pin))
		}
		plain = append(plain, byte(len(pin)))
		plain = append(plain, pin...)
	}
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	return aead.Seal(nonce, nonce, plain, aad), nil
}

var errPINRecord = errors.New("the sealed PINs are not authentic")

// openPINs is the reverse of sealPINs.
func openPINs(key, sealed, aad []byte) (*pins, error) {
	aead, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	if len(sealed) < aead.NonceSize() {
		return nil, errPINRecord
	}
	plain, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], aad)
	if err != nil {
		return nil, errPINRecord
	}
	p, rest, ok := cutPINs(plain)
	if ok && len(rest) > 0 {
		p.before, rest, ok = cutPINs(rest)
	}
	if !ok || len(rest) != 0 {
		clear(plain)
		return nil, errPINRecord
	}
	return p, nil
}

func cutPINs(b []byte) (p *pins, rest []byte, ok bool) {
	user, rest, ok := cutPIN(b)
	if !ok {
		return nil, nil, false
	}
	so, rest, ok := cutPIN(rest)
	return &pins{user: user, so: so}, rest, ok
}

func cutPIN(b []byte) (pin, rest []byte, ok bool) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return nil, nil, false
	}
	n := 1 + int(b[0])
	return b[1:n:n], b[n:], true
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("unseal key: %w", err)
	}
	return cipher.NewGCM(block)
}

// loadRecord returns nil if the server was never initialised.
func loadRecord(ctx context.Context, s store.Store) (*record, error) {
	raw, err := s.Get(ctx, table, recordKey)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the seal record: %w", err)
	}
	r, err := parseRecord(raw.Data)
	if err != nil {
		return nil, fmt.Errorf("the seal record (%s/%s) in the database: %w", table, recordKey, err)
	}
	return r, nil
}

func (r *record) checkShares() error {
	r.set = &Set{N: r.Shares, T: r.Threshold, Commitments: r.Commitments}
	if err := r.set.Validate(); err != nil {
		return fmt.Errorf("was altered: %w", err)
	}
	if id := r.set.ID().String(); id != r.SetID {
		return fmt.Errorf("was altered: its commitments are of share set %s, not %s", id, r.SetID)
	}
	return nil
}

func parseRecord(data []byte) (*record, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("is damaged: %w", err)
	}
	if r.Format != recordFormat {
		return nil, fmt.Errorf("has format %d; this release reads format %d", r.Format, recordFormat)
	}
	check := r.checkShares
	if r.Kind != "" && r.Kind != KindAuto {
		check = r.checkWithoutShares
	}
	if err := errors.Join(check(), r.checkAuto(), r.checkFormer()); err != nil {
		return nil, err
	}
	for i, t := range r.Terms {
		if t.Term != i+2 {
			return nil, fmt.Errorf("was altered: the storage key of term %d stands in the place of term %d", t.Term, i+2)
		}
	}
	return &r, nil
}
