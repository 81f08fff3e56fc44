package keys

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

func (e *env) sealOnce(name string, n int) error {
	r := &api.Encrypt{Name: name}
	for range n {
		r.BatchInput = append(r.BatchInput, api.EncryptItem{Plaintext: []byte("x")})
	}
	_, err := e.encrypt(bg, call(), r)
	return err
}

// Never more seals than the limit, by any mixture of batches, goroutines and
// restarts; and after a rotation there are new ones.
func TestSealLimit(t *testing.T) {
	t.Parallel()
	for _, typ := range []string{"aes256-gcm96", "aes128-gcm96", "chacha20-poly1305"} {
		e := newEnv(t, false)
		limits := sealLimits{total: 1000, firstBlock: 8, lastBlock: 64}
		e.limits = limits
		e.make("k", typ)
		var done atomic.Int64
		for range 4 {
			var wg sync.WaitGroup
			for n := 1; n <= 4; n++ {
				wg.Go(func() {
					for range 50 {
						err := e.sealOnce("k", n)
						if err == nil {
							done.Add(int64(n))
						} else if fault.KindOf(err) != fault.Exhausted {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			e.restart()
			e.limits = limits
		}
		if n := done.Load(); n > 1000 || n < 700 {
			t.Errorf("%s: %d seals of 1000", typ, n)
		}
		err := e.sealOnce("k", 1000)
		wantFault(t, err, fault.Exhausted, "rotate the key with keys/k/rotate")
		e.rotateNow("k")
		must(t, e.sealOnce("k", 5))
	}
}

func TestNoSealLimit(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.limits = sealLimits{total: 10, firstBlock: 1, lastBlock: 1}
	e.make("x", "xchacha20-poly1305")
	e.make("r", "rsa-2048")
	must(t, e.sealOnce("x", 50))
	must(t, e.sealOnce("r", 20))
	if e.count(tableCounters) != 0 {
		t.Error("a counter was written")
	}
}

// A refused batch counts nothing, and what is left can still be used.
func TestSealLimitExact(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.limits = sealLimits{total: 10, firstBlock: 100, lastBlock: 100}
	e.make("k", "")
	must(t, e.sealOnce("k", 7))
	wantFault(t, e.sealOnce("k", 4), fault.Exhausted, "10 encryptions")
	must(t, e.sealOnce("k", 3))
	wantFault(t, e.sealOnce("k", 1), fault.Exhausted, "rotate")
	_, err := e.dataKey(bg, call(), &api.DataKey{Kind: "wrapped", Name: "k"})
	wantFault(t, err, fault.Exhausted, "rotate")
}

// Reservations double, and are made before they are needed.
func TestReservations(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.limits = sealLimits{total: 1 << 20, firstBlock: 16, lastBlock: 1024}
	e.make("k", "")
	must(t, e.sealOnce("k", 1))
	v, err := e.version(bg, e.cache.get(keyName{"transit/", "k"}), 1)
	must(t, err)
	var r counterRecord
	reserved := func() uint64 {
		_, err := e.sealed.Get(bg, tableCounters, counterKey(v.seals.keyID, 1), &r)
		must(t, err)
		return r.Reserved
	}
	if n := reserved(); n != 16 {
		t.Fatalf("%d reserved", n)
	}
	must(t, e.sealOnce("k", 8)) // below half
	for deadline := time.Now().Add(10 * time.Second); reserved() != 16+32; {
		if time.Now().After(deadline) {
			t.Fatalf("%d reserved", reserved())
		}
		time.Sleep(time.Millisecond)
	}
	for range 200 {
		must(t, e.sealOnce("k", 100))
	}
	if n := reserved(); n < 20009 || n > 20009+2*1024+200 {
		t.Errorf("%d reserved for 20009 seals", n)
	}
}

// Without the store nothing is sealed that was not reserved.
func TestCountBeforeUse(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	e.limits = sealLimits{total: 1000, firstBlock: 4, lastBlock: 4}
	e.make("k", "")
	must(t, e.sealOnce("k", 1))
	e.db.hook(func(int64) (before, after error) { return fault.New(fault.Unavailable, "the disk is full"), nil })
	done := 1
	for range 10 {
		if err := e.sealOnce("k", 1); err == nil {
			done++
		} else {
			wantFault(t, err, fault.Unavailable, "the disk is full")
		}
	}
	if done != 4 {
		t.Errorf("%d seals of 4 reserved", done)
	}
	e.db.hook(nil)
	must(t, e.sealOnce("k", 1))
}
