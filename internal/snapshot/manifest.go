package snapshot

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"time"

	"github.com/claviger/claviger/internal/fault"
)

// Format is the newest format of snapshots that this release reads, and the one
// that it writes.
const Format = 1

// MediaType is what a snapshot is called over HTTP.
const MediaType = "application/gzip"

// Manifest says what a snapshot is of. Fields that a later release adds are not an
// error: those that change the meaning come with another format.
type Manifest struct {
	Format  int       `json:"format"`
	ID      string    `json:"id"` // random, of this snapshot
	Created time.Time `json:"created"`
	Release string    `json:"release"`
	// StoreID is the identity that the store got at its initialisation.
	StoreID     string `json:"store_id"`
	ClusterName string `json:"cluster_name,omitempty"`
	// Term is that of the newest storage key.
	Term   int    `json:"storage_key_term"`
	Token  Token  `json:"hsm_token"`
	Audit  Audit  `json:"audit"`
	Driver string `json:"store_driver"`
	// Records counts all records, Tables those of each table.
	Records int64            `json:"records"`
	Tables  map[string]int64 `json:"tables"`
	// Proofs counts the blobs in proofs.bin.
	Proofs int64 `json:"proofs"`
	// Recovery is there if the KEK can be transferred to another HSM token.
	Recovery *Recovery `json:"recovery,omitempty"`
}

// Recovery are the storage keys of all terms, one after the other, under AES-256-GCM
// with a key that the KEK wraps and the associated data "claviger snapshot storage
// keys 1" ‖ 0 ‖ store id: they open in every HSM token that has the KEK.
type Recovery struct {
	Key    []byte `json:"key"` // wrapped by the KEK
	Nonce  []byte `json:"nonce"`
	Sealed []byte `json:"sealed"`
}

// Token names the HSM token that the snapshot was taken with.
type Token struct {
	Label        string `json:"label"`
	Serial       string `json:"serial"`
	Manufacturer string `json:"manufacturer,omitempty"`
	Model        string `json:"model,omitempty"`
}

// Audit is the newest line of the audit log whose place the snapshot holds: it was
// signed before the records were read.
type Audit struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"` // hex
}

// seal is the file SHA256SUMS.sealed.
type seal struct {
	KeyID     string `json:"key_id"`
	PublicKey []byte `json:"public_key"` // PKIX
	Signature []byte `json:"signature"`  // r ‖ s
}

// Digest is what the HSM token signs.
func Digest(sums []byte) [32]byte {
	h := sha256.New()
	h.Write([]byte("claviger snapshot 1\x00"))
	h.Write(sums)
	return [32]byte(h.Sum(nil))
}

// KeyID names a public key in PKIX form, as the audit log does.
func KeyID(pkix []byte) string {
	sum := sha256.Sum256(pkix)
	return hex.EncodeToString(sum[:])
}

// verify checks the signature of sums by the key that the seal holds.
func (s *seal) verify(sums []byte) error {
	if s.KeyID != KeyID(s.PublicKey) {
		return damaged("the identity of the key that signed it is not that of the key")
	}
	parsed, err := x509.ParsePKIXPublicKey(s.PublicKey)
	if err != nil {
		return damaged("the key that signed it cannot be read: %v", err)
	}
	public, ok := parsed.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() || len(s.Signature) != 64 {
		return damaged("it is not signed by an ECDSA key of the curve P-256")
	}
	digest := Digest(sums)
	r, v := new(big.Int).SetBytes(s.Signature[:32]), new(big.Int).SetBytes(s.Signature[32:])
	if !ecdsa.Verify(public, digest[:], r, v) {
		return damaged("the signature is wrong: it was altered after it was taken")
	}
	return nil
}

func parseManifest(text []byte) (*Manifest, error) {
	var m Manifest
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(text, &head); err != nil || head.Format < 1 {
		return nil, damaged("its manifest is none")
	}
	if head.Format > Format {
		return nil, fault.New(fault.Invalid, "this snapshot has format %d, which a newer release wrote; this one reads up to %d", head.Format, Format).
			WithHint("restore it with that release or a later one")
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, damaged("its manifest cannot be read: %v", err)
	}
	if m.ID == "" || m.StoreID == "" || m.Term < 1 || m.Records < 0 || m.Proofs < 0 {
		return nil, damaged("its manifest lacks what every snapshot has")
	}
	return &m, nil
}

func damaged(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, "the snapshot is damaged: %s", fmt.Sprintf(format, args...)).
		WithHint("compare its SHA-256 with the one that was shown when it was saved; fetch it again, or take another snapshot")
}
