package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/tpm"
	"github.com/claviger/claviger/internal/tpm/tpmtest"
)

// with opens the TPM for the time of do: tpm2-tools need it, too.
func with(t *testing.T, p *tpmtest.TPM, do func(*tpm.Device) error) error {
	t.Helper()
	d, err := tpm.Open(p.Device)
	if err != nil {
		return err
	}
	defer d.Close()
	return do(d)
}

func storageKey(t *testing.T, p *tpmtest.TPM, which string) *tpm.StorageKey {
	t.Helper()
	var s *tpm.StorageKey
	err := with(t, p, func(d *tpm.Device) (err error) {
		s, err = d.StorageKey(which)
		return err
	})
	if err != nil {
		t.Fatalf("read the storage key: %v", err)
	}
	return again(t, s, tpm.ParseStorageKey)
}

// again sends a value through its file.
func again[T interface{ Encode() ([]byte, error) }](t *testing.T, v T, parse func([]byte) (T, error)) T {
	t.Helper()
	text, err := v.Encode()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parse(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return parsed
}

func create(t *testing.T, p *tpmtest.TPM, which, keyType string, o tpm.KeyOptions) *tpm.Key {
	t.Helper()
	var k *tpm.Key
	err := with(t, p, func(d *tpm.Device) (err error) {
		k, err = d.Create(which, keyType, o)
		return err
	})
	if err != nil {
		t.Fatalf("make a key: %v", err)
	}
	return again(t, k, tpm.ParseKey)
}

func duplicate(t *testing.T, p *tpmtest.TPM, k *tpm.Key, to *tpm.StorageKey, password string, inner []byte) (x *tpm.Duplicate, err error) {
	t.Helper()
	err = with(t, p, func(d *tpm.Device) (err error) {
		x, err = d.Duplicate(k, to, []byte(password), inner)
		return err
	})
	if err == nil {
		x = again(t, x, tpm.ParseDuplicate)
	}
	empty(t, p)
	return x, err
}

func imported(t *testing.T, p *tpmtest.TPM, x *tpm.Duplicate, password string, inner []byte) (k *tpm.Key, err error) {
	t.Helper()
	err = with(t, p, func(d *tpm.Device) (err error) {
		k, err = d.Import(x, []byte(password), inner)
		return err
	})
	if err == nil {
		k = again(t, k, tpm.ParseKey)
	}
	empty(t, p)
	return k, err
}

// empty sees that nothing was left in the TPM.
func empty(t *testing.T, p *tpmtest.TPM) {
	t.Helper()
	for _, kind := range []string{"handles-transient", "handles-loaded-session", "handles-saved-session"} {
		if out := p.Tool(t, "tpm2_getcap", kind); len(bytes.TrimSpace(out)) > 0 {
			t.Fatalf("left in the TPM, %s: %s", kind, out)
		}
	}
}

// works loads the key with tpm2-tools under the parent of the context file, signs or
// decrypts with it, and lets openssl prove that.
func works(t *testing.T, p *tpmtest.TPM, k *tpm.Key, parent, password string, decrypts bool) {
	t.Helper()
	if parent == "" {
		return
	}
	file := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(p.Dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	public, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	file("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	file("key.pub", k.Public())
	file("key.priv", k.Private())
	file("message", []byte("a message"))
	p.Tool(t, "tpm2_load", "-C", parent, "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx")
	p.Tool(t, "tpm2_flushcontext", "-t")
	auth := []string{}
	if password != "" {
		auth = []string{"-p", password}
	}
	if decrypts {
		openssl(t, p.Dir, "pkeyutl", "-encrypt", "-pubin", "-inkey", "key.pem", "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256", "-in", "message", "-out", "cipher")
		p.Tool(t, "tpm2_rsadecrypt", append(auth, "-c", "key.ctx", "-s", "oaep", "-o", "plain", "cipher")...)
		if plain, err := os.ReadFile(filepath.Join(p.Dir, "plain")); err != nil || string(plain) != "a message" {
			t.Fatalf("decrypted %q, %v", plain, err)
		}
	} else {
		p.Tool(t, "tpm2_sign", append(auth, "-c", "key.ctx", "-g", "sha256", "-f", "plain", "-o", "sig", "message")...)
		openssl(t, p.Dir, "dgst", "-sha256", "-verify", "key.pem", "-signature", "sig", "message")
	}
	p.Tool(t, "tpm2_flushcontext", "-t")
}

func openssl(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl %q: %v\n%s", args, err, out)
	}
}

// primary makes the context of the primary ECC storage key for tpm2-tools.
func primary(t *testing.T, p *tpmtest.TPM) string {
	t.Helper()
	// The C structure TPMS_ECC_POINT: two sizes, each with room for 128 bytes.
	unique := make([]byte, 2*(2+128))
	unique[0], unique[2+128] = 32, 32
	if err := os.WriteFile(filepath.Join(p.Dir, "unique"), unique, 0o600); err != nil {
		t.Fatal(err)
	}
	p.Tool(t, "tpm2_createprimary", "-C", "o", "-G", "ecc256:aes128cfb", "-u", "unique", "-c", "primary.ctx",
		"-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt|noda")
	p.Tool(t, "tpm2_flushcontext", "-t")
	return "primary.ctx"
}

const persistent = "0x81000001"

// persist puts an RSA storage key into the TPM, as tpm2_ptool does.
func persist(t *testing.T, p *tpmtest.TPM) {
	t.Helper()
	p.Tool(t, "tpm2_createprimary", "-C", "o", "-G", "rsa", "-c", "persistent.ctx")
	p.Tool(t, "tpm2_evictcontrol", "-C", "o", "-c", "persistent.ctx", persistent)
	p.Tool(t, "tpm2_flushcontext", "-t")
}

// usable is what works needs to load a key under the storage key which, "" if
// tpm2-tools can't make it.
func usable(t *testing.T, p *tpmtest.TPM, which string) string {
	t.Helper()
	if which == "owner-ecc-p256" {
		return primary(t, p)
	}
	return strings.TrimPrefix(which, "owner-rsa-2048")
}

// need skips a test where a program is not installed.
func need(t *testing.T, program, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed (Debian package %s)", program, pkg)
	}
}

// TestDuplicateBetweenTPMs makes keys in one TPM and uses them in another.
func TestDuplicateBetweenTPMs(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "openssl")
	a, b := tpmtest.New(t), tpmtest.New(t)
	persist(t, b)
	for _, c := range []struct {
		keyType, under, to, password string
		usage                        string
		inner, anywhere              bool
	}{
		{keyType: tpm.ECDSAP256, to: "owner-ecc-p256"},
		{keyType: tpm.ECDSAP256, under: "owner-rsa-2048", to: "owner-ecc-p256", password: "aiPah5ee", inner: true},
		{keyType: tpm.RSA2048, to: persistent, password: "aiPah5ee", usage: tpm.UsageBoth, anywhere: true},
		{keyType: tpm.RSA2048, to: "owner-ecc-p256", inner: true, usage: tpm.UsageDecrypt},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			to := storageKey(t, b, c.to)
			o := tpm.KeyOptions{Password: []byte(c.password), InnerKey: c.inner, MoveAnywhere: c.anywhere, Usage: c.usage}
			if !c.anywhere {
				o.MoveTo = to
			}
			var inner []byte
			if c.inner {
				inner = tpm.NewInnerKey()
			}
			key := create(t, a, c.under, c.keyType, o)
			x, err := duplicate(t, a, key, to, c.password, inner)
			if err != nil {
				t.Fatal(err)
			}
			got, err := imported(t, b, x, c.password, inner)
			if err != nil {
				t.Fatal(err)
			}
			if got.Type() != c.keyType || got.NeedsPassword() != (c.password != "") || !bytes.Equal(got.Public(), key.Public()) {
				t.Errorf("imported a key of type %s, password %t", got.Type(), got.NeedsPassword())
			}
			works(t, b, got, usable(t, b, c.to), c.password, c.usage == tpm.UsageDecrypt)
		})
	}
}

