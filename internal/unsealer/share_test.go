package unsealer

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/tpm"
	"github.com/claviger/claviger/internal/tpm/tpmtest"
)

// Shares as servers give them: 33 bytes of Vault and 48 of Claviger, in both forms.
var texts = []string{
	"ccd4f8a0f3a8b8dc9c3c4e2c9df2ba4fce05bf0ce8a5e8e1d0aa4f9da11c90b401",
	"zNT4oPOouNycPE4snfK6T84FvwzopejhtApPnaEckLQB",
	strings.Repeat("0aF9", 24),
	strings.Repeat("+/aZ", 16),
	strings.Repeat("-_a=", 16),
}

func writeShare(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "share")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readShare(t *testing.T, s *share) string {
	t.Helper()
	got, err := s.read()
	if err != nil {
		t.Fatal(err)
	}
	text := string(got.text)
	mapped := got.mapped
	if len(mapped) == 0 {
		t.Fatal("not in memory of its own")
	}
	got.free()
	got.free()
	return text
}

func TestShareFromFile(t *testing.T) {
	t.Parallel()
	for _, text := range texts {
		for _, around := range []string{"%", "%\n", "  %\r\nsecond line\n"} {
			path := writeShare(t, strings.Replace(around, "%", text, 1))
			s, err := newShare(config.UnsealerShare{Source: config.ShareFile, File: path}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := readShare(t, s); got != text {
				t.Errorf("read %q, want %q", got, text)
			}
		}
	}
}

// TestShareIsReadAnew: a file that is replaced counts from then on.
func TestShareIsReadAnew(t *testing.T) {
	t.Parallel()
	path := writeShare(t, texts[0])
	s, err := newShare(config.UnsealerShare{Source: config.ShareFile, File: path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(texts[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := readShare(t, s); got != texts[1] {
		t.Errorf("read %q", got)
	}
}

func TestShareFromStdin(t *testing.T) {
	t.Parallel()
	s, err := newShare(config.UnsealerShare{Source: config.ShareStdin}, strings.NewReader(texts[2]+"\nmore"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := readShare(t, s); got != texts[2] {
			t.Errorf("read %q", got)
		}
	}
	s.close()
	if s.kept.mapped != nil {
		t.Error("the share is kept after the end")
	}
}

func TestShareFromCredential(t *testing.T) {
	path := writeShare(t, texts[1])
	c := config.UnsealerShare{Source: config.ShareCredential, Credential: "share"}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := newShare(c, nil); fault.KindOf(err) != fault.Invalid || !strings.Contains(fault.HintOf(err), "LoadCredentialEncrypted=share") {
		t.Errorf("without credentials: %v", err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(path))
	s, err := newShare(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := readShare(t, s); got != texts[1] {
		t.Errorf("read %q", got)
	}
}

func TestShareFromTPM(t *testing.T) {
	t.Parallel()
	p := tpmtest.New(t)
	d, err := tpm.Open(p.Device)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := d.Seal([]byte(texts[0]), tpm.SealOptions{Password: []byte("Oegh5ies")})
	d.Close()
	if err != nil {
		t.Fatal(err)
	}
	text, err := sealed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	c := config.UnsealerShare{Source: config.ShareTPM, Device: p.Device, File: writeShare(t, string(text)), PasswordFile: writeShare(t, "Oegh5ies\n")}
	s, err := newShare(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if got := readShare(t, s); got != texts[0] {
			t.Errorf("read %q", got)
		}
	}
	c.PasswordFile = writeShare(t, "wrong")
	if _, err := newShare(c, nil); !tpm.Refused(err) {
		t.Errorf("a wrong password: %v", err)
	}
	c.PasswordFile = ""
	if _, err := newShare(c, nil); !tpm.Refused(err) {
		t.Errorf("no password: %v", err)
	}
	c.File = writeShare(t, texts[0])
	if _, err := newShare(c, nil); fault.KindOf(err) != fault.Invalid || tpm.Refused(err) {
		t.Errorf("a file that is not sealed: %v", err)
	}
	p.Stop()
	if _, err := s.read(); fault.KindOf(err) != fault.Unavailable || tpm.Refused(err) {
		t.Errorf("without the TPM: %v", err)
	}
}

func TestShareRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                               "empty",
		"\n" + texts[0]:                  "empty",
		"two words":                      "no text in hex",
		"\xde\xad\xbe\xef":               "no text in hex",
		"-----BEGIN PGP MESSAGE-----\n":  "still encrypted",
		strings.Repeat("a", 1025):        "too long",
		strings.Repeat("a", 5000) + "\n": "too long",
	} {
		_, err := newShare(config.UnsealerShare{Source: config.ShareFile, File: writeShare(t, text)}, nil)
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v", text, err)
		}
		if err != nil && len(text) > 8 && strings.Contains(err.Error(), text[:8]) {
			t.Errorf("the error shows the text: %v", err)
		}
	}
	if _, err := newShare(config.UnsealerShare{Source: config.ShareFile, File: filepath.Join(t.TempDir(), "none")}, nil); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("no such file: %v", err)
	}
}

func TestFreeWipes(t *testing.T) {
	t.Parallel()
	s, err := newSecret()
	if err != nil {
		t.Fatal(err)
	}
	copy(s.mapped, "secret")
	s.text = s.mapped[:6]
	s.free()
	if s.mapped != nil || s.text != nil {
		t.Error("memory is kept")
	}
	var none *secret
	none.free()
}

func FuzzShare(f *testing.F) {
	for _, text := range texts {
		f.Add([]byte(text + "\n"))
	}
	f.Add([]byte("-----BEGIN PGP MESSAGE-----"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := newShare(config.UnsealerShare{Source: config.ShareStdin}, bytes.NewReader(text))
		if err != nil {
			return
		}
		defer s.close()
		if got := s.kept.text; len(got) == 0 || len(got) > maxShare || !bytes.Contains(text, got) {
			t.Errorf("%q is taken for the share %q", text, got)
		}
	})
}
