package cryptech

//lint:file-ignore SA1019 the format has RSA with PKCS #1 v1.5

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/soft"
)

// What testdata/known.json was made of.
const (
	knownSum     = "4b8055916bc183e817c06b87d52ca201c449dd1a4e7bfbc3e2cc94ce75f72a3a"
	knownDerived = "8f6ded1cbdc151026bf3850523f8639a58bc0c4ce2ca15df7bd0212651d3a2f9"
	knownPKCS8   = "7926aedb5967676f385d3fbfa4b5a55396c18aeda4fc32ba858cd3230a64a3e8"
	knownSPKI    = "4a12e2548530b7c860bd99e27fbdc701d2c26ff200d814220d3eed560d408a14"
	knownKEK     = "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"
	knownKEKSum  = "96ece765d5a4aa914c5a4c29fab4a798f79880f0789d6be015d720472d15b757"
	knownKey     = "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420c9afa9d845ba75166b5c215767b1d6934e50c3db36e8" +
		"9b127b8a622b120f6721a1440342000460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e9" +
		"5628bc64f2f1b20c2d7e9f5177a3c294d4462299"
	knownUUID = "00112233-4455-6677-8899-aabbccddeeff"
)

func known(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/known.json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parsed(t testing.TB, b []byte) document {
	t.Helper()
	d, err := parseDocument(b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func field(t testing.TB, d document, name string) []byte {
	t.Helper()
	b, err := d.binary(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// firstKey is the first entry of keys.
func firstKey(d document) document { return document(d[fieldKeys].([]any)[0].(map[string]any)) }

// Every value of the file is the one that it was made of, and the file comes out
// of the writer as it went into the reader.
func TestKnownFile(t *testing.T) {
	t.Parallel()
	b := known(t)
	if len(b) != 3147 || sum(b) != knownSum {
		t.Fatal("testdata/known.json was changed")
	}
	d := parsed(t, b)
	if again, err := d.bytes(); err != nil || !bytes.Equal(again, b) {
		t.Errorf("written again it differs: %v", err)
	}
	over, err := derivePBKDF2(field(t, d, fieldSalt))([]byte(passphrase))
	if err != nil || hex.EncodeToString(over) != knownDerived {
		t.Errorf("the derived key is %x: %v", over, err)
	}
	wrapped, err := parseEncrypted(field(t, d, fieldPKCS8), oidKeyWrapPad)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := soft.Engine{}.Unwrap(over, wrapped)
	if err != nil || len(pkcs8) != 1218 || sum(pkcs8) != knownPKCS8 || sum(field(t, d, fieldPublic)) != knownSPKI {
		t.Errorf("the KEKEK differs: %v", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		t.Fatal(err)
	}
	// The same KEKEK, salt and passphrase make the same fields again.
	made := document{}
	backup, _ := newBackup(nil, "")
	if err := backup.sealSoft(made, key.(*rsa.PrivateKey), field(t, d, fieldSalt), derivePBKDF2(field(t, d, fieldSalt)), []byte(passphrase)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{fieldSalt, fieldPKCS8, fieldPublic} {
		if !bytes.Equal(field(t, made, name), field(t, d, name)) {
			t.Errorf("%s is made in another way", name)
		}
	}
	entry := firstKey(d)
	kekDER := field(t, entry, fieldKEK)
	if len(kekDER) != 277 || sum(kekDER) != knownKEKSum {
		t.Errorf("kek has %d bytes", len(kekDER))
	}
	kek, err := parseEncrypted(kekDER, oidRSA)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := rsa.DecryptPKCS1v15(nil, key.(*rsa.PrivateKey), kek)
	if err != nil || hex.EncodeToString(opened) != knownKEK {
		t.Errorf("the KEK is %x: %v", opened, err)
	}
	rewrapped, err := soft.Engine{}.Wrap(opened, unhex(t, knownKey))
	if err != nil {
		t.Fatal(err)
	}
	if der, err := encodeEncrypted(oidKeyWrapPad, rewrapped); err != nil || len(der) != 171 || !bytes.Equal(der, field(t, entry, fieldWrapped)) {
		t.Errorf("the wrapped key is made in another way: %v", err)
	}
}

// importKnown imports a variant of the known file and checks the key that came.
func importKnown(t testing.TB, file []byte) *memory {
	t.Helper()
	m := &memory{}
	b, said := newBackup(m, passphrase)
	list, err := b.Import(context.Background(), file)
	if err != nil {
		t.Fatal(err)
	}
	keys := m.private()
	if len(list) != 1 || len(keys) != 1 || len(m.objects) != 2 || said.Len() > 0 {
		t.Fatalf("%v, %d objects, %s", list, len(m.objects), said)
	}
	if list[0].Was != knownUUID || list[0].Is == knownUUID || list[0].String() != "Imported "+knownUUID+" as "+uuidOf(&keys[0].Half) {
		t.Error(list[0])
	}
	der, err := x509.MarshalPKCS8PrivateKey(keys[0].key)
	if err != nil || hex.EncodeToString(der) != knownKey {
		t.Errorf("the key is %x: %v", der, err)
	}
	// Flags 41: DIGITALSIGNATURE, TOKEN, EXPORTABLE.
	if keys[0].Uses != token.UseSign || !keys[0].Extractable || keys[0].Visible || flagsOf(&keys[0].Half) != 41 {
		t.Errorf("%+v", keys[0].Half)
	}
	if public := m.objects[1]; public.Private || !bytes.Equal(public.ID, keys[0].ID) || public.Uses != token.UseSign || !public.Visible {
		t.Errorf("%+v", public.Half)
	}
	return m
}

func TestImportKnown(t *testing.T) {
	t.Parallel()
	importKnown(t, known(t))
	split := parsed(t, known(t))
	resplit(split, 76)
	resplit(firstKey(split), 76)
	b, err := split.bytes()
	if err != nil || !bytes.Contains(b, []byte(`",`+"\n")) {
		t.Fatal("the file has no lines")
	}
	importKnown(t, b)
	one := parsed(t, known(t))
	for _, name := range []string{fieldSalt, fieldPKCS8, fieldPublic} {
		one[name] = one[name].([]any)[0]
	}
	resplit(firstKey(one), 1)
	if b, err = one.bytes(); err != nil {
		t.Fatal(err)
	}
	importKnown(t, b)
}

// resplit cuts the base64 of all fields into lines, with empty ones between.
func resplit(d document, width int) {
	for name, v := range d {
		list, ok := v.([]any)
		if !ok || name == fieldKeys {
			continue
		}
		text := list[0].(string)
		list = []any{}
		for len(text) > width {
			list, text = append(list, text[:width], ""), text[width:]
		}
		d[name] = append(list, text)
	}
}

// A key that came leaves again in the same form; two exports have different KEKs.
func TestExportAgain(t *testing.T) {
	t.Parallel()
	m := importKnown(t, known(t))
	target := &memory{}
	setup, _ := newBackup(target, "")
	kekek, err := setup.Setup(t.Context(), SetupOptions{Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	source, _ := newBackup(m, "")
	var before []byte
	for range 2 {
		file, err := source.Export(t.Context(), kekek, ExportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		entry := firstKey(parsed(t, file))
		wrapped, err := parseEncrypted(field(t, entry, fieldWrapped), oidKeyWrapPad)
		if err != nil || len(field(t, entry, fieldWrapped)) != 171 || len(field(t, entry, fieldKEK)) != 277 {
			t.Fatalf("%d and %d bytes: %v", len(field(t, entry, fieldWrapped)), len(field(t, entry, fieldKEK)), err)
		}
		wrappedKEK, err := parseEncrypted(field(t, entry, fieldKEK), oidRSA)
		if err != nil {
			t.Fatal(err)
		}
		kek, err := rsa.DecryptPKCS1v15(nil, target.objects[0].key.(*rsa.PrivateKey), wrappedKEK)
		if err != nil || len(kek) != 32 {
			t.Fatal(len(kek), err)
		}
		if der, err := (soft.Engine{}).Unwrap(kek, wrapped); err != nil || hex.EncodeToString(der) != knownKey {
			t.Errorf("the key left as %x: %v", der, err)
		}
		if bytes.Equal(kek, before) {
			t.Error("two exports have the same KEK")
		}
		before = kek
	}
}

// The vectors of the original's own tests.
func TestKeyWrapVectors(t *testing.T) {
	t.Parallel()
	const text = "Hello!  My name is Inigo Montoya.  You broke my AES key wrapper.  Prepare to die."
	for kek, want := range map[string]string{
		"bc2ad890d8911065f042101b4a6baf99":                                 "b010917be7679c101664e773d268baed8c504980162f4e97e8455c2f2b7a880ed8efaa40b02eb450e760f7bbed56791665b7139b4c66865f4d532dcd834101350d06394e9efe68c52f373399bb88f7761e8248d6a2f39b920165cb4836f542d3",
		"e39752812b7ec2a46aac50180d10c6852ccf860aa94f69ab16a64f3e96a0bd9e": "0800bc1b35e42a693f43075431bab6897c649f0384c44a71dbcbae5530dfb02bc3915d07a924dbe7be4d0d62d4f8b194f1b922b594ab7e0b156ad95f6c20b77e1319fac470ec0dbdf701c6b39a19aff24768ea7e977e522ed40331cb22b6fef5",
	} {
		wrapped, err := soft.Engine{}.Wrap(unhex(t, kek), []byte(text))
		if err != nil || hex.EncodeToString(wrapped) != want {
			t.Errorf("%s: %x %v", kek, wrapped, err)
		}
		if back, err := (soft.Engine{}).Unwrap(unhex(t, kek), wrapped); err != nil || string(back) != text {
			t.Errorf("%s: %q %v", kek, back, err)
		}
		for bit := range 8 * len(wrapped) {
			wrapped[bit/8] ^= 1 << (bit % 8)
			if _, err := (soft.Engine{}).Unwrap(unhex(t, kek), wrapped); err == nil {
				t.Errorf("%s: bit %d does not count", kek, bit)
			}
			wrapped[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// The writer makes the bytes of Python's json.dump.
func TestWriterIsPythons(t *testing.T) {
	t.Parallel()
	const text = `{"b":[],"a":{},"z":[1,-2,[null,true,false],{"y":"\u00e9\u2028\ud83d\ude00\"\\\n\r\t\f\b\u0001\u007f/<>&"}],"A":12345678901234567890,"é":"","":[[]],"\ud83d\ude00":0,"\uffff":0}`
	got, err := parsed(t, []byte(text)).bytes()
	if err != nil {
		t.Fatal(err)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", `import json, sys
db = json.load(sys.stdin)
json.dump(db, sys.stdout, indent = 4, sort_keys = True)
sys.stdout.write("\n")`)
	cmd.Stdin = strings.NewReader(text)
	want, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s\nand Python writes\n%s", got, want)
	}
}

// A public key of a private one is the key that signs.
func TestImportedKeySigns(t *testing.T) {
	t.Parallel()
	m := importKnown(t, known(t))
	public, err := x509.ParsePKIXPublicKey(m.objects[1].Public)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("sample"))
	sig, err := m.private()[0].key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil || !ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digest[:], sig) {
		t.Errorf("the signature is wrong: %v", err)
	}
	if !strings.HasPrefix(base64.StdEncoding.EncodeToString(m.objects[1].Public), "MFkwEwYHKoZIzj0CAQ") {
		t.Error("the public half is no P-256 key")
	}
}
