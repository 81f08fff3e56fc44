package tpm_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/claviger/claviger/internal/tpm"
	"github.com/claviger/claviger/internal/tpm/tpmtest"
)

// in reads a file of tpm2-tools, and out writes one.
func in(t *testing.T, p *tpmtest.TPM, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(p.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func out(t *testing.T, p *tpmtest.TPM, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.Dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDuplicateOfTools imports what tpm2_duplicate wrote, from a key and for a
// storage key of tpm2-tools, with an inner wrapping and without.
func TestDuplicateOfTools(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "openssl")
	a, b := tpmtest.New(t), tpmtest.New(t)
	persist(t, b)
	b.Tool(t, "tpm2_readpublic", "-c", persistent, "-o", "parent.pub")
	public := in(t, b, "parent.pub")
	to, err := tpm.ParseStorageKey(public)
	if err != nil {
		t.Fatal(err)
	}
	out(t, a, "parent.pub", public)
	inner := tpm.NewInnerKey()
	out(t, a, "inner", inner)
	for _, c := range []struct {
		kind string
		args []string
		key  []byte
	}{{"ecc", []string{"-G", "null"}, nil}, {"rsa", []string{"-G", "aes", "-i", "inner"}, inner}} {
		context := primary(t, a)
		a.Tool(t, "tpm2_startauthsession", "-S", "session")
		a.Tool(t, "tpm2_policycommandcode", "-S", "session", "-L", "policy", "TPM2_CC_Duplicate")
		a.Tool(t, "tpm2_flushcontext", "session")
		a.Tool(t, "tpm2_create", "-C", context, "-G", c.kind, "-L", "policy", "-a", "sensitivedataorigin|userwithauth|sign", "-u", "k.pub", "-r", "k.priv")
		a.Tool(t, "tpm2_flushcontext", "-t")
		a.Tool(t, "tpm2_load", "-C", context, "-u", "k.pub", "-r", "k.priv", "-c", "k.ctx")
		a.Tool(t, "tpm2_flushcontext", "-t")
		a.Tool(t, "tpm2_startauthsession", "--policy-session", "-S", "session")
		a.Tool(t, "tpm2_policycommandcode", "-S", "session", "TPM2_CC_Duplicate")
		a.Tool(t, "tpm2_loadexternal", "-C", "n", "-u", "parent.pub", "-c", "parent.ctx")
		a.Tool(t, "tpm2_flushcontext", "-t")
		a.Tool(t, "tpm2_duplicate", append([]string{"-C", "parent.ctx", "-c", "k.ctx", "-p", "session:session", "-r", "dup", "-s", "seed"}, c.args...)...)
		a.Tool(t, "tpm2_flushcontext", "session")
		a.Tool(t, "tpm2_flushcontext", "-t")

		x, err := tpm.NewDuplicate(to, in(t, a, "k.pub"), in(t, a, "dup"), in(t, a, "seed"), c.key != nil, false)
		if err != nil {
			t.Fatal(err)
		}
		k, err := imported(t, b, x, "", c.key)
		if err != nil {
			t.Fatalf("%s: %v", c.kind, err)
		}
		works(t, b, k, persistent, "", false)

		// The same key of tpm2_create, duplicated here.
		own, err := tpm.NewKey(storageKey(t, a, "owner-ecc-p256"), in(t, a, "k.pub"), in(t, a, "k.priv"), false)
		if err != nil {
			t.Fatal(err)
		}
		if x, err = duplicate(t, a, own, to, "", c.key); err != nil {
			t.Fatalf("%s: %v", c.kind, err)
		}
		if _, err := imported(t, b, x, "", c.key); err != nil {
			t.Fatalf("%s: %v", c.kind, err)
		}
	}
}

// TestDuplicateForTools lets tpm2_import take what is duplicated and wrapped here.
func TestDuplicateForTools(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "openssl")
	a, b := tpmtest.New(t), tpmtest.New(t)
	persist(t, b)
	to := storageKey(t, b, persistent)
	inner := tpm.NewInnerKey()
	out(t, b, "inner", inner)
	takes := func(x *tpm.Duplicate, args ...string) {
		t.Helper()
		out(t, b, "pub", x.Public())
		out(t, b, "dup", x.Private())
		out(t, b, "seed", x.Seed())
		b.Tool(t, "tpm2_import", append([]string{"-C", persistent, "-u", "pub", "-i", "dup", "-s", "seed", "-r", "priv"}, args...)...)
		b.Tool(t, "tpm2_flushcontext", "-t")
		k, err := tpm.NewKey(to, in(t, b, "pub"), in(t, b, "priv"), false)
		if err != nil {
			t.Fatal(err)
		}
		works(t, b, k, persistent, "", false)
	}
	x, err := duplicate(t, a, create(t, a, "", tpm.ECDSAP256, tpm.KeyOptions{MoveTo: to, InnerKey: true}), to, "", inner)
	if err != nil {
		t.Fatal(err)
	}
	takes(x, "-G", "aes", "-k", "inner")
	for _, key := range softwareKeys(t) {
		if x, err = tpm.Wrap(key, to, tpm.KeyOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		takes(x)
		if x, err = tpm.Wrap(key, to, tpm.KeyOptions{InnerKey: true}, inner); err != nil {
			t.Fatal(err)
		}
		takes(x, "-G", "aes", "-k", "inner")
	}
}
