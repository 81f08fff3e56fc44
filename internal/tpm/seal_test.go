package tpm_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/tpm"
	"github.com/claviger/claviger/internal/tpm/tpmtest"
)

var secret = []byte("ccd4f8a0f3a8b8dc9c3c4e2c9df2ba4fce05bf0ce8a5e8e1d0aa4f9da11c90b401")

// seal and unseal open the device for each call, as programs do.
func seal(t *testing.T, device string, o tpm.SealOptions) *tpm.Sealed {
	t.Helper()
	d, err := tpm.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s, err := d.Seal(secret, o)
	if err != nil {
		t.Fatal(err)
	}
	text, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, secret) {
		t.Error("the secret stands in the sealed file")
	}
	again, err := tpm.ParseSealed(text)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func unseal(device string, s *tpm.Sealed, password string) ([]byte, error) {
	d, err := tpm.Open(device)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Unseal(s, []byte(password))
}

func opens(t *testing.T, device string, s *tpm.Sealed, password string) {
	t.Helper()
	got, err := unseal(device, s, password)
	if err != nil {
		t.Fatalf("unseal: %v (hint: %s)", err, fault.HintOf(err))
	}
	if !bytes.Equal(got, secret) {
		t.Errorf("unsealed %q", got)
	}
}

func refuses(t *testing.T, device string, s *tpm.Sealed, password string, reason error, words string) {
	t.Helper()
	got, err := unseal(device, s, password)
	if !errors.Is(err, reason) || got != nil {
		t.Fatalf("unseal = %q, %v; want the reason %q", got, err, reason)
	}
	if !strings.Contains(fault.Message(err), words) || !tpm.Refused(err) {
		t.Errorf("the error %q does not say %q", fault.Message(err), words)
	}
}

func TestSealOpens(t *testing.T) {
	t.Parallel()
	p := tpmtest.New(t)
	for name, o := range map[string]tpm.SealOptions{
		"nothing":           {},
		"password":          {Password: []byte("wuPu9ohs")},
		"PCRs":              {PCRs: []int{7, 0}},
		"password and PCRs": {Password: []byte(strings.Repeat("x", 32)), PCRs: []int{0, 1, 2, 3, 4, 5, 6, 7, 11, 23}},
	} {
		s := seal(t, p.Device, o)
		for range 5 { // more often than a TPM has room for what would be left
			opens(t, p.Device, s, string(o.Password))
		}
		p.Restart(t)
		t.Log(name)
		opens(t, p.Device, s, string(o.Password))
	}
}

// TestSealRefusals is the table of what may happen to a TPM.
func TestSealRefusals(t *testing.T) {
	t.Parallel()
	p := tpmtest.New(t)
	const password = "Ahj4eiph"
	plain := seal(t, p.Device, tpm.SealOptions{Password: []byte(password)})
	bound := seal(t, p.Device, tpm.SealOptions{Password: []byte(password), PCRs: []int{7, 16}})

	t.Run("no password", func(t *testing.T) { refuses(t, p.Device, plain, "", tpm.ErrPassword, "none was given") })
	t.Run("wrong password", func(t *testing.T) {
		refuses(t, p.Device, plain, "wrong", tpm.ErrPassword, "refuses the password")
		refuses(t, p.Device, bound, "wrong", tpm.ErrPassword, "refuses the password")
		opens(t, p.Device, bound, password)
	})
	t.Run("PCR changed", func(t *testing.T) {
		p.Tool(t, "tpm2_pcrextend", "16:sha256="+strings.Repeat("ab", 32))
		refuses(t, p.Device, bound, password, tpm.ErrPCR, "PCR 16 changed")
		opens(t, p.Device, plain, password)
		p.Restart(t)
		opens(t, p.Device, bound, password)
	})
	t.Run("locked out", func(t *testing.T) {
		p.Tool(t, "tpm2_dictionarylockout", "--setup-parameters", "--max-tries=2", "--recovery-time=7200", "--lockout-recovery-time=10")
		for range 2 {
			unseal(p.Device, plain, "wrong")
		}
		refuses(t, p.Device, plain, password, tpm.ErrLocked, "locked after too many wrong passwords")
		_, err := unseal(p.Device, plain, password)
		if hint := fault.HintOf(err); !strings.Contains(hint, "2h0m0s") {
			t.Errorf("the hint does not say how long: %q", hint)
		}
		p.Tool(t, "tpm2_dictionarylockout", "--clear-lockout")
		opens(t, p.Device, plain, password)
	})
	t.Run("another TPM", func(t *testing.T) {
		other := tpmtest.New(t)
		refuses(t, other.Device, plain, password, tpm.ErrOther, "another TPM")
	})
	t.Run("cleared", func(t *testing.T) {
		p.Tool(t, "tpm2_clear", "-c", "p")
		refuses(t, p.Device, plain, password, tpm.ErrOther, "cleared")
	})
	t.Run("absent", func(t *testing.T) {
		p.Stop()
		for _, device := range []string{p.Device, filepath.Join(t.TempDir(), "tpmrm0"), "swtpm:" + filepath.Join(t.TempDir(), "socket")} {
			_, err := unseal(device, plain, password)
			if !errors.Is(err, tpm.ErrAbsent) || fault.KindOf(err) != fault.Unavailable || tpm.Refused(err) {
				t.Errorf("%s: %v", device, err)
			}
			if !strings.Contains(fault.Message(err), device) {
				t.Errorf("the error %q does not name the device", fault.Message(err))
			}
		}
	})
}

