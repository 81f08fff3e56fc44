package soft

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/test/wycheproof"
)

type (
	vector      = wycheproof.Vector
	vectorGroup = wycheproof.Group
)

// vectors calls f for every test of a file and fails if f ran for none.
func vectors(t *testing.T, file string, f func(t *testing.T, g *vectorGroup, v *vector) bool) {
	t.Helper()
	groups, err := wycheproof.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, g := range groups {
		for _, v := range g.Tests {
			if f(t, &g, &v) {
				ran++
			}
			if t.Failed() {
				t.Fatalf("%s: test %d (%s), result to be %s", file, v.ID, v.Comment, v.Result)
			}
		}
	}
	if ran == 0 {
		t.Errorf("%s: no vector fits", file)
	}
	t.Logf("%s: %d vectors", file, ran)
}

func one(t *testing.T, typ token.Type, secret []byte, op token.Op, it token.Item) ([]byte, error) {
	t.Helper()
	key, err := Engine{}.Open(typ, secret)
	if err != nil {
		t.Fatal(err)
	}
	items := []token.Item{it}
	if err := key.Do(context.Background(), op, items); err != nil {
		return nil, err
	}
	return items[0].Out, items[0].Err
}

func TestWycheproofAEAD(t *testing.T) {
	t.Parallel()
	for file, types := range map[string]map[int]token.Type{
		"aes_gcm_test.json":            {128: token.AES128, 256: token.AES256},
		"chacha20_poly1305_test.json":  {256: token.ChaCha20},
		"xchacha20_poly1305_test.json": {256: token.XChaCha20},
	} {
		vectors(t, file, func(t *testing.T, g *vectorGroup, v *vector) bool {
			typ, ok := types[g.KeySize]
			if !ok || g.TagSize != 128 {
				return false
			}
			checkAEAD(t, typ, v)
			return true
		})
	}
}

func checkAEAD(t *testing.T, typ token.Type, v *vector) {
	sealed := append(bytes.Clone(v.CT), v.Tag...)
	got, err := one(t, typ, v.Key, token.Op{Kind: token.Open}, token.Item{Nonce: v.IV, AAD: v.AAD, In: sealed})
	if len(v.IV) != typ.NonceSize() {
		if err == nil {
			t.Error("a nonce of another size was taken")
		}
		return
	}
	if v.Result != "valid" {
		if err != token.ErrOpen {
			t.Errorf("opened with error %v", err)
		}
		return
	}
	if err != nil || !bytes.Equal(got, v.Msg) {
		t.Errorf("opened %x, error %v", got, err)
	}
	got, err = one(t, typ, v.Key, token.Op{Kind: token.Seal}, token.Item{Nonce: v.IV, AAD: v.AAD, In: v.Msg})
	if err != nil || !bytes.Equal(got, sealed) {
		t.Errorf("sealed %x, error %v", got, err)
	}
}

var wycheproofHashes = map[string]crypto.Hash{
	"SHA-1": crypto.SHA1, "SHA-224": crypto.SHA224, "SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384,
	"SHA-512": crypto.SHA512, "SHA-512/224": crypto.SHA512_224, "SHA-512/256": crypto.SHA512_256,
	"SHA3-256": crypto.SHA3_256, "SHA3-512": crypto.SHA3_512,
}

func TestWycheproofHMAC(t *testing.T) {
	t.Parallel()
	for file, h := range map[string]crypto.Hash{
		"sha1": crypto.SHA1, "sha224": crypto.SHA224, "sha256": crypto.SHA256, "sha384": crypto.SHA384,
		"sha512": crypto.SHA512, "sha512_224": crypto.SHA512_224, "sha512_256": crypto.SHA512_256,
		"sha3_224": crypto.SHA3_224, "sha3_256": crypto.SHA3_256, "sha3_384": crypto.SHA3_384, "sha3_512": crypto.SHA3_512,
	} {
		vectors(t, "hmac_"+file+"_test.json", func(t *testing.T, g *vectorGroup, v *vector) bool {
			if len(v.Key) < minHMAC {
				return false
			}
			got, err := one(t, token.HMAC, v.Key, token.Op{Kind: token.MAC, Hash: h}, token.Item{In: v.Msg})
			if err != nil {
				t.Error(err)
			} else if same := bytes.Equal(got[:g.TagSize/8], v.Tag); same != (v.Result == "valid") {
				t.Errorf("code %x", got)
			}
			return true
		})
	}
}

func TestWycheproofOAEP(t *testing.T) {
	t.Parallel()
	files, err := wycheproof.Files("rsa_oaep_[234]*_test.json")
	if err != nil {
		t.Fatal(err)
	}
	types := map[int]token.Type{2048: token.RSA2048, 3072: token.RSA3072, 4096: token.RSA4096}
	for _, file := range files {
		if strings.Contains(file, "mgf1sha1") && !strings.Contains(file, "sha1_mgf1sha1") {
			continue // two hashes: the seam has one
		}
		vectors(t, file, func(t *testing.T, g *vectorGroup, v *vector) bool {
			h := wycheproofHashes[g.Sha]
			if h == 0 || g.MgfSha != g.Sha {
				t.Fatalf("hashes %s and %s", g.Sha, g.MgfSha)
			}
			op := token.Op{Kind: token.Decrypt, Scheme: token.OAEP, Hash: h}
			got, err := one(t, types[g.KeySize], g.PrivateKeyPkcs8, op, token.Item{In: v.CT, AAD: v.Label})
			switch {
			case v.Result == "invalid" && err != token.ErrOpen:
				t.Errorf("decrypted with error %v", err)
			case v.Result == "valid" && (err != nil || !bytes.Equal(got, v.Msg)):
				t.Errorf("decrypted %x, error %v", got, err)
			}
			return true
		})
	}
}

func TestWycheproofPKCS1v15(t *testing.T) {
	t.Parallel()
	types := map[string]token.Type{"2048": token.RSA2048, "3072": token.RSA3072, "4096": token.RSA4096}
	for size, typ := range types {
		vectors(t, "rsa_pkcs1_"+size+"_sig_gen_test.json", func(t *testing.T, g *vectorGroup, v *vector) bool {
			h := wycheproofHashes[g.Sha]
			if h == 0 {
				return false
			}
			digest := h.New()
			digest.Write(v.Msg)
			op := token.Op{Kind: token.Sign, Scheme: token.PKCS1v15, Hash: h}
			got, err := one(t, typ, g.PrivateKeyPkcs8, op, token.Item{In: digest.Sum(nil)})
			if err != nil || !bytes.Equal(got, v.Sig) {
				t.Errorf("signature %x, error %v", got, err)
			}
			return true
		})
	}
}

func TestWycheproofKWP(t *testing.T) {
	t.Parallel()
	vectors(t, "aes_kwp_test.json", func(t *testing.T, g *vectorGroup, v *vector) bool {
		kek, err := aes.NewCipher(v.Key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := unwrapKWP(kek, v.CT)
		if v.Result == "invalid" {
			if err == nil {
				t.Errorf("unwrapped %x", got)
			}
			return true
		}
		if err != nil || !bytes.Equal(got, v.Msg) {
			t.Errorf("unwrapped %x, error %v", got, err)
		}
		if got, err = wrapKWP(kek, v.Msg); err != nil || !bytes.Equal(got, v.CT) {
			t.Errorf("wrapped %x, error %v", got, err)
		}
		return true
	})
}
