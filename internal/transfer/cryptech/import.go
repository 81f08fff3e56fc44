package cryptech

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"time"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// Imported is a key that came into the HSM token.
type Imported struct {
	Was    string `json:"was"`    // its UUID in the source
	Is     string `json:"is"`     // that in the destination: its CKA_ID
	Public bool   `json:"public"` // it came as a public key
}

// String is the line that cryptech_backup prints of it.
func (i Imported) String() string {
	if i.Public {
		return fmt.Sprintf("Loaded %s as %s", i.Was, i.Is)
	}
	return fmt.Sprintf("Imported %s as %s", i.Was, i.Is)
}

// opening is how the KEKs of a file are opened: by a KEKEK of the HSM token, or by
// one in memory.
type opening struct {
	kekek *token.Half
	soft  *rsa.PrivateKey
	size  int // bytes of the modulus
}

// Import brings the keys of a file that Export made into the HSM token, in their
// order, each under a new UUID. If one of them can't come, none stays.
func (b *Backup) Import(ctx context.Context, file []byte) ([]Imported, error) {
	doc, err := parseDocument(file)
	if err != nil {
		return nil, err
	}
	if _, ok := doc[fieldKeys].([]any); !ok {
		return nil, invalid("the file has no list %s: it must be one that export wrote", fieldKeys)
	}
	o, err := b.opening(ctx, doc)
	if err != nil {
		return nil, err
	}
	if o.soft != nil {
		defer wipeRSA(o.soft)
	}
	all, err := doc.entries(o.size)
	if err != nil {
		return nil, err
	}
	return b.importAll(ctx, o, all)
}

func (b *Backup) opening(ctx context.Context, doc document) (*opening, error) {
	if doc.isSoft() {
		soft, err := b.recoverSoft(ctx, doc)
		if err != nil {
			return nil, err
		}
		return &opening{soft: soft, size: soft.Size()}, nil
	}
	id, err := doc.text(fieldUUID)
	if err != nil {
		return nil, err
	}
	if id == "" {
		return nil, invalid("the file names no KEKEK: it has neither %s nor %s and %s", fieldUUID, fieldPKCS8, fieldSalt)
	}
	halves, err := b.HSM.Halves(ctx)
	if err != nil {
		return nil, hsmFault(err, "list the keys of the HSM token")
	}
	for i := range halves {
		if h := &halves[i]; h.Private && uuidOf(h) == id {
			return b.openingBy(doc, h)
		}
	}
	return nil, fault.New(fault.NotFound, "the KEKEK %s is not in this HSM token", id).
		WithHint("import into the HSM token that made it with setup")
}

// openingBy checks that a key of the HSM token is the KEKEK of the file.
func (b *Backup) openingBy(doc document, h *token.Half) (*opening, error) {
	id := uuidOf(h)
	switch {
	case !h.RSA:
		return nil, invalid("Key %s is not an RSA private key", id)
	case h.Uses&token.UseWrap == 0:
		return nil, invalid("Key %s does not allow key encipherment", id)
	}
	key, err := parseKEKEK(h.Public)
	if err != nil {
		return nil, invalid("Key %s: unsupported key type or key length", id)
	}
	public, err := doc.binary(fieldPublic)
	if err != nil {
		return nil, err
	}
	if len(public) > 0 && !bytes.Equal(public, h.Public) {
		return nil, invalid("%s is not the public half of the KEKEK %s", fieldPublic, id)
	}
	return &opening{kekek: h, size: key.Size()}, nil
}

// parcel prepares a private key for the HSM token. The caller wipes its KEK.
func (o *opening) parcel(e *entry) (token.Parcel, error) {
	p := token.Parcel{RSA: e.isRSA(), Wrapped: e.wrapped, WrappedKEK: e.kek, KEKEK: o.kekek}
	if o.soft == nil {
		return p, nil
	}
	// Where the padding is wrong this random KEK stays, so that the failure comes
	// later and in the same way as all others (RFC 8017 section 7.2.2, note).
	p.KEK = make([]byte, token.KEKSize)
	if _, err := rand.Read(p.KEK); err != nil {
		return p, err
	}
	//lint:ignore SA1019 the format has PKCS #1 v1.5; this is the form of it that is no oracle
	if err := rsa.DecryptPKCS1v15SessionKey(nil, o.soft, e.kek, p.KEK); err != nil {
		return p, invalid("%s is no ciphertext of this KEKEK", fieldKEK)
	}
	return p, nil
}

