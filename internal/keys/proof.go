package keys

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// A test ciphertext shows later, elsewhere, that a secret is the one that it was:
// for AEAD keys a ciphertext of a known text, for HMAC keys its code. Key pairs need
// none: a signature that their public key verifies shows the same.
//
// The text and the nonce are made of the key's identity and the version, so that a
// version encrypts the same text with the same nonce however often test ciphertexts
// are made of it: to the key that is one encryption in its whole life.

// proofPurpose is what blobs of test ciphertexts are sealed for.
const proofPurpose = "test ciphertexts"

// proofsPerBlob bounds the size of a blob.
const proofsPerBlob = 256

// proofRecord is the test ciphertext of one secret.
type proofRecord struct {
	Key     string `json:"key"` // identity, as version records repeat it
	Version int    `json:"version"`
	MAC     bool   `json:"mac,omitempty"` // of the separate HMAC secret
	Out     []byte `json:"out"`
}

// proofID finds the test ciphertext of a secret.
type proofID struct {
	key     string
	version int
	mac     bool
}

// proofText is the known text of a version: 32 bytes.
func proofText(keyID string, version int) []byte { return proofHash("text", keyID, version) }

func proofNonce(t token.Type, keyID string, version int) []byte {
	return proofHash("nonce", keyID, version)[:t.NonceSize()]
}

func proofHash(what, keyID string, version int) []byte {
	b := append([]byte("claviger test ciphertext 1 "+what+"\x00"), keyID...)
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(append(b, 0), uint64(version)))
	return sum[:]
}

// Proofs makes test ciphertexts of all keys, of the newest version of each or of all
// versions, and gives them to put in sealed blobs, which only CheckProofs reads. A
// key that can't be used now is counted and has none.
func (s *Service) Proofs(ctx context.Context, allVersions bool, put func([]byte) error) (failed int, err error) {
	b := proofBatch{s: s, put: put}
	err = s.eachVersion(ctx, allVersions, func(k *key, r *versionRecord, err error) error {
		if err == nil {
			err = b.add(ctx, k, r)
		}
		if err == nil || ctx.Err() != nil || ofWhole(err) {
			return err
		}
		failed++
		s.log.Warn("no test ciphertext can be made with a key", "mount", k.name.mount, "key", k.name.name, "error", err)
		return nil
	})
	if err == nil {
		err = b.flush()
	}
	return failed, err
}

// proofBatch collects test ciphertexts for a blob.
type proofBatch struct {
	s   *Service
	put func([]byte) error
	all []proofRecord
}

func (b *proofBatch) add(ctx context.Context, k *key, r *versionRecord) error {
	for _, mac := range []bool{false, true} {
		rec := secretOf(r, mac)
		if rec == nil || rec.publicOnly() || !needsProof(rec.Type) || derivesInMemory(&k.meta, rec) {
			continue
		}
		secret, err := b.s.openSecret(rec)
		if err != nil {
			return err
		}
		out, err := makeProof(ctx, secret, rec.Type, r)
		if err != nil {
			return err
		}
		b.all = append(b.all, proofRecord{Key: r.KeyID, Version: r.Number, MAC: mac, Out: out})
	}
	if len(b.all) < proofsPerBlob {
		return nil
	}
	return b.flush()
}

func (b *proofBatch) flush() error {
	if len(b.all) == 0 {
		return nil
	}
	text, err := json.Marshal(b.all)
	if err != nil {
		return err
	}
	blob, err := b.s.store.SealBlob(proofPurpose, text)
	if err != nil {
		return storeFault(err, "seal the test ciphertexts")
	}
	b.all = b.all[:0]
	return b.put(blob)
}

// secretOf is the main secret of a version, or its separate HMAC secret.
func secretOf(r *versionRecord, mac bool) *secretRecord {
	if mac {
		return r.MAC
	}
	return &r.Main
}

func needsProof(t token.Type) bool {
	return t.Class() == token.ClassAEAD || t.Class() == token.ClassHMAC
}

