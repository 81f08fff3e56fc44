package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/worker"
)

// TestRenderDoctor: every section of the report, and what it looks like without
// a PIN.
func TestRenderDoctor(t *testing.T) {
	t.Parallel()
	r := &doctorReport{
		Module: "/m.so", Description: "a module", Manufacturer: "nobody", Cryptoki: "2.40", Library: "1.0",
		Hardened: []string{"landlock", "no core dumps"}, Missing: []string{"memory locked (too little)"},
		Slots: []doctorSlot{{
			ID: 5, Description: "a slot", Label: "l\x1b[2J", Serial: "7", Model: "m", Firmware: "1.2", Flags: []string{"initialised", "PIN locked"},
			Mechanisms: []doctorMechanism{{"CKM_AES_GCM", 16, 32, []string{"encrypt", "decrypt"}}, {"CKM_EC", 256, 256, nil}, {"CKM_SHA256", 0, 0, nil}},
		}},
	}
	const bare = `Module           /m.so
Description      a module
Manufacturer     nobody
Cryptoki         2.40
Library          1.0
Confined by      landlock, no core dumps
Not confined by  memory locked (too little)

Slot         5
Description  a slot
Token        l\u001b[2J
Serial       7
Model        m
Firmware     1.2
Flags        initialised, PIN locked

MECHANISM    KEY SIZE  USES
CKM_AES_GCM  16–32     encrypt, decrypt
CKM_EC       256
CKM_SHA256
`
	if got := renderDoctor(r); got != bare {
		t.Errorf("without a PIN:\n%s\nwant:\n%s", got, bare)
	}
	r.KeyTypes = []doctorKeyType{{"aes256-gcm96", "native", true, true, ""}, {"ed25519", "native", false, true, "can't be wrapped"}}
	r.Quirks = []string{"a forged tag is CKR_GENERAL_ERROR"}
	r.Rates = []doctorRate{{"sign ecdsa-p256", 2, 1234.4}}
	const full = bare + `
KEY TYPE      HELD    PROTECTIONS     NOTE
aes256-gcm96  native  wrapped, token
ed25519       native  token           can't be wrapped

Worked around:
  - a forged tag is CKR_GENERAL_ERROR

OPERATION        WORKERS  PER SECOND
sign ecdsa-p256  2        1234
`
	if got := renderDoctor(r); got != full {
		t.Errorf("with a PIN:\n%s\nwant:\n%s", got, full)
	}
}

func TestReportKeyType(t *testing.T) {
	t.Parallel()
	type ops = []worker.OperationReport
	op := func(name, how, note string) worker.OperationReport {
		return worker.OperationReport{Name: name, How: how, Note: note}
	}
	for _, tt := range []struct {
		name       string
		report     worker.TypeReport
		held, note string
	}{
		{"not held", worker.TypeReport{Type: token.ChaCha20, Note: "no mechanism"}, "no", "no mechanism"},
		{"native", worker.TypeReport{Type: token.P256, Held: true, Operations: ops{op("sign", "native", "")}}, "native", ""},
		{"composed", worker.TypeReport{Type: token.RSA2048, Held: true, Note: "n", Operations: ops{op("sign", "native", ""), op("OAEP", "composed", "of X")}},
			"composed", "n; OAEP: composed of X"},
		{"in part", worker.TypeReport{Type: token.RSA2048, Held: true, Operations: ops{op("OAEP", "composed", "of X"), op("PSS", "no", "fails"), op("sign", "composed", "of Y")}},
			"in part", "OAEP: composed of X; PSS: no fails; sign: composed of Y"},
	} {
		if k := reportKeyType(tt.report); k.Held != tt.held || k.Note != tt.note || k.Token != tt.report.Held {
			t.Errorf("%s: %+v, want %s, %q", tt.name, k, tt.held, tt.note)
		}
	}
}

// TestExamination: flags go before the configuration.
func TestExamination(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "c.toml")
	text := "data_dir = \"" + dir + "\"\n[token]\ndriver = \"pkcs11\"\nlabel = \"l\"\n[token.pkcs11]\nmodule = \"/dev/null\"\nserial = \"1\"\n[token.pkcs11.env]\nA = \"1\"\nB = \"2\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f := doctorFlags{config: file, serial: "9", env: map[string]string{"B": "3"}}
	e, err := f.examination()
	if err != nil {
		t.Fatal(err)
	}
	environ := e.Module.Environ()
	slices.Sort(environ)
	if e.Label != "l" || e.Module.Module != "/dev/null" || e.Module.Serial != "9" || e.Module.LockFile != filepath.Join(dir, "token.lock") || !slices.Equal(environ, []string{"A=1", "B=3"}) {
		t.Errorf("with a configuration: %+v, environment %v", e, environ)
	}
	f = doctorFlags{module: "/dev/zero", label: "x", env: map[string]string{"A": "1"}}
	e, err = f.examination()
	if err != nil || e.Label != "x" || e.Module.Module != "/dev/zero" || e.Module.LockFile != "" || !slices.Equal(e.Module.Environ(), []string{"A=1"}) {
		t.Errorf("without one: %+v, %v", e, err)
	}
}

// TestDoctorEmptyPIN: an empty PIN is not tried.
func TestDoctorEmptyPIN(t *testing.T) {
	t.Parallel()
	a, out, _ := testApp(t)
	err := a.doctor(t.Context(), doctorFlags{module: "/dev/null", login: true})
	if err == nil || err.Error() != "the PIN is empty" || !bytes.Equal(out.Bytes(), nil) {
		t.Errorf("%v, wrote %q", err, out)
	}
}