// arrival is what importAll made so far.
type arrival struct {
	ids   map[string]token.ID // of the halves of a pair, which had one name
	used  map[half]bool
	pairs map[token.ID]string // label by ID
}

type half struct {
	id      token.ID
	private bool
}

// id chooses the new name of a key. The two halves of a pair, which had one name
// in the source, get one again.
func (a *arrival) id(e *entry) (token.ID, error) {
	h := half{private: e.public == nil}
	if id, ok := a.ids[e.uuid]; ok && !a.used[half{id, h.private}] {
		h.id = id
	} else {
		id, err := newID()
		if err != nil {
			return token.ID{}, fmt.Errorf("naming a key: %w", err)
		}
		a.ids[e.uuid], h.id = id, id
	}
	a.used[h] = true
	return h.id, nil
}

func (b *Backup) importAll(ctx context.Context, o *opening, all []entry) (list []Imported, err error) {
	publics := map[string]bool{}
	for i := range all {
		if all[i].public != nil {
			publics[all[i].uuid] = true
		}
	}
	made := arrival{ids: map[string]token.ID{}, used: map[half]bool{}, pairs: map[token.ID]string{}}
	proved := map[token.ID][]byte{}
	for i := range all {
		e := &all[i]
		id, err := made.id(e)
		if err != nil {
			return nil, err
		}
		label := e.label
		if label == "" {
			label = e.uuid
		}
		if before, ok := made.pairs[id]; ok {
			label = before
		}
		made.pairs[id] = label
		if err := b.importOne(ctx, o, e, id, label, publics[e.uuid], proved); err != nil {
			return nil, b.undo(ctx, made.pairs, e, err)
		}
		list = append(list, Imported{Was: e.uuid, Is: uuidOf(&token.Half{ID: id[:]}), Public: e.public != nil})
	}
	return list, nil
}

// importOne brings one key in. A private key gets its public half beside it, unless
// that comes in an entry of its own.
func (b *Backup) importOne(ctx context.Context, o *opening, e *entry, id token.ID, label string, ownPublic bool, proved map[token.ID][]byte) error {
	as := token.NewHalf{ID: id, Label: label, Uses: usesOf(e.flags), Visible: e.flags&flagPublic != 0}
	if e.public != nil {
		if p, ok := proved[id]; ok && !bytes.Equal(p, e.public) {
			return invalid("%s is not the public half of the private key of this UUID", fieldSPKI)
		}
		return b.HSM.PutPublic(ctx, e.public, as)
	}
	b.explain(e)
	as.Extractable = e.flags&flagExportable != 0
	p, err := o.parcel(e)
	defer clear(p.KEK)
	if err != nil {
		return err
	}
	public, err := b.HSM.MoveIn(ctx, p, as)
	if err != nil {
		return err
	}
	proved[id] = public
	if ownPublic {
		return nil
	}
	as.Visible = true
	return b.HSM.PutPublic(ctx, public, as)
}

// explain says what of the flags of a private key is not kept, or leaves it unused.
func (b *Backup) explain(e *entry) {
	if e.flags&flagPublic != 0 {
		b.Say("Key %s: its flag PUBLIC is not kept, since a private key is never seen without login", e.uuid)
	}
	if e.flags&flagToken == 0 {
		b.Say("Key %s: it has no flag TOKEN, and is kept in the HSM token nevertheless", e.uuid)
	}
	if usesOf(e.flags) == 0 {
		b.Say("Key %s: its flags allow no use of it", e.uuid)
	}
}

// undoTimeout bounds the removal of keys after a failure.
const undoTimeout = time.Minute

// undo removes what an import made before it failed with err at e.
func (b *Backup) undo(ctx context.Context, made map[token.ID]string, e *entry, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	left := 0
	for id, label := range made {
		if rerr := b.HSM.Remove(ctx, id, label); rerr != nil {
			left++
			b.Say("Key %s could not be removed again: %v", uuidOf(&token.Half{ID: id[:]}), rerr)
		}
	}
	rest := "nothing was imported"
	if left > 0 {
		rest = fmt.Sprintf("%d keys of this file are left in the HSM token", left)
	}
	switch {
	case errors.Is(err, token.ErrOpen):
		return invalid("key %s: bad magic number while unwrapping key: the KEK is not one of this KEKEK, or the key was altered; %s", e.uuid, rest)
	case fault.KindOf(err) == fault.Invalid:
		return invalid("key %s: %v; %s", e.uuid, err, rest)
	}
	return fault.Wrap(fault.Unavailable, err, "key %s did not come into the HSM token; %s", e.uuid, rest)
}
