package keys

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/token"
)

func (e *env) operation(name string) *op.Operation {
	e.t.Helper()
	for _, o := range e.Operations() {
		if o.Name == name {
			return o
		}
	}
	e.t.Fatalf("no operation %s", name)
	return nil
}

func TestOperations(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	names, paths := map[string]bool{}, map[string]bool{}
	for _, o := range e.Operations() {
		path := fmt.Sprint(o.Verb, " ", o.Path)
		if names[o.Name] || paths[path] || o.Mount != "transit" && !(o.Mount == "sys" && (strings.HasPrefix(o.Path, "tools/") || strings.HasPrefix(o.Path, "external-keys/") || o.Path == "hsm/objects")) || o.Help == "" || o.Public || o.Sealed || o.Audit != op.AuditFull {
			t.Errorf("%+v", o.Meta)
		}
		names[o.Name], paths[path] = true, true
	}
	for _, want := range []string{
		"write keys/{name}", "read keys/{name}", "delete keys/{name}", "list keys", "write keys/{name}/config", "write keys/{name}/rotate",
		"write keys/{name}/trim", "read config/keys", "write config/keys", "read cache-config", "write cache-config", "write hash", "write hash/{algorithm}",
		"write encrypt/{name}", "write decrypt/{name}", "write rewrap/{name}", "write datakey/{kind}/{name}",
		"write sign/{name}", "write sign/{name}/{hash}", "write verify/{name}", "write verify/{name}/{hash}",
		"write hmac/{name}", "write hmac/{name}/{algorithm}", "write random", "write random/{source}", "write random/{source}/{bytes}",
		"delete keys/{name}/soft-delete", "write keys/{name}/soft-delete-restore", "write keys/{name}/csr", "write keys/{name}/set-certificate",
		"read wrapping_key", "write keys/{name}/import", "write keys/{name}/import_version", "read backup/{name}", "write restore", "write restore/{name}",
		"read export/{kind}/{name}", "read export/{kind}/{name}/{version}",
		"write tools/random", "write tools/random/{source}", "write tools/random/{source}/{bytes}",
		"write tools/hash", "write tools/hash/{algorithm}",
	} {
		if !paths[want] {
			t.Errorf("no %s", want)
		}
	}
}

// The way that the guard takes: parameters from the path, then the call.
func TestInvoke(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	invoke := func(name string, req any, params ...string) any {
		t.Helper()
		o := e.operation(name)
		must(t, o.SetParams(req, params))
		resp, err := o.Invoke(bg, call(), req)
		must(t, err)
		return resp
	}
	invoke("transit.keys.create", &api.CreateKey{Type: "rsa-2048"}, "k")
	s := invoke("transit.sign.hash", &api.Sign{Input: []byte("m")}, "k", "sha2-384").(*api.Signature)
	v := invoke("transit.verify", &api.Verify{Input: []byte("m"), Signature: s.Signature, HashAlgorithm: "sha2-384"}, "k").(*api.Verified)
	if !*v.Valid {
		t.Error("not valid")
	}
	h := invoke("transit.hmac.algorithm", &api.HMAC{Input: []byte("m")}, "k", "sha2-512").(*api.HMACResult)
	if len(h.HMAC) != textLen("vault:v1:", 64) {
		t.Error(h.HMAC)
	}
	for params, want := range map[string]int{"6": 8, "all/6": 8, "seal": 44} {
		name := "transit.random.one"
		if strings.Contains(params, "/") {
			name = "transit.random.both"
		}
		r := invoke(name, &api.Random{}, strings.Split(params, "/")...).(*api.RandomBytes)
		if len(r.RandomBytes) != want {
			t.Errorf("random/%s: %q", params, r.RandomBytes)
		}
	}
	e.configure("k", api.ConfigKey{DeletionAllowed: ptr(true)})
	if resp := invoke("transit.keys.delete", &api.KeyName{}, "k"); resp != nil {
		t.Errorf("delete answers %v", resp)
	}
	o := e.operation("transit.encrypt")
	if ok, err := o.Exists(bg, call(), &api.Encrypt{Name: "k"}); ok || err != nil || !o.HasExists() {
		t.Error(ok, err)
	}
}

