package worker

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"math/big"
	"testing"
)

// raw is the RSA private operation, which the token does.
func raw(k *rsa.PrivateKey, in []byte) []byte {
	out := make([]byte, k.Size())
	new(big.Int).Exp(new(big.Int).SetBytes(in), k.D, k.N).FillBytes(out)
	return out
}

func testRSA(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestPSSAgainstStandardLibrary(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{2048, 2049} {
		k := testRSA(t, bits)
		for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA512} {
			digest := make([]byte, h.Size())
			rand.Read(digest)
			for _, n := range []int{1, 20, h.Size()} {
				salt := make([]byte, n)
				rand.Read(salt)
				em, err := emsaPSS(digest, salt, bits, h)
				if err != nil {
					t.Fatal(err)
				}
				if err := rsa.VerifyPSS(&k.PublicKey, h, digest, raw(k, em), &rsa.PSSOptions{SaltLength: n}); err != nil {
					t.Errorf("%d bits, %v, salt %d: %v", bits, h, n, err)
				}
			}
		}
	}
	if _, err := emsaPSS(make([]byte, 64), make([]byte, 200), 2048, crypto.SHA512); err == nil {
		t.Error("a salt that does not fit was taken")
	}
}

func TestOAEPAgainstStandardLibrary(t *testing.T) {
	t.Parallel()
	k := testRSA(t, 2048)
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA512} {
		for n := 0; n <= k.Size()-2*h.Size()-2; n += 23 {
			msg := make([]byte, n)
			rand.Read(msg)
			ct, err := rsa.EncryptOAEP(h.New(), rand.Reader, &k.PublicKey, msg, []byte("label"))
			if err != nil {
				t.Fatal(err)
			}
			em := raw(k, ct)
			got, ok := emeOAEP([]byte("p"), bytes.Clone(em), []byte("label"), h)
			if !ok || !bytes.Equal(got, append([]byte("p"), msg...)) {
				t.Fatalf("%v, %d bytes: %t", h, n, ok)
			}
			if got, ok := emeOAEP(nil, bytes.Clone(em), []byte("other"), h); ok || got != nil {
				t.Fatal("another label was taken")
			}
			em[0] = 1
			if _, ok := emeOAEP(nil, em, []byte("label"), h); ok {
				t.Fatal("a first byte that is not 0 was taken")
			}
		}
	}
}

// encodeOAEP makes an encoded message around any data block after the hash.
func encodeOAEP(h crypto.Hash, label, tail []byte, size int) []byte {
	em := make([]byte, size)
	f := h.New()
	seed, db := em[1:1+h.Size()], em[1+h.Size():]
	rand.Read(seed)
	f.Write(label)
	copy(db, f.Sum(nil))
	copy(db[h.Size():], tail)
	mgf1XOR(db, h.New(), seed)
	mgf1XOR(seed, h.New(), db)
	return em
}

func TestOAEPBadPadding(t *testing.T) {
	t.Parallel()
	n := 256 - 2*32 - 1
	for name, tail := range map[string][]byte{
		"no one":        make([]byte, n),
		"two first":     append([]byte{2, 1}, make([]byte, n-2)...),
		"zeros, then 3": append(make([]byte, n-1), 3),
	} {
		if _, ok := emeOAEP(nil, encodeOAEP(crypto.SHA256, nil, tail, 256), nil, crypto.SHA256); ok {
			t.Errorf("%s was taken", name)
		}
	}
	if got, ok := emeOAEP(nil, encodeOAEP(crypto.SHA256, nil, append(make([]byte, n-1), 1), 256), nil, crypto.SHA256); !ok || len(got) != 0 {
		t.Error("an empty message was refused")
	}
	if _, ok := emeOAEP(nil, make([]byte, 65), nil, crypto.SHA256); ok {
		t.Error("a short block was taken")
	}
}

func FuzzOAEP(f *testing.F) {
	f.Add(make([]byte, 128), []byte("l"))
	f.Fuzz(func(t *testing.T, em, label []byte) {
		if out, ok := emeOAEP(nil, bytes.Clone(em), label, crypto.SHA1); ok && len(out) > len(em) {
			t.Error("more came out than went in")
		}
	})
}

func TestDigestInfo(t *testing.T) {
	t.Parallel()
	d1, d256 := sha1.Sum([]byte("abc")), sha256.Sum256([]byte("abc"))
	// RFC 8017 section 9.2, note 1.
	for want, got := range map[string][]byte{
		"3021300906052b0e03021a05000414" + fmt.Sprintf("%x", d1):                       digestInfo(crypto.SHA1, d1[:]),
		"3031300d060960864801650304020105000420" + fmt.Sprintf("%x", d256):             digestInfo(crypto.SHA256, d256[:]),
		"3041300d060960864801650304020205000430" + fmt.Sprintf("%x", make([]byte, 48)): digestInfo(crypto.SHA384, make([]byte, 48)),
		"3051300d060960864801650304020305000440" + fmt.Sprintf("%x", make([]byte, 64)): digestInfo(crypto.SHA512, make([]byte, 64)),
	} {
		if fmt.Sprintf("%x", got) != want {
			t.Errorf("%x instead of %s", got, want)
		}
	}
	if digestInfo(crypto.MD5, nil) != nil {
		t.Error("MD5 has a DigestInfo")
	}
}
