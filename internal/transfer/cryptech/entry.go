package cryptech

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"github.com/claviger/claviger/internal/token"
)

// Fields of an entry of keys.
const (
	fieldFlags   = "flags"
	fieldID      = "uuid"
	fieldKEK     = "kek"
	fieldLabel   = "label" // ours, with ExportOptions.Labels
	fieldSPKI    = "spki"
	fieldWrapped = "pkcs8"
)

// entry is a key of a file. It has wrapped and kek, or public.
type entry struct {
	uuid, label string
	flags       uint32
	wrapped     []byte // the private key under the KEK, RFC 5649
	kek         []byte // the KEK under the KEKEK
	public      []byte // PKIX DER
}

// largestEC is more than an EC key of the format has when it is wrapped (P-521 with
// its public half: 256 bytes), and less than any RSA key has.
const largestEC = 320

// isRSA tells from its size what a wrapped key is: its type is inside.
func (e *entry) isRSA() bool { return len(e.wrapped) > largestEC }

// entries reads the keys of a file, for a KEKEK of size bytes. All is checked that
// can be without opening anything. An entry without a key is left out.
func (d document) entries(size int) ([]entry, error) {
	list, ok := d[fieldKeys].([]any)
	if !ok {
		return nil, invalid("the file has no list %s: it must be one that export wrote", fieldKeys)
	}
	var all []entry
	for i, v := range list {
		fields, ok := v.(map[string]any)
		if !ok {
			return nil, invalid("%s[%d] must be an object", fieldKeys, i)
		}
		e, err := document(fields).entry(size)
		if err != nil {
			return nil, invalid("%s[%d]: %v", fieldKeys, i, err)
		}
		if e != nil {
			all = append(all, *e)
		}
	}
	return all, nil
}

func (d document) entry(size int) (*entry, error) {
	var e entry
	var pkcs8, kek []byte
	var err error
	for _, f := range []struct {
		name string
		to   *[]byte
	}{{fieldWrapped, &pkcs8}, {fieldKEK, &kek}, {fieldSPKI, &e.public}} {
		if *f.to, err = d.binary(f.name); err != nil {
			return nil, err
		}
	}
	for _, f := range []struct {
		name string
		to   *string
	}{{fieldID, &e.uuid}, {fieldLabel, &e.label}} {
		if *f.to, err = d.text(f.name); err != nil {
			return nil, err
		}
	}
	if e.flags, err = d.number(fieldFlags); err != nil {
		return nil, err
	}
	switch {
	case len(pkcs8) > 0 && len(kek) > 0:
		e.public = nil
		err = e.private(pkcs8, kek, size)
	case len(e.public) > 0:
		err = checkPublic(e.public)
	case len(pkcs8) > 0, len(kek) > 0:
		return nil, fmt.Errorf("%s and %s belong together, and one of them is missing", fieldWrapped, fieldKEK)
	default:
		return nil, nil
	}
	if err == nil && e.uuid == "" {
		err = fmt.Errorf("it has no %s", fieldID)
	}
	if err == nil && len(e.label) > token.MaxObjectLabel {
		err = fmt.Errorf("its %s has more than %d bytes", fieldLabel, token.MaxObjectLabel)
	}
	return &e, err
}

// private takes the two wrapped values apart.
func (e *entry) private(pkcs8, kek []byte, size int) (err error) {
	if e.wrapped, err = parseEncrypted(pkcs8, oidKeyWrapPad); err != nil {
		return fmt.Errorf("%s: %w", fieldWrapped, err)
	}
	if n := len(e.wrapped); n%8 != 0 || n < 24 || n > 8192 {
		return fmt.Errorf("%s: a wrapped key has 24 to 8192 bytes, a multiple of 8, and this one %d", fieldWrapped, n)
	}
	if e.kek, err = parseEncrypted(kek, oidRSA); err != nil {
		return fmt.Errorf("%s: %w", fieldKEK, err)
	}
	if len(e.kek) != size {
		return fmt.Errorf("%s: under this KEKEK it has %d bytes, and here are %d", fieldKEK, size, len(e.kek))
	}
	return nil
}

// checkPublic accepts RSA, P-256, P-384 and P-521 keys.
func checkPublic(der []byte) error {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return fmt.Errorf("%s must be DER of a SubjectPublicKeyInfo: %w", fieldSPKI, err)
	}
	switch public := parsed.(type) {
	case *rsa.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P224() {
			return nil
		}
	}
	return fmt.Errorf("%s must be an RSA key, or one on P-256, P-384 or P-521", fieldSPKI)
}
