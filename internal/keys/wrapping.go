package keys

import (
	"context"
	"crypto"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

const (
	wrappingName = "wrapping_key" // in the place of a key's name
	wrappingType = token.RSA4096
	wrappingSize = 512 // bytes of its ciphertexts
)

// wrappingRecord is the key pair that a mount's imports are wrapped with. Its
// primary key is the mount's path.
type wrappingRecord struct {
	Format  int          `json:"format"`
	Created time.Time    `json:"created"`
	Secret  secretRecord `json:"secret"`
}

func (s *Service) readWrappingKey(ctx context.Context, c *op.Call, _ *api.Empty) (*api.WrappingKey, error) {
	r, err := s.wrappingKey(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	clear(r.Secret)
	return &api.WrappingKey{PublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: r.Public}))}, nil
}

// wrappingKey returns the key pair of a mount, and makes it at first use: in
// the HSM token if that holds such keys.
func (s *Service) wrappingKey(ctx context.Context, mount string) (*secretRecord, error) {
	t, err := s.token.Get()
	if err != nil {
		return nil, tokenFault(err, "make the wrapping key")
	}
	r, err := s.storedWrappingKey(ctx, mount)
	if !errors.Is(err, store.ErrNotFound) {
		return r, storeFault(err, "read the wrapping key")
	}
	place, err := defaultProtection(t.Info(), wrappingType)
	if err != nil {
		place = api.ProtectionSoftware
	}
	m := &material{}
	m.main, err = s.makeSecret(ctx, m, keyName{mount, wrappingName}, wrappingType, 0, place)
	if err == nil {
		err = s.keepWrappingKey(ctx, mount, m)
	}
	if err != nil {
		s.discard(ctx, m)
	}
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return nil, tokenFault(err, "make the wrapping key")
	}
	r, err = s.storedWrappingKey(ctx, mount)
	return r, storeFault(err, "read the wrapping key")
}

func (s *Service) storedWrappingKey(ctx context.Context, mount string) (*secretRecord, error) {
	var r wrappingRecord
	_, err := s.store.Get(ctx, tableWrapping, mount, &r)
	if err == nil {
		err = checkFormat(r.Format)
	}
	return &r.Secret, err
}

func (s *Service) keepWrappingKey(ctx context.Context, mount string, m *material) error {
	put, err := s.store.Put(tableWrapping, mount, 0, wrappingRecord{Format: recordFormat, Created: s.now().UTC(), Secret: m.main})
	if err != nil {
		return storeFault(err, "store the wrapping key")
	}
	changes := []store.Change{put}
	for _, id := range m.intents {
		changes = append(changes, s.store.Remove(tableIntents, id, intentNew))
	}
	return storeFault(s.store.Apply(ctx, changes...), "store the wrapping key")
}

// dropWrappingKey deletes the key pair of a mount, if there is one.
func (s *Service) dropWrappingKey(ctx context.Context, mount string) error {
	var r wrappingRecord
	rec, err := s.store.Get(ctx, tableWrapping, mount, &r)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return storeFault(err, "read the wrapping key")
	}
	n := keyName{mount, wrappingName}
	gone := appendInToken(nil, &versionRecord{Main: r.Secret})
	changes := []store.Change{s.store.Remove(tableWrapping, mount, rec)}
	if r.Secret.Place == api.ProtectionToken {
		put, err := s.putIntent(n, r.Secret)
		if err != nil {
			return storeFault(err, "delete the wrapping key")
		}
		changes = append(changes, put)
	}
	if err := s.store.Apply(ctx, changes...); err != nil {
		return storeFault(err, "delete the wrapping key")
	}
	s.destroy(ctx, n, gone)
	return nil
}

// unwrap opens the secret of an import. All reasons why it can't be opened are
// one to the caller: the first part is RSA (RFC 8017 section 7.1.2, note), and
// where that fails the second is tried with a random key all the same.
func (s *Service) unwrap(ctx context.Context, mount string, ciphertext []byte, hashName string) ([]byte, error) {
	hash, err := wrappingHash(hashName)
	if err != nil {
		return nil, err
	}
	if err := checkPackage(ciphertext); err != nil {
		return nil, err
	}
	r, err := s.wrappingKey(ctx, mount)
	if err != nil {
		return nil, err
	}
	k, err := s.openSecret(r)
	if err != nil {
		return nil, err
	}
	items := []token.Item{{In: ciphertext[:wrappingSize]}}
	if err := k.Do(ctx, token.Op{Kind: token.Decrypt, Scheme: token.OAEP, Hash: hash}, items); err != nil {
		return nil, tokenFault(err, "unwrap the key")
	}
	if err := items[0].Err; err != nil && !errors.Is(err, token.ErrOpen) {
		return nil, tokenFault(err, "unwrap the key")
	}
	kek := items[0].Out
	defer clear(kek)
	random := make([]byte, token.ImportAES)
	rand.Read(random)
	if items[0].Err != nil || len(kek) != token.ImportAES {
		kek = random
	}
	secret, err := s.software.Unwrap(kek, ciphertext[wrappingSize:])
	if err != nil {
		return nil, notUnwrapped()
	}
	return secret, nil
}

func checkPackage(ciphertext []byte) error {
	if len(ciphertext) >= wrappingSize+token.ImportMin {
		return nil
	}
	return invalid("ciphertext has %d bytes: it is %d bytes of RSA-OAEP, followed by the secret wrapped with AES-KWP", len(ciphertext), wrappingSize)
}

// notUnwrapped is the one answer to everything that is wrong inside a ciphertext.
func notUnwrapped() error {
	return invalid("ciphertext can't be unwrapped").
		WithHint("it is RSA-OAEP of an AES-256 key under this mount's wrapping_key, with hash_function for OAEP and MGF1, followed by AES-KWP of the secret under that key; the secret is a key of the given type, raw or in PKCS #8 DER")
}

func wrappingHash(name string) (crypto.Hash, error) {
	switch strings.ToUpper(name) {
	case "SHA1":
		return crypto.SHA1, nil
	case "SHA224":
		return crypto.SHA224, nil
	case "", "SHA256":
		return crypto.SHA256, nil
	case "SHA384":
		return crypto.SHA384, nil
	case "SHA512":
		return crypto.SHA512, nil
	}
	return 0, invalid("unsupported hash_function %q: it is SHA1, SHA224, SHA256, SHA384 or SHA512", name)
}
