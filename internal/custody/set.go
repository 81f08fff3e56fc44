package custody

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"

	"github.com/claviger/claviger/internal/fault"
)

// MaxShares is the largest number of shares of a set: x is one byte, and 0 is
// the secret itself.
const MaxShares = 255

const unsealKeySize = 32

// Set is what everybody may know of a set of shares: how many there are, how
// many open it, and Feldman's commitments to the polynomial's coefficients, as
// compressed ristretto255 points (Feldman, "A practical scheme for
// non-interactive verifiable secret sharing", FOCS 1987).
type Set struct {
	N           int      // number of shares, 1 to MaxShares
	T           int      // number of shares that open, 1 to N
	Commitments [][]byte // T points of 32 bytes, the first one commits to the secret
}

// ID is the beginning of SHA-256("claviger share set 1" ‖ N ‖ T ‖ commitments),
// N and T one byte each: a changed commitment makes another set.
func (s *Set) ID() (id SetID) {
	h := sha256.New()
	h.Write([]byte("claviger share set 1"))
	h.Write([]byte{byte(s.N), byte(s.T)})
	for _, c := range s.Commitments {
		h.Write(c)
	}
	copy(id[:], h.Sum(nil))
	return id
}

// Validate tells whether s can be a set at all.
func (s *Set) Validate() error {
	if s.N < 1 || s.N > MaxShares || s.T < 1 || s.T > s.N {
		return fmt.Errorf("%d of %d shares: not within 1 ≤ threshold ≤ shares ≤ %d", s.T, s.N, MaxShares)
	}
	_, err := s.points()
	return err
}

func (s *Set) points() ([]group.Element, error) {
	if len(s.Commitments) != s.T {
		return nil, fmt.Errorf("%d commitments for a threshold of %d", len(s.Commitments), s.T)
	}
	points := make([]group.Element, s.T)
	for i, c := range s.Commitments {
		points[i] = group.Ristretto255.NewElement()
		if err := points[i].UnmarshalBinary(c); err != nil {
			return nil, fmt.Errorf("commitment %d: %w", i, err)
		}
	}
	return points, nil
}

// Split draws a random secret and shares it among n custodians so that any t of
// them open it. It returns the unseal key derived from the secret (32 bytes),
// the public set, and the shares with x = 1 to n. The caller wipes key and shares.
func Split(n, t int) (key []byte, set *Set, shares []Share, err error) {
	if n < 1 || n > MaxShares || t < 1 || t > n {
		return nil, nil, nil, fmt.Errorf("%d of %d shares: not within 1 ≤ threshold ≤ shares ≤ %d", t, n, MaxShares)
	}
	secret := group.Ristretto255.RandomNonZeroScalar(rand.Reader)
	defer wipeScalar(secret)
	// The library counts the shares that do not suffice.
	sharing := secretsharing.New(rand.Reader, uint(t-1), secret)
	set = &Set{N: n, T: t}
	for _, e := range sharing.CommitSecret() {
		c, err := e.MarshalBinary()
		if err != nil {
			return nil, nil, nil, fmt.Errorf("encode a commitment: %w", err)
		}
		set.Commitments = append(set.Commitments, c)
	}
	if err := set.Validate(); err != nil {
		return nil, nil, nil, fmt.Errorf("split the unseal secret: %w", err)
	}
	if shares, err = encodeShares(set.ID(), sharing.Share(uint(n))); err != nil {
		return nil, nil, nil, err
	}
	key, err = unsealKey(secret, set.ID())
	return key, set, shares, err
}

func encodeShares(id SetID, raw []secretsharing.Share) ([]Share, error) {
	shares := make([]Share, len(raw))
	for i, r := range raw {
		b, err := r.Value.MarshalBinary()
		if err != nil || len(b) != valueSize {
			return nil, errors.New("encode a share: the library returned no scalar of 32 bytes")
		}
		shares[i] = Share{Set: id, X: uint8(i + 1)}
		copy(shares[i].Value[:], b)
		clear(b)
		wipeScalar(r.Value)
	}
	return shares, nil
}

// Check tells whether a share is one of the set, without the other shares. An
// error is a *fault.Error of kind Invalid with the cause ErrForeign or ErrAltered.
func (s *Set) Check(share *Share) error {
	if id := s.ID(); share.Set != id {
		e := fault.New(fault.Invalid, "this share belongs to another set of shares (%s); this server's set is %s", share.Set, id)
		e.Err = ErrForeign
		return e
	}
	points, err := s.points()
	if err != nil {
		return fmt.Errorf("the commitments of share set %s: %w", s.ID(), err)
	}
	raw, err := share.raw()
	if err != nil {
		return altered(share)
	}
	defer wipeScalar(raw.Value)
	if share.X < 1 || int(share.X) > s.N || !secretsharing.Verify(uint(s.T-1), raw, points) {
		return altered(share)
	}
	return nil
}

func altered(share *Share) error {
	e := fault.New(fault.Invalid, "this share was altered: it is not share %d of set %s as it was given out", share.X, share.Set)
	e.Err = ErrAltered
	return e
}

// Combine computes the unseal key (32 bytes) of shares that Check accepted and
// whose X differ. The caller wipes it.
func (s *Set) Combine(shares []Share) ([]byte, error) {
	if len(shares) < s.T {
		return nil, fmt.Errorf("%d shares, %d are needed", len(shares), s.T)
	}
	seen := map[uint8]bool{}
	raw := make([]secretsharing.Share, 0, len(shares))
	for i := range shares {
		if seen[shares[i].X] {
			return nil, fmt.Errorf("share %d: %w", shares[i].X, ErrRepeated)
		}
		seen[shares[i].X] = true
		r, err := shares[i].raw()
		if err != nil {
			return nil, fmt.Errorf("share %d: %w", shares[i].X, ErrAltered)
		}
		defer wipeScalar(r.Value)
		raw = append(raw, r)
	}
	secret, err := secretsharing.Recover(uint(s.T-1), raw)
	if err != nil {
		return nil, fmt.Errorf("combine %d shares: %w", len(shares), err)
	}
	defer wipeScalar(secret)
	return unsealKey(secret, s.ID())
}

func (s *Share) raw() (secretsharing.Share, error) {
	value, err := scalar(s.Value[:])
	if err != nil {
		return secretsharing.Share{}, err
	}
	return secretsharing.Share{ID: group.Ristretto255.NewScalar().SetUint64(uint64(s.X)), Value: value}, nil
}

// unsealKey is HKDF-SHA256 (RFC 5869) of the secret's canonical encoding, with
// the set's id as salt.
func unsealKey(secret group.Scalar, id SetID) ([]byte, error) {
	b, err := secret.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode the unseal secret: %w", err)
	}
	defer clear(b)
	key, err := hkdf.Key(sha256.New, b, id[:], "claviger unseal 1", unsealKeySize)
	if err != nil {
		return nil, fmt.Errorf("derive the unseal key: %w", err)
	}
	return key, nil
}

func wipeScalar(s group.Scalar) { s.SetUint64(0) }
