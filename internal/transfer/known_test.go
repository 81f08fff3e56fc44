package transfer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What the first release wrote, with tokens of SoftHSM2, all later ones read.
func TestFirstRelease(t *testing.T) {
	t.Parallel()
	s, err := ParseStatement(fixture(t, "statement.json"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Device.Label != "spare" || s.Bits != 3072 || s.Signer.Role != "statement" || s.with()[0] != token.OAEPSHA1 {
		t.Errorf("%+v", s)
	}
	state, err := ParseState(fixture(t, "state.json"))
	if err != nil || !bytes.Equal(state.Statement, s.body) || len(state.Seed) != 384 {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"kek.ring": ContentsKEK, "keys.ring": ContentsKeys} {
		r, err := NewReader(bytes.NewReader(fixture(t, name)))
		if err != nil {
			t.Fatal(name, err)
		}
		if r.Header.Contents != want || want == ContentsKEK && r.Header.Statement != s.Fingerprint() || r.Header.Signer.Role != "audit" {
			t.Errorf("%+v", r.Header)
		}
		if _, err := r.Line(); err != nil {
			t.Error(name, err)
		}
		if _, err := r.Line(); err != io.EOF {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The keys of a ring as another implementation of HKDF and AES-GCM makes them.
func TestKnownKeys(t *testing.T) {
	t.Parallel()
	count := func(from, n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(from + i)
		}
		return b
	}
	h := &Header{ID: hex.EncodeToString(count(0, 16)), RSA: bytes.Repeat([]byte{1}, 384), KEM: bytes.Repeat([]byte{2}, 1088), body: []byte(`{"header":1}`)}
	stream, err := h.streamKey(count(0, 32), count(32, 32), &Statement{body: []byte(`{"statement":1}`)})
	if err != nil || hex.EncodeToString(stream) != "9d2f9984c217549e464b640d1b4598fc7ff22188bb2fdafe1fc8b3aa193534a7" {
		t.Fatalf("%x %v", stream, err)
	}
	sealed, _ := hex.DecodeString("507ef22020bed9fb729ffceb84bdf748a517a5b6de0033c3a010d2432dd3a6b700310e947ca4")
	sum := sha256.Sum256(h.body)
	head := append(append(sum[:], 0, 0, 0, 7), bytes.Repeat([]byte{3}, saltSize)...)
	c := &chunk{number: 7, head: head, sealed: sealed}
	l, err := c.open(stream)
	if err != nil || len(l.Gone) != 1 || l.Gone[0] != "transit/k" {
		t.Fatalf("%+v %v", l, err)
	}
	body, err := h.sealChunk(stream, 7, []byte(`{"gone":["transit/k"]}`))
	if err != nil || !bytes.Equal(body[:36], head[:36]) || bytes.Equal(body[36:68], head[36:]) || len(body) != chunkHead+len(sealed) {
		t.Errorf("%x %v", body, err)
	}
	for i := range sealed {
		bad := *c
		bad.sealed = bytes.Clone(sealed)
		bad.sealed[i] ^= 1
		if _, err := bad.open(stream); fault.KindOf(err) != fault.Invalid {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	for i := range head {
		bad := *c
		bad.head = bytes.Clone(head)
		bad.head[i] ^= 1
		if _, err := bad.open(stream); fault.KindOf(err) != fault.Invalid {
			t.Errorf("byte %d of the head: %v", i, err)
		}
	}
}

// Every byte of a statement and of a ring counts.
func TestFlippedBytes(t *testing.T) {
	t.Parallel()
	statement := fixture(t, "statement.json")
	for i := range len(statement) - 1 {
		bad := bytes.Clone(statement)
		bad[i] ^= 1
		if _, err := ParseStatement(bad); err == nil {
			t.Errorf("byte %d of the statement: %q", i, bad[i])
		}
	}
	ring := fixture(t, "kek.ring")
	for i := range ring {
		bad := bytes.Clone(ring)
		bad[i] ^= 1
		if r, err := NewReader(bytes.NewReader(bad)); err == nil {
			if _, err = r.Line(); err == nil {
				_, err = r.Line()
			}
			if err == nil || err == io.EOF {
				t.Errorf("byte %d of the ring: %q", i, bad[i])
			}
		}
	}
}

// A ring that is cut at any place is known to be, and what is whole of it too.
func TestCutAnywhere(t *testing.T) {
	t.Parallel()
	ring := fixture(t, "keys.ring")
	first := int64(bytes.IndexByte(ring, '\n') + 1)
	for n := range ring {
		r, err := NewReader(bytes.NewReader(ring[:n]))
		if int64(n) < first {
			if !errors.Is(err, ErrCut) {
				t.Fatalf("%d bytes: %v", n, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if _, err := r.Line(); !errors.Is(err, ErrCut) || r.Good != first || r.Next != 1 {
			t.Fatalf("%d bytes: %v, %d good", n, err, r.Good)
		}
	}
	r, err := NewReader(bytes.NewReader(append(bytes.Clone(ring), '\n')))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Line(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Line(); err == nil || err == io.EOF {
		t.Errorf("what is behind the ring was not seen: %v", err)
	}
}

// forge signs a changed statement with a key of its own, as an attacker does.
func forge(t *testing.T, change func(*Statement)) []byte {
	t.Helper()
	s, err := ParseStatement(fixture(t, "statement.json"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if s.Signer.Public, err = x509.MarshalPKIXPublicKey(&key.PublicKey); err != nil {
		t.Fatal(err)
	}
	change(s)
	body, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	r, v, err := ecdsa.Sign(rand.Reader, key, digest(kindStatement, body))
	if err != nil {
		t.Fatal(err)
	}
	e := envelope{Kind: kindStatement, Body: body, Signature: make([]byte, 64)}
	r.FillBytes(e.Signature[:32])
	v.FillBytes(e.Signature[32:])
	line, err := e.line()
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// withExponent is the KEKEK of a statement with another public exponent.
func withExponent(t *testing.T, s *Statement, e int) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: s.public.N, E: e})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// A KEKEK that could leave, or do more than it should, is refused, whoever signed.
func TestForgedStatement(t *testing.T) {
	t.Parallel()
	if _, err := ParseStatement(forge(t, func(*Statement) {})); err != nil {
		t.Fatal(err) // only its fingerprint tells that it is another
	}
	for name, c := range map[string]struct {
		change func(*Statement)
		want   string
	}{
		"extractable": {func(s *Statement) { s.Attributes["CKA_EXTRACTABLE"] = true }, "CKA_EXTRACTABLE"},
		"unknown":     {func(s *Statement) { delete(s.Attributes, "CKA_SENSITIVE") }, "CKA_SENSITIVE"},
		"signs":       {func(s *Statement) { s.Attributes["CKA_SIGN"] = true }, "CKA_SIGN"},
		"imported":    {func(s *Statement) { s.Attributes["CKA_LOCAL"] = false }, "CKA_LOCAL"},
		"bits":        {func(s *Statement) { s.Bits = 4096 }, "RSA key"},
		"padding":     {func(s *Statement) { s.Paddings = []token.Padding{"none"} }, "no padding"},
		"nonce":       {func(s *Statement) { s.Nonce = nil }, "nonce"},
		"id":          {func(s *Statement) { s.ID = "../x" }, "id"},
		"ML-KEM":      {func(s *Statement) { s.MLKEM = s.MLKEM[1:] }, "ML-KEM-768"},
		"KEKEK":       {func(s *Statement) { s.KEKEK = s.Signer.Public }, "RSA key"},
		"exponent 1":  {func(s *Statement) { s.KEKEK = withExponent(t, s, 1) }, "public exponent"},
		"exponent 3":  {func(s *Statement) { s.KEKEK = withExponent(t, s, 3) }, "public exponent"},
		"exponent F3": {func(s *Statement) { s.KEKEK = withExponent(t, s, 257) }, "public exponent"},
	} {
		if _, err := ParseStatement(forge(t, c.change)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzStatement(f *testing.F) {
	f.Add(fixture(f, "statement.json"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseStatement(b); err == nil && (s.public == nil || s.kem == nil) {
			t.Error("a statement without keys")
		}
		if _, err := ParseState(b); err == nil {
			t.Error("a statement is a state")
		}
	})
}

func FuzzRing(f *testing.F) {
	f.Add(fixture(f, "kek.ring"))
	f.Add(fixture(f, "keys.ring"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		for err == nil {
			_, err = r.Line()
		}
		if r.Good > int64(len(b)) {
			t.Error("more was good than there is")
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"keys":[{"mount":"transit/","record":{},"secrets":1}],"freights":[{"padding":"pkcs1","key":"","keys":[]}]}`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		l := new(load)
		if strictJSON(b, l) == nil {
			l.wipe()
		}
	})
}
