package soft

import (
	"bytes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime/debug"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/cryptobyte"

	"github.com/claviger/claviger/internal/token"
)

// The key file, version 1. Numbers are big-endian. A random file key seals the
// body; each slot holds it sealed under a key that Argon2id (RFC 9106) derives
// from a PIN. All sealing is XChaCha20-Poly1305 with a random nonce.
//
//	offset    bytes
//	0         8      "CLVGRTKN"
//	8         2      format version, 1
//	10        8      serial number, random
//	18        1      L, length of the label, 1 to 32
//	19        L      label, UTF-8
//	19 + L    97     slot of the user PIN
//	116 + L   97     slot of the SO PIN
//	213 + L   24     nonce of the body
//	237 + L   N      body (see contents) and its tag of 16 bytes;
//	                 associated data: bytes 0 to 213 + L
//	end - 32  32     SHA-256 of everything before
//
// and each slot:
//
//	0         4      Argon2id passes
//	4         4      Argon2id memory, KiB
//	8         1      Argon2id lanes
//	9         16     salt
//	25        24     nonce
//	49        48     file key and tag; associated data: bytes 0 to 19 + L of the
//	                 file, one byte for the slot ('u' or 's'), bytes 0 to 25 of the slot
//
// The checksum keeps nobody from altering the file. It tells a damaged file
// from a wrong PIN, which an operator must not take one for the other.
const (
	magic       = "CLVGRTKN"
	version     = 1
	fileKeySize = chacha20poly1305.KeySize
	nonceSize   = chacha20poly1305.NonceSizeX
	saltSize    = 16
	sealedSize  = fileKeySize + chacha20poly1305.Overhead
	maxLabel    = 32 // bytes; as CK_TOKEN_INFO
)

// kdf holds the parameters of Argon2id.
type kdf struct {
	passes uint32
	memory uint32 // KiB
	lanes  uint8
}

var (
	// diskKDF is what RFC 9106 section 4 leads to for servers of little memory.
	diskKDF = kdf{passes: 2, memory: 19 * 1024, lanes: 1}
	// memoryKDF is for a token that never leaves the process, where the keys
	// and the PIN lie side by side and a slow derivation would protect nothing.
	memoryKDF = kdf{passes: 1, memory: 64, lanes: 1}
)

// check bounds what an altered file can make us spend.
func (k kdf) check() error {
	if k.passes < 1 || k.passes > 64 || k.lanes < 1 || k.lanes > 64 ||
		k.memory < 8*uint32(k.lanes) || k.memory > 1<<18 {
		return fmt.Errorf("Argon2id parameters out of range (%d passes, %d KiB, %d lanes)", k.passes, k.memory, k.lanes)
	}
	return nil
}

func (k kdf) derive(pin, salt []byte) []byte {
	key := argon2.IDKey(pin, salt, k.passes, k.memory, k.lanes, fileKeySize)
	if k.memory >= 1024 {
		debug.FreeOSMemory() // an idle server does not keep Argon2's megabytes
	}
	return key
}

type role byte

const (
	roleUser role = 'u'
	roleSO   role = 's'
)

type slot struct {
	kdf
	salt   [saltSize]byte
	nonce  [nonceSize]byte
	sealed [sealedSize]byte
}

// header is everything before the body.
type header struct {
	serial   [8]byte
	label    string
	user, so slot
}

// keyFile is a parsed file whose body is still sealed.
type keyFile struct {
	header
	nonce [nonceSize]byte
	body  []byte
}

var errDamaged = errors.New("the key file is damaged")

func (h *header) serialText() string { return hex.EncodeToString(h.serial[:]) }

// identity is the part of the header that slots are bound to.
func (h *header) identity() []byte {
	b := binary.BigEndian.AppendUint16([]byte(magic), version)
	b = append(b, h.serial[:]...)
	b = append(b, byte(len(h.label)))
	return append(b, h.label...)
}

func (h *header) encode() []byte {
	b := h.identity()
	for _, s := range []*slot{&h.user, &h.so} {
		b = append(s.appendParameters(b), s.nonce[:]...)
		b = append(b, s.sealed[:]...)
	}
	return b
}

func (s *slot) appendParameters(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, s.passes)
	b = binary.BigEndian.AppendUint32(b, s.memory)
	return append(append(b, s.lanes), s.salt[:]...)
}

