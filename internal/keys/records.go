package keys

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// Tables of the store.
const (
	tableKeys     = "keys"         // one keyRecord a key
	tableVersions = "key_versions" // one versionRecord a version
	tableCounters = "key_counters" // one counterRecord a version that has sealed
	tableWrapping = "key_wrapping" // one wrappingRecord a mount
	tableIntents  = "key_intents"  // one intentRecord a token object that belongs to no version
)

const recordFormat = 1

// keyName is a key's place: the path of its mount with the trailing slash, and
// its name, which has no slash.
type keyName struct{ mount, name string }

// record is the primary key in tableKeys.
func (n keyName) record() string { return n.mount + n.name }

// version is the primary key of version v in tableVersions. Zero-padded, so
// that the records stand in the order of their numbers.
func (n keyName) version(v int) string { return fmt.Sprintf("%s%s/%010d", n.mount, n.name, v) }

// counterKey is the primary key in tableCounters of version v of the key with
// the identity keyID. It is not the key's name: a count that is written while
// the key is deleted must not meet the next key of that name.
func counterKey(keyID string, v int) string { return fmt.Sprintf("%s/%010d", keyID, v) }

// keyRecord is what all versions of a key have in common.
type keyRecord struct {
	Format          int            `json:"format"`
	ID              string         `json:"id"` // random; version records repeat it
	Type            token.Type     `json:"type"`
	Size            int            `json:"size,omitempty"` // bytes; HMAC keys only
	Protection      api.Protection `json:"protection"`
	Created         time.Time      `json:"created"`
	Latest          int            `json:"latest"`
	MinAvailable    int            `json:"min_available,omitempty"`
	MinDecryption   int            `json:"min_decryption"`
	MinEncryption   int            `json:"min_encryption,omitempty"`
	DeletionAllowed bool           `json:"deletion_allowed,omitempty"`
	Derived         bool           `json:"derived,omitempty"`
	Convergent      bool           `json:"convergent,omitempty"`
	SoftDeleted     bool           `json:"soft_deleted,omitempty"`
	Imported        bool           `json:"imported,omitempty"`
	AllowRotation   bool           `json:"allow_rotation,omitempty"` // of an imported key
	Adopted         bool           `json:"adopted,omitempty"`
	Backup          *moment        `json:"backup,omitempty"`      // the last backup
	Restore         *moment        `json:"restore,omitempty"`     // the restore that made the key
	AutoRotate      api.Seconds    `json:"auto_rotate,omitempty"` // age of the newest version at which the server adds another, 0 never
	PKCS11          *p11Record     `json:"pkcs11,omitempty"`      // never changed in place
}

// versionRecord is one version of a key.
type versionRecord struct {
	Format  int           `json:"format"`
	KeyID   string        `json:"key_id"`
	Number  int           `json:"number"`
	Created time.Time     `json:"created"`
	Main    secretRecord  `json:"main"`
	MAC     *secretRecord `json:"mac,omitempty"` // nil for type hmac, and where the HSM token holds no HMAC keys
	// Certificates is the chain of the public key in DER, the key's own first.
	Certificates [][]byte `json:"certificates,omitempty"`
}

// secretRecord is a secret as it is kept: a reference to a token object, a
// wrapped blob, or (protection software) the secret itself.
type secretRecord struct {
	Type   token.Type     `json:"type"`
	Size   int            `json:"size,omitempty"` // bytes; HMAC keys only
	Place  api.Protection `json:"place"`
	ID     string         `json:"id,omitempty"` // hex of a token.ID
	Blob   []byte         `json:"blob,omitempty"`
	Public []byte         `json:"public,omitempty"` // PKIX DER
	Secret []byte         `json:"secret,omitempty"` // software only
	Agree  bool           `json:"agree,omitempty"`  // of an EC key in the HSM token: made for key agreement too
	Object *objectRecord  `json:"object,omitempty"` // token only: its name, if that is not ID
}

// intentRecord names a token object that belongs to no version: it is about to
// be made or to be destroyed.
type intentRecord struct {
	Format int          `json:"format"`
	Key    string       `json:"key"` // of which named key, for people
	Time   time.Time    `json:"time"`
	Secret secretRecord `json:"secret"`
	// Unsure: the object is about to be made under a name of the caller's choice.
	// If it is there later, nobody knows who made it, so it stays.
	Unsure bool `json:"unsure,omitempty"`
}

// counterRecord counts the seals of a version that are used or reserved.
type counterRecord struct {
	Format   int    `json:"format"`
	KeyID    string `json:"key_id"`
	Reserved uint64 `json:"reserved"`
}

func newID() (id token.ID) {
	rand.Read(id[:])
	return id
}

// objectRecord is the name of a token object that other programs gave it, see
// token.ObjectName. A label is bytes: it need not be UTF-8.
type objectRecord struct {
	Class token.ObjectClass `json:"class"`
	Label []byte            `json:"label,omitempty"`
	ID    []byte            `json:"id,omitempty"`
	Keep  bool              `json:"keep,omitempty"`
}

func (o *objectRecord) name() *token.ObjectName {
	if o == nil {
		return nil
	}
	return &token.ObjectName{Class: o.Class, Label: string(o.Label), ID: o.ID, Keep: o.Keep}
}

// kept tells whether the secret is an object that stays in the token when its key
// is deleted.
func (r *secretRecord) kept() bool { return r.Object != nil && r.Object.Keep }

// publicOnly tells whether the record is a public key alone, whose private key
// was never here. Its place is where that key would go.
func (r *secretRecord) publicOnly() bool {
	return r.Public != nil && r.ID == "" && len(r.Secret) == 0
}

func recordOf(s token.Stored) secretRecord {
	r := secretRecord{Type: s.Type, Size: s.Size, ID: hex.EncodeToString(s.ID[:]), Blob: s.Blob, Public: s.Public, Agree: s.Agree}
	r.Place = api.ProtectionWrapped
	if s.Place == token.PlaceObject {
		r.Place = api.ProtectionToken
	}
	if s.Name != nil {
		r.Object = &objectRecord{Class: s.Name.Class, Label: []byte(s.Name.Label), ID: s.Name.ID, Keep: s.Name.Keep}
	}
	return r
}

// stored is the reverse of recordOf.
func (r *secretRecord) stored() (token.Stored, error) {
	s := token.Stored{Type: r.Type, Size: r.Size, Blob: r.Blob, Public: r.Public, Name: r.Object.name(), Agree: r.Agree}
	switch r.Place {
	case api.ProtectionToken:
		s.Place = token.PlaceObject
	case api.ProtectionWrapped:
		s.Place = token.PlaceWrapped
	default:
		return s, fmt.Errorf("a secret with protection %q is not in the HSM token", r.Place)
	}
	if n, err := hex.Decode(s.ID[:], []byte(r.ID)); err != nil || n != len(s.ID) || len(r.ID) != 2*n {
		return s, fmt.Errorf("%q is not the identity of a key object", r.ID)
	}
	return s, nil
}

// checkFormat refuses what this release can't know.
func checkFormat(format int) error {
	if format != recordFormat {
		return fmt.Errorf("record of format %d, this release reads %d: %w", format, recordFormat, store.ErrCorrupt)
	}
	return nil
}