func softwareKeys(t *testing.T) map[string]crypto.PrivateKey {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.PrivateKey{tpm.RSA2048: r, tpm.ECDSAP256: e}
}

// TestWrapSoftwareKey wraps keys without a TPM, and uses them in one.
func TestWrapSoftwareKey(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "openssl")
	p := tpmtest.New(t)
	persist(t, p)
	for keyType, key := range softwareKeys(t) {
		for _, which := range []string{"owner-ecc-p256", "owner-rsa-2048", persistent} {
			for _, password := range []string{"", "oox7Eing"} {
				to := storageKey(t, p, which)
				var inner []byte
				if password != "" {
					inner = tpm.NewInnerKey()
				}
				x, err := tpm.Wrap(key, to, tpm.KeyOptions{Password: []byte(password), InnerKey: inner != nil}, inner)
				if err != nil {
					t.Fatal(err)
				}
				k, err := imported(t, p, again(t, x, tpm.ParseDuplicate), password, inner)
				if err != nil {
					t.Fatalf("%s for %s: %v", keyType, which, err)
				}
				works(t, p, k, usable(t, p, which), password, false)
				if _, err := duplicate(t, p, k, to, password, inner); !errors.Is(err, tpm.ErrPolicy) {
					t.Errorf("a key without a policy moves on: %v", err)
				}
			}
		}
	}
}