func TestNewNeedsParts(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{}); err == nil {
		t.Error("no error")
	}
}

// The rules of versions against a model: which versions encrypt and decrypt
// after any sequence of rotations and configurations.
func TestVersionRules(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		e := newEnv(t, false)
		e.make("k", "")
		latest, minDec, minEnc, minAvail := 1, 1, 0, 0
		made := map[int]string{1: e.enc("k", "p")}
		rt.Repeat(map[string]func(*rapid.T){
			"rotate": func(*rapid.T) {
				e.rotateNow("k")
				latest++
				made[latest] = e.enc("k", "p")
			},
			"configure": func(rt *rapid.T) {
				r := api.ConfigKey{Name: "k"}
				dec, enc := minDec, minEnc
				if rapid.Bool().Draw(rt, "set dec") {
					dec = rapid.IntRange(-1, latest+1).Draw(rt, "dec")
					r.MinDecryptionVersion = &dec
				}
				if rapid.Bool().Draw(rt, "set enc") {
					enc = rapid.IntRange(-1, latest+1).Draw(rt, "enc")
					r.MinEncryptionVersion = &enc
				}
				low := max(dec, 1)
				ok := dec >= 0 && dec <= latest && enc >= 0 && enc <= latest && (enc == 0 || enc >= low) && low >= minAvail
				if _, err := e.configKey(bg, call(), &r); (err == nil) != ok {
					rt.Fatalf("dec %d enc %d latest %d: %v", dec, enc, latest, err)
				}
				if ok {
					minDec, minEnc = low, enc
				}
			},
			"trim": func(rt *rapid.T) {
				first := rapid.IntRange(-1, latest+1).Draw(rt, "first")
				ok := first > 0 && first >= minAvail && first <= minDec && first <= minEnc
				if _, err := e.trim("k", first); (err == nil) != ok {
					rt.Fatalf("first %d dec %d enc %d available %d: %v", first, minDec, minEnc, minAvail, err)
				}
				if ok {
					minAvail = first
				}
				if n := e.count(tableVersions); n != latest-max(minAvail, 1)+1 {
					rt.Fatalf("%d versions of %d from %d", n, latest, minAvail)
				}
			},
			"restart": func(*rapid.T) { e.restart() },
			"evict":   func(*rapid.T) { e.Reset() },
			"": func(rt *rapid.T) {
				for v := range latest + 2 {
					_, err := e.encrypt(bg, call(), &api.Encrypt{Name: "k", Plaintext: []byte("p"), KeyVersion: v})
					if ok := v == 0 || v <= latest && v >= minDec && v >= minEnc; (err == nil) != ok {
						rt.Fatalf("encrypt with %d: %v (latest %d, min %d %d)", v, err, latest, minDec, minEnc)
					}
				}
				for v, c := range made {
					p, err := e.dec("k", c)
					if ok := v >= minDec; (err == nil) != ok || ok && p != "p" {
						rt.Fatalf("decrypt version %d: %v (min %d)", v, err, minDec)
					}
				}
			},
		})
	})
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.cache = newCache(4)
	texts := map[string]string{}
	for i := range 20 {
		name := fmt.Sprint("k", i)
		e.make(name, "xchacha20-poly1305")
		texts[name] = e.enc(name, name)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				name := fmt.Sprint("k", rand.IntN(20))
				if p, err := e.dec(name, texts[name]); err != nil || p != name {
					t.Errorf("%q %v", p, err)
				}
				_, err := e.dec(fmt.Sprint("none", rand.IntN(1000)), "vault:v1:AAAA")
				wantFault(t, err, fault.Invalid, msgNoEncryptionKey)
			}
		})
	}
	wg.Wait()
	if n := len(e.cache.entries); n > 4+4 {
		t.Errorf("%d keys in a cache of 4", n)
	}
}

