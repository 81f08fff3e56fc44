package soft

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/token"
)

var userPIN, soPIN = []byte("user-pin"), []byte("so-pin")

// quickDevice is a device on the disk whose PINs cost little.
func quickDevice(t testing.TB) (*Device, directory) {
	dir := directory(filepath.Join(t.TempDir(), "token"))
	return &Device{label: "quick", kdf: memoryKDF, files: dir}, dir
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openToken(t testing.TB, d *Device) *Token {
	t.Helper()
	tok, err := d.Open(context.Background(), userPIN)
	check(t, err)
	t.Cleanup(func() { check(t, tok.Close()) })
	return tok.(*Token)
}

// created returns a provisioned token.
func created(t testing.TB, d *Device) *Token {
	t.Helper()
	ctx := context.Background()
	check(t, d.Create(ctx, soPIN, userPIN))
	tok := openToken(t, d)
	check(t, tok.Provision(ctx, false))
	return tok
}

func anObject(t testing.TB, tok *Token) token.Stored {
	t.Helper()
	stored, err := tok.Generate(context.Background(),
		token.Spec{Type: token.AES256, Place: token.PlaceObject, ID: token.ID(randomBytes(16))})
	check(t, err)
	return stored
}

func seals(tok token.Token, s token.Stored) error {
	key, err := tok.Key(s)
	if err != nil {
		return err
	}
	return key.Do(context.Background(), token.Op{Kind: token.Seal}, []token.Item{{Nonce: make([]byte, 12)}})
}

func TestModes(t *testing.T) {
	t.Parallel()
	d, dir := quickDevice(t)
	created(t, d)
	want := map[string]fs.FileMode{".": fs.ModeDir | 0o700, fileName: 0o600, lockName: 0o600}
	for name, mode := range want {
		if st, err := os.Stat(dir.path(name)); err != nil || st.Mode() != mode {
			t.Errorf("%s: mode %v, error %v; want %v", name, st.Mode(), err, mode)
		}
	}
	entries, err := os.ReadDir(string(dir))
	check(t, err)
	if len(entries) != 2 {
		t.Errorf("the directory has %v", entries)
	}
}

// TestOneUser: a token is open once, and made by one.
func TestOneUser(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]*Device{"memory": NewDevice(Config{}), "disk": func() *Device { d, _ := quickDevice(t); return d }()} {
		tok := created(t, d)
		ctx := context.Background()
		if _, err := d.Open(ctx, userPIN); !errors.Is(err, errInUse) {
			t.Errorf("%s: Open while it is open: %v", name, err)
		}
		if err := d.ResetPIN(ctx, soPIN, userPIN); !errors.Is(err, errInUse) {
			t.Errorf("%s: ResetPIN while it is open: %v", name, err)
		}
		if st, err := d.State(ctx); err != nil || !st.Initialized {
			t.Errorf("%s: State while it is open: %+v, %v", name, st, err)
		}
		check(t, tok.Close())
		openToken(t, d)
	}
}

// TestOtherLabel: a token of another label is neither used nor overwritten.
func TestOtherLabel(t *testing.T) {
	t.Parallel()
	d, dir := quickDevice(t)
	check(t, d.Create(context.Background(), soPIN, userPIN))
	before, err := os.ReadFile(dir.path(fileName))
	check(t, err)
	other := NewDevice(Config{Dir: string(dir), Label: "other"})
	if st, err := other.State(context.Background()); err != nil || st.Present || st.Initialized {
		t.Errorf("State = %+v, %v", st, err)
	}
	_, err = other.Open(context.Background(), userPIN)
	if !errors.Is(err, token.ErrAbsent) || !strings.Contains(err.Error(), `"quick"`) {
		t.Errorf("Open: %v", err)
	}
	if err := other.Create(context.Background(), soPIN, userPIN); !errors.Is(err, token.ErrExists) {
		t.Errorf("Create: %v", err)
	}
	check(t, os.WriteFile(dir.path(fileName), []byte("damaged"), 0o600))
	if err := d.Create(context.Background(), soPIN, userPIN); !errors.Is(err, token.ErrExists) {
		t.Errorf("Create over a damaged file: %v", err)
	}
	check(t, os.WriteFile(dir.path(fileName), before, 0o600))
	openToken(t, d)
}

func TestLabels(t *testing.T) {
	t.Parallel()
	for _, label := range []string{strings.Repeat("x", 33), "\xff\xfe"} {
		if err := NewDevice(Config{Label: label}).Create(context.Background(), soPIN, userPIN); err == nil {
			t.Errorf("label %q was taken", label)
		}
	}
	d := NewDevice(Config{})
	if created(t, d).Info().Label != "claviger" {
		t.Error("the default label is another one")
	}
}

