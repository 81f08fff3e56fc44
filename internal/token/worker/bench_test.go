package worker

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

var benchOps = []struct {
	name  string
	typ   token.Type
	op    token.Op
	item  token.Item
	batch int
}{
	{"ECDSA-P256", token.P256, token.Op{Kind: token.Sign}, token.Item{In: make([]byte, 32)}, 1},
	{"RSA-2048", token.RSA2048, token.Op{Kind: token.Sign, Scheme: token.PKCS1v15}, token.Item{In: make([]byte, 51)}, 1},
	{"AES-GCM-1K", token.AES256, token.Op{Kind: token.Seal}, token.Item{Nonce: make([]byte, 12), In: make([]byte, 1024)}, 1},
	{"AES-GCM-1K-x100", token.AES256, token.Op{Kind: token.Seal}, token.Item{Nonce: make([]byte, 12), In: make([]byte, 1024)}, 100},
}

// BenchmarkWorkers measures items per second through the worker processes, with
// one caller and with 16.
func BenchmarkWorkers(b *testing.B) {
	for _, workers := range []int{1, 2} {
		cfg := softConfig(b)
		cfg.Workers = workers
		h := openToken(b, cfg)
		for _, o := range benchOps {
			_, k := generate(b, h, o.typ, token.PlaceWrapped)
			for _, callers := range []int{1, 16} {
				b.Run(fmt.Sprintf("%s/workers=%d/callers=%d", o.name, workers, callers), func(b *testing.B) {
					var n atomic.Int64
					b.SetParallelism((callers + 1) / 2)
					if callers == 1 {
						benchDo(b, k, o.op, o.item, o.batch, func() bool { return n.Add(1) <= int64(b.N) })
					} else {
						b.RunParallel(func(pb *testing.PB) { benchDo(b, k, o.op, o.item, o.batch, pb.Next) })
					}
					b.ReportMetric(float64(b.N*o.batch)/b.Elapsed().Seconds(), "items/s")
				})
			}
		}
		h.Close()
	}
}

func benchDo(b *testing.B, k token.Key, op token.Op, item token.Item, batch int, next func() bool) {
	items := make([]token.Item, batch)
	for i := range items {
		items[i] = item
		items[i].Out = make([]byte, 0, 2048)
	}
	for next() {
		for i := range items {
			items[i].Out = items[i].Out[:0]
		}
		if err := k.Do(context.Background(), op, items); err != nil || items[0].Err != nil {
			b.Error(err, items[0].Err)
			return
		}
	}
}

// BenchmarkDirect is the same in this process, with one session.
func BenchmarkDirect(b *testing.B) {
	cfg := softConfig(b)
	d := newDevice(b, cfg)
	if err := d.Create(context.Background(), []byte(testSO), []byte(testPIN)); err != nil {
		b.Fatal(err)
	}
	os.Setenv("SOFTHSM2_CONF", cfg.Env[0][len("SOFTHSM2_CONF="):])
	p := &process{setup: setup{module: softHSM, label: "test"}, table: map[uint32]loaded{}}
	p.slow.init(p)
	var err error
	if p.mod, err = pkcs11.Open(softHSM); err != nil {
		b.Fatal(err)
	}
	if err := p.loginOnce([]byte(testPIN)); err != nil {
		b.Fatal(err)
	}
	defer p.mod.Finalize()
	for _, o := range benchOps {
		born, err := p.bear(p.keeper, o.typ, 0, birth{})
		if err != nil {
			b.Fatal(err)
		}
		k := &key{h: &hsm{mechs: p.mechs}, stored: token.Stored{Type: o.typ, Public: born.public}}
		pl, err := k.planFor(o.op)
		if err != nil {
			b.Fatal(err)
		}
		u, err := pl.prep(&o.item)
		if err != nil {
			b.Fatal(err)
		}
		in := append(slices.Clone(u.nonce), u.in...)
		b.Run(o.name, func(b *testing.B) {
			for range b.N * o.batch {
				if _, err := useOnce(p.hot, pl.op, born.secret, len(u.nonce), in, u.room); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*o.batch)/b.Elapsed().Seconds(), "items/s")
		})
	}
}
