package tpm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/tpm/tpmtest"
)

// counting returns the bytes from, from+1, … before to.
func counting(from, to byte) (b []byte) {
	for ; from < to; from++ {
		b = append(b, from)
	}
	return b
}

// TestWrapKnown compares the wrappings with those of another implementation, which
// was written in Python after TPM 2.0 part 1, 23.3.
func TestWrapKnown(t *testing.T) {
	t.Parallel()
	name := append([]byte{0, 0x0b}, counting(64, 96)...)
	sensitive := sized(counting(100, 190))
	for want, inner := range map[string][]byte{
		"0020da764ebe6a9a137a68b0a576d7e4f9f5296537ed4790d5f4c1e1bf8a801c88126e2b64dd804e42f7b94095eec25afd639db878998a6bfb829a806627cf7dc6886e2b56980333af9879186ce558a0288282388d4e63b5ebc04dad15bf6268d162599a6a54ddc5312b922040928b5035f220989ad982f0bb898ef89070":                                                                     nil,
		"0020a6c2d393a163c97540c95616f3f867997fd01f16f7b8be82ec118638de236875dbee7fe14da3c10a743dc0fccb88d246357ba886c4b61c33ddce6d084df5b66e326ba251241d2f9957b86fce51a485497b86b47606287594e85e466574b42389c3e74a6ae66766e4be46ff4105bcf163ebeb29b4cf3256bceb464a6e6ee6aa6e43917af3fe808d6d6177feb61846bb616097d145b73494830b42388f7ddc": counting(200, 216),
	} {
		got, err := outerWrap(counting(0, 32), 128, name, innerWrap(inner, name, slices.Clone(sensitive)))
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%x, %v, want %s", got, err, want)
		}
	}
	if _, err := outerWrap(counting(0, 48), 128, name, sensitive); err == nil {
		t.Error("a seed of SHA-384 is taken")
	}
}

// TestPolicyKnown compares policies with digests that were computed after TPM 2.0
// part 3, 23.11, 23.15 and 23.17; one is well known from tpm2_policycommandcode.
func TestPolicyKnown(t *testing.T) {
	t.Parallel()
	name := append([]byte{0, 0x0b}, counting(64, 96)...)
	for want, m := range map[string]movePolicy{
		"e590462bc54a0e30d816d8dfd16c6cc032775d6f8e17663bc525a698c2486a0b": {newParent: name},
		"bef56b8c1cc84e11edd717528d2cd99356bd2bbf8f015209c3f84aeeaba8e8a2": {},
		"3492bbba31a358335aef533f25de3456a40a6bf0a78d7e8e04b28c73cd9d9ebf": {newParent: name, password: true},
		"09bd2ec618ec5d4688b2861cd8aedbbce1c1dd0b9e31e4a12f837750b33831e2": {password: true},
	} {
		if got, err := m.digest(); err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%x, %v, want %s", got, err, want)
		}
	}
}

// parsed reads a file of any of the three kinds and returns its text again.
func parsed(text []byte) ([]byte, error) {
	switch formatOf(text) {
	case storageFormat:
		s, err := ParseStorageKey(text)
		if err != nil {
			return nil, err
		}
		return s.Encode()
	case keyFormat:
		k, err := ParseKey(text)
		if err != nil {
			return nil, err
		}
		return k.Encode()
	default:
		x, err := ParseDuplicate(text)
		if err != nil {
			return nil, err
		}
		return x.Encode()
	}
}

// TestKnownFiles reads files of the first release, whose keys only its TPM opened.
func TestKnownFiles(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"parent.json", "key.json", "duplicate.json"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parsed(text); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
		refusesChanges(t, name, text)
	}
}

// refusesChanges takes the fields of a file away, one after another, and damages them.
func refusesChanges(t *testing.T, name string, text []byte) {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	for field := range fields {
		for _, value := range []any{nil, "", "AAAA", 1, true, strings.Repeat("A", 2*maxFile)} {
			if value == fields[field] {
				continue
			}
			changed := map[string]any{}
			for f, v := range fields {
				changed[f] = v
			}
			changed[field] = value
			b, err := json.MarshalIndent(changed, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parsed(b); fault.KindOf(err) != fault.Invalid {
				t.Errorf("%s: %s = %.20v: %v", name, field, value, err)
			}
		}
	}
	for _, b := range [][]byte{nil, text[:len(text)-1], text[:len(text)/2], append(slices.Clone(text), '\n'), append(slices.Clone(text), text...)} {
		if _, err := parsed(b); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s of %d bytes: %v", name, len(b), err)
		}
	}
}

