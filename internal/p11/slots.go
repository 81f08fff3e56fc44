package p11

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// Flags of INFO.
const (
	InfoUnsealed = 1
	InfoLogin    = 2
)

// Info describes a slot and its token.
type Info struct {
	Label, Serial, Manufacturer, Model string
	Major, Minor                       uint8
	Flags                              uint8
	Mechanisms                         []MechanismInfo
}

// serialOf is the serial number of a slot's token, 16 characters: the same
// wherever the slot is called and made the same.
func serialOf(sl *slot) string {
	h := sha256.New()
	for _, part := range append(append([]string{sl.Label}, sl.Mounts...), sl.Issuers...) {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Labels are the labels of the slots 0, 1, ….
func (s *Service) Labels() []string {
	labels := make([]string, len(s.slots))
	for i, sl := range s.slots {
		labels[i] = sl.Label
	}
	return labels
}

// infoWait is how long INFO waits for a server that may not answer.
const infoWait = 2 * time.Second

// Info describes a slot. A server that does not answer, or is sealed, leaves
// InfoUnsealed away; it is asked once.
func (s *Service) Info(ctx context.Context, c *Caller) (*Info, error) {
	sl, err := s.slot(c)
	if err != nil {
		return nil, err
	}
	i := &Info{
		Label: sl.Label, Serial: sl.serial, Manufacturer: "Claviger", Model: "Claviger",
		Major: s.version[0], Minor: s.version[1], Mechanisms: mechanisms,
	}
	if !s.own {
		i.Flags |= InfoLogin
	}
	var status api.SealStatus
	call := &Call{Verb: Read, Path: "sys/seal-status", Remote: c.Remote, Repeatable: true}
	ctx, cancel := context.WithTimeout(ctx, infoWait)
	defer cancel()
	if err := s.backend.Call(ctx, call, nil, &status); err == nil {
		if v := parseVersion(status.Version); v != [2]uint8{} {
			i.Major, i.Minor = v[0], v[1]
		}
		if status.Initialized && !status.Sealed {
			i.Flags |= InfoUnsealed
		}
	}
	return i, nil
}

// Login tells whether the server accepts the caller's client token.
func (s *Service) Login(ctx context.Context, c *Caller) error {
	if _, err := s.slot(c); err != nil {
		return err
	}
	if c.Token == "" && !s.own {
		return fail(CKR_PIN_INCORRECT, "the PIN is a client token of the server; it is empty")
	}
	err := s.call(ctx, c, Call{Verb: Read, Path: "auth/token/lookup-self", Repeatable: true}, nil, &api.TokenInfo{})
	if err == nil || fault.KindOf(err) == fault.Denied && s.accepted(ctx, c) {
		return nil
	}
	if fault.KindOf(err) == fault.Denied {
		return fail(CKR_PIN_INCORRECT, "the server does not accept the PIN, which is a client token, or it ran out")
	}
	return s.explain(ctx, c, err, CKR_FUNCTION_FAILED)
}

// maxRandomCall is how many random bytes one call of the API brings.
const maxRandomCall = 128 << 10

// Random returns n random bytes of the HSM token, at most MaxRandom.
func (s *Service) Random(ctx context.Context, c *Caller, n uint32) ([]byte, error) {
	sl, err := s.slot(c)
	if err != nil {
		return nil, err
	}
	if n > MaxRandom {
		return nil, fail(CKR_ARGUMENTS_BAD, "%d random bytes are more than %d: ask several times", n, MaxRandom)
	}
	out := make([]byte, 0, n)
	path := sl.Mounts[0] + "random"
	for len(out) < int(n) {
		var r api.RandomBytes
		q := &api.Random{Bytes: min(int(n)-len(out), maxRandomCall)}
		err := s.call(ctx, c, Call{Verb: Write, Path: path, Repeatable: true}, q, &r)
		if fault.KindOf(err) == fault.Denied && err != nil && path != "sys/tools/random" {
			path = "sys/tools/random"
			continue
		}
		if err != nil {
			return nil, s.explain(ctx, c, err, CKR_FUNCTION_FAILED)
		}
		b, err := base64.StdEncoding.DecodeString(r.RandomBytes)
		if err != nil || len(b) != q.Bytes {
			return nil, fail(CKR_FUNCTION_FAILED, "the server's random bytes can't be read")
		}
		out = append(out, b...)
		clear(b)
	}
	return out, nil
}
