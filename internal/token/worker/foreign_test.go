package worker

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/tokentest"
)

// otherTool runs pkcs11-tool on the token, as users of it do beside the server.
func otherTool(t *testing.T, cfg Config, args ...string) []byte {
	t.Helper()
	return tokentest.Tool(t, cfg.Module, cfg.Label, testPIN, cfg.Env, args...)
}

// Keys that pkcs11-tool made in SoftHSM2 are found, described and used, before and
// after another login.
func TestAdoptForeign(t *testing.T) {
	t.Parallel()
	cfg := softConfig(t)
	openToken(t, cfg).Close()
	for _, key := range [][]string{
		{"--keypairgen", "--key-type", "rsa:2048", "--label", "rsa", "--id", "01"},
		{"--keypairgen", "--key-type", "rsa:1024", "--label", "short", "--id", "02"},
		{"--keypairgen", "--key-type", "EC:prime256v1", "--label", "ec", "--id", "03"},
		{"--keypairgen", "--key-type", "EC:secp384r1", "--label", "ec384", "--id", "0304"},
		{"--keypairgen", "--key-type", "EC:edwards25519", "--label", "ed", "--id", "05"},
		{"--keygen", "--key-type", "AES:16", "--label", "aes", "--id", "01"},
		{"--keygen", "--key-type", "AES:32", "--label", "aes256", "--id", "06"},
		{"--keygen", "--key-type", "AES:24", "--label", "aes192", "--id", "07"},
		{"--keygen", "--key-type", "GENERIC:64", "--label", "generic", "--id", "08"},
		{"--keypairgen", "--key-type", "EC:secp521r1", "--label", "alone", "--id", "09"},
		{"--delete-object", "--type", "pubkey", "--label", "alone", "--id", "09"},
	} {
		otherTool(t, cfg, key...)
	}
	h := openDevice(t, newDevice(t, cfg))
	for label, c := range map[string]struct {
		typ  token.Type
		id   []byte
		size int
	}{
		"rsa": {token.RSA2048, []byte{1}, 0}, "short": {token.RSA1024, []byte{2}, 0}, "ec": {token.P256, []byte{3}, 0},
		"ec384": {token.P384, []byte{3, 4}, 0}, "ed": {token.Ed25519, []byte{5}, 0}, "aes": {token.AES128, []byte{1}, 0},
		"aes256": {token.AES256, []byte{6}, 0}, "generic": {token.HMAC, []byte{8}, 64}, "alone": {token.P521, []byte{9}, 0},
	} {
		list, err := h.Objects(within(t), token.ObjectName{Label: label}, 10)
		if err != nil || len(list) != 1 || list[0].Type != c.typ || !bytes.Equal(list[0].ID, c.id) || list[0].Note != "" || list[0].Kind == "" {
			t.Errorf("%s: %+v %v", label, list, err)
		}
		st, err := h.Adopt(within(t), token.ObjectName{Label: label})
		if err != nil {
			t.Errorf("%s: %v", label, err)
			continue
		}
		if st.Type != c.typ || st.Size != c.size || st.Place != token.PlaceObject || !bytes.Equal(st.Name.ID, c.id) || st.Name.Label != label {
			t.Errorf("%s: %+v", label, st)
		}
		useForeign(t, h, st)
	}
	list, err := h.Objects(within(t), token.ObjectName{Label: "aes192"}, 10)
	if err != nil || len(list) != 1 || list[0].Type != 0 || list[0].Note == "" {
		t.Errorf("%+v %v", list, err)
	}
	for _, c := range []struct {
		like token.ObjectName
		want error
	}{
		{token.ObjectName{Label: "aes192"}, token.ErrUnsupported},
		{token.ObjectName{ID: []byte{1}}, token.ErrAmbiguous},
		{token.ObjectName{ID: []byte{0x77}}, token.ErrNotFound},
		{token.ObjectName{Label: labelStorage}, token.ErrUnsupported},
	} {
		if _, err := h.Adopt(within(t), c.like); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.like, err)
		}
	}
	st, err := h.Adopt(within(t), token.ObjectName{ID: []byte{1}, Class: token.SecretObject})
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	again := openDevice(t, newDevice(t, cfg))
	useForeign(t, again, st)
	otherTool(t, cfg, "--delete-object", "--type", "secrkey", "--label", "aes", "--id", "01")
	fresh := openDevice(t, newDevice(t, cfg))
	k, err := fresh.Key(st)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Do(within(t), token.Op{Kind: token.Seal}, []token.Item{{Nonce: make([]byte, 12)}}); !errors.Is(err, token.ErrNotFound) {
		t.Errorf("a key that was deleted by another program: %v", err)
	}
}