// TestAlteredDuplicate flips a bit of each byte of a duplicate's file, and of each part
// that the TPM reads, one after another.
func TestAlteredDuplicate(t *testing.T) {
	t.Parallel()
	p := tpmtest.New(t)
	d, err := Open(p.Device)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	to, err := d.StorageKey("")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParsePrivateKey([]byte(newPEM(t)))
	if err != nil {
		t.Fatal(err)
	}
	inner := NewInnerKey()
	x, err := Wrap(key, to, KeyOptions{InnerKey: true}, inner)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x.Encode()
	if err != nil {
		t.Fatal(err)
	}
	flipped := func(b []byte, i int) []byte {
		b = slices.Clone(b)
		b[i] ^= 1 << (i % 8)
		return b
	}
	for i := range text {
		altered, err := ParseDuplicate(flipped(text, i))
		if err == nil {
			_, err = d.Import(altered, nil, inner)
		}
		if err == nil || fault.KindOf(err) != fault.Invalid && !errors.Is(err, ErrPassword) {
			t.Errorf("byte %d of the file: %v", i, err)
		}
	}
	for what, part := range map[string]*[]byte{"parent": &x.parentName, "public": &x.public, "duplicate": &x.duplicate, "seed": &x.seed, "inner key": &inner} {
		original := *part
		for i := range original {
			*part = flipped(original, i)
			if k, err := d.Import(x, nil, inner); k != nil || !errors.Is(err, ErrAltered) && !errors.Is(err, ErrOther) {
				t.Errorf("byte %d of %s: %v", i, what, err)
			}
		}
		*part = original
	}
	if _, err := d.Import(x, nil, inner); err != nil {
		t.Errorf("as it was: %v", err)
	}
}

