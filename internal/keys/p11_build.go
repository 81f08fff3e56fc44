package keys

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/store"
)

// idSize is the length in bytes of a CKA_ID that nobody chose: that of a SHA-1,
// which most programs expect.
const idSize = 20

// versionID is the CKA_ID of a version: what was set, if it is the newest, else
// what follows from the public key, or from the key's identity.
func (m *keyRecord) versionID(number int, public []byte) []byte {
	if number == m.Latest && m.PKCS11 != nil && len(m.PKCS11.ID) > 0 {
		return m.PKCS11.ID
	}
	if public == nil {
		public = fmt.Appendf(nil, "%s/%d", m.ID, number)
	}
	sum := sha256.Sum256(public)
	return sum[:idSize]
}

// label is the key's CKA_LABEL.
func (m *keyRecord) label(name string) string {
	if m.PKCS11 != nil && m.PKCS11.Label != "" {
		return m.PKCS11.Label
	}
	return name
}

// refresh brings a locked index up to date. What it could not read is read at the
// next question.
func (s *Service) refresh(ctx context.Context, mount string, ix *index) error {
	places, all := ix.takeStale()
	if all || !ix.built {
		ix.built = false
		err := s.build(ctx, mount, ix)
		if errors.Is(err, store.ErrCorrupt) {
			err = s.buildSlowly(ctx, mount, ix)
		}
		if err != nil {
			return err
		}
		// What was changed meanwhile may be in it or not.
		more, _ := ix.takeStale()
		places = more
	}
	for i, p := range places {
		now, err := s.look(ctx, mount, p)
		if err != nil {
			ix.giveBack(places[i:])
			return err
		}
		ix.set(p, now)
	}
	return nil
}

// look reads what is at a place now, nil for nothing that PKCS#11 shows.
func (s *Service) look(ctx context.Context, mount string, p place) (*listed, error) {
	if p.object {
		return s.lookObject(ctx, mount, p)
	}
	k, err := s.key(ctx, keyName{mount, p.name})
	if errors.Is(err, errNoKey) || s.unreadableVersion(err, keyName{mount, p.name}, 0) {
		return nil, nil
	}
	if err != nil || !k.meta.visible() {
		return nil, err
	}
	l := listKey(p.name, &k.meta)
	for n := k.oldest(); n <= k.meta.Latest; n++ {
		v, err := s.faceOf(ctx, k, n)
		if s.unreadableVersion(err, k.name, n) {
			continue
		}
		if err != nil {
			return nil, err
		}
		l.add(&k.meta, n, v.public, len(v.certificates) > 0)
	}
	return l, nil
}

// unreadableVersion tells whether err means that the record of a version, or of the
// key itself (0), was altered, and logs it: the others are shown all the same.
func (s *Service) unreadableVersion(err error, n keyName, number int) bool {
	if !errors.Is(err, store.ErrCorrupt) {
		return false
	}
	s.log.Error("a record of a key was altered; PKCS#11 does not show it", "mount", n.mount, "key", n.name, "version", number, "error", err)
	return true
}

func listKey(name string, m *keyRecord) *listed {
	return &listed{place: place{name: name}, record: m.ID, label: m.label(name), session: m.PKCS11.session()}
}

func (l *listed) add(m *keyRecord, number int, public []byte, certs bool) {
	if id := string(m.versionID(number, public)); !slices.Contains(l.ids, id) {
		l.ids = append(l.ids, id)
	}
	l.certs = l.certs || certs
}

// face is what everybody may see of a version.
type face struct {
	public       []byte // PKIX DER
	certificates [][]byte
	created      int64 // Unix seconds
}

// faceOf reads the face of a version without opening its secret.
func (s *Service) faceOf(ctx context.Context, k *key, number int) (face, error) {
	if v := k.slots[number-1].version.Load(); v != nil {
		return face{v.pkix, rawOfText(v.chain), v.created.Unix()}, nil
	}
	r, err := s.versionRecord(ctx, k, number)
	if err != nil {
		return face{}, err
	}
	r.wipe()
	return face{r.Main.Public, r.Certificates, r.Created.Unix()}, nil
}

// rawOfText is the reverse of chainText.
func rawOfText(text string) (raw [][]byte) {
	for rest := []byte(text); len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		raw = append(raw, block.Bytes)
	}
	return raw
}

// build reads all keys and objects of a mount into an empty index: each record
// once, in the order of the database.
func (s *Service) build(ctx context.Context, mount string, ix *index) error {
	ix.clear()
	metas := map[string]*keyRecord{}
	err := s.eachRecord(ctx, tableKeys, mount, func(name string, e *store.Entry) error {
		meta := new(keyRecord)
		if err := e.Decode(meta); err != nil {
			return err
		}
		if err := checkKey(meta); err != nil || !meta.visible() || strings.Contains(name, "/") {
			return err
		}
		metas[name] = meta
		l := listKey(name, meta)
		ix.keys = append(ix.keys, l)
		ix.names[l.place] = l
		return nil
	})
	if err == nil {
		err = s.eachRecord(ctx, tableVersions, mount, func(name string, e *store.Entry) error { return ix.addVersion(metas, name, e) })
	}
	if err == nil {
		err = s.buildObjects(ctx, mount, ix)
	}
	if err != nil {
		ix.clear()
		return storeFault(err, "read the keys of the mount")
	}
	for _, list := range [][]*listed{ix.keys, ix.objects} {
		for _, l := range list {
			ix.enter(l)
		}
	}
	ix.sort()
	ix.built = true
	return nil
}

// buildSlowly is build where a record was altered: it reads one key after the other
// and leaves out those that can't be read.
func (s *Service) buildSlowly(ctx context.Context, mount string, ix *index) error {
	ix.clear()
	for _, table := range []string{tableKeys, tableObjects} {
		names, err := s.store.Names(ctx, table, mount, "", 0)
		if err != nil {
			return storeFault(err, "read the keys of the mount")
		}
		for _, record := range names {
			p := place{table == tableObjects, strings.TrimPrefix(record, mount)}
			if strings.Contains(p.name, "/") {
				continue // of a mount below this one
			}
			l, err := s.look(ctx, mount, p)
			if err != nil {
				return err
			}
			ix.set(p, l)
		}
	}
	ix.built = true
	return nil
}

// addVersion adds what the record of a version shows to its key, which may have
// changed since its own record was read: then it is read again.
func (ix *index) addVersion(metas map[string]*keyRecord, name string, e *store.Entry) error {
	name, _, _ = strings.Cut(name, "/")
	meta := metas[name]
	if meta == nil {
		return nil
	}
	var r versionRecord
	if err := e.Decode(&r); err != nil {
		return err
	}
	r.wipe()
	if r.KeyID == meta.ID && r.Number >= max(meta.MinDecryption, meta.MinAvailable, 1) && r.Number <= meta.Latest {
		ix.names[place{name: name}].add(meta, r.Number, r.Main.Public, len(r.Certificates) > 0)
	}
	return nil
}

// eachRecord reads the records of a mount and of those below it.
func (s *Service) eachRecord(ctx context.Context, table, mount string, do func(name string, e *store.Entry) error) error {
	after := ""
	for {
		page, err := s.store.List(ctx, table, mount, after, listPage)
		if err != nil {
			return err
		}
		for i := range page {
			after = page[i].Key
			if err := do(strings.TrimPrefix(after, mount), &page[i]); err != nil {
				return fmt.Errorf("record %s/%s: %w", table, after, err)
			}
		}
		if len(page) < listPage {
			return ctx.Err()
		}
	}
}