// TestSealUnderOwnerPassword: the owner's hierarchy has a password, so the
// storage root key of the provisioned TPM is the parent.
func TestSealUnderOwnerPassword(t *testing.T) {
	t.Parallel()
	p := tpmtest.New(t)
	p.Tool(t, "tpm2_changeauth", "-c", "owner", "Oowner1")
	d, err := tpm.Open(p.Device)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Seal(secret, tpm.SealOptions{})
	d.Close()
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(fault.HintOf(err), "tpm2_evictcontrol") {
		t.Fatalf("without a storage root key: %v", err)
	}
	for _, kind := range []string{"ecc", "rsa"} {
		p.Tool(t, "tpm2_createprimary", "-C", "o", "-P", "Oowner1", "-G", kind, "-c", "srk.ctx")
		p.Tool(t, "tpm2_evictcontrol", "-C", "o", "-P", "Oowner1", "-c", "srk.ctx", "0x81000001")
		p.Tool(t, "tpm2_flushcontext", "-t")
		s := seal(t, p.Device, tpm.SealOptions{Password: []byte("pw"), PCRs: []int{7}})
		opens(t, p.Device, s, "pw")
		p.Tool(t, "tpm2_evictcontrol", "-C", "o", "-P", "Oowner1", "-c", "0x81000001")
		refuses(t, p.Device, s, "pw", tpm.ErrOther, "no storage root key")
	}
}

func TestSealRefusesWrongInput(t *testing.T) {
	t.Parallel()
	p := tpmtest.New(t)
	d, err := tpm.Open(p.Device)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for name, c := range map[string]struct {
		secret []byte
		o      tpm.SealOptions
		words  string
	}{
		"nothing to seal":  {nil, tpm.SealOptions{}, "0 bytes"},
		"too long":         {make([]byte, 129), tpm.SealOptions{}, "1 to 128"},
		"long password":    {secret, tpm.SealOptions{Password: make([]byte, 33)}, "at most 32"},
		"password with 0":  {secret, tpm.SealOptions{Password: []byte("a\x00")}, "zero byte"},
		"no such PCR":      {secret, tpm.SealOptions{PCRs: []int{24}}, "0 to 23"},
		"no PCR before 0":  {secret, tpm.SealOptions{PCRs: []int{-1}}, "0 to 23"},
		"a PCR without it": {secret, tpm.SealOptions{PCRs: []int{1, 99}}, "0 to 23"},
	} {
		if _, err := d.Seal(c.secret, c.o); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"tpm0", "swtpm:", "swtpm:localhost", "/etc/hostname", "/dev/full/x"} {
		if d, err := tpm.Open(name); err == nil {
			d.Close()
			t.Errorf("opened %q", name)
		}
	}
}