// newPEM makes an EC key, in PKCS #8.
func newPEM(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// TestParsePrivateKey reads what openssl writes.
func TestParsePrivateKey(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed (Debian package openssl)")
	}
	ecPEM := newPEM(t)
	openssl := func(in string, args ...string) string {
		t.Helper()
		cmd := exec.Command("openssl", args...)
		cmd.Stdin = strings.NewReader(in)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("openssl %q: %v", args, err)
		}
		return string(out)
	}
	rsa := openssl("", "genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
	for name, text := range map[string]string{
		"PKCS #8":    ecPEM,
		"SEC 1":      openssl("", "ecparam", "-genkey", "-name", "prime256v1"),
		"PKCS #1":    openssl(rsa, "pkey", "-traditional"),
		"PKCS #8, R": rsa,
	} {
		key, err := ParsePrivateKey([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := Wrap(key, knownParent(t), KeyOptions{}, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for words, text := range map[string]string{
		"is encrypted":      openssl(ecPEM, "pkey", "-aes256", "-passout", "pass:x"),
		"not one private":   ecPEM + ecPEM,
		"can't be read":     openssl(ecPEM, "pkey", "-pubout"),
		"not one private ":  strings.Repeat("x", 100),
		"can't be read: x5": strings.Replace(ecPEM, "\nM", "\nN", 1),
	} {
		if _, err := ParsePrivateKey([]byte(text)); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), strings.TrimSuffix(strings.TrimSpace(words), ": x5")) {
			t.Errorf("%s: %v", words, err)
		}
	}
	for words, text := range map[string]string{
		"2048 bits":    openssl("", "genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"),
		"curve P-256":  openssl("", "ecparam", "-genkey", "-name", "secp384r1"),
		"of the types": openssl("", "genpkey", "-algorithm", "ED25519"),
	} {
		key, err := ParsePrivateKey([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Wrap(key, knownParent(t), KeyOptions{}, nil); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", words, err)
		}
	}
}

func knownParent(t *testing.T) *StorageKey {
	t.Helper()
	text, err := os.ReadFile("testdata/parent.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseStorageKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestKeyOptions is the table of what can't be asked for.
func TestKeyOptions(t *testing.T) {
	t.Parallel()
	key, err := ParsePrivateKey([]byte(newPEM(t)))
	if err != nil {
		t.Fatal(err)
	}
	to := knownParent(t)
	for words, o := range map[string]KeyOptions{
		"only an RSA key decrypts": {Usage: UsageBoth},
		"not for \"wrap\"":         {Usage: "wrap"},
		"one storage key or":       {MoveTo: to, MoveAnywhere: true, Password: []byte("x")},
		"needs a password":         {MoveAnywhere: true},
		"at most 32 bytes":         {Password: make([]byte, 33)},
		"zero byte":                {Password: []byte("x\x00")},
		"inner wrapping only":      {InnerKey: true},
	} {
		if _, err := Wrap(key, to, o, nil); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", words, err)
		}
	}
	if _, err := Wrap(key, to, KeyOptions{}, make([]byte, 15)); fault.KindOf(err) != fault.Invalid {
		t.Errorf("an inner key of 15 bytes: %v", err)
	}
	var d Device // none of these reaches it
	if _, err := d.Create("", "rsa-4096", KeyOptions{MoveTo: to}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("rsa-4096: %v", err)
	}
	if _, err := d.Create("", RSA2048, KeyOptions{}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a key that stays: %v", err)
	}
	for _, which := range []string{"x", "0x80000000", "owner", "8100000100"} {
		if _, err := d.StorageKey(which); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", which, err)
		}
	}
}

func TestParseInnerKey(t *testing.T) {
	t.Parallel()
	key := counting(1, 17)
	for _, b := range [][]byte{key, sized(key)} {
		if got, err := ParseInnerKey(b); err != nil || !bytes.Equal(got, key) {
			t.Errorf("%x: %x, %v", b, got, err)
		}
	}
	for _, b := range [][]byte{nil, key[1:], sized(key)[1:], append(sized(key), 0), append([]byte{0, 15}, key...)} {
		if _, err := ParseInnerKey(b); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%x: %v", b, err)
		}
	}
}

// FuzzTPMFiles: what is accepted has one text only.
func FuzzTPMFiles(f *testing.F) {
	for _, name := range []string{"parent.json", "key.json", "duplicate.json"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parsed(text)
		if err == nil && !bytes.Equal(got, text) {
			t.Errorf("%q became %q", text, got)
		}
	})
}

// FuzzTPM2B reads the files of tpm2-tools.
func FuzzTPM2B(f *testing.F) {
	for _, name := range []string{"parent.json", "key.json"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		var file struct {
			Public []byte `json:"public"`
		}
		if err := json.Unmarshal(text, &file); err != nil {
			f.Fatal(err)
		}
		f.Add(sized(file.Public), sized([]byte("private")))
	}
	f.Fuzz(func(t *testing.T, public, private []byte) {
		if s, err := ParseStorageKey(public); err == nil && !bytes.HasPrefix(public, []byte("{")) && !bytes.Equal(s.Public(), public) {
			t.Errorf("%x became %x", public, s.Public())
		}
		k, err := NewKey(&StorageKey{name: append([]byte{0, 0x0b}, make([]byte, 32)...)}, public, private, false)
		if err == nil && (!bytes.Equal(k.Public(), public) || !bytes.Equal(k.Private(), private)) {
			t.Errorf("%x, %x became %x, %x", public, private, k.Public(), k.Private())
		}
	})
}

// FuzzParsePrivateKey: what is read can be wrapped or is refused.
func FuzzParsePrivateKey(f *testing.F) {
	f.Add([]byte(newPEM(f)))
	text, err := os.ReadFile("testdata/parent.json")
	if err != nil {
		f.Fatal(err)
	}
	to, err := ParseStorageKey(text)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := ParsePrivateKey(text)
		if err != nil {
			return
		}
		if _, err := Wrap(key, to, KeyOptions{}, nil); err != nil && fault.KindOf(err) != fault.Invalid {
			t.Error(err)
		}
	})
}