// TestMoveOn takes a wrapped key from the first TPM to the second.
func TestMoveOn(t *testing.T) {
	t.Parallel()
	a, b := tpmtest.New(t), tpmtest.New(t)
	first, second := storageKey(t, a, ""), storageKey(t, b, "")
	x, err := tpm.Wrap(softwareKeys(t)[tpm.RSA2048], first, tpm.KeyOptions{Usage: tpm.UsageDecrypt, MoveTo: second}, nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := imported(t, a, x, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if x, err = duplicate(t, a, k, second, "", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := imported(t, b, x, "", nil); err != nil {
		t.Fatal(err)
	}
}

// TestDuplicateRefusals is the table of what may go wrong; nothing is left behind.
func TestDuplicateRefusals(t *testing.T) {
	t.Parallel()
	a, b := tpmtest.New(t), tpmtest.New(t)
	const password = "Ree5ahng"
	to, own := storageKey(t, b, ""), storageKey(t, a, "")
	key := create(t, a, "", tpm.ECDSAP256, tpm.KeyOptions{Password: []byte(password), MoveTo: to})
	strict := create(t, a, "", tpm.ECDSAP256, tpm.KeyOptions{MoveTo: to, InnerKey: true})
	x, err := duplicate(t, a, key, to, password, nil)
	if err != nil {
		t.Fatal(err)
	}
	inner := tpm.NewInnerKey()
	wrapped, err := duplicate(t, a, strict, to, "", inner)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(t *testing.T, err error, cause error, words string) {
		t.Helper()
		if err == nil || cause != nil && !errors.Is(err, cause) || !strings.Contains(fault.Message(err), words) {
			t.Errorf("%v (%v), want %q", err, fault.Message(err), words)
		}
	}
	moves := func(t *testing.T, k *tpm.Key, to *tpm.StorageKey, password string, inner []byte, cause error, words string) {
		t.Helper()
		_, err := duplicate(t, a, k, to, password, inner)
		refused(t, err, cause, words)
	}
	comes := func(t *testing.T, x *tpm.Duplicate, password string, inner []byte, cause error, words string) {
		t.Helper()
		_, err := imported(t, b, x, password, inner)
		refused(t, err, cause, words)
	}
	t.Run("policy", func(t *testing.T) { moves(t, key, own, password, nil, tpm.ErrPolicy, "does not let it move") })
	t.Run("no password", func(t *testing.T) {
		moves(t, key, to, "", nil, tpm.ErrPassword, "none was given")
		comes(t, x, "", nil, tpm.ErrPassword, "none was given")
	})
	t.Run("wrong password", func(t *testing.T) {
		moves(t, key, to, "wrong", nil, tpm.ErrPassword, "refuses the password")
		comes(t, x, "wrong", nil, tpm.ErrPassword, "refuses the password")
	})
	t.Run("inner key", func(t *testing.T) {
		moves(t, strict, to, "", nil, nil, "inner wrapping only")
		moves(t, strict, to, "", inner[1:], nil, "16 bytes")
		comes(t, wrapped, "", nil, nil, "came another way")
		comes(t, wrapped, "", tpm.NewInnerKey(), tpm.ErrAltered, "inner key is another")
		comes(t, x, password, inner, nil, "no inner wrapping")
	})
	t.Run("wrong TPM", func(t *testing.T) {
		_, err := imported(t, a, x, password, nil)
		refused(t, err, tpm.ErrOther, "is for another TPM")
	})
	t.Run("locked out", func(t *testing.T) {
		for _, p := range []*tpmtest.TPM{a, b} {
			p.Tool(t, "tpm2_dictionarylockout", "--setup-parameters", "--max-tries=1", "--recovery-time=7200", "--lockout-recovery-time=10")
		}
		moves(t, key, to, "wrong", nil, nil, "")
		moves(t, key, to, password, nil, tpm.ErrLocked, "is locked")
		comes(t, x, "wrong", nil, nil, "")
		comes(t, x, password, nil, tpm.ErrLocked, "is locked")
		if _, err := imported(t, b, wrapped, "", inner); err != nil {
			t.Errorf("a key without a password suffers from the lock: %v", err)
		}
	})
	t.Run("cleared", func(t *testing.T) {
		b.Tool(t, "tpm2_clear", "-c", "p")
		comes(t, x, password, nil, tpm.ErrOther, "cleared")
	})
	t.Run("owner's password", func(t *testing.T) {
		b.Tool(t, "tpm2_changeauth", "-c", "owner", "Oowner1")
		comes(t, x, password, nil, tpm.ErrOther, "is for another TPM")
	})
	t.Run("absent", func(t *testing.T) {
		b.Stop()
		err := with(t, b, func(d *tpm.Device) error { return nil })
		refused(t, err, tpm.ErrAbsent, "there is no TPM")
	})
}
