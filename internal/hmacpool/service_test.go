package hmacpool

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/sqlite"
)

// newService makes a service on a store in memory, whose pools may lie in dir.
func newService(t testing.TB, dir string, change func(*Options)) *Service {
	t.Helper()
	db, err := sqlite.Open(context.Background(), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	sealed := store.NewSealed(db)
	if err := sealed.Unseal(make([]byte, store.StorageKeySize)); err != nil {
		t.Fatal(err)
	}
	o := Options{Store: sealed, Dirs: []string{dir}}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var onMount = &op.Call{Mount: "hmacpool/"}

func TestServiceConfig(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	dir := filepath.Join(base, "a")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "0000", secrets16())
	s := newService(t, base, nil)
	ask := func() (*api.PoolCodes, error) {
		return s.hmac(t.Context(), onMount, &api.PoolHMAC{Input: []byte("hello world")})
	}
	if _, err := ask(); fault.KindOf(err) != fault.NotFound || fault.HintOf(err) == "" {
		t.Errorf("without a pool: %v", err)
	}
	if _, err := s.status(t.Context(), onMount, nil); fault.KindOf(err) != fault.NotFound {
		t.Errorf("status without a pool: %v", err)
	}
	got, err := s.writeConfig(t.Context(), onMount, &api.PoolConfig{Directory: dir + "/", Mode: "MODE16"})
	if want := (api.PoolConfig{Directory: dir, Mode: "MODE16", Index: "current"}); err != nil || *got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	codes, err := ask()
	if err != nil || hex.EncodeToString(codes.HMAC) != "1db1ca798bbfd26c86d69cbb6046ba856450562d2f357c7fc5e7de684485cf5b" {
		t.Errorf("%+v, %v", codes, err)
	}
	if _, err := s.writeConfig(t.Context(), onMount, &api.PoolConfig{Directory: dir, Mode: "MODE16", Index: "pre-2021-09-13"}); err != nil {
		t.Fatal(err)
	}
	if codes, err = ask(); err != nil || hex.EncodeToString(codes.HMAC) != "e0d5687c6e68b6596b6a1f507dc32ec8509f8adbe4c7230e331feb463c3d396c" {
		t.Errorf("after the change: %+v, %v", codes, err)
	}
	if r, err := s.readConfig(t.Context(), onMount, nil); err != nil || r.Index != "pre-2021-09-13" {
		t.Errorf("%+v, %v", r, err)
	}
	st, err := s.status(t.Context(), onMount, nil)
	if err != nil || !st.Usable || st.Fixed || st.Sealed || st.Secrets != 65536 {
		t.Errorf("%+v, %v", st, err)
	}
	s.Reset()
	if _, err := ask(); err != nil {
		t.Errorf("after a seal: %v", err)
	}
	if err := s.Unmount(t.Context(), "hmacpool/"); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(); fault.KindOf(err) != fault.NotFound {
		t.Errorf("after the unmount: %v", err)
	}
	if err := s.Unmount(t.Context(), "hmacpool/"); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestServiceConfigRefuses(t *testing.T) {
	t.Parallel()
	base, outside := t.TempDir(), t.TempDir()
	write(t, base, "0000", secrets16())
	write(t, outside, "0000", secrets16())
	if err := os.Symlink(outside, filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	s := newService(t, base, nil)
	for _, c := range []struct{ dir, mode, index, text string }{
		{outside, "MODE16", "", "in or below"},
		{filepath.Join(base, "link"), "MODE16", "", "in or below"},
		{base + "/../" + filepath.Base(outside), "MODE16", "", "in or below"},
		{"relative", "MODE16", "", "absolute"},
		{"", "MODE16", "", "absolute"},
		{base, "Mode16", "", "in capitals"},
		{base, "MODE0", "", "needs the file"},
		{base, "MODE16", "old", "current"},
		{filepath.Join(base, "none"), "MODE16", "", "no such file"},
	} {
		_, err := s.writeConfig(t.Context(), onMount, &api.PoolConfig{Directory: c.dir, Mode: c.mode, Index: c.index})
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, version, err := s.record(t.Context(), "hmacpool/"); version != 0 || err != nil {
		t.Errorf("something was stored: version %d, %v", version, err)
	}
}

func TestServiceFixed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "secret", ascending())
	s := newService(t, dir, func(o *Options) { o.Fixed = map[string]Settings{"hmacpool/": {Dir: dir}} })
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := s.writeConfig(t.Context(), onMount, &api.PoolConfig{Directory: dir, Mode: "MODE0"}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a fixed pool was changed: %v", err)
	}
	if st, err := s.status(t.Context(), onMount, nil); err != nil || !st.Fixed || !st.Usable {
		t.Errorf("%+v, %v", st, err)
	}
	write(t, dir, "secret", ascending()[1:])
	if err := s.Check(t.Context()); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a short secret: %v", err)
	}
	if st, err := s.status(t.Context(), onMount, nil); err != nil || st.Usable || !strings.Contains(st.Problem, "31 bytes") {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestServiceHMAC(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "0000", secrets16())
	s := newService(t, dir, func(o *Options) { o.Fixed = map[string]Settings{"hmacpool/": {Dir: dir, Mode: Mode16}} })
	r, err := s.hmac(t.Context(), onMount, &api.PoolHMAC{BatchInput: []api.PoolItem{
		{Input: []byte("hello world"), Reference: "x"}, {}, {Input: []byte("apples and pears")}}})
	if err != nil || len(r.BatchResults) != 3 || r.HMAC != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if b := r.BatchResults; b[0].Reference != "x" || hex.EncodeToString(b[0].HMAC) != "1db1ca798bbfd26c86d69cbb6046ba856450562d2f357c7fc5e7de684485cf5b" ||
		b[1].HMAC != nil || !strings.Contains(b[1].Error, "missing input") ||
		hex.EncodeToString(b[2].HMAC) != "f86a3bd5e18a78a4efcd4d90645a741c8c8b6c7125251989b16a570f4865e968" {
		t.Errorf("%+v", b)
	}
	for what, req := range map[string]*api.PoolHMAC{
		"no input": {}, "an empty input": {Input: []byte{}}, "an empty batch": {BatchInput: []api.PoolItem{}},
		"a long batch": {BatchInput: make([]api.PoolItem, maxBatch+1)},
	} {
		if _, err := s.hmac(t.Context(), onMount, req); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "0000")); err != nil {
		t.Fatal(err)
	}
	r, err = s.hmac(t.Context(), onMount, &api.PoolHMAC{BatchInput: []api.PoolItem{{Input: []byte("a")}}})
	if err != nil || !strings.Contains(r.BatchResults[0].Error, "missing") || strings.Contains(r.BatchResults[0].Error, dir) {
		t.Errorf("without the file: %+v, %v", r, err)
	}
	if _, err := s.hmac(t.Context(), onMount, &api.PoolHMAC{Input: []byte("a")}); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("without the file: %v", err)
	}
}