func TestResetPIN(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d, _ := quickDevice(t)
	tok := created(t, d)
	stored := anObject(t, tok)
	check(t, tok.Close())
	if err := d.ResetPIN(ctx, userPIN, []byte("new-pin")); !errors.Is(err, token.ErrPIN) {
		t.Errorf("the user PIN served as SO PIN: %v", err)
	}
	if err := d.ResetPIN(ctx, soPIN, []byte("123")); err == nil {
		t.Error("a PIN of 3 bytes was taken")
	}
	check(t, d.ResetPIN(ctx, soPIN, []byte("new-pin")))
	for _, wrong := range [][]byte{userPIN, soPIN} {
		if _, err := d.Open(ctx, wrong); !errors.Is(err, token.ErrPIN) {
			t.Errorf("Open by %q: %v", wrong, err)
		}
	}
	again, err := d.Open(ctx, []byte("new-pin"))
	check(t, err)
	defer again.Close()
	check(t, seals(again, stored))
	check(t, again.Close())
	check(t, d.ResetPIN(ctx, soPIN, userPIN)) // the SO PIN is still the same
}

// TestWiped: a closed token leaves no secret behind in what it held.
func TestWiped(t *testing.T) {
	t.Parallel()
	tok := created(t, NewDevice(Config{}))
	destroyed := anObject(t, tok)
	anObject(t, tok)
	fileKey := tok.fileKey
	var secrets [][]byte
	for _, o := range tok.contents.objects {
		secrets = append(secrets, o.secret)
	}
	gone := tok.contents.objects[destroyed.ID].secret
	check(t, tok.Destroy(context.Background(), destroyed))
	if !bytes.Equal(gone, make([]byte, 32)) {
		t.Error("the secret of a destroyed object is still there")
	}
	check(t, tok.Close())
	for _, b := range append(secrets, fileKey) {
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("a secret of %d bytes is still there", len(b))
		}
	}
	if len(secrets) != 5 {
		t.Errorf("%d secrets were looked at, not 5", len(secrets))
	}
}

// TestNotOnDisk: neither secrets nor PINs are in the files.
func TestNotOnDisk(t *testing.T) {
	t.Parallel()
	d, dir := quickDevice(t)
	tok := created(t, d)
	anObject(t, tok)
	file, err := os.ReadFile(dir.path(fileName))
	check(t, err)
	secrets := [][]byte{userPIN, soPIN, tok.fileKey}
	for _, o := range tok.contents.objects {
		secrets = append(secrets, o.secret, o.public, o.id[:])
	}
	for _, s := range secrets {
		if len(s) > 0 && bytes.Contains(file, s) {
			t.Errorf("the file shows %x", s)
		}
	}
}

// TestSystemKeys are out of reach for Generate, Destroy and, but for the audit
// key, for use.
func TestSystemKeys(t *testing.T) {
	t.Parallel()
	tok := created(t, NewDevice(Config{}))
	ctx := context.Background()
	for id, o := range tok.contents.objects {
		stored := token.Stored{Type: o.typ, Place: token.PlaceObject, ID: id}
		if err := tok.Destroy(ctx, stored); err == nil {
			t.Errorf("%s was destroyed", o.label)
		}
		if _, err := tok.Generate(ctx, token.Spec{Type: o.typ, Place: token.PlaceObject, ID: id}); err == nil {
			t.Errorf("%s was replaced", o.label)
		}
		if err := seals(tok, stored); o.typ == token.AES256 && !errors.Is(err, token.ErrNotFound) {
			t.Errorf("%s was used: %v", o.label, err)
		}
	}
}

// TestSwappedRecords: the software token can tell more of a record than the
// suite asks of every driver.
func TestSwappedRecords(t *testing.T) {
	t.Parallel()
	tok := created(t, NewDevice(Config{}))
	ctx := context.Background()
	made := make(map[token.Type][2]token.Stored)
	for _, typ := range []token.Type{token.P256, token.P384, token.Ed25519, token.HMAC, token.AES128, token.AES256} {
		var two [2]token.Stored
		for i := range two {
			spec := token.Spec{Type: typ, Place: token.PlaceWrapped}
			if typ == token.HMAC {
				spec.Size = 64
			}
			stored, err := tok.Generate(ctx, spec)
			check(t, err)
			two[i] = stored
		}
		made[typ] = two
	}
	for x, xs := range made {
		for y, ys := range made {
			record := xs[0]
			record.Blob = ys[1].Blob
			key, err := tok.Key(record)
			check(t, err)
			op := token.Op{Kind: token.Sign}
			if x.Class() == token.ClassAEAD {
				op.Kind = token.Seal
			} else if x == token.HMAC {
				op = token.Op{Kind: token.MAC, Hash: crypto.SHA256}
			}
			err = key.Do(ctx, op, []token.Item{{In: make([]byte, 32), Nonce: make([]byte, 12)}})
			same := x == y && len(xs[0].Public) == 0
			if same && err != nil || !same && !errors.Is(err, token.ErrBlob) {
				t.Errorf("a record of %s with a blob of %s: %v", x, y, err)
			}
		}
	}
	short := made[token.HMAC][0]
	short.Size = 63
	if err := seals(tok, short); !errors.Is(err, token.ErrBlob) {
		t.Errorf("an HMAC key of another size: %v", err)
	}
}