// The hot path does not read the store.
func TestHotPathWithoutStore(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.make("k", "")
	c := e.enc("k", "x")
	before := e.db.gets.Load()
	for range 100 {
		if _, err := e.dec("k", c); err != nil {
			t.Fatal(err)
		}
		e.enc("k", "x")
	}
	if n := e.db.gets.Load() - before; n != 0 {
		t.Errorf("%d reads of the store", n)
	}
}

// Everything at once, for the race detector: use, change, delete, forget.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.limits = sealLimits{total: 1 << 32, firstBlock: 2, lastBlock: 16}
	names := []string{"a", "b", "c"}
	var wg sync.WaitGroup
	for worker := range 6 {
		wg.Go(func() {
			for i := range 40 {
				name := names[rand.IntN(len(names))]
				r, err := e.encrypt(bg, call(), &api.Encrypt{Name: name, Plaintext: []byte(name)})
				if err != nil {
					t.Error(err)
					return
				}
				switch rand.IntN(8) {
				case 0:
					_, err = e.rotateKey(bg, call(), &api.RotateKey{Name: name})
				case 1:
					_, err = e.configKey(bg, call(), &api.ConfigKey{Name: name, DeletionAllowed: ptr(true)})
				case 2:
					if worker == 0 && i%2 == 0 {
						_, err = e.deleteKey(bg, call(), &api.KeyName{Name: name})
					}
				case 3:
					e.Reset()
				default:
					_, err = e.dec(name, r.Ciphertext)
				}
				if err != nil && fault.KindOf(err) != fault.Invalid {
					t.Error(err) // another worker may have deleted the key: that is Invalid
				}
			}
		})
	}
	wg.Wait()
	e.restart()
	for _, name := range names {
		k, err := e.readKey(bg, call(), &api.ReadKey{Name: name})
		if fault.KindOf(err) == fault.NotFound {
			continue
		}
		must(t, err)
		e.enc(name, fmt.Sprint(k.LatestVersion))
	}
	if e.count(tableVersions) == 0 {
		t.Error("no versions")
	}
}

type nullKey struct{}

// Do takes no time, so that a benchmark shows the cost of this package alone.
func (nullKey) Do(_ context.Context, _ token.Op, items []token.Item) error {
	for i := range items {
		it := &items[i]
		it.Out = append(append(it.Out, it.In...), tag[:]...)
	}
	return nil
}

var tag [aeadTag]byte

func benchEnv(b *testing.B) *env {
	e := newEnv(b, false)
	e.make("null", "")
	e.make("k", "")
	v, err := e.version(bg, e.cache.get(keyName{"transit/", "null"}), 1)
	must(b, err)
	v.main = nullKey{}
	return e
}

func BenchmarkEncrypt64(b *testing.B) {
	e := benchEnv(b)
	for _, name := range []string{"null", "k"} {
		b.Run(name, func(b *testing.B) {
			r, c := &api.Encrypt{Name: name, Plaintext: make([]byte, 64)}, call()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.encrypt(bg, c, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecrypt64(b *testing.B) {
	e := benchEnv(b)
	r, c := &api.Decrypt{Name: "k", Ciphertext: e.enc("k", string(make([]byte, 64)))}, call()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.decrypt(bg, c, r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncryptBatch100x1K(b *testing.B) {
	e := benchEnv(b)
	for _, name := range []string{"null", "k"} {
		b.Run(name, func(b *testing.B) {
			r, c := &api.Encrypt{Name: name}, call()
			for range 100 {
				r.BatchInput = append(r.BatchInput, api.EncryptItem{Plaintext: make([]byte, 1024)})
			}
			b.ReportAllocs()
			b.SetBytes(100 * 1024)
			for b.Loop() {
				if _, err := e.encrypt(bg, c, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
