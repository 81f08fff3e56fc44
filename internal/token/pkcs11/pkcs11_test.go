package pkcs11

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		PINIncorrect.String():                              "CKR_PIN_INCORRECT",
		CKR(0x80000001).String():                           "CKR_VENDOR_DEFINED+0x1",
		CKR(0x7FFF).String():                               "CKR 0x7fff",
		AESGCM.String():                                    "CKM_AES_GCM",
		CKM(0x90000000).String():                           "CKM 0x90000000",
		(&Error{"C_Login", PINLocked}).Error():             "C_Login: CKR_PIN_LOCKED",
		FuncName(Sign, AtInit) + FuncName(Decrypt, AtCall): "C_SignInitC_Decrypt",
		padded([]byte("label   ")):                         "label",
		padded([]byte("label\x00junk")):                    "label",
		(Version{2, 40}).String():                          "2.40",
	} {
		if got != want {
			t.Errorf("%q instead of %q", got, want)
		}
	}
	if CodeOf(errors.Join(nil, &Error{"C_Sign", DeviceError})) != DeviceError || CodeOf(errors.New("x")) != OK {
		t.Error("CodeOf")
	}
}

// Values lie on boundaries that a CK_ULONG may be read from.
func TestTemplate(t *testing.T) {
	t.Parallel()
	tm := (&Template{}).Bool(true, AttrToken, AttrPrivate).String(AttrLabel, "abc").Ulong(AttrValueLen, 32)
	if len(tm.attrs) != 4 {
		t.Fatalf("%d attributes", len(tm.attrs))
	}
	for _, a := range tm.attrs {
		if a.off%8 != 0 {
			t.Errorf("attribute %#x at %d", a.typ, a.off)
		}
	}
	last := tm.attrs[3]
	if !bytes.Equal(tm.data[last.off:last.off+1], []byte{32}) && !bytes.Equal(tm.data[last.off+7:last.off+8], []byte{32}) {
		t.Errorf("CK_ULONG: %x", tm.data)
	}
	if unsafe.Sizeof(Item{}) != 48 || unsafe.Sizeof(Op{}) != 24 || unsafe.Sizeof(attr{}) != 16 {
		t.Error("the layout of Go and C differs")
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "text.so")
	if err := os.WriteFile(text, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "absent"): "no PKCS#11 module at",
		dir:                          "is a directory",
		text:                         "is no PKCS#11 module",
	} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
