package ceremony

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// A transcript is lines of JSON, each an Entry. "prev" of a line is the SHA-256 of
// the line before, without its line end; the first has 64 zeros. The last line is
// the signature over all before it.

// Versions of the format: of acts with a token, which signs the last line, and of acts
// of a server, which makes a statement that its token signs.
const (
	transcriptVersion = 1
	serverVersion     = 2
)

// noLine is "prev" of the first line.
const noLine = "0000000000000000000000000000000000000000000000000000000000000000"

// Entry is a line of a transcript: one of the parts is there.
type Entry struct {
	Seq  int       `json:"seq"` // from 0
	Time time.Time `json:"time"`
	Prev string    `json:"prev"`

	Begin        *Begin        `json:"begin,omitempty"`
	Token        *TokenUsed    `json:"token,omitempty"`
	Key          *KeyUsed      `json:"key,omitempty"`
	Server       *ServerUsed   `json:"server,omitempty"`
	Plan         *Planned      `json:"plan,omitempty"`
	Confirmation *Confirmation `json:"confirmation,omitempty"`
	Output       *Made         `json:"output,omitempty"`
	End          *End          `json:"end,omitempty"`
	Signature    *Signature    `json:"signature,omitempty"`

	Act      *api.SignedStatement `json:"act,omitempty"`
	Approval *Approval            `json:"approval,omitempty"`
}

// Begin says what is to happen.
type Begin struct {
	Version    int        `json:"version"`
	Tool       string     `json:"tool"`
	Kind       string     `json:"kind"`
	Title      string     `json:"title"`
	Rehearsal  bool       `json:"rehearsal"`
	Document   File       `json:"document"`
	Inputs     []File     `json:"inputs,omitempty"`
	Custodians Custodians `json:"custodians"`
}

// File is a file that was read.
type File struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// TokenUsed is the HSM token that signs.
type TokenUsed struct {
	Driver        string `json:"driver"`
	Module        string `json:"module,omitempty"`
	Label         string `json:"label"`
	Serial        string `json:"serial"`
	Manufacturer  string `json:"manufacturer"`
	Model         string `json:"model"`
	Firmware      string `json:"firmware,omitempty"`
	TranscriptKey string `json:"transcript_key"` // SHA-256 of its public key
}

// KeyUsed is a key of the token that the ceremony makes or uses.
type KeyUsed struct {
	Label     string `json:"label"`
	ID        string `json:"id"` // CKA_ID in hexadecimal
	Type      string `json:"type"`
	Made      bool   `json:"made"`       // by this ceremony
	PublicKey string `json:"public_key"` // SHA-256 of its PKIX form in DER
}

// Planned is what the custodians were shown, and exactly what is signed.
type Planned struct {
	Text       string   `json:"text"`
	Items      []Item   `json:"items"`
	Exceptions []string `json:"lint_exceptions,omitempty"`
	Digest     string   `json:"digest"` // what the phrases are made of
}

// Confirmation is that of one custodian.
type Confirmation struct {
	Custodian string `json:"custodian"`
	How       string `json:"how"`              // "phrase": typed when asked; "file"
	Phrase    string `json:"phrase,omitempty"` // that was typed
	File      string `json:"file,omitempty"`   // SHA-256 of the file of confirmations
	Reason    string `json:"reason,omitempty"` // of that file
}

// Made is a file that was made.
type Made struct {
	Name   string `json:"name"` // without its directory
	Item   string `json:"item"` // of the plan that it holds with its signature
	SHA256 string `json:"sha256"`
	Data   []byte `json:"data"`
}

// Outcomes of a ceremony.
const (
	Done   = "done"
	Failed = "failed"
)

// End says how it went.
type End struct {
	Outcome string `json:"outcome"`
	Reason  string `json:"reason,omitempty"`
}

// Signature is over domain, "prev" and "time" of its own line.
type Signature struct {
	PublicKey []byte `json:"public_key"` // PKIX DER
	Signature []byte `json:"signature"`  // ECDSA (DER) or RSA PKCS #1 v1.5 with SHA-256, or Ed25519
}

const signatureDomain = "claviger ceremony transcript 1"

func (e *Entry) signed() []byte {
	return fmt.Appendf(nil, "%s\n%s\n%s\n", signatureDomain, e.Prev, e.Time.Format(time.RFC3339Nano))
}

// transcript is one that is being written: in memory until it is opened, then
// each line goes to the disk before the next step.
type transcript struct {
	now   func() time.Time
	last  time.Time // of the line before
	lines [][]byte
	prev  string
	file  *os.File
}

