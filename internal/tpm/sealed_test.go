package tpm

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/tpm/tpmtest"
)

// known is a file of the first release. What it holds only one TPM could open.
const known = `{
  "format": "claviger-tpm-sealed-1",
  "parent": "owner-ecc-p256",
  "parent_name": "AAvPYHCTePw6dkR4o1LmBR3JNwXLCYPIchLQ+EsaJgkhpA==",
  "public": "AAgACwAAAFIAAAAQACD9dU8vvmkWpYB2NGeXQ4jptdzB4G/ttkTENT3xk0fWkg==",
  "private": "ACCU4J1M",
  "password": true,
  "pcrs_sha256": {
    "7": "65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e534eb3068"
  }
}
`

func TestParseSealedKnown(t *testing.T) {
	t.Parallel()
	s, err := ParseSealed([]byte(known))
	if err != nil {
		t.Fatal(err)
	}
	if !s.NeedsPassword() || !slices.Equal(s.PCRs(), []int{7}) {
		t.Errorf("password %t, PCRs %v", s.NeedsPassword(), s.PCRs())
	}
	if text, err := s.Encode(); err != nil || string(text) != known {
		t.Errorf("encoded again:\n%s%v", text, err)
	}
}

func TestParseSealedRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(map[string]any){
		"format":       func(f map[string]any) { f["format"] = "claviger-tpm-sealed-2" },
		"parent":       func(f map[string]any) { f["parent"] = "81000002" },
		"name":         func(f map[string]any) { f["parent_name"] = "AAs=" },
		"no name":      func(f map[string]any) { delete(f, "parent_name") },
		"private":      func(f map[string]any) { f["private"] = "" },
		"public":       func(f map[string]any) { f["public"] = "AAgACw==" },
		"no public":    func(f map[string]any) { delete(f, "public") },
		"base64":       func(f map[string]any) { f["public"] = "?" },
		"unknown":      func(f map[string]any) { f["pcrs"] = 1 },
		"PCR":          func(f map[string]any) { f["pcrs_sha256"] = map[string]string{"24": "00"} },
		"PCR text":     func(f map[string]any) { f["pcrs_sha256"] = map[string]string{"07": "00"} },
		"PCR value":    func(f map[string]any) { f["pcrs_sha256"] = map[string]string{"7": "00"} },
		"trailing":     func(f map[string]any) { f["public"] = f["public"].(string) + "AAAA" },
		"password":     func(f map[string]any) { f["password"] = "yes" },
		"more than it": func(f map[string]any) { f["private"] = string(bytes.Repeat([]byte("A"), maxSealed)) },
	} {
		var f map[string]any
		if err := json.Unmarshal([]byte(known), &f); err != nil {
			t.Fatal(err)
		}
		change(f)
		text, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseSealed(text); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "null", "[]", known + known, known[:100]} {
		if _, err := ParseSealed([]byte(text)); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

// TestAlteredSealed flips each byte of what the TPM reads, one after another.
func TestAlteredSealed(t *testing.T) {
	t.Parallel()
	p := tpmtest.New(t)
	d, err := Open(p.Device)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s, err := d.Seal([]byte("a secret"), SealOptions{Password: []byte("pw")})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []*[]byte{&s.parentName, &s.public, &s.private} {
		original := *part
		for i := range original {
			*part = slices.Clone(original)
			(*part)[i] ^= 0x40
			got, err := d.Unseal(s, []byte("pw"))
			if got != nil || !errors.Is(err, ErrAltered) && !errors.Is(err, ErrOther) {
				t.Errorf("byte %d of %d: %q, %v", i, len(original), got, err)
			}
		}
		*part = original
	}
	if got, err := d.Unseal(s, []byte("pw")); err != nil || string(got) != "a secret" {
		t.Errorf("as it was: %q, %v", got, err)
	}
}

// TestPolicyIsHeldByTPM: a file that claims other PCRs, or none, opens nothing.
func TestPolicyIsHeldByTPM(t *testing.T) {
	t.Parallel()
	p := tpmtest.New(t)
	seal := func(o SealOptions) *Sealed {
		t.Helper()
		d, err := Open(p.Device)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		s, err := d.Seal([]byte("a secret"), o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	refuses := func(what string, s *Sealed, password string) {
		t.Helper()
		d, err := Open(p.Device)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if got, err := d.Unseal(s, []byte(password)); got != nil || !Refused(err) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	o := SealOptions{Password: []byte("pw"), PCRs: []int{16}}
	s := seal(o)
	p.Tool(t, "tpm2_pcrextend", "16:sha256="+strings.Repeat("cd", 32))
	now := seal(o).pcrs
	refuses("as it is", s, "pw")
	s.pcrs = now
	for range 5 { // more often than a TPM has room for sessions
		refuses("with the new values", s, "pw")
	}
	s.pcrs = nil
	refuses("with none", s, "pw")
	s = seal(SealOptions{PCRs: []int{16}})
	s.pcrs = nil
	refuses("with none and no password", s, "")
	s = seal(SealOptions{Password: []byte("pw")})
	s.pcrs = now
	refuses("with PCRs where there are none", s, "pw")
	s.pcrs, s.password = nil, false
	refuses("without the password", s, "")
}

// TestPCRsChangeMeanwhile: they are other ones when the policy is proved than when
// they were compared.
func TestPCRsChangeMeanwhile(t *testing.T) {
	t.Parallel()
	p := tpmtest.New(t)
	d, err := Open(p.Device)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s, err := d.Seal([]byte("a secret"), SealOptions{PCRs: []int{16}})
	if err != nil {
		t.Fatal(err)
	}
	s.pcrs[16][0] ^= 1
	for range 5 { // more often than a TPM has room for sessions
		storage, err := d.parent(s.parent)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := d.open(storage, s, nil); got != nil || !errors.Is(err, ErrPCR) {
			t.Errorf("%q, %v", got, err)
		}
		storage.flush()
	}
	s.pcrs[16][0] ^= 1
	if got, err := d.Unseal(s, nil); err != nil || string(got) != "a secret" {
		t.Errorf("as they were: %q, %v", got, err)
	}
}

func FuzzParseSealed(f *testing.F) {
	f.Add([]byte(known))
	f.Add([]byte(`{"format":"claviger-tpm-sealed-1"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSealed(text)
		if err != nil {
			return
		}
		again, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseSealed(again); err != nil {
			t.Errorf("what was encoded is refused: %v", err)
		}
	})
}
