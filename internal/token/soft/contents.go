package soft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"golang.org/x/crypto/cryptobyte"

	"github.com/claviger/claviger/internal/token"
)

// contents is the plain body of a key file. Its form, big-endian:
//
//	1      flags: bit 0, the KEK is transferable; bit 1, objects have names
//	4      number of objects
//
// and each object, in the order of their IDs:
//
//	1      use: 0 a key of a caller, 1 KEK, 2 storage key, 3 audit key
//	1 + n  key type, by name
//	2      size in bytes of an HMAC key, 0 elsewhere
//	16     ID
//	1 + n  label, UTF-8
//	2 + n  secret, in Engine's form
//	2 + n  public key, PKIX DER, empty for symmetric and HMAC keys
//	1      if objects have names: 0, or 1 for one that other programs gave a name
//	1 + n  and then its CKA_ID
//
// A contents that was published is never changed, but copied.
type contents struct {
	transferable bool
	objects      map[token.ID]*object
}

type use uint8

const (
	useCaller use = iota
	useKEK
	useStorage
	useAudit
	useCount
)

// object is one key of the token. Handles keep a pointer to it.
type object struct {
	use    use
	typ    token.Type
	size   int
	id     token.ID
	label  string
	secret []byte
	public []byte
	named  bool        // label and ckaID were chosen by a caller
	ckaID  []byte      // of a named object
	gone   atomic.Bool // it was destroyed or replaced
}

// with returns a copy that has o too.
func (c *contents) with(o *object) *contents {
	next := &contents{transferable: c.transferable, objects: maps.Clone(c.objects)}
	if next.objects == nil {
		next.objects = make(map[token.ID]*object)
	}
	next.objects[o.id] = o
	return next
}

// without returns a copy that lacks the object.
func (c *contents) without(id token.ID) *contents {
	next := &contents{transferable: c.transferable, objects: maps.Clone(c.objects)}
	delete(next.objects, id)
	return next
}

// system returns the key of that use, or nil.
func (c *contents) system(u use) *object {
	for _, o := range c.objects {
		if o.use == u {
			return o
		}
	}
	return nil
}

// encode returns the form above; the caller wipes it.
func (c *contents) encode() []byte {
	size := 5
	for _, o := range c.objects {
		size += 34 + len(o.ckaID) + len(o.typ.String()) + len(o.label) + len(o.secret) + len(o.public)
	}
	b := make([]byte, 1, size) // large enough, so that no copy is left behind unwiped
	named := false
	for _, o := range c.objects {
		named = named || o.named
	}
	if c.transferable {
		b[0] = flagTransferable
	}
	if named {
		b[0] |= flagNames
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.objects)))
	ids := slices.SortedFunc(maps.Keys(c.objects), func(x, y token.ID) int { return bytes.Compare(x[:], y[:]) })
	for _, id := range ids {
		b = c.objects[id].append(b)
		if named {
			b = c.objects[id].appendName(b)
		}
	}
	return b
}

// Flags of the contents. Names are written only where there are some, so that
// all others stay as the first release has them.
const (
	flagTransferable = 1
	flagNames        = 2
)

func (o *object) appendName(b []byte) []byte {
	if !o.named {
		return append(b, 0)
	}
	return append(append(b, 1, byte(len(o.ckaID))), o.ckaID...)
}

// parseName is the reverse of appendName.
func (o *object) parseName(s *cryptobyte.String) error {
	var named uint8
	var id cryptobyte.String
	if !s.ReadUint8(&named) || named > 1 || named == 1 && (!s.ReadUint8LengthPrefixed(&id) || len(id) > token.MaxObjectID) {
		return errContents
	}
	o.named, o.ckaID = named == 1, bytes.Clone(id)
	return nil
}

func (o *object) append(b []byte) []byte {
	name := o.typ.String()
	b = append(b, byte(o.use), byte(len(name)))
	b = append(b, name...)
	b = binary.BigEndian.AppendUint16(b, uint16(o.size))
	b = append(b, o.id[:]...)
	b = append(append(b, byte(len(o.label))), o.label...)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(o.secret))), o.secret...)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(o.public))), o.public...)
}

var errContents = errors.New("the contents of the key file are malformed")

// parseContents is the reverse of encode. It copies what it keeps.
func parseContents(plain []byte) (*contents, error) {
	s := cryptobyte.String(plain)
	var flags uint8
	var count uint32
	if !s.ReadUint8(&flags) || !s.ReadUint32(&count) {
		return nil, errContents
	}
	if flags > flagTransferable|flagNames {
		return nil, fmt.Errorf("the key file has flags (%#x) that this release does not know", flags)
	}
	c := &contents{transferable: flags&flagTransferable != 0, objects: make(map[token.ID]*object)}
	var seen [useCount]bool
	for range count {
		o, err := parseObject(&s)
		if err == nil && flags&flagNames != 0 {
			err = o.parseName(&s)
		}
		if err != nil {
			return nil, err
		}
		if _, twice := c.objects[o.id]; twice || o.use != useCaller && seen[o.use] {
			return nil, errContents
		}
		seen[o.use] = true
		c.objects[o.id] = o
	}
	if !s.Empty() {
		return nil, errContents
	}
	return c, nil
}

func parseObject(s *cryptobyte.String) (*object, error) {
	var u uint8
	var size uint16
	var name, label, secret, public cryptobyte.String
	o := new(object)
	ok := s.ReadUint8(&u) && use(u) < useCount && s.ReadUint8LengthPrefixed(&name) &&
		s.ReadUint16(&size) && s.CopyBytes(o.id[:]) && s.ReadUint8LengthPrefixed(&label) &&
		s.ReadUint16LengthPrefixed(&secret) && s.ReadUint16LengthPrefixed(&public)
	if !ok {
		return nil, errContents
	}
	typ, err := token.ParseType(string(name))
	if err != nil {
		return nil, fmt.Errorf("the key file holds a key that this release does not know: %w", err)
	}
	o.use, o.typ, o.size, o.label = use(u), typ, int(size), string(label)
	o.secret, o.public = bytes.Clone(secret), bytes.Clone(public)
	return o, nil
}
