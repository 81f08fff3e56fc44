package soft

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"testing"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/claviger/claviger/internal/token"
)

// The fixture of format version 1: a provisioned token with one object, whose
// PINs are these.
const (
	fixture     = "testdata/token-v1.key"
	fixturePIN  = "user-pin-of-fixture"
	fixtureSO   = "so-pin-of-fixture"
	fixtureName = "fixture"

	// Made by the fixture's keys: a sealed secret, a wrapped key, and the
	// HMAC-SHA-256 codes of "message" under its object and the wrapped key.
	fixtureSealed    = "01f1e378f6c41ad9f19b4cf8c0dac821c08f784b8d062daacf91681cce62820d34638d4dfbd95d8b4f85"
	fixtureBlob      = "5054a48291a3b397f12b97b80916993a1f9c27d7326f1bf1d05375d8e5d946dfc400800b2c9c0bcd"
	fixtureObjectMAC = "b9fa32ff9988a27c6e6914eb9524212ac5ecf407143855dc6bc6ffcfba0abc05"
	fixtureBlobMAC   = "5dbc2a13128bf96230a473e658c9acc10bebf51e657954f35bcddb2fd3348bfa"
)

func readFixture(t testing.TB) []byte {
	t.Helper()
	file, err := os.ReadFile(fixture)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// fixtureDevice returns a token in memory with the contents of file.
func fixtureDevice(file []byte) *Device {
	return &Device{label: fixtureName, kdf: memoryKDF, files: &memory{file: file}}
}

// TestFormat opens the fixture by the drawing in keyfile.go, with nothing of
// this package.
func TestFormat(t *testing.T) {
	t.Parallel()
	file := readFixture(t)
	if string(file[:10]) != "CLVGRTKN\x00\x01" || string(file[18:26]) != "\x07fixture" {
		t.Fatalf("the file begins %q", file[:26])
	}
	end := len(file) - 32
	if sum := sha256.Sum256(file[:end]); !bytes.Equal(sum[:], file[end:]) {
		t.Error("the checksum is wrong")
	}
	const l = 7
	var keys [2][]byte
	for i, who := range []struct {
		pin  string
		slot byte
	}{{fixturePIN, 'u'}, {fixtureSO, 's'}} {
		slot := file[19+l+97*i:][:97]
		passes, memory := binary.BigEndian.Uint32(slot), binary.BigEndian.Uint32(slot[4:])
		if passes != 2 || memory != 19456 || slot[8] != 1 {
			t.Errorf("Argon2id parameters %d, %d, %d", passes, memory, slot[8])
		}
		aad := append(bytes.Clone(file[:19+l]), who.slot)
		key := argon2.IDKey([]byte(who.pin), slot[9:25], passes, memory, slot[8], 32)
		keys[i] = openX(t, key, slot[25:49], slot[49:97], append(aad, slot[:25]...))
	}
	if !bytes.Equal(keys[0], keys[1]) {
		t.Error("the two PINs lead to two file keys")
	}
	body := openX(t, keys[0], file[213+l:237+l], file[237+l:end], file[:213+l])
	if body[0] != 1 || binary.BigEndian.Uint32(body[1:]) != 4 {
		t.Errorf("the body begins %x", body[:5])
	}
}

func openX(t *testing.T, key, nonce, sealed, aad []byte) []byte {
	t.Helper()
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := aead.Open(nil, nonce, sealed, aad)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// TestFixture: what was written once is read for ever, and the keys are the same.
func TestFixture(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	tok, err := fixtureDevice(readFixture(t)).Open(ctx, []byte(fixturePIN))
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	if info := tok.Info(); info.Label != fixtureName || info.Serial != "8f12a6b447b71fdc" || !info.Transferable {
		t.Errorf("Info = %+v", info)
	}
	opened, err := tok.OpenSecret(ctx, unhex(t, fixtureSealed), []byte("aad"))
	if err != nil || string(opened) != "sealed secret" {
		t.Errorf("OpenSecret: %q, %v", opened, err)
	}
	for _, stored := range []token.Stored{
		{Type: token.HMAC, Size: 32, Place: token.PlaceObject, ID: token.ID([]byte("fixture object 1"))},
		{Type: token.HMAC, Size: 32, Place: token.PlaceWrapped, Blob: unhex(t, fixtureBlob)},
	} {
		key, err := tok.Key(stored)
		if err != nil {
			t.Fatal(err)
		}
		items := []token.Item{{In: []byte("message")}}
		if err := key.Do(ctx, token.Op{Kind: token.MAC, Hash: crypto.SHA256}, items); err != nil {
			t.Fatal(err)
		}
		want := fixtureObjectMAC
		if stored.Place == token.PlaceWrapped {
			want = fixtureBlobMAC
		}
		if got := hex.EncodeToString(items[0].Out); got != want {
			t.Errorf("code %s, want %s", got, want)
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// quickFile returns a small file whose PINs cost little.
func quickFile(t testing.TB) []byte {
	t.Helper()
	files := new(memory)
	d := &Device{label: fixtureName, kdf: memoryKDF, files: files}
	if err := d.Create(context.Background(), []byte(fixtureSO), []byte(fixturePIN)); err != nil {
		t.Fatal(err)
	}
	return files.file
}

// TestEveryBit: no altered or cut file opens, with either PIN, whether or not
// the checksum was made right again.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	file := quickFile(t)
	refuse := func(what string, file []byte) {
		t.Helper()
		ctx := context.Background()
		if _, err := fixtureDevice(file).Open(ctx, []byte(fixturePIN)); err == nil {
			t.Fatalf("%s: it opens", what)
		}
		if err := fixtureDevice(file).ResetPIN(ctx, []byte(fixtureSO), []byte("new pin")); err == nil {
			t.Fatalf("%s: it takes a new PIN", what)
		}
	}
	for bit := range len(file) * 8 {
		bad := bytes.Clone(file)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := parseFile(bad); err == nil {
			t.Fatalf("bit %d altered: the file is parsed", bit)
		}
		if bit < (len(file)-32)*8 {
			refuse("bit altered", checksummed(bad[:len(bad)-32]))
		}
	}
	for n := range file {
		if _, err := parseFile(file[:n]); err == nil {
			t.Fatalf("cut to %d bytes: the file is parsed", n)
		}
		if n < len(file)-32 {
			refuse("cut", checksummed(file[:n]))
		}
	}
	refuse("a byte more", checksummed(append(bytes.Clone(file[:len(file)-32]), 0)))
	if _, err := fixtureDevice(file).Open(context.Background(), []byte(fixturePIN)); err != nil {
		t.Error(err)
	}
}

func checksummed(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(bytes.Clone(b), sum[:]...)
}

// TestDamage: damage is not taken for a wrong PIN, nor the reverse.
func TestDamage(t *testing.T) {
	t.Parallel()
	file := quickFile(t)
	ctx := context.Background()
	if _, err := fixtureDevice(file).Open(ctx, []byte("another")); !errors.Is(err, token.ErrPIN) {
		t.Errorf("wrong PIN: %v", err)
	}
	for _, at := range []int{40, 130, 230, len(file) - 1} {
		bad := bytes.Clone(file)
		bad[at] ^= 1
		if _, err := fixtureDevice(bad).Open(ctx, []byte(fixturePIN)); !errors.Is(err, errDamaged) || errors.Is(err, token.ErrPIN) {
			t.Errorf("damage at %d: %v", at, err)
		}
		if _, err := fixtureDevice(bad).State(ctx); !errors.Is(err, errDamaged) {
			t.Errorf("State with damage at %d: %v", at, err)
		}
	}
	newer := bytes.Clone(file)
	newer[9] = 2
	if _, err := parseFile(newer); err == nil || errors.Is(err, errDamaged) {
		t.Errorf("a newer version: %v", err)
	}
	if _, err := parseFile([]byte("# a text file of another program\n")); err == nil || errors.Is(err, errDamaged) {
		t.Errorf("another file: %v", err)
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add(readFixture(f))
	f.Add(quickFile(f))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, file []byte) {
		for _, b := range [][]byte{file, checksummed(file)} {
			p, err := parseFile(b)
			if err != nil {
				continue
			}
			again := append(append(p.encode(), p.nonce[:]...), p.body...)
			if !bytes.Equal(checksummed(again), b) {
				t.Errorf("%x is parsed, and encoded as %x", b, again)
			}
		}
	})
}
