package cryptech

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"

	"golang.org/x/crypto/argon2"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// KDF is how the key over a software KEKEK is derived from the passphrase.
type KDF string

const (
	// PBKDF2 is PBKDF2-HMAC-SHA-256 (RFC 8018 section 5.2) with 8000 iterations, as
	// cryptech_backup does it. Such files have no field kekek_kdf.
	PBKDF2 KDF = "pbkdf2"
	// Argon2id is that of RFC 9106, with its parameters in the field kekek_kdf, which
	// cryptech_backup does not know.
	Argon2id KDF = "argon2id"
)

const (
	pbkdf2Iterations = 8000
	saltSize         = 16 // bytes
)

// argonParameters are those of Argon2id (RFC 9106 section 3.1).
type argonParameters struct{ memory, passes, lanes uint32 } // KiB

// argonDefault is the second recommendation of RFC 9106 section 4; argonMost is
// what a file may ask for.
var (
	argonDefault = argonParameters{memory: 64 << 10, passes: 3, lanes: 4}
	argonMost    = argonParameters{memory: 1 << 20, passes: 16, lanes: 16}
)

func (p argonParameters) document() document {
	return document{"name": string(Argon2id), "memory_kib": number(p.memory), "passes": number(p.passes), "lanes": number(p.lanes)}
}

func number(n uint32) json.Number { return json.Number(fmt.Sprint(n)) }

// deriver makes the 32-byte key of a passphrase, which the caller wipes.
type deriver func(passphrase []byte) ([]byte, error)

func derivePBKDF2(salt []byte) deriver {
	return func(passphrase []byte) ([]byte, error) {
		return pbkdf2.Key(sha256.New, string(passphrase), salt, pbkdf2Iterations, token.KEKSize)
	}
}

func deriveArgon2id(salt []byte, p argonParameters) deriver {
	return func(passphrase []byte) ([]byte, error) {
		return argon2.IDKey(passphrase, salt, p.passes, p.memory, uint8(p.lanes), token.KEKSize), nil
	}
}

// deriver returns how the file derives its key.
func (d document) deriver(salt []byte) (deriver, error) {
	v, ok := d[fieldKDF]
	if !ok {
		return derivePBKDF2(salt), nil
	}
	m, _ := v.(map[string]any)
	kdf := document(m)
	if kdf["name"] != string(Argon2id) {
		return nil, invalid("%s must be an object whose name is %q; files of cryptech_backup have none", fieldKDF, Argon2id)
	}
	var p argonParameters
	for _, f := range []struct {
		name        string
		to          *uint32
		least, most uint32
	}{{"lanes", &p.lanes, 1, argonMost.lanes}, {"passes", &p.passes, 1, argonMost.passes}, {"memory_kib", &p.memory, 8, argonMost.memory}} {
		n, err := kdf.number(f.name)
		if err != nil {
			return nil, err
		}
		if n < f.least || n > f.most {
			return nil, invalid("%s of %s must be %d to %d, and is %d", f.name, fieldKDF, f.least, f.most, n)
		}
		*f.to = n
	}
	if p.memory < 8*p.lanes {
		return nil, invalid("memory_kib of %s must be 8 for each lane at least", fieldKDF)
	}
	return deriveArgon2id(salt, p), nil
}

// isSoft tells whether the file has a software KEKEK.
func (d document) isSoft() bool {
	_, pkcs8 := d[fieldPKCS8]
	_, salt := d[fieldSalt]
	return pkcs8 && salt
}