// derivesInMemory tells whether a secret is no key of its type but bytes from which
// the keys of requests are derived in memory. It lies in a sealed record, whose
// opening shows that it is what it was.
func derivesInMemory(meta *keyRecord, r *secretRecord) bool {
	return meta.Derived && r.Place == api.ProtectionSoftware && r.Type != token.HMAC
}

// makeProof encrypts, or authenticates, the text of a version.
func makeProof(ctx context.Context, k token.Key, t token.Type, r *versionRecord) ([]byte, error) {
	text := proofText(r.KeyID, r.Number)
	if t.Class() == token.ClassHMAC {
		return once(ctx, k, token.Op{Kind: token.MAC, Hash: proofMAC}, token.Item{In: text})
	}
	return once(ctx, k, token.Op{Kind: token.Seal}, token.Item{Nonce: proofNonce(t, r.KeyID, r.Number), In: text})
}

// once performs an operation on one item.
func once(ctx context.Context, k token.Key, o token.Op, item token.Item) ([]byte, error) {
	items := []token.Item{item}
	err := k.Do(ctx, o, items)
	if err == nil {
		err = items[0].Err
	}
	return items[0].Out, tokenFault(err, "use the key")
}

// eachVersion calls do for the versions of all keys of all mounts that are not
// trimmed, with the version's record, which do may wipe, or the error of reading it.
// What was deleted meanwhile is left out.
func (s *Service) eachVersion(ctx context.Context, all bool, do func(k *key, r *versionRecord, err error) error) error {
	after := ""
	for {
		page, err := s.store.Names(ctx, tableKeys, "", after, listPage)
		if err != nil {
			return storeFault(err, "list the keys")
		}
		for _, name := range page {
			after = name
			if err := s.versionsOf(ctx, name, all, do); err != nil {
				return err
			}
		}
		if len(page) < listPage {
			return nil
		}
	}
}

func (s *Service) versionsOf(ctx context.Context, name string, all bool, do func(k *key, r *versionRecord, err error) error) error {
	slash := strings.LastIndexByte(name, '/') + 1
	k := &key{name: keyName{name[:slash], name[slash:]}}
	_, err := s.store.Get(ctx, tableKeys, name, &k.meta)
	if err == nil {
		err = checkKey(&k.meta)
	}
	if err != nil {
		return s.unlessGone(ctx, name, func() error { return do(k, nil, storeFault(err, "read the key")) })
	}
	first := k.meta.Latest
	if all {
		first = max(k.meta.MinAvailable, 1)
	}
	for v := first; v <= k.meta.Latest; v++ {
		r, err := s.versionRecord(ctx, k, v)
		if err != nil {
			return s.unlessGone(ctx, name, func() error { return do(k, &versionRecord{Number: v}, err) })
		}
		err = do(k, &r, nil)
		wipeVersion(&r)
		if err != nil {
			return err
		}
	}
	return nil
}

// unlessGone reports what is wrong with a key, unless it was deleted meanwhile.
func (s *Service) unlessGone(ctx context.Context, name string, report func() error) error {
	if names, err := s.store.Names(ctx, tableKeys, name, "", 1); err == nil && (len(names) == 0 || names[0] != name) {
		return nil
	}
	return report()
}

func wipeVersion(r *versionRecord) {
	clear(r.Main.Secret)
	if r.MAC != nil {
		clear(r.MAC.Secret)
	}
}

// readProofs opens blobs of test ciphertexts.
func (s *Service) readProofs(blobs [][]byte) (map[proofID][]byte, error) {
	proofs := map[proofID][]byte{}
	for _, blob := range blobs {
		text, err := s.store.OpenBlob(proofPurpose, blob)
		if err != nil {
			return nil, storeFault(err, "open the test ciphertexts")
		}
		var all []proofRecord
		if err := json.Unmarshal(text, &all); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "the test ciphertexts can't be read")
		}
		for _, p := range all {
			proofs[proofID{p.Key, p.Version, p.MAC}] = p.Out
		}
	}
	return proofs, nil
}