func newTranscript(now func() time.Time) *transcript { return &transcript{now: now, prev: noLine} }

// entry is the next one, still empty. Its time is never before that of the one
// before, even if the clock was set back.
func (t *transcript) entry() Entry {
	if now := t.now().UTC(); now.After(t.last) {
		t.last = now
	}
	return Entry{Seq: len(t.lines), Time: t.last, Prev: t.prev}
}

func (t *transcript) add(fill func(*Entry)) error {
	e := t.entry()
	fill(&e)
	return t.append(e)
}

func (t *transcript) append(e Entry) error {
	raw, err := encode(e)
	if err != nil {
		return err
	}
	// Once more, so that a text that is not UTF-8 is written as it is read again.
	var read Entry
	if err = json.Unmarshal(raw, &read); err == nil {
		raw, err = encode(read)
	}
	if err != nil {
		return fault.Wrap(fault.Internal, err, "encode the transcript")
	}
	if t.file != nil {
		if err := writeSynced(t.file, append(raw, '\n')); err != nil {
			return fault.Wrap(fault.Internal, err, "write the transcript")
		}
	}
	t.lines, t.prev = append(t.lines, raw), sum(raw)
	return nil
}

func encode(e Entry) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "encode the transcript")
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// open makes the file, which must not exist, and writes all lines so far.
func (t *transcript) open(path string) error {
	f, err := create(path, 0o644)
	if err != nil {
		return err
	}
	if err := writeSynced(f, t.bytes()); err != nil {
		f.Close()
		os.Remove(path)
		return fault.Wrap(fault.Internal, err, "write the transcript")
	}
	t.file = f
	return nil
}

func (t *transcript) bytes() []byte {
	var b []byte
	for _, l := range t.lines {
		b = append(append(b, l...), '\n')
	}
	return b
}

// sign adds the last line.
func (t *transcript) sign(key crypto.Signer) error {
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fault.Wrap(fault.Internal, err, "encode the key of the transcript")
	}
	e := t.entry()
	message := e.signed()
	opts := crypto.SignerOpts(crypto.SHA256)
	if _, ok := key.Public().(ed25519.PublicKey); ok {
		opts = crypto.Hash(0)
	} else {
		s := sha256.Sum256(message)
		message = s[:]
	}
	signature, err := key.Sign(rand.Reader, message, opts)
	if err != nil {
		return err
	}
	e.Signature = &Signature{public, signature}
	return t.append(e)
}

func (t *transcript) close() error {
	if t.file == nil {
		return nil
	}
	return t.file.Close()
}

// verifies tells whether the signature of the last line is right.
func (e *Entry) verifies() error {
	public, err := x509.ParsePKIXPublicKey(e.Signature.PublicKey)
	if err != nil {
		return invalid("the public key of the signature can't be read: %v", err)
	}
	message := e.signed()
	digest := sha256.Sum256(message)
	ok := false
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(public, digest[:], e.Signature.Signature)
	case ed25519.PublicKey:
		ok = ed25519.Verify(public, message, e.Signature.Signature)
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], e.Signature.Signature) == nil
	}
	if !ok {
		return invalid("the signature of the transcript is wrong: it was altered, or signed with another key")
	}
	return nil
}

// fingerprint is the SHA-256 of a public key in its PKIX form, in hexadecimal.
func fingerprint(pkix []byte) string {
	s := sha256.Sum256(pkix)
	return hex.EncodeToString(s[:])
}

// create makes a file that must not exist.
func create(path string, mode os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if os.IsExist(err) {
		return nil, exists(path)
	}
	return f, fault.Wrap(fault.Invalid, err, "make the file")
}

func exists(path string) error {
	return fault.New(fault.Conflict, "%s exists already, and a ceremony writes over nothing", path).
		WithHint("name another file in the document, or put this one away")
}

func writeSynced(f *os.File, data []byte) error {
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// WriteNew writes a file that must not exist, and its directory entry; after an
// error there is none.
func WriteNew(path string, data []byte, mode os.FileMode) error {
	f, err := create(path, mode)
	if err != nil {
		return err
	}
	err = writeSynced(f, data)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		os.Remove(path)
		return fault.Wrap(fault.Internal, err, "write %s", path)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "open the directory")
	}
	defer dir.Close()
	return fault.Wrap(fault.Internal, dir.Sync(), "write the directory %s", path)
}
