package sss

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/crypto/nacl/secretbox"
)

const (
	keySize = 32
	headLen = 1 + keySize
	// MaxShares is the largest number of shares, and MinThreshold the smallest
	// threshold.
	MaxShares    = 255
	MinThreshold = 2
	// MaxLine bounds a share, in bytes.
	MaxLine = 1 << 20
)

// ErrCombine: the shares are of one secret as far as can be seen, but are too few,
// or one was changed.
var ErrCombine = errors.New("the shares do not combine to a secret: they are fewer than the threshold, or one was altered")

// Split returns n shares of secret, of which t open it, as lines without their ends.
// n is 2 to MaxShares, t is MinThreshold to n.
func Split(secret []byte, n, t int) ([]string, error) {
	if n < 2 || n > MaxShares || t < MinThreshold || t > n {
		return nil, fmt.Errorf("%d shares with threshold %d: there are 2 to %d shares, and the threshold is %d to their number", n, t, MaxShares, MinThreshold)
	}
	var key [keySize]byte
	defer clear(key[:])
	rand.Read(key[:])
	random := make([]byte, keySize*(t-1))
	defer clear(random)
	rand.Read(random)
	return split(secret, n, &key, random), nil
}

// split makes shares with a given key and the coefficients of its polynomials, all of
// the first power before those of the second.
func split(secret []byte, n int, key *[keySize]byte, random []byte) []string {
	box := secretbox.Seal(nil, secret, new([24]byte), key)
	coefficients := make([]byte, 1+len(random)/keySize)
	defer clear(coefficients)
	lines := make([]string, n)
	share := make([]byte, headLen+len(box))
	defer clear(share)
	copy(share[headLen:], box)
	for i := range lines {
		share[0] = byte(i + 1)
		for b := range key {
			coefficients[0] = key[b]
			for power := 1; power < len(coefficients); power++ {
				coefficients[power] = random[(power-1)*keySize+b]
			}
			share[1+b] = evaluate(coefficients, share[0])
		}
		lines[i] = hex.EncodeToString(share)
	}
	return lines
}

// Combine returns the secret of shares; the caller wipes it. Empty lines are skipped,
// a share that is there twice counts once, and more shares than the threshold do no
// harm. An error names the share by its place among the lines, from 1.
func Combine(lines [][]byte) ([]byte, error) {
	shares, err := parse(lines)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, s := range shares {
			clear(s)
		}
	}()
	if len(shares) < MinThreshold {
		return nil, fmt.Errorf("there are %d shares; no secret opens with fewer than %d", len(shares), MinThreshold)
	}
	xs := make([]byte, len(shares))
	for i, s := range shares {
		xs[i] = s[0]
	}
	var key [keySize]byte
	defer clear(key[:])
	for i, w := range weights(xs) {
		for b := range key {
			key[b] ^= mul(w, shares[i][1+b])
		}
	}
	secret, ok := secretbox.Open(nil, shares[0][headLen:], new([24]byte), &key)
	if !ok {
		return nil, ErrCombine
	}
	return secret, nil
}

// parse reads shares, and sees whether they belong together.
func parse(lines [][]byte) (shares [][]byte, err error) {
	defer func() {
		if err != nil {
			for _, s := range shares {
				clear(s)
			}
		}
	}()
	for i, line := range lines {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		share := make([]byte, hex.DecodedLen(len(line)))
		if _, err := hex.Decode(share, line); err != nil || len(line) > MaxLine || len(share) < headLen+secretbox.Overhead || share[0] == 0 {
			clear(share)
			return shares, fmt.Errorf("line %d is no share: a share is one line of at least %d hex digits", i+1, 2*(headLen+secretbox.Overhead))
		}
		if len(shares) > 0 && !bytes.Equal(share[headLen:], shares[0][headLen:]) {
			clear(share)
			return shares, fmt.Errorf("line %d and the first share do not belong to the same secret", i+1)
		}
		again, err := seen(shares, share)
		if err != nil {
			return shares, fmt.Errorf("line %d: %w", i+1, err)
		}
		if !again {
			shares = append(shares, share)
		}
	}
	return shares, nil
}

// seen tells whether a share is there already.
func seen(shares [][]byte, share []byte) (bool, error) {
	for _, s := range shares {
		if s[0] != share[0] {
			continue
		}
		if !bytes.Equal(s, share) {
			return false, fmt.Errorf("another share has the number %d too; one of both was altered", share[0])
		}
		return true, nil
	}
	return false, nil
}
