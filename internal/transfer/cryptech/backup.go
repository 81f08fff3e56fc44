package cryptech

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// Backup performs the steps. Each of its methods may be called once at a time.
type Backup struct {
	// HSM is the token whose keys move. The software variant of Setup needs none.
	HSM token.Mover
	// Software wraps and unwraps KEKEKs in memory.
	Software token.Software
	// Passphrase asks for that of a software KEKEK; its answer is wiped.
	Passphrase func(ctx context.Context) ([]byte, error)
	// Say gets a line of the transcript: what was made, left out or undone.
	Say func(format string, args ...any)
}

// inSoftware is the name of a KEKEK without a UUID.
const inSoftware = "in software"

// fingerprint shows a public KEKEK for comparison over another way.
func (b *Backup) fingerprint(name string, public []byte) error {
	key, err := parseKEKEK(public)
	if err != nil {
		return err
	}
	b.Say("KEKEK %s: RSA-%d, SHA-256 %x", name, key.N.BitLen(), sha256.Sum256(public))
	return nil
}

// SetupOptions choose the KEKEK. New, UUID and Soft exclude each other.
type SetupOptions struct {
	New  bool   // make one in any case
	UUID string // take this one
	Soft bool   // make one in memory, kept in the file under a passphrase
	Bits int    // of a new one: MinBits to MaxBits, a multiple of 256
	KDF  KDF    // of Soft
}

func (o *SetupOptions) check() error {
	if o.Bits < MinBits || o.Bits > MaxBits || o.Bits%256 != 0 {
		return invalid("a KEKEK has %d to %d bits, a multiple of 256, and %d were asked for", MinBits, MaxBits, o.Bits)
	}
	if o.KDF != "" && o.KDF != PBKDF2 && o.KDF != Argon2id {
		return invalid("the key derivation must be %s or %s, and %q was asked for", PBKDF2, Argon2id, o.KDF)
	}
	return nil
}

// Setup prepares a destination: it finds or makes a KEKEK and returns the file that
// export needs.
func (b *Backup) Setup(ctx context.Context, o SetupOptions) ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	make := b.setupHSM
	if o.Soft {
		make = b.setupSoft
	}
	doc, err := make(ctx, o)
	if err != nil {
		return nil, err
	}
	name, ok := doc[fieldUUID].(string)
	if !ok {
		name = inSoftware
	}
	public, err := doc.binary(fieldPublic)
	if err != nil {
		return nil, err
	}
	if err := b.fingerprint(name, public); err != nil {
		return nil, err
	}
	return doc.bytes()
}

func (b *Backup) setupHSM(ctx context.Context, o SetupOptions) (document, error) {
	if !o.New {
		doc, err := b.findKEKEK(ctx, o.UUID)
		if err != nil || doc != nil {
			return doc, err
		}
	}
	id, err := newID()
	if err != nil {
		return nil, fmt.Errorf("naming the KEKEK: %w", err)
	}
	public, err := b.HSM.MakeKEKEK(ctx, o.Bits, id, "kekek")
	if err != nil {
		return nil, hsmFault(err, "make a KEKEK")
	}
	return kekekDocument(uuidOf(&token.Half{ID: id[:]}), public), nil
}

func kekekDocument(id string, public []byte) document {
	return document{fieldComment: commentHSM, fieldUUID: id, fieldPublic: lines(public)}
}

// findKEKEK returns the KEKEK of a UUID, or without one the first that will do; nil
// if there is none of those.
func (b *Backup) findKEKEK(ctx context.Context, wanted string) (document, error) {
	halves, err := b.HSM.Halves(ctx)
	if err != nil {
		return nil, hsmFault(err, "list the keys of the HSM token")
	}
	// Modules list their objects in any order, and the same one is to be found again.
	slices.SortFunc(halves, func(x, y token.Half) int { return strings.Compare(uuidOf(&x), uuidOf(&y)) })
	for i := range halves {
		h := &halves[i]
		id := uuidOf(h)
		if !h.Private || wanted != "" && id != wanted {
			continue
		}
		why := b.kekekFault(h)
		if why == "" {
			return kekekDocument(id, h.Public), nil
		}
		if wanted != "" {
			b.Say("Key %s %s", id, why)
		}
	}
	if wanted != "" {
		return nil, fault.New(fault.NotFound, "Could not find suitable KEKEK").
			WithHint("setup without --uuid finds one in the HSM token or makes one there")
	}
	return nil, nil
}

// kekekFault says why a private key is no KEKEK, "" if it is one.
func (b *Backup) kekekFault(h *token.Half) string {
	if !h.RSA {
		return "is not an RSA private key"
	}
	if h.Uses&token.UseWrap == 0 {
		return "does not allow key encipherment"
	}
	if h.Extractable {
		return "could leave the HSM token (CKA_EXTRACTABLE)"
	}
	if _, err := parseKEKEK(h.Public); err != nil {
		return fmt.Sprintf("is an RSA key of another size than %d to %d bits", MinBits, MaxBits)
	}
	return ""
}

// hsmFault is what the HSM token refused, in words for the operator.
func hsmFault(err error, doing string) error {
	return fault.Wrap(fault.Unavailable, err, "%s", doing)
}