// sealSoft puts a KEKEK into the file, under a key of the passphrase.
func (b *Backup) sealSoft(doc document, key *rsa.PrivateKey, salt []byte, derive deriver, passphrase []byte) error {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding the KEKEK: %w", err)
	}
	defer clear(pkcs8)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return fmt.Errorf("encoding the KEKEK: %w", err)
	}
	over, err := derive(passphrase)
	if err != nil {
		return fmt.Errorf("deriving a key from the passphrase: %w", err)
	}
	defer clear(over)
	wrapped, err := b.Software.Wrap(over, pkcs8)
	if err != nil {
		return fmt.Errorf("wrapping the KEKEK: %w", err)
	}
	der, err := encodeEncrypted(oidKeyWrapPad, wrapped)
	if err != nil {
		return fmt.Errorf("encoding the KEKEK: %w", err)
	}
	doc[fieldSalt], doc[fieldPKCS8], doc[fieldPublic] = lines(salt), lines(der), lines(public)
	return nil
}

// setupSoft makes a KEKEK in memory.
func (b *Backup) setupSoft(ctx context.Context, o SetupOptions) (document, error) {
	passphrase, err := b.Passphrase(ctx)
	if err != nil {
		return nil, err
	}
	defer clear(passphrase)
	if len(passphrase) == 0 {
		return nil, invalid("the passphrase is empty")
	}
	salt := make([]byte, saltSize)
	if _, err := rand.Read(salt); err != nil {
		return nil, err
	}
	doc := document{fieldComment: commentSoft}
	derive := derivePBKDF2(salt)
	if o.KDF == Argon2id {
		doc[fieldKDF] = argonDefault.document()
		derive = deriveArgon2id(salt, argonDefault)
	}
	key, err := rsa.GenerateKey(rand.Reader, o.Bits)
	if err != nil {
		return nil, fmt.Errorf("making the KEKEK: %w", err)
	}
	defer wipeRSA(key)
	if err := b.sealSoft(doc, key, salt, derive, passphrase); err != nil {
		return nil, err
	}
	return doc, nil
}

// wipeRSA overwrites the secret numbers of a key as far as they can be reached.
func wipeRSA(key *rsa.PrivateKey) {
	for _, n := range append([]*big.Int{key.D}, key.Primes...) {
		clear(n.Bits())
	}
}

// recoverSoft opens the KEKEK of the file. Its public half must be the one that the
// file shows.
func (b *Backup) recoverSoft(ctx context.Context, doc document) (*rsa.PrivateKey, error) {
	salt, err := doc.binary(fieldSalt)
	if err != nil {
		return nil, err
	}
	if len(salt) == 0 {
		return nil, invalid("%s is empty", fieldSalt)
	}
	der, err := doc.binary(fieldPKCS8)
	if err != nil {
		return nil, err
	}
	wrapped, err := parseEncrypted(der, oidKeyWrapPad)
	if err != nil {
		return nil, invalid("%s: %v", fieldPKCS8, err)
	}
	derive, err := doc.deriver(salt)
	if err != nil {
		return nil, err
	}
	passphrase, err := b.Passphrase(ctx)
	if err != nil {
		return nil, err
	}
	defer clear(passphrase)
	over, err := derive(passphrase)
	if err != nil {
		return nil, fmt.Errorf("deriving a key from the passphrase: %w", err)
	}
	defer clear(over)
	return b.openSoft(doc, over, wrapped)
}

// errSoft is for everything that is wrong behind the passphrase.
var errSoft = fault.New(fault.Invalid, "bad magic number while unwrapping the KEKEK: the passphrase is wrong, or the file was altered; nothing was imported")

func (b *Backup) openSoft(doc document, over, wrapped []byte) (*rsa.PrivateKey, error) {
	pkcs8, err := b.Software.Unwrap(over, wrapped)
	if err != nil {
		return nil, errSoft
	}
	defer clear(pkcs8)
	parsed, err := x509.ParsePKCS8PrivateKey(pkcs8)
	key, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, errSoft
	}
	public, err := doc.binary(fieldPublic)
	if err != nil {
		return nil, err
	}
	shown, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("encoding the KEKEK: %w", err)
	}
	if len(public) > 0 && !bytes.Equal(public, shown) {
		return nil, invalid("%s is not the public half of %s", fieldPublic, fieldPKCS8)
	}
	if _, err := parseKEKEK(shown); err != nil {
		return nil, err
	}
	return key, nil
}
