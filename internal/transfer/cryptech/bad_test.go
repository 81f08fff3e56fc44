package cryptech

//lint:file-ignore SA1019 the format has RSA with PKCS #1 v1.5

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/soft"
)

// encrypted makes an EncryptedPrivateKeyInfo with any parameters.
func encrypted(t testing.TB, oid asn1.ObjectIdentifier, parameters, data []byte) []byte {
	t.Helper()
	type algorithm struct {
		ID         asn1.ObjectIdentifier
		Parameters asn1.RawValue `asn1:"optional"`
	}
	info := struct {
		Algorithm algorithm
		Data      []byte
	}{algorithm{ID: oid}, data}
	if parameters != nil {
		info.Algorithm.Parameters = asn1.RawValue{FullBytes: parameters}
	}
	b, err := asn1.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// variant is the known file with something else in it.
func variant(t testing.TB, change func(d, key document)) []byte {
	t.Helper()
	d := parsed(t, known(t))
	change(d, firstKey(d))
	b, err := d.bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever is wrong with a file: a refusal that says it, and nothing in the token.
func TestImportRefused(t *testing.T) {
	t.Parallel()
	good := parsed(t, known(t))
	entry := firstKey(good)
	wrapped, err := parseEncrypted(field(t, entry, fieldWrapped), oidKeyWrapPad)
	if err != nil {
		t.Fatal(err)
	}
	kek, err := parseEncrypted(field(t, entry, fieldKEK), oidRSA)
	if err != nil {
		t.Fatal(err)
	}
	kekek, err := parseEncrypted(field(t, good, fieldPKCS8), oidKeyWrapPad)
	if err != nil {
		t.Fatal(err)
	}
	aes128 := asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 8}
	long := func(b []byte) []byte { return append([]byte{0x30, 0x83, 0, b[2], b[3]}, b[4:]...) }
	for name, c := range map[string]struct {
		change func(d, key document)
		want   string
	}{
		"kek without a structure":     {func(_, k document) { k[fieldKEK] = lines(kek) }, "EncryptedPrivateKeyInfo"},
		"pkcs8 without a structure":   {func(_, k document) { k[fieldWrapped] = lines(wrapped) }, "EncryptedPrivateKeyInfo"},
		"kekek without a structure":   {func(d, _ document) { d[fieldPKCS8] = lines(kekek) }, "EncryptedPrivateKeyInfo"},
		"trailing bytes of kek":       {func(_, k document) { k[fieldKEK] = lines(append(field(t, entry, fieldKEK), 0)) }, "EncryptedPrivateKeyInfo"},
		"trailing bytes of pkcs8":     {func(_, k document) { k[fieldWrapped] = lines(append(field(t, entry, fieldWrapped), 0)) }, "EncryptedPrivateKeyInfo"},
		"trailing bytes of the KEKEK": {func(d, _ document) { d[fieldPKCS8] = lines(append(field(t, good, fieldPKCS8), 0)) }, "EncryptedPrivateKeyInfo"},
		"a length of 3 bytes":         {func(_, k document) { k[fieldKEK] = lines(long(field(t, entry, fieldKEK))) }, "EncryptedPrivateKeyInfo"},
		"kek cut":                     {func(_, k document) { k[fieldKEK] = lines(field(t, entry, fieldKEK)[:100]) }, "EncryptedPrivateKeyInfo"},
		"kek with the OID of pkcs8":   {func(_, k document) { k[fieldKEK] = lines(encrypted(t, oidKeyWrapPad, nil, kek)) }, "the algorithm must be 1.2.840.113549.1.1.1"},
		"pkcs8 with the OID of kek":   {func(_, k document) { k[fieldWrapped] = lines(encrypted(t, oidRSA, nil, wrapped)) }, "the algorithm must be 2.16.840.1.101.3.4.1.48"},
		"pkcs8 with AES-128":          {func(_, k document) { k[fieldWrapped] = lines(encrypted(t, aes128, nil, wrapped)) }, "the algorithm must be"},
		"parameters":                  {func(_, k document) { k[fieldKEK] = lines(encrypted(t, oidRSA, []byte{4, 0}, kek)) }, "no parameters"},
		"NULL with content":           {func(_, k document) { k[fieldKEK] = lines(encrypted(t, oidRSA, []byte{5, 1, 0}, kek)) }, "no parameters"},
		"kek of another size":         {func(_, k document) { k[fieldKEK] = lines(encrypted(t, oidRSA, nil, append(kek, 0))) }, "256 bytes, and here are 257"},
		"pkcs8 of an odd size":        {func(_, k document) { k[fieldWrapped] = lines(encrypted(t, oidKeyWrapPad, nil, wrapped[1:])) }, "a multiple of 8"},
		"pkcs8 too short":             {func(_, k document) { k[fieldWrapped] = lines(encrypted(t, oidKeyWrapPad, nil, wrapped[:16])) }, "24 to 8192 bytes"},
		"pkcs8 too long":              {func(_, k document) { k[fieldWrapped] = lines(encrypted(t, oidKeyWrapPad, nil, make([]byte, 8200))) }, "24 to 8192 bytes"},
		"pkcs8 cut by a block":        {func(_, k document) { k[fieldWrapped] = lines(encrypted(t, oidKeyWrapPad, nil, wrapped[8:])) }, "bad magic number"},
		"kek beyond the modulus":      {func(_, k document) { k[fieldKEK] = lines(encrypted(t, oidRSA, nil, bytes.Repeat([]byte{255}, 256))) }, "no ciphertext of this KEKEK"},
		"no kek":                      {func(_, k document) { delete(k, fieldKEK) }, "one of them is missing"},
		"no pkcs8":                    {func(_, k document) { k[fieldWrapped] = []any{} }, "one of them is missing"},
		"no uuid":                     {func(_, k document) { delete(k, fieldID) }, "it has no uuid"},
		"uuid of another type":        {func(_, k document) { k[fieldID] = number(1) }, "uuid must be a string"},
		"flags of another type":       {func(_, k document) { k[fieldFlags] = "41" }, "flags must be a whole number"},
		"negative flags":              {func(_, k document) { k[fieldFlags] = -1 }, "flags must be a whole number"},
		"label too long":              {func(_, k document) { k[fieldLabel] = strings.Repeat("x", 256) }, "its label has more than 255 bytes"},
		"bad base64":                  {func(_, k document) { k[fieldKEK] = []any{"MIIB*"} }, "kek is no base64"},
		"base64 cut":                  {func(_, k document) { k[fieldKEK] = []any{"MIIBE"} }, "kek is no base64"},
		"a list in a list":            {func(_, k document) { k[fieldKEK] = []any{[]any{}} }, "kek must be a list of base64 strings"},
		"an entry that is none":       {func(d, _ document) { d[fieldKeys] = []any{"x"} }, "keys[0] must be an object"},
		"no keys":                     {func(d, _ document) { delete(d, fieldKeys) }, "no list keys"},
		"keys of another type":        {func(d, _ document) { d[fieldKeys] = document{} }, "no list keys"},
		"no KEKEK":                    {func(d, _ document) { delete(d, fieldSalt) }, "names no KEKEK"},
		"empty salt":                  {func(d, _ document) { d[fieldSalt] = []any{} }, "kekek_salt is empty"},
		"another salt":                {func(d, _ document) { d[fieldSalt] = lines(make([]byte, 16)) }, "bad magic number while unwrapping the KEKEK"},
		"another public KEKEK":        {func(d, _ document) { d[fieldPublic] = lines(publicDER(t, rsaKey(t, 2048))) }, "not the public half"},
		"unknown kdf":                 {func(d, _ document) { d[fieldKDF] = document{"name": "scrypt"} }, "must be an object whose name is"},
		"kdf of another type":         {func(d, _ document) { d[fieldKDF] = "argon2id" }, "must be an object whose name is"},
		"kdf with too much memory":    {func(d, _ document) { d[fieldKDF] = argonParameters{1 << 21, 3, 4}.document() }, "memory_kib of kekek_kdf must be 8 to 1048576"},
		"kdf without passes":          {func(d, _ document) { d[fieldKDF] = argonParameters{1 << 10, 0, 4}.document() }, "passes of kekek_kdf must be"},
		"kdf with little memory":      {func(d, _ document) { d[fieldKDF] = argonParameters{16, 1, 4}.document() }, "8 for each lane"},
		"another kdf":                 {func(d, _ document) { d[fieldKDF] = argonParameters{64, 1, 1}.document() }, "bad magic number while unwrapping the KEKEK"},
		"spki that is none":           {func(_, k document) { k[fieldKEK], k[fieldWrapped], k[fieldSPKI] = "", "", lines([]byte("x")) }, "spki must be DER"},
		"spki on P-224": {func(_, k document) {
			k[fieldKEK], k[fieldWrapped], k[fieldSPKI] = "", "", lines(publicDER(t, ecKey(t, elliptic.P224())))
		}, "spki must be an RSA key"},
	} {
		m := &memory{}
		b, _ := newBackup(m, passphrase)
		list, err := b.Import(t.Context(), variant(t, c.change))
		if fault.KindOf(err) != fault.Invalid || list != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if len(m.objects) > 0 {
			t.Errorf("%s: %d objects are left", name, len(m.objects))
		}
	}
	// What is not wrong, only unusual.
	importKnown(t, variant(t, func(_, k document) { k[fieldKEK] = lines(encrypted(t, oidRSA, []byte{5, 0}, kek)) }))
	importKnown(t, variant(t, func(_, k document) { k[fieldWrapped] = lines(encrypted(t, oidKeyWrapPad, []byte{5, 0}, wrapped)) }))
	importKnown(t, variant(t, func(d, k document) { d[fieldKeys] = []any{document{fieldComment: "nothing"}, k} }))
	importKnown(t, variant(t, func(d, _ document) { delete(d, fieldPublic); d["more"] = "x" }))
}

// A key that can't come takes those with it that came before.
func TestImportUndone(t *testing.T) {
	t.Parallel()
	good := parsed(t, known(t))
	bad := document{fieldID: "the bad one", fieldKEK: firstKey(good)[fieldKEK]}
	wrapped, err := soft.Engine{}.Wrap(make([]byte, 32), unhex(t, knownKey))
	if err != nil {
		t.Fatal(err)
	}
	bad[fieldWrapped] = lines(encrypted(t, oidKeyWrapPad, nil, wrapped))
	file := variant(t, func(d, k document) { d[fieldKeys] = []any{k, k, bad} })
	m := &memory{}
	m.add(t, ecKey(t, elliptic.P256()), "was there", []byte{1}, token.UseSign, false)
	b, _ := newBackup(m, passphrase)
	if _, err := b.Import(t.Context(), file); fault.KindOf(err) != fault.Invalid || !strings.HasSuffix(err.Error(), "; nothing was imported") || !strings.HasPrefix(err.Error(), "key the bad one: bad magic") {
		t.Error(err)
	}
	if len(m.objects) != 2 {
		t.Errorf("%d objects", len(m.objects))
	}
	m.room = 5
	_, err = b.Import(t.Context(), variant(t, func(d, k document) { d[fieldKeys] = []any{k, k, k} }))
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "did not come into the HSM token; nothing was imported: C_UnwrapKey: CKR_DEVICE_MEMORY") || len(m.objects) != 2 {
		t.Errorf("%v, %d objects", err, len(m.objects))
	}
	// A public half that is another key's.
	other := document{fieldID: knownUUID, fieldSPKI: lines(publicDER(t, ecKey(t, elliptic.P256())))}
	_, err = b.Import(t.Context(), variant(t, func(d, k document) { d[fieldKeys] = []any{k, other} }))
	if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "not the public half of the private key") || len(m.objects) != 2 {
		t.Errorf("%v, %d objects", err, len(m.objects))
	}
}

