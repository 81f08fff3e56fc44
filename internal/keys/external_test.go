package keys

import (
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// external gives the name hsm:KEY to an object and lets transit/ use it.
func (e *env) external(key, label string) {
	e.t.Helper()
	_, err := e.writeExternalConfig(bg, call(), &api.SetExternalConfig{Config: "hsm", Plugin: ptr("pkcs11")})
	must(e.t, err)
	_, err = e.writeExternalKey(bg, call(), &api.SetExternalKey{Config: "hsm", Key: key, Label: ptr(label)})
	must(e.t, err)
	e.grant(key, "transit")
}

func (e *env) grant(key, mount string) {
	e.t.Helper()
	_, err := e.addExternalGrant(bg, call(), &api.ExternalGrant{Config: "hsm", Key: key, Mount: mount})
	must(e.t, err)
}

func TestExternalKeyBecomesNamedKey(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	first, second := e.foreign(token.P256, "first", nil), e.foreign(token.P256, "second", nil)
	e.foreign(token.RSA2048, "other", nil)
	for _, key := range []string{"first", "second", "other"} {
		e.external(key, key)
	}
	k, err := e.createKey(bg, call(), &api.CreateKey{Name: "ca", Type: "external-key", ExternalKeyRef: "hsm:first"})
	must(t, err)
	if !k.Adopted || k.Type != "ecdsa-p256" || string(pkix(t, publicOf(t, k, "1"))) != string(first.Public) {
		t.Errorf("%+v", k)
	}
	rotate := func(ref string) (*api.Key, error) {
		return e.rotateKey(bg, call(), &api.RotateKey{Name: "ca", ExternalKeyRef: ref})
	}
	_, err = rotate("hsm:first")
	wantFault(t, err, fault.Invalid, "version 1 of ca is of this object already")
	_, err = rotate("hsm:other")
	wantFault(t, err, fault.Invalid, "all versions of ca are ecdsa-p256")
	k, err = rotate("hsm:second")
	must(t, err)
	if k.LatestVersion != 2 || string(pkix(t, publicOf(t, k, "2"))) != string(second.Public) {
		t.Errorf("%+v", k)
	}
	e.restart()
	for range 2 { // with the new version, and with one that is made here
		sig, err := e.sign(bg, call(), &api.Sign{Name: "ca", Input: []byte("m")})
		must(t, err)
		v, err := e.verify(bg, call(), &api.Verify{Name: "ca", Input: []byte("m"), Signature: sig.Signature})
		if must(t, err); !*v.Valid {
			t.Error("signature")
		}
		e.rotateNow("ca")
	}
	_, err = rotate("hsm:second")
	wantFault(t, err, fault.Invalid, "version 2 of ca is of this object already")
	e.drop("ca")
	if e.there("first") != 1 || e.there("second") != 1 {
		t.Error("an object of others was destroyed")
	}
}

func TestExternalKeyRefused(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.foreign(token.AES256, "data", nil)
	e.make("own", "")
	e.external("data", "data")
	must(t, second(e.writeExternalKey(bg, call(), &api.SetExternalKey{Config: "hsm", Key: "later", Label: ptr("not there yet"), Verify: ptr(false)})))
	e.grant("later", "transit/")
	must(t, second(e.writeExternalKey(bg, call(), &api.SetExternalKey{Config: "hsm", Key: "private", Label: ptr("data")})))
	e.grant("private", "elsewhere")
	as := func(change func(*api.CreateKey)) api.CreateKey {
		r := api.CreateKey{Name: "k", Type: "external-key", ExternalKeyRef: "hsm:data"}
		change(&r)
		return r
	}
	for _, c := range []struct {
		r    api.CreateKey
		want string
	}{
		{as(func(r *api.CreateKey) { r.Type = "" }), "must provide type=external-key"},
		{as(func(r *api.CreateKey) { r.Type = "rsa-2048" }), "must provide type=external-key"},
		{as(func(r *api.CreateKey) { r.ExternalKeyRef = "" }), "must provide external_key_ref"},
		{as(func(r *api.CreateKey) { r.ExternalKeyRef = "data" }), "invalid key reference"},
		{as(func(r *api.CreateKey) { r.ExternalKeyRef = "hsm:" }), "invalid key reference"},
		{as(func(r *api.CreateKey) { r.ExternalKeyRef = "a:b:c" }), "invalid key reference"},
		{as(func(r *api.CreateKey) { r.ExternalKeyRef = "hsm:none" }), `key "hsm:none" does not exist`},
		{as(func(r *api.CreateKey) { r.ExternalKeyRef = "hsm:private" }), `mount "transit/" is missing grant`},
		{as(func(r *api.CreateKey) { r.ExternalKeyRef = "hsm:later" }), "no private or secret key"},
		{as(func(r *api.CreateKey) { r.AutoRotatePeriod = 7200 }), "cannot enable auto-rotation"},
		{as(func(r *api.CreateKey) { r.Derived = true }), "can't be asked of a key that is there already"},
		{as(func(r *api.CreateKey) { r.Protection = "software" }), "has protection token"},
		{as(func(r *api.CreateKey) { r.Name = "a b" }), "no name for a key"},
	} {
		_, err := e.createKey(bg, call(), &c.r)
		wantFault(t, err, fault.Invalid, c.want)
	}
	_, err := e.rotateKey(bg, call(), &api.RotateKey{Name: "own", ExternalKeyRef: "hsm:data"})
	wantFault(t, err, fault.Invalid, "cannot use external_key_ref on key of type aes256-gcm96")
	if e.count(tableKeys) != 1 {
		t.Errorf("%d keys", e.count(tableKeys))
	}
}

func second[A any](_ A, err error) error { return err }

func TestExternalConfig(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.hsm.info.Label, e.hsm.info.Serial = "house", "0815"
	write := func(r api.SetExternalConfig) error { return second(e.writeExternalConfig(bg, call(), &r)) }
	for _, c := range []struct {
		r    api.SetExternalConfig
		want string
	}{
		{api.SetExternalConfig{Config: "a"}, `missing required field "plugin"`},
		{api.SetExternalConfig{Config: "a", Plugin: ptr("transit")}, "unknown plugin"},
		{api.SetExternalConfig{Config: "a b", Plugin: ptr("pkcs11")}, "is no name"},
		{api.SetExternalConfig{Config: "a", Plugin: ptr("pkcs11"), TokenLabel: ptr("other")}, `the HSM token of this server is "house"`},
		{api.SetExternalConfig{Config: "a", Plugin: ptr("pkcs11"), Serial: ptr("4711")}, `the HSM token of this server has "0815"`},
	} {
		wantFault(t, write(c.r), fault.Invalid, c.want)
	}
	if e.count(tableExternalConfigs) != 0 {
		t.Error("something was stored")
	}
	c := call()
	must(t, second(e.writeExternalConfig(bg, c, &api.SetExternalConfig{Config: "a", Plugin: ptr("pkcs11"), Slot: ptr("5"), PIN: ptr("secret")})))
	if len(c.Warnings) != 1 {
		t.Errorf("%q", c.Warnings)
	}
	must(t, second(e.patchExternalConfig(bg, call(), &api.SetExternalConfig{Config: "a", TokenLabel: ptr("house")})))
	got, err := e.readExternalConfig(bg, call(), &api.ExternalConfigName{Config: "a"})
	if must(t, err); *got != (api.ExternalConfig{Plugin: "pkcs11", Slot: "5", TokenLabel: "house"}) {
		t.Errorf("%+v", got)
	}
	must(t, write(api.SetExternalConfig{Config: "a", Plugin: ptr("pkcs11"), TokenLabel: ptr("other"), Verify: ptr(false)}))
	got, err = e.readExternalConfig(bg, call(), &api.ExternalConfigName{Config: "a"})
	if must(t, err); *got != (api.ExternalConfig{Plugin: "pkcs11", TokenLabel: "other"}) {
		t.Errorf("%+v", got)
	}
	_, err = e.patchExternalConfig(bg, call(), &api.SetExternalConfig{Config: "none"})
	wantFault(t, err, fault.NotFound, `config "none" not found`)
	_, err = e.readExternalConfig(bg, call(), &api.ExternalConfigName{Config: "none"})
	wantFault(t, err, fault.NotFound, `config "none" not found`)
}

func TestExternalKeys(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.foreign(token.AES256, "data", []byte{0x22, 0x22})
	key := api.SetExternalKey{Config: "hsm", Key: "k", ID: ptr("0x2222")}
	_, err := e.writeExternalKey(bg, call(), &key)
	wantFault(t, err, fault.Invalid, `config "hsm" does not exist`)
	must(t, second(e.writeExternalConfig(bg, call(), &api.SetExternalConfig{Config: "hsm", Plugin: ptr("pkcs11")})))
	must(t, second(e.writeExternalKey(bg, call(), &key)))
	e.grant("k", "b")
	e.grant("k", "a/")
	e.grant("k", "b/")
	must(t, second(e.writeExternalKey(bg, call(), &key))) // which leaves the grants as they are
	must(t, second(e.patchExternalKey(bg, call(), &api.SetExternalKey{Config: "hsm", Key: "k", Mechanism: ptr("CKM_AES_GCM")})))
	got, err := e.readExternalKey(bg, call(), &api.ExternalKeyName{Config: "hsm", Key: "k"})
	if must(t, err); *got != (api.ExternalKey{ID: "0x2222", Mechanism: "CKM_AES_GCM"}) {
		t.Errorf("%+v", got)
	}
	grants := func() []string {
		l, err := e.listExternalGrants(bg, call(), &api.ExternalKeyName{Config: "hsm", Key: "k"})
		must(t, err)
		return l.Keys
	}
	if g := grants(); !slices.Equal(g, []string{"a/", "b/"}) {
		t.Errorf("%q", g)
	}
	for range 2 {
		must(t, second(e.removeExternalGrant(bg, call(), &api.ExternalGrant{Config: "hsm", Key: "k", Mount: "b"})))
	}
	if g := grants(); !slices.Equal(g, []string{"a/"}) {
		t.Errorf("%q", g)
	}
	_, err = e.writeExternalKey(bg, call(), &api.SetExternalKey{Config: "hsm", Key: "x"})
	wantFault(t, err, fault.Invalid, "label or id must say")
	_, err = e.writeExternalKey(bg, call(), &api.SetExternalKey{Config: "hsm", Key: "x", Label: ptr("none")})
	wantFault(t, err, fault.Invalid, "no private or secret key")
	_, err = e.addExternalGrant(bg, call(), &api.ExternalGrant{Config: "hsm", Key: "x", Mount: "a"})
	wantFault(t, err, fault.NotFound, `key "x" not found`)
	_, err = e.patchExternalKey(bg, call(), &api.SetExternalKey{Config: "hsm", Key: "x", Label: ptr("data")})
	wantFault(t, err, fault.NotFound, `key "x" not found`)
	must(t, second(e.deleteExternalKey(bg, call(), &api.ExternalKeyName{Config: "hsm", Key: "x"})))
	for i := range 5 {
		must(t, second(e.writeExternalKey(bg, call(), &api.SetExternalKey{Config: "hsm", Key: "n" + strconv.Itoa(i), Label: ptr("data")})))
	}
	l, err := e.listExternalKeys(bg, call(), &api.ExternalKeyPage{Config: "hsm", After: "n0", Limit: 3})
	if must(t, err); !slices.Equal(l.Keys, []string{"n1", "n2", "n3"}) {
		t.Errorf("%q", l.Keys)
	}
	must(t, second(e.deleteExternalKey(bg, call(), &api.ExternalKeyName{Config: "hsm", Key: "n0"})))
	for range 2 {
		must(t, second(e.deleteExternalConfig(bg, call(), &api.ExternalConfigName{Config: "hsm"})))
	}
	if e.count(tableExternalKeys)+e.count(tableExternalConfigs) != 0 || e.there("data") != 1 {
		t.Error("names are left, or the object is not")
	}
}

// Grants that are given at the same time are all there.
func TestExternalGrantsTogether(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.foreign(token.AES256, "data", nil)
	e.external("k", "data")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := e.addExternalGrant(bg, call(), &api.ExternalGrant{Config: "hsm", Key: "k", Mount: strconv.Itoa(i)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	l, err := e.listExternalGrants(bg, call(), &api.ExternalKeyName{Config: "hsm", Key: "k"})
	if must(t, err); len(l.Keys) != 9 {
		t.Errorf("%q", l.Keys)
	}
}