// useForeign does what a key of its type is for; signatures are checked with Go.
func useForeign(t *testing.T, h *hsm, st token.Stored) {
	t.Helper()
	k, err := h.Key(st)
	if err != nil {
		t.Fatal(err)
	}
	switch st.Type.Class() {
	case token.ClassAEAD:
		iv := make([]byte, 16)
		sealed := do1(t, k, token.Op{Kind: token.EncryptCBC}, token.Item{Nonce: iv, In: []byte("text")})
		if got := do1(t, k, token.Op{Kind: token.DecryptCBC}, token.Item{Nonce: iv, In: sealed}); string(got) != "text" {
			t.Errorf("%q", got)
		}
		do1(t, k, token.Op{Kind: token.Seal}, token.Item{Nonce: iv[:12], In: []byte("text")})
	case token.ClassHMAC:
		do1(t, k, token.Op{Kind: token.MAC, Hash: crypto.SHA256}, token.Item{In: []byte("text")})
	case token.ClassRSA:
		public := rsaPublic(t, st.Public)
		digest := sha256.Sum256([]byte("text"))
		sig := do1(t, k, token.Op{Kind: token.Sign, Scheme: token.PKCS1v15, Hash: crypto.SHA256}, token.Item{In: digest[:]})
		if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sig); err != nil {
			t.Error(err)
		}
		ct := tokentest.EncryptPKCS1v15(t, public, []byte("text"))
		if got := do1(t, k, token.Op{Kind: token.Decrypt, Scheme: token.PKCS1v15}, token.Item{In: ct}); string(got) != "text" {
			t.Errorf("%q", got)
		}
	default:
		if _, err := x509.ParsePKIXPublicKey(st.Public); err != nil {
			t.Error(err)
		}
		do1(t, k, token.Op{Kind: token.Sign}, token.Item{In: make([]byte, 32)})
	}
}

// What is made under a name is found by other programs: the pair by label and ID,
// and the public half without a login.
func TestNamedForOthers(t *testing.T) {
	t.Parallel()
	cfg := softConfig(t)
	h := openToken(t, cfg)
	spec := token.Spec{Type: token.RSA2048, Place: token.PlaceObject, Name: &token.ObjectName{Label: "a path/rsa", ID: []byte{0, 0x80}}}
	st, err := h.Generate(within(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	der := filepath.Join(t.TempDir(), "public")
	otherTool(t, cfg, "--read-object", "--type", "pubkey", "--label", "a path/rsa", "--id", "0080", "--output-file", der)
	if got, err := os.ReadFile(der); err != nil || !bytes.Equal(got, st.Public) {
		t.Errorf("%x %v", got, err)
	}
	data, sig := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "sig")
	if err := os.WriteFile(data, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	otherTool(t, cfg, "--sign", "--mechanism", "SHA256-RSA-PKCS", "--id", "0080", "--input-file", data, "--output-file", sig)
	got, err := os.ReadFile(sig)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("text"))
	if err := rsa.VerifyPKCS1v15(rsaPublic(t, st.Public), crypto.SHA256, digest[:], got); err != nil {
		t.Error(err)
	}
	if err := h.Destroy(within(t), st); err != nil {
		t.Fatal(err)
	}
	if out := otherTool(t, cfg, "--list-objects"); bytes.Contains(out, []byte("a path/rsa")) {
		t.Errorf("%s", out)
	}
}

// An interrupted creation is repeated by another worker and leaves one object.
func TestNamedAfterCrash(t *testing.T) {
	t.Parallel()
	s := newShim(t)
	h := openToken(t, s.cfg)
	s.tell(t, "crash-after-generate")
	name := token.ObjectName{Label: "named", ID: []byte{1}}
	st, err := h.Generate(within(t), token.Spec{Type: token.P256, Place: token.PlaceObject, Name: &name})
	if err != nil {
		t.Fatal(err)
	}
	list, err := h.Objects(within(t), token.ObjectName{Label: "named"}, 10)
	if err != nil || len(list) != 1 || s.retries.Load() == 0 {
		t.Errorf("%+v %v, %d retries", list, err, s.retries.Load())
	}
	useForeign(t, h, st)
}

// A module without raw RSA takes the padding off itself, and says of every
// failure the same.
func TestNativePKCS1v15(t *testing.T) {
	t.Parallel()
	h := openToken(t, softConfig(t))
	st, handle := generate(t, h, token.RSA2048, token.PlaceWrapped)
	k := handle.(*key)
	k.rejection = []byte{} // known to be none
	public := rsaPublic(t, st.Public)
	ct := tokentest.EncryptPKCS1v15(t, public, []byte("text"))
	op := token.Op{Kind: token.Decrypt, Scheme: token.PKCS1v15}
	if got := do1(t, k, op, token.Item{In: ct}); string(got) != "text" {
		t.Errorf("%q", got)
	}
	bad := tokentest.Wrap(t, public, crypto.SHA1, make([]byte, 32))[:public.Size()]
	items := []token.Item{{In: bad}}
	if err := k.Do(within(t), op, items); err != nil || !errors.Is(items[0].Err, token.ErrOpen) {
		t.Errorf("%v %v", err, items[0].Err)
	}
}

func FuzzParseObjects(f *testing.F) {
	f.Add(appendObjects(nil, []token.Object{{ObjectName: token.ObjectName{Label: "l", ID: []byte{1}}, Kind: "k", Uses: []string{"sign"}}}))
	f.Add([]byte{1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseObjects(&reader{b: b})
		if err != nil {
			return
		}
		again, err := parseObjects(&reader{b: appendObjects(nil, list)})
		if err != nil || len(again) != len(list) {
			t.Errorf("%+v %v", again, err)
		}
	})
}
