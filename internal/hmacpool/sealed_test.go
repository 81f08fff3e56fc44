package hmacpool

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/fault"
)

// keyring stands for the HSM token: it wraps by remembering.
type keyring struct {
	keys map[string][]byte // text → key ‖ aad
	err  error
}

func (k *keyring) sealing() *Sealing {
	return &Sealing{Mount: "transit", Key: "pool", Wrap: k.wrap, Unwrap: k.unwrap}
}

func (k *keyring) wrap(_ context.Context, h *Header, key, aad []byte) (string, error) {
	if k.keys == nil {
		k.keys = map[string][]byte{}
	}
	k.keys[h.ID] = append(bytes.Clone(key), aad...)
	return "vault:v1:" + h.ID, k.err
}

func (k *keyring) unwrap(_ context.Context, h *Header, aad []byte) ([]byte, error) {
	known, ok := k.keys[strings.TrimPrefix(h.Wrapped, "vault:v1:")]
	if !ok || !bytes.Equal(known[KeySize:], aad) {
		return nil, fault.New(fault.Invalid, "cipher: message authentication failed")
	}
	return bytes.Clone(known[:KeySize]), k.err
}

// testHeader and testKey are those of the known answer.
var testHeader = Header{Format: headerFormat, ID: "000102030405060708090a0b0c0d0e0f", Mode: "MODE16",
	Mount: "transit", Key: "pool", Wrapped: "vault:v1:AAAA"}

