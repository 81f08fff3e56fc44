package custody

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/cloudflare/circl/group"

	"github.com/claviger/claviger/internal/fault"
)

// Reasons for which a share is refused. They are the causes of the
// *fault.Error that the caller sees.
var (
	ErrMalformed = errors.New("malformed share")
	ErrForeign   = errors.New("share of another set")
	ErrAltered   = errors.New("altered share")
	ErrRepeated  = errors.New("repeated share")
)

const (
	shareFormat = 1
	valueSize   = 32
	sumSize     = 6
	// ShareSize is the length of an encoded share in bytes. It is a multiple of
	// three, so that base64 needs no padding.
	ShareSize = 1 + len(SetID{}) + 1 + valueSize + sumSize
)

// SetID tells one set of shares from another. It is derived from the set's
// public commitments (see Set).
type SetID [8]byte

// String returns the id in hex.
func (id SetID) String() string { return hex.EncodeToString(id[:]) }

// Share is one custodian's part of the unseal secret: the value at X of a
// polynomial over the scalars of ristretto255 (RFC 9496).
//
// Its encoding, 48 bytes:
//
//	format (1, 1) ‖ set id (8) ‖ x (1) ‖ value (32, little endian, reduced) ‖ sum (6)
//
// where sum is the beginning of SHA-256("claviger share 1" ‖ everything before
// it). The sum tells a typing error from a share of another set; that a share
// is genuine follows from the commitments alone.
type Share struct {
	Set   SetID
	X     uint8
	Value [valueSize]byte
}

// Wipe overwrites the share's value.
func (s *Share) Wipe() { clear(s.Value[:]) }

// Bytes encodes the share in ShareSize bytes. The caller wipes them.
func (s *Share) Bytes() []byte {
	b := make([]byte, 0, ShareSize)
	b = append(b, shareFormat)
	b = append(b, s.Set[:]...)
	b = append(b, s.X)
	b = append(b, s.Value[:]...)
	sum := shareSum(b)
	return append(b, sum[:]...)
}

// Hex encodes the share in hexadecimal digits, 96 of them.
func (s *Share) Hex() string {
	b := s.Bytes()
	defer clear(b)
	return hex.EncodeToString(b)
}

// Base64 encodes the share in standard base64, 64 characters.
func (s *Share) Base64() string {
	b := s.Bytes()
	defer clear(b)
	return base64.StdEncoding.EncodeToString(b)
}

// ParseShare reads a share from hex (either case) or base64 (standard or URL
// alphabet), with white space around it. An error is a *fault.Error of kind
// Invalid with the cause ErrMalformed; it shows nothing of the text.
func ParseShare(text string) (Share, error) {
	b, err := decodeShareText(strings.TrimSpace(text))
	if err != nil {
		return Share{}, err
	}
	defer clear(b)
	return decodeShare(b)
}

func decodeShareText(text string) ([]byte, error) {
	switch len(text) {
	case hex.EncodedLen(ShareSize):
		b, err := hex.DecodeString(text)
		if err != nil {
			return nil, malformed("it has the length of a share in hexadecimal, but a character that is no hexadecimal digit")
		}
		return b, nil
	case base64.StdEncoding.EncodedLen(ShareSize):
		b, err := base64.StdEncoding.DecodeString(strings.NewReplacer("-", "+", "_", "/").Replace(text))
		if err != nil || len(b) != ShareSize {
			clear(b)
			return nil, malformed("it has the length of a share in base64, but a character that is not of base64")
		}
		return b, nil
	}
	return nil, malformed("it has %d characters; a share has %d hexadecimal digits or %d characters of base64",
		len(text), hex.EncodedLen(ShareSize), base64.StdEncoding.EncodedLen(ShareSize))
}

func decodeShare(b []byte) (Share, error) {
	if len(b) != ShareSize {
		return Share{}, malformed("it has %d bytes, not %d", len(b), ShareSize)
	}
	body, sum := b[:ShareSize-sumSize], b[ShareSize-sumSize:]
	want := shareSum(body)
	if subtle.ConstantTimeCompare(sum, want[:]) != 1 {
		return Share{}, malformed("its checksum does not match: at least one character is mistyped")
	}
	if body[0] != shareFormat {
		return Share{}, malformed("its format is %d, and this release knows format %d only", body[0], shareFormat)
	}
	var s Share
	copy(s.Set[:], body[1:])
	s.X = body[1+len(s.Set)]
	copy(s.Value[:], body[1+len(s.Set)+1:])
	if _, err := scalar(s.Value[:]); err != nil || s.X == 0 {
		s.Wipe()
		return Share{}, malformed("it holds a value that no share has")
	}
	return s, nil
}

// shareSum is not a check of authenticity: who alters a share alters it too.
func shareSum(body []byte) (sum [sumSize]byte) {
	h := sha256.New()
	h.Write([]byte("claviger share 1"))
	h.Write(body)
	full := h.Sum(nil)
	copy(sum[:], full)
	clear(full)
	return sum
}

func scalar(b []byte) (group.Scalar, error) {
	s := group.Ristretto255.NewScalar()
	err := s.UnmarshalBinary(b)
	return s, err
}

func malformed(format string, args ...any) error {
	e := fault.New(fault.Invalid, "this is not a share: "+format, args...)
	e.Err = ErrMalformed
	return e
}
