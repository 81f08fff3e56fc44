package keys

import (
	"encoding/base64"
	"strconv"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

func TestParseText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, payload, want string
		version             int
	}{
		{"vault:v1:AA==", "AA==", "", 1},
		{"vault:v0:AA==", "AA==", "", 1},
		{"vault:v12:", "", "", 12},
		{"vault:v1:a:b", "a:b", "", 1},
		{"vault:v99999999999999999999:x", "x", "", maxVersion + 1},
		{"", "", "invalid ciphertext: no prefix", 0},
		{"vault:V1:x", "", "invalid ciphertext: no prefix", 0},
		{" vault:v1:x", "", "invalid ciphertext: no prefix", 0},
		{"vault:v1", "", "invalid ciphertext: wrong number of fields", 0},
		{"vault:v:x", "", "invalid ciphertext: version number could not be decoded", 0},
		{"vault:v-1:x", "", "invalid ciphertext: version number could not be decoded", 0},
		{"vault:v+1:x", "", "invalid ciphertext: version number could not be decoded", 0},
		{"vault:v01:x", "", "invalid ciphertext: version number could not be decoded", 0},
		{"vault:v1 :x", "", "invalid ciphertext: version number could not be decoded", 0},
		{"vault:v١:x", "", "invalid ciphertext: version number could not be decoded", 0},
		{"vault:v999999999999999999999:x", "", "invalid ciphertext: version number could not be decoded", 0},
	} {
		v, p, err := parseText(c.text, "ciphertext")
		if c.want != "" {
			wantFault(t, err, fault.Invalid, c.want)
			continue
		}
		if err != nil || v != c.version || p != c.payload {
			t.Errorf("%q: %d %q %v", c.text, v, p, err)
		}
	}
}

func TestDecodeBase64(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"AA==\n", "A\rA==", "AB==", "AA", "AA=", "A===", "AA==AA==", "_-==", "A A="} {
		if out, ok := decodeBase64(strictBase64, nil, s); ok {
			t.Errorf("%q decoded to %x", s, out)
		}
	}
	if out, ok := decodeBase64(strictBase64, []byte("x"), "/+8="); !ok || string(out) != "x\xff\xef" {
		t.Errorf("%x %v", out, ok)
	}
}

func TestWriteText(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 3, 767, 768, 769, 1536, 5000} {
		p := []byte(strings.Repeat("\xfb", n))
		var b strings.Builder
		writeText(&b, "vault:v7:", p)
		if want := "vault:v7:" + base64.StdEncoding.EncodeToString(p); b.String() != want || len(want) != textLen("vault:v7:", n) {
			t.Errorf("%d bytes: %q", n, b.String())
		}
	}
}

func FuzzParseText(f *testing.F) {
	for _, s := range []string{"vault:v1:AA==", "vault:v0:", "vault:v01:x", "vault:v", "v", "vault:v18446744073709551617:AA=="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, payload, err := parseText(s, "ciphertext")
		if err != nil {
			return
		}
		if v < 1 || v > maxVersion+1 {
			t.Fatalf("version %d", v)
		}
		if v <= maxVersion && s != "vault:v"+strconv.Itoa(v)+":"+payload && s != "vault:v0:"+payload {
			t.Fatalf("%q read as version %d and %q", s, v, payload)
		}
		if raw, ok := decodeBase64(strictBase64, nil, payload); ok && base64.StdEncoding.EncodeToString(raw) != payload {
			t.Fatalf("%q is not the one encoding of its bytes", payload)
		}
	})
}

// FuzzDecrypt: no text decrypts but the one that was made, and none is an
// error of ours.
func FuzzDecrypt(f *testing.F) {
	e := newEnv(f, false)
	e.make("aes", "")
	e.make("rsa", "rsa-2048")
	good := map[string]bool{}
	for _, name := range []string{"aes", "rsa"} {
		c := e.enc(name, "fuzz")
		good[c] = true
		good[strings.Replace(c, ":v1:", ":v0:", 1)] = true
		f.Add(name, c)
		f.Add(name, c[:len(c)-4])
	}
	f.Add("aes", "vault:v2:AAAA")
	f.Fuzz(func(t *testing.T, name, text string) {
		_, err := e.dec(name, text)
		if err == nil && !good[text] {
			t.Fatalf("%q decrypts", text)
		}
		if err != nil && fault.KindOf(err) != fault.Invalid {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

func FuzzVerify(f *testing.F) {
	e := newEnv(f, false)
	good := map[string]bool{}
	for _, typ := range []string{"ecdsa-p256", "ed25519", "rsa-2048"} {
		e.make(typ, typ)
		for _, m := range []string{"asn1", "jws"} {
			r, err := e.sign(bg, call(), &api.Sign{Name: typ, Input: []byte("fuzz"), MarshalingAlgorithm: m})
			must(f, err)
			good[r.Signature] = true
			f.Add(typ, m, r.Signature)
		}
	}
	f.Fuzz(func(t *testing.T, name, marshaling, sig string) {
		r, err := e.verify(bg, call(), &api.Verify{Name: name, Input: []byte("fuzz"), MarshalingAlgorithm: marshaling, Signature: sig})
		if err != nil && fault.KindOf(err) != fault.Invalid {
			t.Fatalf("%q: %v", sig, err)
		}
		// ECDSA has a second valid form of each signature (n-s), which a fuzzer
		// does not find by chance.
		if err == nil && *r.Valid && !good[sig] {
			t.Fatalf("%q verifies", sig)
		}
	})
}
