package keys

import (
	"fmt"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

func TestKeySettings(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	other := call()
	other.Mount = "other/"
	read := func() string {
		t.Helper()
		k, err := e.readKeySettings(bg, call(), nil)
		must(t, err)
		c, err := e.readCacheSettings(bg, call(), nil)
		must(t, err)
		o, err := e.readKeySettings(bg, other, nil)
		must(t, err)
		return fmt.Sprint(k.DisableUpsert, c.Size, o.DisableUpsert)
	}
	if got := read(); got != "false 0 false" {
		t.Error(got)
	}
	for range 2 {
		r, err := e.writeKeySettings(bg, call(), &api.SetKeySettings{DisableUpsert: ptr(true)})
		if err != nil || !r.DisableUpsert {
			t.Errorf("%+v %v", r, err)
		}
		c := call()
		s, err := e.writeCacheSettings(bg, c, &api.CacheSettings{Size: 500})
		if err != nil || s.Size != 500 || len(c.Warnings) != 1 {
			t.Errorf("%+v %v %q", s, err, c.Warnings)
		}
	}
	for _, size := range []int{-1, 9} {
		_, err := e.writeCacheSettings(bg, call(), &api.CacheSettings{Size: size})
		wantFault(t, err, fault.Invalid, "size must be 0 or a value greater or equal to 10")
	}
	e.restart()
	if got := read(); got != "true 500 false" {
		t.Error(got)
	}
	_, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte("x")})
	wantFault(t, err, fault.Invalid, msgNoEncryptionKey)
	if n := e.count(tableKeys); n != 0 {
		t.Errorf("%d keys", n)
	}
	_, err = e.encrypt(bg, other, &api.Encrypt{Name: "k", Plaintext: []byte("x")})
	must(t, err)
	_, err = e.writeKeySettings(bg, call(), &api.SetKeySettings{DisableUpsert: ptr(false)})
	must(t, err)
	e.enc("k", "x")
	if got := read(); got != "false 500 false" {
		t.Error(got)
	}
}

// FIPS 180-4 and FIPS 202 example values of "abc".
func TestHash(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	for alg, want := range map[string]string{
		"":         "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"sha2-224": "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
		"sha2-256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"sha2-384": "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
		"sha2-512": "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
		"sha3-224": "e642824c3f8cf24ad09234ee7d3c766fc9a3a5168d0c94ad73b46fdf",
		"sha3-256": "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532",
		"sha3-384": "ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c2596da7cf0e49be4b298d88cea927ac7f539f1edf228376d25",
		"sha3-512": "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0",
	} {
		for _, r := range []api.Hash{{Algorithm: alg}, {URLAlgorithm: alg, Algorithm: "sha2-512", Format: "hex"}} {
			if alg == "" {
				r.Algorithm = ""
			}
			r.Input = []byte("abc")
			sum, err := e.hash(bg, call(), &r)
			must(t, err)
			if sum.Sum != want {
				t.Errorf("%q: %s", alg, sum.Sum)
			}
		}
	}
	empty, err := e.hash(bg, call(), &api.Hash{Input: []byte{}, Format: "base64"})
	must(t, err)
	if empty.Sum != "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" {
		t.Error(empty.Sum)
	}
	for _, c := range []struct {
		r    api.Hash
		want string
	}{
		{api.Hash{}, "input missing"},
		{api.Hash{Input: []byte{}, Algorithm: "md5"}, "unsupported algorithm md5"},
		{api.Hash{Input: []byte{}, Algorithm: "sha1"}, "unsupported algorithm sha1"},
		{api.Hash{Input: []byte{}, URLAlgorithm: "none"}, "unsupported algorithm none"},
		{api.Hash{Input: []byte{}, Format: "raw"}, "unsupported encoding format raw"},
	} {
		_, err := e.hash(bg, call(), &c.r)
		wantFault(t, err, fault.Invalid, c.want)
	}
}

func TestDefaultProtection(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	set := func(p string) *api.KeySettings {
		t.Helper()
		r, err := e.writeKeySettings(bg, call(), &api.SetKeySettings{DefaultProtection: &p})
		must(t, err)
		return r
	}
	protection := func(k *api.Key) string { return k.Protection }
	for _, c := range []struct{ mount, asked, want string }{
		{"", "", "wrapped"}, {"token", "", "token"}, {"software", "", "software"}, {"wrapped", "", "wrapped"},
		{"token", "software", "software"}, {"software", "wrapped", "wrapped"},
	} {
		if r := set(c.mount); r.DefaultProtection != c.mount {
			t.Errorf("%+v", r)
		}
		e.restart()
		name := "k-" + c.mount + "-" + c.asked + "-x"
		for _, derived := range []bool{false, true} {
			n := fmt.Sprint(name, derived)
			if got := protection(e.makeAs(api.CreateKey{Name: n, Protection: c.asked, Derived: derived})); got != c.want {
				t.Errorf("%+v: %s", c, got)
			}
		}
		if c.asked == "" {
			e.enc("up"+name, "x")
			k, err := e.readKey(bg, call(), &api.ReadKey{Name: "up" + name})
			must(t, err)
			if k.Protection != c.want {
				t.Errorf("upsert %+v: %s", c, k.Protection)
			}
		}
	}
	set("wrapped")
	e.hsm.generate = func(s token.Spec) error {
		if s.Type == token.P256 && s.Place == token.PlaceWrapped {
			return token.ErrUnsupported
		}
		return nil
	}
	if _, err := e.createKey(bg, call(), &api.CreateKey{Name: "ec", Type: "ecdsa-p256"}); err == nil {
		t.Error("a default of the mount that is not possible was replaced by another protection")
	}
	set("")
	if k := e.make("ec", "ecdsa-p256"); k.Protection != "token" {
		t.Errorf("%+v", k)
	}
	set("wrapped")
	_, err := e.createKey(bg, call(), &api.CreateKey{Name: "ed", Type: "ed25519"})
	wantFault(t, err, fault.Invalid, "can't wrap keys of type ed25519")
	_, err = e.writeKeySettings(bg, call(), &api.SetKeySettings{DefaultProtection: ptr("hard")})
	wantFault(t, err, fault.Invalid, `unknown default_protection "hard"`)
	both, err := e.writeKeySettings(bg, call(), &api.SetKeySettings{DisableUpsert: ptr(true)})
	must(t, err)
	if !both.DisableUpsert || both.DefaultProtection != "wrapped" {
		t.Errorf("%+v", both)
	}
	e.hsm.info.Holds = map[token.Type]token.Hold{token.P256: {Object: true}}
	_, err = e.writeKeySettings(bg, call(), &api.SetKeySettings{DefaultProtection: ptr("wrapped")})
	wantFault(t, err, fault.Invalid, "holds no keys with protection wrapped")
}