func (h *header) slot(r role) *slot {
	if r == roleSO {
		return &h.so
	}
	return &h.user
}

func (h *header) slotAEAD(r role, pin []byte) (aead cipher.AEAD, aad []byte, err error) {
	s := h.slot(r)
	if err := s.check(); err != nil {
		return nil, nil, err
	}
	key := s.derive(pin, s.salt[:])
	defer clear(key)
	aead, err = chacha20poly1305.NewX(key)
	return aead, s.appendParameters(append(h.identity(), byte(r))), err
}

// setPIN seals the file key under a PIN.
func (h *header) setPIN(r role, k kdf, pin, fileKey []byte) error {
	s := h.slot(r)
	s.kdf = k
	copy(s.salt[:], randomBytes(saltSize))
	copy(s.nonce[:], randomBytes(nonceSize))
	aead, aad, err := h.slotAEAD(r, pin)
	if err != nil {
		return fmt.Errorf("seal the file key: %w", err)
	}
	aead.Seal(s.sealed[:0], s.nonce[:], fileKey, aad)
	return nil
}

// fileKey opens a slot. ErrPIN if the PIN is wrong or the slot was altered
// together with the checksum, which nothing can tell apart.
func (h *header) fileKey(r role, pin []byte) ([]byte, error) {
	aead, aad, err := h.slotAEAD(r, pin)
	if err != nil {
		return nil, fmt.Errorf("open the key file: %w", err)
	}
	s := h.slot(r)
	key, err := aead.Open(nil, s.nonce[:], s.sealed[:], aad)
	if err != nil {
		return nil, token.ErrPIN
	}
	return key, nil
}

// sealFile returns a complete file with plain as its body.
func sealFile(h *header, fileKey, plain []byte) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(fileKey)
	if err != nil {
		return nil, fmt.Errorf("seal the key file: %w", err)
	}
	head := h.encode()
	nonce := randomBytes(nonceSize)
	file := aead.Seal(append(bytes.Clone(head), nonce...), nonce, plain, head)
	sum := sha256.Sum256(file)
	return append(file, sum[:]...), nil
}

// open returns the plain body; the caller wipes it.
func (f *keyFile) open(fileKey []byte) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(fileKey)
	if err != nil {
		return nil, fmt.Errorf("open the key file: %w", err)
	}
	plain, err := aead.Open(nil, f.nonce[:], f.body, f.header.encode())
	if err != nil {
		return nil, fmt.Errorf("%w: its contents are not authentic", errDamaged)
	}
	return plain, nil
}

// parseFile checks the form and the checksum of a key file.
func parseFile(file []byte) (*keyFile, error) {
	s := cryptobyte.String(file)
	var start []byte
	var v uint16
	if !s.ReadBytes(&start, len(magic)) || string(start) != magic || !s.ReadUint16(&v) {
		return nil, errors.New("this is no Claviger key file")
	}
	if v != version {
		return nil, fmt.Errorf("the key file has format version %d; this release reads version %d", v, version)
	}
	at := len(file) - sha256.Size
	if at < 0 || sha256.Sum256(file[:at]) != [sha256.Size]byte(file[at:]) {
		return nil, fmt.Errorf("%w: its checksum is wrong", errDamaged)
	}
	s = s[:len(s)-sha256.Size]
	var f keyFile
	var label cryptobyte.String
	ok := s.CopyBytes(f.serial[:]) && s.ReadUint8LengthPrefixed(&label) &&
		len(label) > 0 && len(label) <= maxLabel &&
		f.user.parse(&s) && f.so.parse(&s) && s.CopyBytes(f.nonce[:]) && len(s) >= chacha20poly1305.Overhead
	if !ok {
		return nil, fmt.Errorf("%w: its header is cut or malformed", errDamaged)
	}
	f.label, f.body = string(label), s
	return &f, nil
}

func (s *slot) parse(in *cryptobyte.String) bool {
	return in.ReadUint32(&s.passes) && in.ReadUint32(&s.memory) && in.ReadUint8(&s.lanes) &&
		in.CopyBytes(s.salt[:]) && in.CopyBytes(s.nonce[:]) && in.CopyBytes(s.sealed[:])
}
