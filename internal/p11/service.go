package p11

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// Verb is what is asked of a path of the API.
type Verb uint8

// The verbs that are used here.
const (
	Read Verb = iota + 1
	List
	Write
	Delete
)

// Call is a call of an operation of the API.
type Call struct {
	Verb Verb
	// Path is unescaped, its parameters have no slash: "transit/sign/web".
	Path string
	// Token is the caller's client token; "" if it showed none.
	Token string
	// Remote is the caller, for the audit log.
	Remote string
	// Repeatable calls may be sent twice.
	Repeatable bool
}

// Backend performs operations. in is nil or a pointer to the operation's request
// struct, out nil or one to its response. Errors are *fault.Error; with kinds
// Sealed and Uninitialized nothing was done. It is used concurrently.
type Backend interface {
	Call(ctx context.Context, c *Call, in, out any) error
}

// ErrNotSent marks errors of a Backend's calls that never reached a server.
var ErrNotSent = errors.New("not sent")

// Slot is a slot that callers see.
type Slot struct {
	Label string
	// Mounts are transit engines: their keys and objects are those of the slot.
	// What a caller makes goes to the first.
	Mounts []string
	// Issuers are pki engines: the certificates of their authorities are shown.
	Issuers []string
}

// Options are what a Service needs. Logger and Now may be nil.
type Options struct {
	Slots   []Slot
	Backend Backend
	// Own: the backend has a client token for callers that show none.
	Own bool
	// Version of the program, "1.2.3".
	Version string
	// Observe is told of every request: its operation, the outcome, how long it
	// took. May be nil.
	Observe func(operation string, code Code, d time.Duration)
	Logger  *slog.Logger
	Now     func() time.Time
}

// Service answers requests. It is safe for concurrent use.
type Service struct {
	slots   []*slot
	backend Backend
	own     bool
	version [2]uint8
	observe func(operation string, code Code, d time.Duration)
	log     *slog.Logger
	now     func() time.Time

	mu    sync.Mutex
	views map[viewKey]*view
}

// slot is a Slot with normal paths: "transit/".
type slot struct {
	Slot
	serial string
}

type viewKey struct {
	token [sha256.Size]byte
	slot  uint32
}

// maxViews bounds the callers that are remembered.
const maxViews = 1024

// Caller is who asks.
type Caller struct {
	Token  string
	Remote string
	Slot   uint32
}