// TestServiceSeal: sealing the server leaves no key of a sealed pool behind, nor does
// sealing it while the pool is being opened.
func TestServiceSeal(t *testing.T) {
	t.Parallel()
	var ring keyring
	dir := t.TempDir()
	if _, err := Create(t.Context(), CreateOptions{Dir: dir, Mode: Mode0, Sealing: ring.sealing()}); err != nil {
		t.Fatal(err)
	}
	var s *Service
	sealing := false
	s = newService(t, dir, func(o *Options) {
		o.Fixed = map[string]Settings{"hmacpool/": {Dir: dir}}
		o.Unwrap = func(ctx context.Context, h *Header, aad []byte) ([]byte, error) {
			if sealing {
				s.Reset()
			}
			return ring.unwrap(ctx, h, aad)
		}
	})
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("a sealed pool before unseal: %v", err)
	}
	kept := func() bool {
		t.Helper()
		if _, err := s.hmac(t.Context(), onMount, &api.PoolHMAC{Input: []byte("a")}); err != nil {
			t.Error(err)
		}
		_, ok := s.pools.Load("hmacpool/")
		return ok
	}
	if !kept() {
		t.Error("the pool is opened for every code")
	}
	s.Reset()
	if _, ok := s.pools.Load("hmacpool/"); ok {
		t.Error("the key is there after the seal")
	}
	sealing = true
	if kept() {
		t.Error("the key is there after a seal in the middle")
	}
	st, err := s.status(t.Context(), onMount, nil)
	if err != nil || !st.Sealed || st.Key != "transit/keys/pool" || !st.Usable {
		t.Errorf("%+v, %v", st, err)
	}
}