func testSeal(t testing.TB) *seal {
	t.Helper()
	key := bytes.Repeat([]byte{0x42}, KeySize)
	s, err := newSeal(&testHeader, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSealedFormat opens a chunk that another implementation of the format made
// (Python's cryptography: AESGCM), and checks both texts of associated data.
func TestSealedFormat(t *testing.T) {
	t.Parallel()
	s := testSeal(t)
	wantAAD := hex.EncodeToString([]byte("claviger hmacpool chunk 1\x00")) + "000102030405060708090a0b0c0d0e0f" + "10" + "0000" + "0102"
	if got := hex.EncodeToString(s.appendAAD(nil, 0, 0x0102)); got != wantAAD {
		t.Errorf("associated data of a chunk: %s", got)
	}
	aad, err := testHeader.KeyAAD()
	if want := hex.EncodeToString([]byte("claviger hmacpool key 1\x00")) + "000102030405060708090a0b0c0d0e0f" + "10"; err != nil || hex.EncodeToString(aad) != want {
		t.Errorf("associated data of the pool key: %x, %v", aad, err)
	}
	chunk, err := hex.DecodeString(knownChunk)
	if err != nil || len(chunk) != chunkSize(Mode16) {
		t.Fatalf("%d bytes, %v", len(chunk), err)
	}
	secrets, err := s.open(chunk, 0, 0x0102)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range secrets {
		if b != byte(i) || len(secrets) != 512 {
			t.Fatalf("byte %d of %d is %02x", i, len(secrets), b)
		}
	}
}

// TestChunksStay: a chunk opens at its place in its file of its pool only, and
// whole only.
func TestChunksStay(t *testing.T) {
	t.Parallel()
	s := testSeal(t)
	plain := bytes.Repeat([]byte{7}, 512)
	sealed := s.append(nil, plain, 3, 5)
	if again := s.append(nil, plain, 3, 5); bytes.Equal(again[:nonceSize], sealed[:nonceSize]) {
		t.Error("a nonce was used twice")
	}
	if secrets, err := s.open(bytes.Clone(sealed), 3, 5); err != nil || !bytes.Equal(secrets, plain) {
		t.Fatalf("%x, %v", secrets, err)
	}
	other := testHeader
	other.ID = strings.Repeat("f", 32)
	foreign, err := newSeal(&other, bytes.Repeat([]byte{0x42}, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	refuses := func(what string, s *seal, chunk []byte, file, n uint16) {
		t.Helper()
		if _, err := s.open(bytes.Clone(chunk), file, n); !errors.Is(err, errAltered) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refuses("another chunk", s, sealed, 3, 4)
	refuses("another file", s, sealed, 5, 5)
	refuses("another pool", foreign, sealed, 3, 5)
	refuses("a short chunk", s, sealed[:len(sealed)-1], 3, 5)
	refuses("hardly anything", s, sealed[:27], 3, 5)
	for i := range sealed {
		sealed[i] ^= 1
		refuses("an altered byte", s, sealed, 3, 5)
		sealed[i] ^= 1
	}
}

func TestSealedPool(t *testing.T) {
	t.Parallel()
	for _, m := range []Mode{Mode0, Mode16} {
		var ring keyring
		dir := filepath.Join(t.TempDir(), "pool")
		if _, err := Create(t.Context(), CreateOptions{Dir: dir, Mode: m, Sealing: ring.sealing()}); err != nil {
			t.Fatal(err)
		}
		p, err := openPool(t.Context(), Settings{Dir: dir, Mode: m}, ring.unwrap)
		if err != nil {
			t.Fatal(err)
		}
		first, err := p.code(nil, []byte("hello world"))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := p.code(nil, []byte("hello world")); err != nil || !bytes.Equal(first, again) {
			t.Errorf("%v: %x and %x, %v", m, first, again, err)
		}
		checkSecrets(t, p)
		path := filepath.Join(dir, m.fileName(0))
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		at := int(p.place([]byte("hello world")).record) / chunkSecrets(m) * chunkSize(m)
		content[at+nonceSize] ^= 1
		write(t, dir, m.fileName(0), content)
		if _, err := p.code(nil, []byte("hello world")); fault.KindOf(err) != fault.Unavailable || !errors.Is(err, errAltered) {
			t.Errorf("%v altered: %v", m, err)
		}
		if _, err := openPool(t.Context(), Settings{Dir: dir, Mode: m}, nil); fault.KindOf(err) != fault.Invalid {
			t.Errorf("without the key: %v", err)
		}
		var wrong keyring
		if _, err := openPool(t.Context(), Settings{Dir: dir, Mode: m}, wrong.unwrap); err == nil {
			t.Error("opened with another HSM")
		}
	}
}

// checkSecrets compares the codes of some messages with those of a plain pool of
// the same secrets.
func checkSecrets(t *testing.T, p *pool) {
	t.Helper()
	content, err := os.ReadFile(p.only.path)
	if err != nil {
		t.Fatal(err)
	}
	var plain []byte
	for chunk := range len(content) / chunkSize(p.Mode) {
		secrets, err := p.seal.open(content[chunk*chunkSize(p.Mode):(chunk+1)*chunkSize(p.Mode)], 0, uint16(chunk))
		if err != nil {
			t.Fatal(err)
		}
		plain = append(plain, secrets...)
	}
	dir := t.TempDir()
	write(t, dir, p.Mode.fileName(0), plain)
	q := open(t, Settings{Dir: dir, Mode: p.Mode})
	for _, message := range []string{"hello world", "a", "apples and pears", "\x00", "msg8"} {
		x, err := p.code(nil, []byte(message))
		y, err2 := q.code(nil, []byte(message))
		if err != nil || err2 != nil || !bytes.Equal(x, y) {
			t.Errorf("%v %q: sealed %x, plain %x, %v, %v", p.Mode, message, x, y, err, err2)
		}
	}
}

func TestParseHeaderRefuses(t *testing.T) {
	t.Parallel()
	good, err := json.Marshal(testHeader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseHeader(good); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{"claviger hmacpool 1", "claviger hmacpool 2"}, {"0d0e0f", "0d0e0"}, {"0d0e0f", "0d0e"}, {`"format"`, `"more":1,"format"`}, {"0d0e0f", "0D0E0F"}, {"0d0e0f", "0d0e0x"},
		{"MODE16", "Mode16"}, {`"transit"`, `"/"`}, {`"pool"`, `""`}, {`"pool"`, `"a/b"`}, {"vault:v1:AAAA", ""},
		{`"mount"`, `"mont"`}, {`}`, `} {}`}, {`}`, ``}, {`{`, `[`},
	} {
		text := strings.Replace(string(good), change[0], change[1], 1)
		if text == string(good) {
			t.Fatalf("%q is not there", change[0])
		}
		if _, err := ParseHeader([]byte(text)); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), HeaderFile) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzParseHeader: a header that is accepted says all that is needed, and the same
// when it is written again.
func FuzzParseHeader(f *testing.F) {
	good, err := json.Marshal(testHeader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"format":"claviger hmacpool 1"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := ParseHeader(text)
		if err != nil {
			if fault.KindOf(err) != fault.Invalid {
				t.Errorf("%v", err)
			}
			return
		}
		if _, err := h.KeyAAD(); err != nil {
			t.Error(err)
		}
		again, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		if h2, err := ParseHeader(again); err != nil || *h2 != *h {
			t.Errorf("%s read again: %v", again, err)
		}
	})
}

// FuzzChunk: nothing but what was sealed opens.
func FuzzChunk(f *testing.F) {
	s := testSeal(f)
	f.Add([]byte{}, uint16(0), uint16(0))
	f.Add(make([]byte, chunkSize(Mode16)), uint16(1), uint16(2))
	f.Fuzz(func(t *testing.T, chunk []byte, file, n uint16) {
		if _, err := s.open(chunk, file, n); !errors.Is(err, errAltered) {
			t.Errorf("opened: %v", err)
		}
	})
}
