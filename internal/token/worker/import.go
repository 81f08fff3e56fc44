package worker

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// importMode is how a worker opens a package.
type importMode byte

const (
	importWhole   importMode = 1 // CKM_RSA_AES_KEY_WRAP
	importUnwrap  importMode = 2 // CKM_RSA_PKCS_OAEP unwraps the AES key, which unwraps the secret
	importBetween importMode = 3 // the server hands the AES key over
)

// maxPackage bounds a package in bytes; the largest secret is an RSA-4096 key of 2.4 KB.
const maxPackage = 16 << 10

// imports returns why the token can't take secrets of a type in, "" if it can.
func (h *hsm) imports(t token.Type, f *intake) string {
	switch {
	case h.has(pkcs11.RSAAESWrap, pkcs11.FlagUnwrap):
	case f.kwp == 0:
		return "the module unwraps no keys with AES key wrap with padding (RFC 5649)"
	case !f.creates && !h.has(pkcs11.RSAOAEP, pkcs11.FlagUnwrap):
		return "the module has no mechanism that opens the RSA part of a wrapped key"
	}
	if t == token.Ed25519 && !f.edwards {
		return "the module imports no Ed25519 keys, or does not show their public keys"
	}
	return ""
}

// Import implements token.Token. The AES key between the wrapping key and the
// secret is opened inside the token too, if the module has the mechanism with
// this hash; otherwise it is in server memory for the time of this call, and in
// the token as a session object.
func (h *hsm) Import(ctx context.Context, spec token.Spec, p token.Package) (st token.Stored, err error) {
	defer h.pool.cfg.Observe.call("import", time.Now())
	if spec, err = h.checkImport(spec, &p); err != nil {
		return token.Stored{}, err
	}
	if spec.Place == token.PlaceObject {
		defer h.one(ctx)()
	}
	r := importRequest{spec: spec, key: p.Key, kwp: h.intake.kwp, blob: p.Blob}
	var modes []importMode
	if m, ok := hashMechs[p.Hash]; ok {
		r.hash, r.mgf = m.mech, m.mgf
		if h.has(pkcs11.RSAAESWrap, pkcs11.FlagUnwrap) {
			modes = append(modes, importWhole)
		}
		if h.has(pkcs11.RSAOAEP, pkcs11.FlagUnwrap) {
			modes = append(modes, importUnwrap)
		}
	}
	for _, r.mode = range modes {
		if st, err = h.sendImport(ctx, &r); !isRefused(err) {
			return st, seamError(err)
		}
	}
	r.mode = importBetween
	if r.between, err = h.openBetween(ctx, p); err != nil {
		return token.Stored{}, err
	}
	defer clear(r.between)
	st, err = h.sendImport(ctx, &r)
	return st, seamError(err)
}

func isRefused(err error) bool {
	f, ok := errors.AsType[*failure](err)
	return ok && f.reason == reasonRefused
}

// checkImport refuses what can't succeed, and decides the place.
func (h *hsm) checkImport(spec token.Spec, p *token.Package) (token.Spec, error) {
	hold := h.Info().Holds[spec.Type]
	if !hold.Import {
		return spec, fmt.Errorf("%w: keys of type %s can't be imported into this token", token.ErrUnsupported, spec.Type)
	}
	if spec.Place == token.PlaceAuto {
		spec.Place = token.PlaceObject
		if hold.Wrapped {
			spec.Place = token.PlaceWrapped
		}
	}
	if spec.Place == token.PlaceObject && !hold.Object || spec.Place == token.PlaceWrapped && !hold.Wrapped || spec.Place > token.PlaceWrapped {
		return spec, fmt.Errorf("%w: the module can't hold keys of type %s at that place: %s", token.ErrUnsupported, spec.Type, hold.Note)
	}
	if p.Key.Type.Class() != token.ClassRSA {
		return spec, fmt.Errorf("%w: a wrapping key of type %s", token.ErrUnsupported, p.Key.Type)
	}
	n := len(p.Blob) - p.Key.Bits()/8
	if n < token.ImportMin || n > maxPackage || spec.Type.Class() == token.ClassAEAD && n != spec.Type.Bits()/8+8 {
		return spec, token.ErrOpen
	}
	return spec, nil
}

// openBetween opens the AES key of a package as OAEP of the wrapping key does it.
// Where that fails it returns a random one, so that the failure comes later and
// in the same way as all others (RFC 8017 section 7.1.2, note).
func (h *hsm) openBetween(ctx context.Context, p token.Package) ([]byte, error) {
	if !h.intake.creates || h.intake.kwp == 0 {
		return nil, fmt.Errorf("%w: the module opens no wrapped key with %v, and takes no AES key from outside", token.ErrUnsupported, hashName(p.Hash))
	}
	k, err := h.Key(p.Key)
	if err != nil {
		return nil, err
	}
	items := []token.Item{{In: p.Blob[:p.Key.Bits()/8]}}
	if err := k.Do(ctx, token.Op{Kind: token.Decrypt, Scheme: token.OAEP, Hash: p.Hash}, items); err != nil {
		return nil, err
	}
	if err := items[0].Err; err != nil && !errors.Is(err, token.ErrOpen) {
		return nil, err
	}
	between := make([]byte, token.ImportAES)
	if _, err := rand.Read(between); err != nil {
		return nil, err
	}
	if items[0].Err == nil && len(items[0].Out) == len(between) {
		copy(between, items[0].Out)
	}
	clear(items[0].Out)
	return between, nil
}

func hashName(h crypto.Hash) string {
	if h.Available() {
		return h.String()
	}
	return "this hash"
}

func (h *hsm) sendImport(ctx context.Context, r *importRequest) (st token.Stored, err error) {
	payload := r.append(nil)
	defer clear(payload)
	err = h.ask(ctx, frameImport, payload, true, 40, func(pr *proc, rd *reader) (err error) {
		if st, err = parseStored(rd); err == nil && st.Place == token.PlaceObject {
			h.place(pr, st)
		}
		return err
	})
	return st, err
}

// importRequest asks a worker to open a package.
type importRequest struct {
	spec    token.Spec
	key     token.Stored
	mode    importMode
	hash    pkcs11.CKM
	mgf     uint32
	kwp     pkcs11.CKM // opens the second part, but with importWhole
	between []byte     // the AES key, of importBetween
	blob    []byte
}

func (r *importRequest) append(b []byte) []byte {
	b = appendBytes(b, appendSpec(nil, r.spec))
	b = append(b, byte(r.mode))
	b = appendU32(b, uint32(r.hash))
	b = appendU32(b, r.mgf)
	b = appendU32(b, uint32(r.kwp))
	b = appendBytes(b, r.between)
	b = appendBytes(b, r.blob)
	return appendStored(b, r.key)
}

func parseImport(p []byte) (importRequest, error) {
	r := reader{b: p}
	spec, err := parseSpec(r.bytes())
	if err != nil {
		return importRequest{}, err
	}
	q := importRequest{spec: spec, mode: importMode(r.u8()), hash: pkcs11.CKM(r.u32()), mgf: r.u32(), kwp: pkcs11.CKM(r.u32()), between: r.bytes(), blob: r.bytes()}
	q.key, err = parseStored(&r)
	if err == nil && (q.mode < importWhole || q.mode > importBetween || len(q.blob) < q.key.Bits()/8+token.ImportMin) {
		err = errFrame
	}
	return q, err
}