// A wrong padding, a KEK of another size and another KEK have one answer, with a
// KEKEK in memory and with one in the token.
func TestNoOracle(t *testing.T) {
	t.Parallel()
	m := &memory{}
	b, _ := newBackup(m, passphrase)
	setup, err := b.Setup(t.Context(), SetupOptions{Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{"in software": known(t), "in the HSM token": setup} {
		d := parsed(t, file)
		public, err := parseKEKEK(field(t, d, fieldPublic))
		if err != nil {
			t.Fatal(err)
		}
		var answers []string
		for _, plain := range [][]byte{make([]byte, 32), make([]byte, 31), make([]byte, 33), {}, nil} {
			kek := bytes.Repeat([]byte{1}, 256) // no padding at all
			if plain != nil {
				if kek, err = rsa.EncryptPKCS1v15(rand.Reader, public, plain); err != nil {
					t.Fatal(err)
				}
			}
			d[fieldKeys] = []any{document{fieldID: "x", fieldKEK: lines(encrypted(t, oidRSA, nil, kek)), fieldWrapped: firstKey(parsed(t, known(t)))[fieldWrapped]}}
			text, err := d.bytes()
			if err != nil {
				t.Fatal(err)
			}
			_, err = b.Import(t.Context(), text)
			answers = append(answers, fmt.Sprint(err))
		}
		for _, a := range answers {
			if a != answers[0] || !strings.Contains(a, "bad magic number while unwrapping key") {
				t.Errorf("%s: %q", name, answers)
			}
		}
	}
	if len(m.objects) != 2 {
		t.Errorf("%d objects are left", len(m.objects)-2)
	}
}

// A KEKEK of the token must be there, be the one of the file, and be one.
func TestImportKEKEK(t *testing.T) {
	t.Parallel()
	key, id := rsaKey(t, 2048), bytes.Repeat([]byte{8}, 16)
	file := func(change func(d document)) []byte {
		d := document{fieldUUID: uuidOf(&token.Half{ID: id}), fieldPublic: lines(publicDER(t, key)), fieldKeys: []any{}}
		change(d)
		b, err := d.bytes()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	same := func(document) {}
	m := &memory{}
	b, _ := newBackup(m, "")
	if _, err := b.Import(t.Context(), file(same)); fault.KindOf(err) != fault.NotFound || fault.HintOf(err) == "" {
		t.Error(err)
	}
	m.add(t, key, "kekek", id, token.UseSign, false)
	if _, err := b.Import(t.Context(), file(same)); err == nil || !strings.HasSuffix(err.Error(), "does not allow key encipherment") {
		t.Error(err)
	}
	m.objects[0].Uses = token.UseWrap
	if list, err := b.Import(t.Context(), file(same)); err != nil || len(list) != 0 {
		t.Error(err)
	}
	if _, err := b.Import(t.Context(), file(func(d document) { d[fieldPublic] = lines(publicDER(t, rsaKey(t, 2048))) })); err == nil || !strings.Contains(err.Error(), "not the public half") {
		t.Error(err)
	}
	m.objects[0].Public = publicDER(t, rsaKey(t, 1024))
	if _, err := b.Import(t.Context(), file(same)); err == nil || !strings.HasSuffix(err.Error(), "unsupported key type or key length") {
		t.Error(err)
	}
	m.objects[0].RSA = false
	if _, err := b.Import(t.Context(), file(same)); err == nil || !strings.HasSuffix(err.Error(), "is not an RSA private key") {
		t.Error(err)
	}
}

// What the flags of a private key can't keep is said.
func TestFlagsAreExplained(t *testing.T) {
	t.Parallel()
	for flags, want := range map[int]string{
		flagSign | flagToken:              "",
		flagSign | flagToken | flagPublic: "its flag PUBLIC is not kept",
		flagSign:                          "it has no flag TOKEN",
		0:                                 "its flags allow no use of it",
	} {
		m := &memory{}
		b, said := newBackup(m, passphrase)
		file := variant(t, func(_, k document) {
			if k[fieldFlags] = flags; flags == 0 {
				delete(k, fieldFlags)
			}
		})
		if _, err := b.Import(t.Context(), file); err != nil || !strings.Contains(said.String(), want) || (want == "") != (said.Len() == 0) {
			t.Errorf("flags %d: %v %s", flags, err, said)
		}
		if key := m.private()[0]; key.Visible || key.Extractable || key.Uses != usesOf(uint32(flags)) {
			t.Errorf("flags %d: %+v", flags, key.Half)
		}
	}
}

// envFull asks for every bit instead of some.
const envFull = "CLAVIGER_TEST_FULL"

// Each bit of a file, turned: it is refused, or the same key comes. Without
// CLAVIGER_TEST_FULL some of the bits are tried.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	step := 61
	if os.Getenv(envFull) != "" {
		step = 1
	}
	good := known(t)
	refused := 0
	for bit := 0; bit < 8*len(good); bit += step {
		file := bytes.Clone(good)
		file[bit/8] ^= 1 << (bit % 8)
		m := &memory{}
		b, _ := newBackup(m, passphrase)
		list, err := b.Import(t.Context(), file)
		switch {
		case err != nil && (len(m.objects) > 0 || fault.KindOf(err) != fault.Invalid):
			t.Fatalf("bit %d: %v, %d objects", bit, err, len(m.objects))
		case err != nil:
			refused++
		case len(list) > 0 && hex.EncodeToString(der(t, m.private()[0].key)) != knownKey:
			t.Fatalf("bit %d: another key came", bit)
		}
	}
	t.Logf("%d of %d bits were refused", refused, (8*len(good)+step-1)/step)
}
