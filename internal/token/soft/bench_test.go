package soft

import (
	"context"
	"crypto"
	"fmt"
	"testing"

	"github.com/claviger/claviger/internal/token"
)

// benchmark repeats one operation with room for its result, as a server does.
func benchmark(b *testing.B, spec token.Spec, op token.Op, it token.Item) {
	secret, _, err := Engine{}.Generate(spec)
	check(b, err)
	key, err := Engine{}.Open(spec.Type, secret)
	check(b, err)
	items := []token.Item{it}
	room := make([]byte, 0, len(it.In)+1024)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.SetBytes(int64(len(it.In)))
	b.ReportAllocs()
	for b.Loop() {
		items[0].Out = room
		if err := key.Do(ctx, op, items); err != nil || items[0].Err != nil {
			b.Fatal(err, items[0].Err)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, typ := range []token.Type{token.AES128, token.AES256, token.ChaCha20, token.XChaCha20} {
		for _, n := range []int{64, 1024} {
			b.Run(fmt.Sprintf("%s/%d", typ, n), func(b *testing.B) {
				benchmark(b, token.Spec{Type: typ}, token.Op{Kind: token.Seal},
					token.Item{Nonce: make([]byte, typ.NonceSize()), In: make([]byte, n)})
			})
		}
	}
}

func BenchmarkMAC(b *testing.B) {
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA512, crypto.SHA3_256} {
		b.Run(h.String()+"/64", func(b *testing.B) {
			benchmark(b, token.Spec{Type: token.HMAC, Size: 32}, token.Op{Kind: token.MAC, Hash: h}, token.Item{In: make([]byte, 64)})
		})
	}
}

func BenchmarkSign(b *testing.B) {
	rsaOp := token.Op{Kind: token.Sign, Scheme: token.PSS, Hash: crypto.SHA256, Salt: 32}
	noSalt := rsaOp
	noSalt.Salt = 0
	for _, c := range []struct {
		name string
		typ  token.Type
		op   token.Op
	}{
		{"ecdsa-p256", token.P256, token.Op{Kind: token.Sign}},
		{"ecdsa-p384", token.P384, token.Op{Kind: token.Sign}},
		{"ed25519", token.Ed25519, token.Op{Kind: token.Sign}},
		{"rsa-2048-pss", token.RSA2048, rsaOp},
		{"rsa-2048-pss-without-salt", token.RSA2048, noSalt},
	} {
		b.Run(c.name, func(b *testing.B) { benchmark(b, token.Spec{Type: c.typ}, c.op, token.Item{In: make([]byte, 32)}) })
	}
}

// BenchmarkOpenToken is what a login costs, with Argon2id.
func BenchmarkOpenToken(b *testing.B) {
	d := fixtureDevice(readFixture(b))
	for b.Loop() {
		tok, err := d.Open(context.Background(), []byte(fixturePIN))
		check(b, err)
		check(b, tok.Close())
	}
}
