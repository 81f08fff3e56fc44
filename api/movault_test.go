package api

import (
	"encoding/hex"
	"math/big"
	"strings"
	"testing"
)

func TestMoVaultID(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "00", 1: "01", 2: "02", 127: "7f", 128: "0080", 255: "00ff", 256: "0100", 32767: "7fff", 32768: "008000",
		-1: "ff", -128: "80", -129: "ff7f", -32768: "8000",
	} {
		id := MoVaultID(big.NewInt(n))
		if hex.EncodeToString(id) != want {
			t.Errorf("%d: %x, want %s", n, id, want)
		}
		if back, ok := MoVaultVersion(id); !ok || back.Int64() != n {
			t.Errorf("%x: %v %v", id, back, ok)
		}
	}
	for _, id := range []string{"", "0001", "007f", "ffff", "ff80", "0000"} {
		b, _ := hex.DecodeString(id)
		if v, ok := MoVaultVersion(b); ok {
			t.Errorf("%q is version %v", id, v)
		}
	}
}

func TestMoVaultKeyName(t *testing.T) {
	t.Parallel()
	big2 := big.NewInt(2)
	for path, want := range map[string]string{
		"random_test/rsa": "rsa-v2-random_test.2frsa",
		"a-b-":            "rsa-v2-a-b.2d",
		".":               "rsa-v2-.2e",
		"Ä":               "rsa-v2-.c3.84",
	} {
		if got := MoVaultKeyName(MoVaultRSA, path, big2); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
	long := MoVaultKeyName(MoVaultRSA, strings.Repeat("/", 200), big2)
	if len(long) != 9+64 || long == MoVaultKeyName(MoVaultRSA, strings.Repeat("/", 201), big2) {
		t.Errorf("a long path: %q", long)
	}
	if MoVaultKeyName(MoVaultAES, "p", big.NewInt(-1)) != "aes-v-1-p" {
		t.Error("a negative version")
	}
}

func FuzzMoVaultVersion(f *testing.F) {
	f.Add([]byte{0, 0x80})
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, id []byte) {
		if v, ok := MoVaultVersion(id); ok && string(MoVaultID(v)) != string(id) {
			t.Errorf("%x is %v, which is %x", id, v, MoVaultID(v))
		}
	})
}
