package p11

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/claviger/claviger/api"
)

// entry is an object of a slot as it is kept: what it is made of, not its
// attributes.
type entry struct {
	handle uint64
	class  uint64
	mount  string // with its trailing slash
	record string // key_id, id of an object or of an issuer

	key     *api.P11Key     // of a key and of its certificates
	version *api.P11Version // of key
	chain   int             // of a certificate: its place in the version's chain
	object  *api.P11Object  // of a stored object
	issuer  *issuer         // of an authority's certificate

	change uint64 // counter of the mount when it was read
	gone   bool   // it was destroyed by this caller
	clash  bool   // another object has the same handle
}

// handleOf is what callers know the object by: 63 bits of SHA-256 of all that
// makes it, never 0. It is the same on every server and agent that gives the
// mount the same path.
func (e *entry) handleOf() uint64 {
	b := make([]byte, 0, 128)
	b = append(b, "claviger pkcs11 handle 1\x00"...)
	for _, s := range []string{e.mount, e.record} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	b = binary.BigEndian.AppendUint64(b, e.class)
	if e.key != nil && e.key.Session {
		// One that is kept for good is another object: who ends the session's
		// does not end this.
		b = append(b, "session"...)
	}
	version := 0
	if e.version != nil {
		version = e.version.Version
	}
	b = binary.BigEndian.AppendUint32(b, uint32(version))
	b = binary.BigEndian.AppendUint32(b, uint32(e.chain))
	sum := sha256.Sum256(b)
	return max(binary.BigEndian.Uint64(sum[:8])>>1, 1)
}

// same tells whether both are one object.
func (e *entry) same(o *entry) bool {
	return e.class == o.class && e.mount == o.mount && e.record == o.record && e.chain == o.chain &&
		(e.key != nil && e.key.Session) == (o.key != nil && o.key.Session) &&
		(e.version == nil) == (o.version == nil) && (e.version == nil || e.version.Version == o.version.Version)
}

// entriesOf are the objects of a named key: of each version, the newest first, the
// private and the public key or the secret one, and its certificates. Types that
// PKCS#11 has no words for have none.
func entriesOf(mount string, k *api.P11Key, change uint64) []*entry {
	if kindOf(k.Type) == nil {
		return nil
	}
	all := make([]*entry, 0, 2*len(k.Versions))
	for i := range k.Versions {
		v := &k.Versions[i]
		add := func(class uint64, chain int) {
			e := &entry{class: class, mount: mount, record: k.KeyID, key: k, version: v, chain: chain, change: change}
			e.handle = e.handleOf()
			all = append(all, e)
		}
		if len(v.Public) == 0 {
			add(CKO_SECRET_KEY, 0)
		} else {
			add(CKO_PRIVATE_KEY, 0)
			add(CKO_PUBLIC_KEY, 0)
		}
		for n := range v.Certificates {
			add(CKO_CERTIFICATE, n)
		}
	}
	return all
}

// entryOf is a stored object.
func entryOf(mount string, o *api.P11Object, change uint64) *entry {
	class, _ := Attributes(o.Attributes).Number(CKA_CLASS)
	e := &entry{class: class, mount: mount, record: o.ID, object: o, change: change}
	e.handle = e.handleOf()
	return e
}
