//go:build cgo

package pkcs11

import (
	"bytes"
	"encoding/hex"
	"strings"
	"syscall"
	"testing"

	"github.com/claviger/claviger/internal/token/tokentest"
)

// softKey opens SoftHSM2 with a token of its own and returns a session, and the AES
// key of 16 zero bytes as an object of it. There is one such test: a process has one
// module of a kind.
func softKey(t *testing.T) (*Session, Handle) {
	t.Helper()
	module, env := tokentest.SoftHSM(t)
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	m, err := Open(module)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Initialize(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Finalize(); err != nil {
			t.Error(err)
		}
	})
	slots, err := m.Slots()
	if err != nil || len(slots) == 0 {
		t.Fatal(slots, err)
	}
	if err := m.InitToken(slots[0], []byte("so-pin-81500"), "lane"); err != nil {
		t.Fatal(err)
	}
	s, err := m.OpenSession(slots[0])
	if err != nil {
		t.Fatal(err)
	}
	key, err := s.Create((&Template{}).Ulong(AttrClass, ClassSecret).Ulong(AttrKeyType, KeyAES).
		Bool(false, AttrToken, AttrPrivate, AttrSensitive).Bool(true, AttrEncrypt, AttrDecrypt).Bytes(AttrValue, make([]byte, 16)))
	if err != nil {
		t.Fatal(err)
	}
	return s, key
}

// gcm is the payload of an AES-GCM operation on slot 3.
func gcm(fn Func, items ...[]byte) []byte {
	b := append(numbers(nil, 3), byte(fn), byte(GCM))
	b = numbers(b, uint32(AESGCM), 0, 0, 0, uint32(len(items)))
	return append(b, bytes.Join(items, nil)...)
}

// gcmItem is an item with a nonce of zeros.
func gcmItem(in []byte) []byte {
	return append(append(numbers(nil, 12, 0, uint32(len(in)), uint32(len(in)+16)), make([]byte, 12)...), in...)
}

// answered is the frame of an answer of sequence number seq.
func answered(seq uint32, results ...[]byte) []byte {
	b := numbers([]byte{0}, uint32(len(results)))
	return framed(FrameDo|FrameAnswer, seq, append(b, bytes.Join(results, nil)...))
}

func okResult(out []byte) []byte {
	return append(numbers(nil, 0, AtCall, uint32(len(out))), out...)
}

// got reads the answers, which must be want to the byte.
func got(t *testing.T, fd int, want []byte) {
	t.Helper()
	b := make([]byte, len(want))
	for n := 0; n < len(b); {
		k, err := syscall.Read(fd, b[n:])
		if err != nil || k == 0 {
			t.Fatalf("%d of %d bytes, %v", n, len(b), err)
		}
		n += k
	}
	if !bytes.Equal(b, want) {
		t.Errorf("%.200x\nwant %.200x", b, want)
	}
}

func TestLaneAnswers(t *testing.T) {
	s, key := softKey(t)
	l, fd := pair(t)
	defer syscall.Close(fd)
	if err := l.Hold(3, key); err != nil {
		t.Fatal(err)
	}
	// next sends frames with another one behind them, which the lane must return when
	// it has answered them: as whole, with the answers written.
	next := func(frames []byte, want []byte) {
		t.Helper()
		go put(fd, append(bytes.Clone(frames), framed(99, 1, []byte("behind"))...))
		read := make(chan struct{})
		go func() { defer close(read); got(t, fd, want) }()
		f, err := l.Next(s, false)
		if err != nil || f.Kind != 99 || string(f.Payload) != "behind" {
			t.Fatalf("kind %d, reason %d, %v, %v", f.Kind, f.Reason, f.Err, err)
		}
		<-read
	}

	// Test cases 1 and 2 of McGrew and Viega, The Galois/Counter Mode of Operation, appendix B.
	tag, _ := hex.DecodeString("58e2fccefa7e3061367f1d57a4e7455a")
	sealed, _ := hex.DecodeString("0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf")
	zeros := make([]byte, 16)
	next(framed(FrameDo, 7, gcm(Encrypt, gcmItem(nil), gcmItem(zeros))), answered(7, okResult(tag), okResult(sealed)))

	// A forged item fails alone, and results of other lengths than their room move up.
	forged := bytes.Clone(sealed)
	forged[0] ^= 1
	const generalError = 5 // what SoftHSM2 says of a wrong tag
	next(framed(FrameDo, 8, gcm(Decrypt, gcmItem(sealed), gcmItem(forged), gcmItem(tag), gcmItem(sealed))),
		answered(8, okResult(zeros), numbers(nil, generalError, AtCall, 0), okResult(nil), okResult(zeros)))

	// Many frames in one write, and none with items.
	var frames, want []byte
	for seq := range uint32(300) {
		frames = append(frames, framed(FrameDo, seq, gcm(Encrypt, gcmItem(zeros)))...)
		want = append(want, answered(seq, okResult(sealed))...)
	}
	next(append(frames, framed(FrameDo, 1<<31, gcm(Encrypt))...), append(want, answered(1<<31)...))

	// Answers beyond both buffers come whole, and back.
	plain := bytes.Repeat([]byte("large"), 1<<20)
	it := []Item{{NonceLen: 12, In: 12, InLen: uint32(len(plain)), OutCap: uint32(len(plain) + 16)}}
	large := make([]byte, len(plain)+16)
	s.Batch(Op{Func: Encrypt, Param: GCM, Mech: AESGCM}, key, append(make([]byte, 12), plain...), large, it)
	if it[0].RV != OK {
		t.Fatal(it[0].RV)
	}
	next(framed(FrameDo, 9, gcm(Encrypt, gcmItem(plain))), answered(9, okResult(large)))
	next(framed(FrameDo, 10, gcm(Decrypt, gcmItem(tag), gcmItem(large))), answered(10, okResult(nil), okResult(plain)))

	// What is not the item's own fault is left to the caller, as often as it asks.
	broken := gcm(Encrypt, gcmItem(zeros), gcmItem(zeros))
	copy(broken[6:], numbers(nil, 0x7FFFFFFF)) // the mechanism
	go put(fd, append(framed(FrameDo, 11, broken), framed(FrameDo, 12, gcm(Encrypt, gcmItem(nil)))...))
	for _, again := range []bool{false, true, true} {
		f, err := l.Next(s, again)
		if err != nil || f.Seq != 11 || f.Reason != Stopped || f.Slot != 3 || *f.Err != (Error{"C_EncryptInit", MechanismInvalid}) {
			t.Fatalf("%+v, %v", f, err)
		}
	}
	next(nil, answered(12, okResult(tag)))

	l.Drop(3)
	go put(fd, framed(FrameDo, 13, gcm(Encrypt, gcmItem(nil))))
	if f, err := l.Next(s, false); err != nil || f.Reason != Empty || f.Slot != 3 {
		t.Errorf("a dropped key: reason %d, slot %d, %v", f.Reason, f.Slot, err)
	}
}
