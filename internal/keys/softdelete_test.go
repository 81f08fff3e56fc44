package keys

import (
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

func TestSoftDelete(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("k", "rsa-2048")
	text := e.enc("k", "p")
	name := &api.KeyName{Name: "k"}
	for range 2 { // the second changes nothing
		k, err := e.softDelete(bg, call(), name)
		must(t, err)
		if k.Name != "k" || !k.SoftDeleted || len(k.Keys) != 1 {
			t.Errorf("the answer: %+v", k)
		}
	}
	for use, call := range map[string]func() error{
		"encrypt": func() error {
			_, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte("p")})
			return err
		},
		"decrypt": func() error { _, err := e.dec("k", text); return err },
		"rewrap": func() error {
			_, err := e.rewrap(bg, call(), &api.Rewrap{Name: "k", Ciphertext: text})
			return err
		},
		"datakey": func() error {
			_, err := e.dataKey(bg, call(), &api.DataKey{Name: "k", Kind: "wrapped"})
			return err
		},
		"sign": func() error {
			_, err := e.sign(bg, call(), &api.Sign{Name: "k", Input: []byte("m")})
			return err
		},
		"verify": func() error {
			_, err := e.verify(bg, call(), &api.Verify{Name: "k", Input: []byte("m"), Signature: "vault:v1:AAAA"})
			return err
		},
		"hmac": func() error {
			_, err := e.hmac(bg, call(), &api.HMAC{Name: "k", Input: []byte("m")})
			return err
		},
		"rotate": func() error { _, err := e.rotateKey(bg, call(), &api.RotateKey{Name: name.Name}); return err },
		"config": func() error {
			_, err := e.configKey(bg, call(), &api.ConfigKey{Name: "k", DeletionAllowed: ptr(true)})
			return err
		},
		"export": func() error {
			_, err := e.exportKey(bg, call(), &api.ExportKey{Kind: "public-key", Name: "k"})
			return err
		},
		"trim": func() error {
			_, err := e.trimKey(bg, call(), &api.TrimKey{Name: "k", MinAvailableVersion: ptr(1)})
			return err
		},
		"csr": func() error { _, err := e.signCSR(bg, call(), &api.SignCSR{Name: "k"}); return err },
		"set-certificate": func() error {
			chain := issue(t, publicOf(t, e.read("k"), "1"), "leaf")
			_, err := e.setCertificate(bg, call(), &api.SetCertificate{Name: "k", CertificateChain: chain})
			return err
		},
		"backup": func() error { _, err := e.backupKey(bg, call(), name); return err },
	} {
		err := call()
		if err == nil {
			t.Errorf("%s works", use)
			continue
		}
		wantFault(t, err, fault.Invalid, "key k is soft-deleted|bring it back with keys/k/soft-delete-restore")
	}
	if k := e.read("k"); !k.SoftDeleted || len(k.Keys) != 1 {
		t.Errorf("%+v", k)
	}
	if k := e.make("k", "rsa-2048"); !k.SoftDeleted {
		t.Error("creating the key again restores it")
	}
	e.restart()
	if !e.read("k").SoftDeleted {
		t.Error("forgotten at the restart")
	}
	for range 2 {
		k, err := e.softDeleteRestore(bg, call(), name)
		must(t, err)
		if k.SoftDeleted {
			t.Errorf("the answer: %+v", k)
		}
	}
	if p, err := e.dec("k", text); err != nil || p != "p" || e.read("k").SoftDeleted {
		t.Errorf("%q %v", p, err)
	}
	_, err := e.softDelete(bg, call(), &api.KeyName{Name: "none"})
	wantFault(t, err, fault.Invalid, "no existing key named none could be found")
	_, err = e.softDeleteRestore(bg, call(), &api.KeyName{Name: "none"})
	wantFault(t, err, fault.Invalid, "no existing key named none could be found")
}

func TestSoftDeletedKeyIsDeleted(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("k", "")
	_, err := e.softDelete(bg, call(), &api.KeyName{Name: "k"})
	must(t, err)
	_, err = e.deleteKey(bg, call(), &api.KeyName{Name: "k"})
	wantFault(t, err, fault.Invalid, "deletion is not allowed")
	_, err = e.softDeleteRestore(bg, call(), &api.KeyName{Name: "k"})
	must(t, err)
	e.configure("k", api.ConfigKey{DeletionAllowed: ptr(true)})
	_, err = e.softDelete(bg, call(), &api.KeyName{Name: "k"})
	must(t, err)
	_, err = e.deleteKey(bg, call(), &api.KeyName{Name: "k"})
	must(t, err)
	if e.count(tableKeys) != 0 {
		t.Error("the key is still there")
	}
}

func (e *env) read(name string) *api.Key {
	e.t.Helper()
	k, err := e.readKey(bg, call(), &api.ReadKey{Name: name})
	must(e.t, err)
	return k
}
