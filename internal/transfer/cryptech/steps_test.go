package cryptech

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// A whole way: setup, export, import, of all kinds of keys.
func TestTransfer(t *testing.T) {
	t.Parallel()
	source, destination := &memory{}, &memory{}
	uses := token.UseSign | token.UseEncrypt
	source.add(t, ecKey(t, elliptic.P521()), "old", bytes.Repeat([]byte{9}, 16), uses, true)
	source.add(t, rsaKey(t, 2048), "web", bytes.Repeat([]byte{1}, 16), uses, true)
	source.add(t, rsaKey(t, 1024), "small", []byte{3}, token.UseSign, true)
	source.add(t, ecKey(t, elliptic.P384()), "stays", bytes.Repeat([]byte{2}, 16), uses, false)
	foreign := ecKey(t, elliptic.P256())
	source.objects = append(source.objects, object{Half: token.Half{Label: "of another", ID: bytes.Repeat([]byte{4}, 16), Type: token.P256, Public: publicDER(t, foreign), Uses: token.UseSign, Visible: true}})

	to, setupSaid := newBackup(destination, "")
	kekek, err := to.Setup(t.Context(), SetupOptions{Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	from, said := newBackup(source, "")
	file, err := from.Export(t.Context(), kekek, ExportOptions{Labels: true})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said.String(), strings.TrimSpace(setupSaid.String())) || !strings.Contains(setupSaid.String(), "SHA-256 "+sum(field(t, parsed(t, kekek), fieldPublic))) {
		t.Errorf("the fingerprint is not shown twice: %s%s", setupSaid, said)
	}
	checkExported(t, parsed(t, kekek), parsed(t, file))
	list, err := to.Import(t.Context(), file)
	if err != nil || len(list) != 7 {
		t.Fatal(list, err)
	}
	keys := destination.private()
	if len(keys) != 3 || len(destination.objects) != 2+7 {
		t.Fatalf("%d keys, %d objects", len(keys), len(destination.objects))
	}
	for _, key := range keys {
		at := source.find(key.Label, map[string][]byte{"old": bytes.Repeat([]byte{9}, 16), "web": bytes.Repeat([]byte{1}, 16), "small": {3}}[key.Label])
		if at == nil || !bytes.Equal(publicDER(t, key.key), publicDER(t, at.key)) || key.Uses != at.Uses || !key.Extractable {
			t.Errorf("%+v", key.Half)
		}
		if halves := byID(destination, key.ID); len(halves) != 2 || halves[1].Private || !halves[1].Visible {
			t.Errorf("%s has not one public half beside it", key.Label)
		}
	}
	// The second import makes new keys.
	if again, err := to.Import(t.Context(), file); err != nil || again[0].Is == list[0].Is || len(destination.objects) != 2+2*7 {
		t.Error(again, err)
	}
}

func byID(m *memory, id []byte) (list []object) {
	for _, o := range m.objects {
		if bytes.Equal(o.ID, id) {
			list = append(list, o)
		}
	}
	return list
}

// checkExported compares a file with what the original would write.
func checkExported(t *testing.T, kekek, d document) {
	t.Helper()
	for name, v := range kekek {
		if name != fieldComment && fmt.Sprint(v) != fmt.Sprint(d[name]) {
			t.Errorf("%s is not carried over", name)
		}
	}
	if d[fieldComment] != "Cryptech Alpha encrypted key backup" || kekek[fieldComment] != "KEKEK public key" || d.isSoft() {
		t.Errorf("the comments are %v and %v", d[fieldComment], kekek[fieldComment])
	}
	var got []string
	for _, v := range d[fieldKeys].([]any) {
		e := document(v.(map[string]any))
		got = append(got, fmt.Sprintf("%v %v %v", e[fieldComment], e[fieldFlags], e[fieldLabel]))
	}
	want := []string{
		"Encrypted private key 45 web", "Encrypted private key 45 old", "Encrypted private key 41 small",
		"Public key 61 web", "Public key 57 of another", "Public key 61 old", "Public key 57 small",
	}
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for _, w := range want {
		if !strings.Contains(strings.Join(got, "\n"), w) {
			t.Errorf("%q is not in %q", w, got)
		}
	}
}

func TestSetup(t *testing.T) {
	t.Parallel()
	m := &memory{}
	weak, plain, open := bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 16), bytes.Repeat([]byte{3}, 16)
	m.add(t, rsaKey(t, 1024), "weak", weak, token.UseWrap, false)
	m.add(t, rsaKey(t, 2048), "signs", plain, token.UseSign, false)
	m.add(t, rsaKey(t, 2048), "open", open, token.UseWrap, true)
	m.add(t, ecKey(t, elliptic.P256()), "ec", []byte("ec"), token.UseWrap, false)
	b, said := newBackup(m, "")
	first, err := b.Setup(t.Context(), SetupOptions{Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	made := parsed(t, first)[fieldUUID].(string)
	again, err := b.Setup(t.Context(), SetupOptions{Bits: 4096})
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("the KEKEK was not found again: %v", err)
	}
	named, err := b.Setup(t.Context(), SetupOptions{Bits: 2048, UUID: made})
	if err != nil || !bytes.Equal(first, named) {
		t.Errorf("the KEKEK was not found by its name: %v", err)
	}
	other, err := b.Setup(t.Context(), SetupOptions{Bits: 3072, New: true})
	if err != nil || parsed(t, other)[fieldUUID] == made || !strings.Contains(said.String(), "RSA-3072") {
		t.Errorf("no new KEKEK: %v", err)
	}
	slices.Reverse(m.objects)
	before, _ := b.Setup(t.Context(), SetupOptions{Bits: 2048})
	slices.Reverse(m.objects)
	if after, err := b.Setup(t.Context(), SetupOptions{Bits: 2048}); err != nil || !bytes.Equal(before, after) {
		t.Errorf("of two KEKEKs another one is found when the token lists them in another order: %v", err)
	}
	for id, want := range map[string]string{
		uuidOf(&token.Half{ID: weak}):          "is an RSA key of another size than 2048 to 4096 bits",
		uuidOf(&token.Half{ID: plain}):         "does not allow key encipherment",
		uuidOf(&token.Half{ID: open}):          "could leave the HSM token (CKA_EXTRACTABLE)",
		uuidOf(&token.Half{ID: []byte("ec")}):  "is not an RSA private key",
		"00000000-0000-0000-0000-000000000000": "",
	} {
		said.Reset()
		_, err := b.Setup(t.Context(), SetupOptions{Bits: 2048, UUID: id})
		if want != "" {
			want = "Key " + id + " " + want + "\n"
		}
		if err == nil || err.Error() != "Could not find suitable KEKEK" || said.String() != want {
			t.Errorf("%s: %v, %s", id, err, said)
		}
	}
	for _, o := range []SetupOptions{{Bits: 1024}, {Bits: 2100}, {Bits: 8192}, {Bits: 2048, KDF: "scrypt"}, {}} {
		if _, err := b.Setup(t.Context(), o); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
	m.room = len(m.objects)
	if _, err := b.Setup(t.Context(), SetupOptions{Bits: 2048, New: true}); !errors.Is(err, errRoom) {
		t.Errorf("a token without room: %v", err)
	}
}

// The software variant, in the original's form and in ours.
func TestSoft(t *testing.T) {
	t.Parallel()
	source := &memory{}
	source.add(t, ecKey(t, elliptic.P256()), "key", []byte{1}, token.UseSign, true)
	for _, kdf := range []KDF{"", PBKDF2, Argon2id} {
		b, said := newBackup(nil, "a passphrase")
		kekek, err := b.Setup(t.Context(), SetupOptions{Soft: true, Bits: 2048, KDF: kdf})
		if err != nil {
			t.Fatal(err)
		}
		d := parsed(t, kekek)
		if _, ok := d[fieldKDF]; ok != (kdf == Argon2id) || !d.isSoft() || d[fieldComment] != "KEKEK software keypair" || len(field(t, d, fieldSalt)) != 16 {
			t.Errorf("%s: %s", kdf, kekek)
		}
		if !strings.Contains(said.String(), "KEKEK in software: RSA-2048, SHA-256 ") {
			t.Error(said)
		}
		from, _ := newBackup(source, "")
		file, err := from.Export(t.Context(), kekek, ExportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		m := &memory{}
		to, _ := newBackup(m, "a passphrase")
		if list, err := to.Import(t.Context(), file); err != nil || len(list) != 2 || len(m.private()) != 1 ||
			!m.private()[0].key.(*ecdsa.PrivateKey).Equal(source.objects[0].key) {
			t.Errorf("%s: %v %v", kdf, list, err)
		}
		m = &memory{}
		to, _ = newBackup(m, "a passphrasf")
		if _, err := to.Import(t.Context(), file); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "bad magic number") || len(m.objects) > 0 {
			t.Errorf("%s, wrong passphrase: %v", kdf, err)
		}
	}
	b, _ := newBackup(nil, "")
	if _, err := b.Setup(t.Context(), SetupOptions{Soft: true, Bits: 2048}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("an empty passphrase: %v", err)
	}
}

func TestExportRefused(t *testing.T) {
	t.Parallel()
	m := &memory{}
	m.add(t, ecKey(t, elliptic.P256()), "key", []byte{1}, token.UseSign, true)
	b, _ := newBackup(m, "")
	good := parsed(t, known(t))
	ec := lines(publicDER(t, ecKey(t, elliptic.P256())))
	weak := lines(publicDER(t, rsaKey(t, 1024)))
	exponent := func(e int) []any {
		der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: rsaKey(t, 2048).N, E: e})
		if err != nil {
			t.Fatal(err)
		}
		return lines(der)
	}
	for name, change := range map[string]func(d document){
		"exponent 1":   func(d document) { d[fieldPublic] = exponent(1) },
		"exponent 3":   func(d document) { d[fieldPublic] = exponent(3) },
		"no KEKEK":     func(d document) { delete(d, fieldPublic) },
		"empty KEKEK":  func(d document) { d[fieldPublic] = []any{} },
		"no base64":    func(d document) { d[fieldPublic] = []any{"?"} },
		"an EC KEKEK":  func(d document) { d[fieldPublic] = ec },
		"1024 bits":    func(d document) { d[fieldPublic] = weak },
		"trailing":     func(d document) { d[fieldPublic] = lines(append(field(t, good, fieldPublic), 0)) },
		"a number":     func(d document) { d[fieldPublic] = number(1) },
		"numbers":      func(d document) { d[fieldPublic] = []any{number(1)} },
		"a false UUID": func(d document) { d[fieldUUID] = []any{} },
	} {
		d := parsed(t, known(t))
		change(d)
		file, err := d.bytes()
		if err != nil {
			t.Fatal(err)
		}
		if out, err := b.Export(t.Context(), file, ExportOptions{}); fault.KindOf(err) != fault.Invalid || out != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "[]", "null", "{} {}", "{", "\xff", `{"kekek_pubkey":"` + strings.Repeat("A", 100) + `"}`} {
		if _, err := b.Export(t.Context(), []byte(text), ExportOptions{}); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", text, err)
		}
	}
	deep := strings.TrimSuffix(string(known(t)), "\n}\n") + `,"x":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + "}"
	if _, err := b.Export(t.Context(), []byte(deep), ExportOptions{}); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "nested deeper") {
		t.Errorf("nested: %v", err)
	}
	print := sum(field(t, good, fieldPublic))
	if _, err := b.Export(t.Context(), known(t), ExportOptions{Fingerprint: strings.ToUpper(print)}); err != nil {
		t.Error(err)
	}
	if _, err := b.Export(t.Context(), known(t), ExportOptions{Fingerprint: sum([]byte("another"))}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("another fingerprint: %v", err)
	}
}

// A key of a kind that the format has not is left out, and that is said; one that
// can't be wrapped ends the export.
func TestExportKinds(t *testing.T) {
	t.Parallel()
	m := &memory{objects: []object{{Half: token.Half{Label: "k1", ID: []byte{1}, Private: true, Kind: "EC", Extractable: true}}}}
	b, said := newBackup(m, "")
	file, err := b.Export(t.Context(), known(t), ExportOptions{})
	if err != nil || !bytes.Contains(file, []byte(`"keys": []`)) || !strings.Contains(said.String(), `"k1" is left out`) {
		t.Errorf("%v %s", err, said)
	}
	m.add(t, ecKey(t, elliptic.P256()), "key", []byte{2}, token.UseSign, true)
	b.HSM = refusing{m}
	if _, err := b.Export(t.Context(), known(t), ExportOptions{}); !errors.Is(err, token.ErrUnsupported) {
		t.Error(err)
	}
}

type refusing struct{ *memory }

func (refusing) MoveOut(context.Context, []byte, token.Half) (wrapped, wrappedKEK []byte, err error) {
	return nil, nil, token.ErrUnsupported
}

func TestUUID(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, h := range []token.Half{{ID: []byte{1}}, {ID: []byte{2}}, {Label: "a"}, {Label: "b"}, {}, {ID: make([]byte, 16)}, {ID: make([]byte, 17)}} {
		id := uuidOf(&h)
		if seen[id] || len(id) != 36 {
			t.Error(id)
		}
		seen[id] = true
		private := h
		private.Private = true
		if uuidOf(&private) != id {
			t.Error("the halves of a pair have different names")
		}
	}
	if uuidOf(&token.Half{Label: "a", ID: []byte{1}}) != uuidOf(&token.Half{Label: "b", ID: []byte{1}}) {
		t.Error("the label counts beside the ID")
	}
}

// der is for tests that compare keys.
func der(t testing.TB, key any) []byte {
	t.Helper()
	b, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
