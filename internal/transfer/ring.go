package transfer

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/claviger/claviger/internal/token"
)

// What a ring holds.
const (
	ContentsKEK  = "kek"
	ContentsKeys = "keys"
)

const (
	maxChunks = 1 << 20
	saltSize  = 32
	// chunkHead is what stands before the ciphertext of a chunk: SHA-256 of the
	// header's body, the number, the salt.
	chunkHead = sha256.Size + 4 + saltSize
	tagSize   = 16
)

// Header is the first line of a ring.
type Header struct {
	ID        string    `json:"id"`
	Created   time.Time `json:"created"`
	Contents  string    `json:"contents"`
	Source    Device    `json:"source"`
	Statement string    `json:"statement"` // the statement's fingerprint
	Keys      int       `json:"keys"`      // how many named keys
	Chunks    int       `json:"chunks"`    // how many lines follow
	RSA       []byte    `json:"rsa"`       // a secret of 32 bytes, RSA-OAEP with SHA-256 to the KEKEK
	KEM       []byte    `json:"kem"`       // ciphertext of ML-KEM-768
	Signer    Signer    `json:"signer"`

	body []byte
}

// ParseHeader reads the first line of a ring and checks its signature with the key
// that it names.
func ParseHeader(line []byte) (*Header, error) {
	e, err := parseEnvelope(line, kindHeader)
	if err != nil {
		return nil, err
	}
	h := &Header{body: e.Body}
	if err := strictJSON(e.Body, h); err != nil {
		return nil, invalid("the ring's header can't be read: %v", err)
	}
	if err := e.verify(h.Signer.Public); err != nil {
		return nil, err
	}
	id, err := hex.DecodeString(h.ID)
	switch {
	case err != nil || len(id) != 16:
		return nil, invalid("the ring's id is not 16 bytes in hexadecimal")
	case h.Contents != ContentsKEK && h.Contents != ContentsKeys:
		return nil, invalid("the ring holds %.40q, which this release does not know", h.Contents)
	case h.Chunks < 1 || h.Chunks > maxChunks || h.Keys < 0 || h.Contents == ContentsKEK && (h.Chunks != 1 || h.Keys != 0):
		return nil, invalid("the ring says that it has %d chunks with %d keys", h.Chunks, h.Keys)
	}
	return h, nil
}

// Fingerprint is SHA-256 of the header's body in hexadecimal.
func (h *Header) Fingerprint() string { return fingerprint(h.body) }

// SignerFingerprint is SHA-256 of the public key of the source's signer in hexadecimal.
func (h *Header) SignerFingerprint() string { return fingerprint(h.Signer.Public) }

// chunk is a numbered part of a ring, 1 to Header.Chunks.
type chunk struct {
	number int
	salt   []byte
	sealed []byte
	head   []byte // with the salt: the associated data
}

// parseChunk reads a line of a ring behind its header.
func (h *Header) parseChunk(line []byte) (*chunk, error) {
	e, err := parseEnvelope(line, kindChunk)
	if err != nil {
		return nil, err
	}
	if err := e.verify(h.Signer.Public); err != nil {
		return nil, err
	}
	if len(e.Body) < chunkHead+tagSize {
		return nil, invalid("a chunk of %d bytes is too short", len(e.Body))
	}
	sum := sha256.Sum256(h.body)
	c := &chunk{number: int(binary.BigEndian.Uint32(e.Body[sha256.Size:])), head: e.Body[:chunkHead],
		salt: e.Body[chunkHead-saltSize : chunkHead], sealed: e.Body[chunkHead:]}
	if !bytes.Equal(e.Body[:sha256.Size], sum[:]) {
		return nil, invalid("the chunk is of another ring")
	}
	if c.number < 1 || c.number > h.Chunks {
		return nil, invalid("the ring has %d chunks, and this is number %d", h.Chunks, c.number)
	}
	return c, nil
}

// CheckChunk checks the signature of a line and returns its number.
func (h *Header) CheckChunk(line []byte) (number int, err error) {
	c, err := h.parseChunk(line)
	if err != nil {
		return 0, err
	}
	return c.number, nil
}

// streamKey derives the key of a ring from both secrets: HKDF (RFC 5869) with
// SHA-256 of the ML-KEM secret followed by the RSA one, both of 32 bytes, with the
// statement's digest as salt, and both ciphertexts in the info.
func (h *Header) streamKey(kem, secret []byte, statement *Statement) ([]byte, error) {
	ikm := append(append(make([]byte, 0, len(kem)+len(secret)), kem...), secret...)
	defer clear(ikm)
	salt := sha256.Sum256(statement.body)
	rsaSum, kemSum := sha256.Sum256(h.RSA), sha256.Sum256(h.KEM)
	info := "claviger transfer stream 1" + h.ID + string(rsaSum[:]) + string(kemSum[:])
	return hkdf.Key(sha256.New, ikm, salt[:], info, 32)
}

// lock makes the secrets of a new ring for a destination, and returns its stream key.
func (h *Header) lock(to *Statement) ([]byte, error) {
	secret := make([]byte, 32)
	defer clear(secret)
	rand.Read(secret)
	var err error
	if h.RSA, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, to.public, secret, []byte(labelSecret)); err != nil {
		return nil, err
	}
	shared, ciphertext := to.kem.Encapsulate()
	defer clear(shared)
	h.KEM = ciphertext
	return h.streamKey(shared, secret, to)
}

// chunkAEAD is AES-256-GCM with a key of one chunk: HKDF-Expand of the stream key
// with the number and a random salt, so that a nonce of zeros is used once a key.
func chunkAEAD(stream, head []byte) (cipher.AEAD, error) {
	key, err := hkdf.Expand(sha256.New, stream, "claviger transfer chunk 1"+string(head), 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// sealChunk returns the body of a chunk.
func (h *Header) sealChunk(stream []byte, number int, plain []byte) ([]byte, error) {
	sum := sha256.Sum256(h.body)
	body := binary.BigEndian.AppendUint32(sum[:], uint32(number))
	salt := make([]byte, saltSize)
	rand.Read(salt)
	body = append(body, salt...)
	aead, err := chunkAEAD(stream, body)
	if err != nil {
		return nil, err
	}
	return aead.Seal(body, make([]byte, aead.NonceSize()), plain, body[:chunkHead]), nil
}

func (c *chunk) open(stream []byte) (*load, error) {
	aead, err := chunkAEAD(stream, c.head)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, make([]byte, aead.NonceSize()), c.sealed, c.head)
	if err != nil {
		return nil, errNotAuthentic()
	}
	defer clear(plain)
	l := new(load)
	if err := strictJSON(plain, l); err != nil {
		return nil, invalid("a chunk of the ring can't be read: %v", err)
	}
	return l, nil
}

// load is what a chunk holds.
type load struct {
	KEK  *token.WrappedKEK `json:"kek,omitempty"`
	Keys []movedKey        `json:"keys,omitempty"`
	// Freights are the secrets of Keys that were wrapped, in their order.
	Freights []token.Freight `json:"freights,omitempty"`
	// Gone are keys that were deleted since the ring was begun.
	Gone []string `json:"gone,omitempty"`
}

// movedKey is a named key on its way.
type movedKey struct {
	Mount   string          `json:"mount"`  // path of its mount, with the trailing slash
	Record  json.RawMessage `json:"record"` // of the keys' service
	Secrets int             `json:"secrets"`
}

func (l *load) wipe() {
	for i := range l.Keys {
		clear(l.Keys[i].Record)
	}
}
