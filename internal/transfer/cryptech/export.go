package cryptech

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/token"
)

// ExportOptions are those beside the original's.
type ExportOptions struct {
	// Fingerprint, if not "", is the SHA-256 of the KEKEK's SubjectPublicKeyInfo in
	// hexadecimal, which the file must have.
	Fingerprint string
	// Labels adds a field "label" with the CKA_LABEL to each key, which cryptech_backup
	// does not know and leaves out.
	Labels bool
}

// Export wraps every exportable RSA and EC key for the KEKEK of a file that Setup
// made, and returns the file with the keys.
func (b *Backup) Export(ctx context.Context, file []byte, o ExportOptions) ([]byte, error) {
	doc, err := parseDocument(file)
	if err != nil {
		return nil, err
	}
	kekek, err := b.targetOf(doc, o.Fingerprint)
	if err != nil {
		return nil, err
	}
	halves, err := b.HSM.Halves(ctx)
	if err != nil {
		return nil, hsmFault(err, "list the keys of the HSM token")
	}
	keys := []any{}
	for _, h := range b.exportable(halves) {
		entry, err := b.exportOne(ctx, kekek, h)
		if err != nil {
			return nil, hsmFault(err, "export the key "+uuidOf(h))
		}
		if o.Labels && h.Label != "" {
			entry[fieldLabel] = h.Label
		}
		keys = append(keys, entry)
	}
	doc[fieldComment], doc[fieldKeys] = commentBackup, keys
	b.Say("%d keys are exported", len(keys))
	return doc.bytes()
}

// targetOf returns the public KEKEK of a file.
func (b *Backup) targetOf(doc document, fingerprint string) ([]byte, error) {
	public, err := doc.binary(fieldPublic)
	if err != nil {
		return nil, err
	}
	if len(public) == 0 {
		return nil, invalid("the file has no %s: it must be one that setup wrote", fieldPublic)
	}
	name, err := doc.text(fieldUUID)
	if err != nil {
		return nil, err
	}
	if doc.isSoft() {
		name = inSoftware
	}
	if err := b.fingerprint(name, public); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(public)
	if fingerprint != "" && !strings.EqualFold(fingerprint, hex.EncodeToString(sum[:])) {
		return nil, invalid("the KEKEK of the file has another fingerprint than the expected one; nothing was exported")
	}
	return public, nil
}

// exportable chooses the keys that may leave, in the order of their names, private
// ones first. Of public keys those may whose private half may, or is elsewhere.
func (b *Backup) exportable(halves []token.Half) []*token.Half {
	stays := map[string]bool{}
	var chosen []*token.Half
	for i := range halves {
		h := &halves[i]
		switch id := uuidOf(h); {
		case !h.Private:
		case !h.Extractable:
			stays[id] = true
		case !movable(h):
			b.Say("Key %s %q is left out: the format has no keys of type %s", id, h.Label, h.Kind)
		default:
			chosen = append(chosen, h)
		}
	}
	for i := range halves {
		if h := &halves[i]; !h.Private && !stays[uuidOf(h)] && h.Public != nil {
			chosen = append(chosen, h)
		}
	}
	slices.SortStableFunc(chosen, func(x, y *token.Half) int {
		if x.Private != y.Private {
			if x.Private {
				return -1
			}
			return 1
		}
		return cmp.Or(strings.Compare(uuidOf(x), uuidOf(y)), strings.Compare(x.Label, y.Label))
	})
	return chosen
}

// movable tells whether the format has keys of this kind: RSA, P-256, P-384, P-521.
func movable(h *token.Half) bool {
	return h.RSA || h.Type.Class() == token.ClassECDSA
}

func (b *Backup) exportOne(ctx context.Context, kekek []byte, h *token.Half) (document, error) {
	entry := document{fieldID: uuidOf(h), fieldFlags: int(flagsOf(h))}
	if !h.Private {
		entry[fieldComment], entry[fieldSPKI] = commentPublic, lines(h.Public)
		b.Say("Key %s %q: public %s", entry[fieldID], h.Label, h.Kind)
		return entry, nil
	}
	wrapped, wrappedKEK, err := b.HSM.MoveOut(ctx, kekek, *h)
	if err != nil {
		return nil, err
	}
	pkcs8, err := encodeEncrypted(oidKeyWrapPad, wrapped)
	if err != nil {
		return nil, err
	}
	kek, err := encodeEncrypted(oidRSA, wrappedKEK)
	if err != nil {
		return nil, err
	}
	entry[fieldComment], entry[fieldWrapped], entry[fieldKEK] = commentPrivate, lines(pkcs8), lines(kek)
	b.Say("Key %s %q: private %s", entry[fieldID], h.Label, h.Kind)
	return entry, nil
}