// New makes a service.
func New(o Options) (*Service, error) {
	s := &Service{backend: o.Backend, own: o.Own, observe: o.Observe, log: o.Logger, now: o.Now, version: parseVersion(o.Version), views: map[viewKey]*view{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if len(o.Slots) == 0 {
		return nil, fault.New(fault.Invalid, "there is no slot: name one with its mounts")
	}
	for _, given := range o.Slots {
		sl := &slot{Slot: Slot{Label: given.Label, Mounts: normal(given.Mounts), Issuers: normal(given.Issuers)}}
		if n := len(sl.Label); n == 0 || n > 32 {
			return nil, fault.New(fault.Invalid, "slot label %.40q has %d bytes: it needs 1 to 32", sl.Label, n)
		}
		if len(sl.Mounts) == 0 {
			return nil, fault.New(fault.Invalid, "slot %q names no mount of a transit engine", sl.Label)
		}
		sl.serial = serialOf(sl)
		s.slots = append(s.slots, sl)
	}
	return s, nil
}

func normal(mounts []string) []string {
	out := make([]string, len(mounts))
	for i, m := range mounts {
		out[i] = strings.Trim(m, "/") + "/"
	}
	return out
}

// parseVersion reads major and minor; what can't be read is 0.
func parseVersion(text string) (v [2]uint8) {
	var major, minor uint8
	if n, _ := fmt.Sscanf(strings.TrimPrefix(text, "v"), "%d.%d", &major, &minor); n == 2 {
		return [2]uint8{major, minor}
	}
	return v
}

// Own tells whether callers need no client token.
func (s *Service) Own() bool { return s.own }

// Version is that of the program.
func (s *Service) Version() (major, minor uint8) { return s.version[0], s.version[1] }

// slot returns the caller's slot.
func (s *Service) slot(c *Caller) (*slot, error) {
	if uint64(c.Slot) >= uint64(len(s.slots)) {
		return nil, fail(CKR_SLOT_ID_INVALID, "there is no slot %d: slots are 0 to %d", c.Slot, len(s.slots)-1)
	}
	return s.slots[c.Slot], nil
}

// view returns what is remembered of a caller's slot.
func (s *Service) view(c *Caller) *view {
	key := viewKey{sha256.Sum256([]byte(c.Token)), c.Slot}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.views[key]
	if v == nil {
		if len(s.views) >= maxViews {
			s.forget()
		}
		v = newView()
		s.views[key] = v
	}
	v.used = s.now()
	return v
}

// forget drops the half of the views that were used longest ago. The caller holds mu.
func (s *Service) forget() {
	var sum time.Duration
	now := s.now()
	for _, v := range s.views {
		sum += now.Sub(v.used)
	}
	mean := sum / time.Duration(len(s.views))
	for key, v := range s.views {
		if now.Sub(v.used) >= mean {
			delete(s.views, key)
		}
	}
}

// call performs an operation, again while the server is not there and the deadline
// allows, as far as it is safe.
func (s *Service) call(ctx context.Context, c *Caller, k Call, in, out any) error {
	k.Token, k.Remote = c.Token, c.Remote
	wait := 20 * time.Millisecond
	for {
		err := s.backend.Call(ctx, &k, in, out)
		if err == nil || !again(&k, err) || !pause(ctx, wait/2+rand.N(wait)) {
			return err
		}
		wait = min(2*wait, 500*time.Millisecond)
	}
}

func again(k *Call, err error) bool {
	switch fault.KindOf(err) {
	case fault.Sealed, fault.Uninitialized:
		return true
	case fault.Unavailable:
		return k.Repeatable || errors.Is(err, ErrNotSent)
	}
	return false
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// explain makes the outcome of an operation's error; invalid is the code where the
// server refused what it was given.
func (s *Service) explain(ctx context.Context, c *Caller, err error, invalid Code) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	msg := fault.Message(err)
	switch fault.KindOf(err) {
	case fault.Invalid, fault.MediaType, fault.Conflict, fault.Exhausted: // of one status over HTTP
		return &Error{invalid, msg}
	case fault.Denied:
		return s.denied(ctx, c, msg)
	case fault.NotFound:
		return &Error{CKR_KEY_HANDLE_INVALID, msg}
	case fault.Unsupported:
		return &Error{CKR_FUNCTION_NOT_SUPPORTED, msg}
	case fault.TooLarge:
		return &Error{CKR_DATA_LEN_RANGE, msg}
	case fault.Sealed, fault.Uninitialized, fault.Unavailable:
		return &Error{CKR_DEVICE_ERROR, msg}
	}
	return &Error{CKR_FUNCTION_FAILED, msg}
}

// denied tells a client token that is not accepted from one whose policies deny the
// operation: the server's answer is the same.
func (s *Service) denied(ctx context.Context, c *Caller, msg string) error {
	if c.Token == "" && !s.own {
		return fail(CKR_USER_NOT_LOGGED_IN, "no client token was shown: log in with it as the PIN")
	}
	if !s.accepted(ctx, c) {
		return fail(CKR_USER_NOT_LOGGED_IN, "the server does not accept the client token, or it ran out")
	}
	return &Error{CKR_KEY_FUNCTION_NOT_PERMITTED, msg + ": no policy of the client token allows it"}
}

// accepted tells whether the server knows the client token: it may ask about
// itself, as the policy default allows, or look for something in the slot.
func (s *Service) accepted(ctx context.Context, c *Caller) bool {
	err := s.call(ctx, c, Call{Verb: Read, Path: "auth/token/lookup-self", Repeatable: true}, nil, &api.TokenInfo{})
	if fault.KindOf(err) != fault.Denied || err == nil {
		return true
	}
	for _, mount := range s.slots[c.Slot].Mounts {
		if _, err := s.ask(ctx, c, mount, &api.P11Find{Limit: 1}); err == nil {
			return true
		}
	}
	return false
}
