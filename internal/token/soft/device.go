package soft

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/claviger/claviger/internal/token"
)

// Config says where a software token lies.
type Config struct {
	// Dir is the directory of the key file; Create makes it. Empty: the token
	// is in memory and ends with the process.
	Dir string
	// Label of the token, 1 to 32 bytes. Empty: "claviger".
	Label string
}

// Lengths of a PIN in bytes.
const minPIN, maxPIN = 4, 255

// Device is one software token before login. Its methods are safe for
// concurrent use; one Token of it can be open at a time, over all processes.
type Device struct {
	label string
	kdf   kdf
	files storage
}

var _ token.Device = (*Device)(nil)

// NewDevice returns the token that cfg describes. It reads and makes nothing.
func NewDevice(cfg Config) *Device {
	d := &Device{label: cfg.Label, kdf: diskKDF, files: directory(cfg.Dir)}
	if cfg.Label == "" {
		d.label = "claviger"
	}
	if cfg.Dir == "" {
		d.kdf, d.files = memoryKDF, new(memory)
	}
	return d
}

// load reads the token of the configured label; ErrAbsent if there is none or
// one of another label.
func (d *Device) load() (*keyFile, error) {
	raw, err := d.files.read()
	if err != nil {
		return nil, err
	}
	f, err := parseFile(raw)
	if err != nil {
		return nil, fmt.Errorf("software token: %w", err)
	}
	if f.label != d.label {
		return nil, fmt.Errorf("%w: the key file is of the token %q, not %q", token.ErrAbsent, f.label, d.label)
	}
	return f, nil
}

// State implements token.Device. The PIN of a software token never locks.
func (d *Device) State(ctx context.Context) (token.State, error) {
	st := token.State{Label: d.label, MinPIN: minPIN, MaxPIN: maxPIN}
	if err := alive(ctx); err != nil {
		return st, err
	}
	if _, err := d.files.read(); errors.Is(err, token.ErrAbsent) {
		st.Present = true // a free place
		return st, nil
	}
	f, err := d.load()
	if errors.Is(err, token.ErrAbsent) {
		return st, nil // of another label
	}
	if err != nil {
		return st, err
	}
	st.Present, st.Initialized, st.Serial = true, true, f.serialText()
	return st, nil
}

// Create implements token.Device. Both PINs have 4 to 255 bytes.
func (d *Device) Create(ctx context.Context, soPIN, userPIN []byte) error {
	if err := d.checkCreate(soPIN, userPIN); err != nil {
		return err
	}
	if err := alive(ctx); err != nil {
		return err
	}
	if err := d.files.prepare(); err != nil {
		return err
	}
	unlock, err := d.files.lock()
	if err != nil {
		return err
	}
	return errors.Join(d.create(soPIN, userPIN), unlock())
}

func (d *Device) checkCreate(soPIN, userPIN []byte) error {
	if len(d.label) > maxLabel || !utf8.ValidString(d.label) {
		return fmt.Errorf("the label %q of the HSM token: it can have up to %d bytes of UTF-8", d.label, maxLabel)
	}
	return errors.Join(checkPIN("SO", soPIN), checkPIN("user", userPIN))
}

func checkPIN(who string, pin []byte) error {
	if len(pin) < minPIN || len(pin) > maxPIN {
		return fmt.Errorf("a %s PIN of %d bytes; it can have %d to %d", who, len(pin), minPIN, maxPIN)
	}
	return nil
}

func (d *Device) create(soPIN, userPIN []byte) error {
	// Whatever lies there, even damaged or of another label, is never overwritten.
	if raw, err := d.files.read(); err == nil {
		if f, err := parseFile(raw); err == nil && f.label != d.label {
			return fmt.Errorf("%w: its label is %q", token.ErrExists, f.label)
		}
		return token.ErrExists
	} else if !errors.Is(err, token.ErrAbsent) {
		return err
	}
	fileKey := randomBytes(fileKeySize)
	defer clear(fileKey)
	h := &header{label: d.label}
	copy(h.serial[:], randomBytes(len(h.serial)))
	if err := h.setPIN(roleUser, d.kdf, userPIN, fileKey); err != nil {
		return err
	}
	if err := h.setPIN(roleSO, d.kdf, soPIN, fileKey); err != nil {
		return err
	}
	file, err := sealFile(h, fileKey, new(contents).encode())
	if err != nil {
		return err
	}
	return d.files.write(file)
}

// Open implements token.Device. A damaged key file is an error of its own, not ErrPIN.
func (d *Device) Open(ctx context.Context, userPIN []byte) (token.Token, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	unlock, err := d.files.lock()
	if err != nil {
		return nil, err
	}
	t, err := d.open(userPIN)
	if err == nil {
		err = alive(ctx) // deriving the key takes time that the caller may not have
	}
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	t.unlock = unlock
	return t, nil
}

func (d *Device) open(userPIN []byte) (*Token, error) {
	f, err := d.load()
	if err != nil {
		return nil, err
	}
	fileKey, err := f.fileKey(roleUser, userPIN)
	if err != nil {
		return nil, err
	}
	t, err := d.openWith(f, fileKey)
	if err != nil {
		clear(fileKey)
		return nil, err
	}
	return t, nil
}

func (d *Device) openWith(f *keyFile, fileKey []byte) (*Token, error) {
	plain, err := f.open(fileKey)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	c, err := parseContents(plain)
	if err != nil {
		return nil, err
	}
	return newToken(d, f.header, fileKey, c)
}

// ResetPIN gives the token a new user PIN, as C_InitPIN of a security officer
// does. The keys stay. ErrPIN if the SO PIN is wrong; the token must be closed.
func (d *Device) ResetPIN(ctx context.Context, soPIN, userPIN []byte) error {
	if err := errors.Join(checkPIN("user", userPIN), alive(ctx)); err != nil {
		return err
	}
	unlock, err := d.files.lock()
	if err != nil {
		return err
	}
	return errors.Join(d.resetPIN(soPIN, userPIN), unlock())
}

func (d *Device) resetPIN(soPIN, userPIN []byte) error {
	f, err := d.load()
	if err != nil {
		return err
	}
	fileKey, err := f.fileKey(roleSO, soPIN)
	if err != nil {
		return err
	}
	defer clear(fileKey)
	plain, err := f.open(fileKey)
	if err != nil {
		return err
	}
	defer clear(plain)
	if err := f.setPIN(roleUser, d.kdf, userPIN, fileKey); err != nil {
		return err
	}
	file, err := sealFile(&f.header, fileKey, plain)
	if err != nil {
		return err
	}
	return d.files.write(file)
}
