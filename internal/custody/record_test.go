package custody

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the fixtures of this release anew")

const fixture = "testdata/release-0.1"

// The fixture's secrets are those of the vectors in share_test.go: public.
const (
	fixtureUser    = "00112233445566778899aabbccddeeff"
	fixtureSO      = "ffeeddccbbaa99887766554433221100"
	fixtureRefused = "864209"
)

// What this release wrote, this and every later release reads (promise P8).
func TestReleaseFixture(t *testing.T) {
	t.Parallel()
	if *update {
		writeFixture(t)
	}
	data, err := os.ReadFile(filepath.Join(fixture, "seal.json"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := parseRecord(data)
	if err != nil {
		t.Fatal(err)
	}
	if r.Shares != 5 || r.Threshold != 3 || r.TokenSerial != "0123abcd" || r.Adopted {
		t.Errorf("record %+v", r)
	}
	shares := parseShares(t, vectorShares[4], vectorShares[0], vectorShares[2])
	for i := range shares {
		if err := r.set.Check(&shares[i]); err != nil {
			t.Error(err)
		}
	}
	key, err := r.set.Combine(shares)
	if err != nil {
		t.Fatal(err)
	}
	pins, err := openPINs(key, r.PINs, r.pinAAD())
	if err != nil || string(pins.user) != fixtureUser || string(pins.so) != fixtureSO {
		t.Errorf("PINs %v", err)
	}
	if data, err = os.ReadFile(filepath.Join(fixture, "refused-pins.json")); err != nil {
		t.Fatal(err)
	}
	var refused refusals
	if err := json.Unmarshal(data, &refused); err != nil {
		t.Fatal(err)
	}
	if _, found := refused.find("0123abcd", []byte(fixtureRefused)); !found {
		t.Error("the refused PIN is not known any more")
	}
	if _, found := refused.find("0123abcd", []byte("864208")); found {
		t.Error("another PIN counts as refused")
	}
}

func writeFixture(t *testing.T) {
	t.Helper()
	set := vectorSetOf(t)
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	r := &record{Format: recordFormat, SetID: set.ID().String(), Shares: set.N, Threshold: set.T, Commitments: set.Commitments,
		ClusterID: "5f3c9a1e-7d44-4c1a-9a58-0c2f6f0f6b11", Created: at, TokenLabel: "claviger", TokenSerial: "0123abcd", StorageKey: []byte{0}}
	var err error
	if r.PINs, err = sealPINs(unhex(t, vectorKey), &pins{user: []byte(fixtureUser), so: []byte(fixtureSO)}, r.pinAAD()); err != nil {
		t.Fatal(err)
	}
	refused := &refusals{Format: 1, Salt: unhex(t, "000102030405060708090a0b0c0d0e0f")}
	refused.PINs = []refusal{{Serial: "0123abcd", Hash: refused.hash([]byte(fixtureRefused)), Time: at}}
	for name, v := range map[string]any{"seal.json": r, "refused-pins.json": refused} {
		data, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(fixture, name), append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPINsEveryBit(t *testing.T) {
	t.Parallel()
	set := vectorSetOf(t)
	r := &record{SetID: set.ID().String(), TokenLabel: "a"}
	key := unhex(t, vectorKey)
	var err error
	if r.PINs, err = sealPINs(key, &pins{user: []byte("1234")}, r.pinAAD()); err != nil {
		t.Fatal(err)
	}
	p, err := openPINs(key, r.PINs, r.pinAAD())
	if err != nil || string(p.user) != "1234" || len(p.so) != 0 {
		t.Fatalf("%v", err)
	}
	for i := range len(r.PINs) * 8 {
		r.PINs[i/8] ^= 1 << (i % 8)
		if _, err := openPINs(key, r.PINs, r.pinAAD()); !errors.Is(err, errPINRecord) {
			t.Errorf("bit %d flipped: %v", i, err)
		}
		r.PINs[i/8] ^= 1 << (i % 8)
	}
	// The boundary between two fields counts.
	r.ClusterID, r.TokenLabel = "a", ""
	if _, err := openPINs(key, r.PINs, r.pinAAD()); !errors.Is(err, errPINRecord) {
		t.Errorf("a text moved to another field: %v", err)
	}
	if _, err := sealPINs(key, &pins{user: make([]byte, 256)}, r.pinAAD()); err == nil {
		t.Error("a PIN of 256 bytes was accepted")
	}
}

func FuzzParseRecord(f *testing.F) {
	data, err := os.ReadFile(filepath.Join(fixture, "seal.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"format":1,"shares":1,"threshold":1,"commitments":[null]}`))
	share, err := ParseShare(vectorShares[0])
	if err != nil {
		f.Fatal(err)
	}
	key := unhex(f, vectorKey)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(data)
		if err != nil {
			return
		}
		_ = r.set.Check(&share)
		if p, err := openPINs(key, r.PINs, r.pinAAD()); err == nil && string(p.user) != fixtureUser {
			t.Fatal("forged PINs were opened")
		}
	})
}

// FuzzCutPIN parses what only the unseal key can have sealed.
func FuzzCutPIN(f *testing.F) {
	f.Add([]byte("\x041234\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		pin, rest, ok := cutPIN(data)
		if ok && 1+len(pin)+len(rest) != len(data) {
			t.Fatalf("%d bytes became %d and %d", len(data), len(pin), len(rest))
		}
	})
}
