package hsmdaemon

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/guard"
	"github.com/claviger/claviger/internal/op"
)

// Options are what a front needs. Door, As, Mount and Secret are required.
type Options struct {
	Door guard.Door
	// As is who the front is before the guard; its policy is Policy(Mount).
	As *guard.Identity
	// Mount is the transit engine with the keys, with its slash: "transit/".
	Mount string
	// Secret is what clients sign their tokens with.
	Secret []byte
	// Leeway is how far the clocks of clients may be off.
	Leeway time.Duration
	// Timeout bounds a call to the guard; default 90 s.
	Timeout time.Duration
	// Logger takes the messages that the original wrote, at the same levels.
	Logger *slog.Logger
	Now    func() time.Time
}

// Front is the front; it is the http.Handler of the HTTP API.
type Front struct {
	o   Options
	jwt verifier
	log *slog.Logger
}

// New makes a front.
func New(o Options) (*Front, error) {
	if o.Door == nil || o.As == nil || o.Mount == "" {
		return nil, errors.New("the hsmdaemon front needs a door, an identity and a mount")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Timeout == 0 {
		o.Timeout = 90 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Front{o: o, log: o.Logger, jwt: verifier{secret: bytes.Clone(o.Secret), leeway: o.Leeway, now: o.Now}}, nil
}

// Policy is what a front may do that has its keys in a mount.
func Policy(mount string) string {
	return fmt.Sprintf(`path "%[1]slegacy/keys/+" {
  capabilities = ["update"]
}
path "%[1]slegacy/decrypt/+" {
  capabilities = ["update"]
}
path "%[1]skeys/+/adopt" {
  capabilities = ["update", "sudo"]
}
`, mount)
}

const (
	keyType  = "rsa-2048"
	scheme   = "rsa-pkcs1v15"
	maxLabel = 255
)

// create makes a key pair whose name is a UUID; its CKA_ID is the UUID's bytes.
func (f *Front) create(ctx context.Context, remote, label string) (*api.LegacyKey, error) {
	if len(label) > maxLabel || strings.ContainsFunc(label, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
		return nil, fault.New(fault.Invalid, "the label (claim sub) must be at most %d bytes of printable text", maxLabel)
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, fmt.Errorf("making a key's UUID: %w", err)
	}
	key, err := guard.Call[api.LegacyKey](ctx, f.o.Door, f.o.As, op.Write, f.o.Mount+"legacy/keys/"+id.String(), remote,
		&api.CreateLegacyKey{Type: keyType, Label: label, ID: hex.EncodeToString(id[:])})
	if err != nil {
		return nil, err
	}
	f.log.Debug("generated keypair", "tokenID", key.Name)
	return key, nil
}

// errDecryption is all that is told of a ciphertext that does not decrypt.
var errDecryption error = fault.New(fault.Invalid, "decryption failed")

// decrypt uses a key, and adopts one that the original made in the HSM token.
func (f *Front) decrypt(ctx context.Context, remote, name string, ciphertext []byte) ([]byte, error) {
	if !plausible(name) {
		return nil, noKey(name)
	}
	plaintext, err := f.decryptWith(ctx, remote, name, ciphertext)
	if fault.KindOf(err) == fault.NotFound {
		if err := f.adopt(ctx, remote, name); err != nil {
			return nil, err
		}
		plaintext, err = f.decryptWith(ctx, remote, name, ciphertext)
	}
	if fault.KindOf(err) == fault.Invalid {
		return nil, errDecryption
	}
	if err == nil {
		f.log.Debug("Decrypted")
	}
	return plaintext, err
}

func (f *Front) decryptWith(ctx context.Context, remote, name string, ciphertext []byte) ([]byte, error) {
	f.log.Debug("Got uuid", "string", name)
	d, err := guard.Call[api.LegacyDecrypted](ctx, f.o.Door, f.o.As, op.Write, f.o.Mount+"legacy/decrypt/"+name, remote,
		&api.LegacyDecrypt{Ciphertext: ciphertext, Scheme: scheme})
	if err != nil {
		return nil, err
	}
	return d.Plaintext, nil
}

// adopt gives a name to an object of the HSM token whose CKA_ID is the UUID's
// bytes, as the original made them.
func (f *Front) adopt(ctx context.Context, remote, name string) error {
	id, err := uuid.Parse(name)
	if err != nil || id.String() != name {
		return noKey(name)
	}
	_, err = guard.Call[api.Key](ctx, f.o.Door, f.o.As, op.Write, f.o.Mount+"keys/"+name+"/adopt", remote,
		&api.AdoptKey{ID: hex.EncodeToString(id[:]), Class: "private"})
	if k := fault.KindOf(err); err != nil && (k == fault.NotFound || k == fault.Invalid) {
		return noKey(name)
	}
	if err == nil {
		f.log.Debug("found object", "id", string(id[:]))
	}
	return err
}

func noKey(name string) error {
	return fault.New(fault.NotFound, "there is no key %.64q", name)
}

// plausible tells whether a name can be a key's: what can't must not become a path.
func plausible(name string) bool {
	return name != "" && len(name) <= 128 && name[0] != '.' && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
	})
}
