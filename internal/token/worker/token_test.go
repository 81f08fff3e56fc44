package worker

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha3"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token"
)

func TestLifeOfToken(t *testing.T) {
	t.Parallel()
	cfg := softConfig(t)
	d := newDevice(t, cfg)
	ctx := within(t)
	st, err := d.State(ctx)
	if err != nil || !st.Present || st.Initialized {
		t.Fatalf("empty module: %+v, %v", st, err)
	}
	if _, err := d.Open(ctx, []byte(testPIN)); !errors.Is(err, token.ErrAbsent) {
		t.Fatalf("opening an absent token: %v", err)
	}
	if err := d.Create(ctx, []byte(testSO), []byte(testPIN)); err != nil {
		t.Fatal(err)
	}
	if err := d.Create(ctx, []byte(testSO), []byte(testPIN)); !errors.Is(err, token.ErrExists) {
		t.Fatalf("creating twice: %v", err)
	}
	if st, err = d.State(ctx); err != nil || !st.Present || !st.Initialized || st.Label != "test" || st.Serial == "" || st.MinPIN == 0 {
		t.Fatalf("created: %+v, %v", st, err)
	}
	h := openDevice(t, d)
	if _, err := h.SealSecret(ctx, []byte("x"), nil); !errors.Is(err, token.ErrNotFound) {
		t.Fatalf("sealing without a storage key: %v", err)
	}
	if _, err := h.Generate(ctx, newSpec(token.AES256, token.PlaceWrapped)); !errors.Is(err, token.ErrNotFound) {
		t.Fatalf("wrapping without a KEK: %v", err)
	}
	if _, err := h.AuditKey(ctx); !errors.Is(err, token.ErrNotFound) {
		t.Fatalf("audit key without provisioning: %v", err)
	}
	for range 2 { // the second makes nothing
		if err := h.Provision(ctx, false); err != nil {
			t.Fatal(err)
		}
	}
	audit, err := h.AuditKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ak, err := h.Key(audit)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("checkpoint"))
	checkECDSA(t, audit.Public, digest[:], do1(t, ak, token.Op{Kind: token.Sign}, token.Item{In: digest[:]}))
	sealed, err := h.SealSecret(ctx, bytes.Repeat([]byte{7}, 64), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	info := h.Info()
	t.Logf("%+v", info)
	if info.Transferable || info.Driver != "pkcs11" || !info.Holds[token.AES256].Wrapped || info.Holds[token.Ed25519].Wrapped {
		t.Errorf("info: %+v", info)
	}
	h.Close()
	if _, err := h.SealSecret(ctx, []byte("x"), nil); !errors.Is(err, token.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	h = openDevice(t, d)
	again, err := h.AuditKey(ctx)
	if err != nil || !bytes.Equal(again.Public, audit.Public) || again.ID != audit.ID {
		t.Fatalf("audit key after reopening: %v", err)
	}
	got, err := h.OpenSecret(ctx, sealed, []byte("aad"))
	if err != nil || !bytes.Equal(got, bytes.Repeat([]byte{7}, 64)) {
		t.Fatalf("opening a secret: %x, %v", got, err)
	}
	for i := range len(sealed) * 8 {
		bad := bytes.Clone(sealed)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := h.OpenSecret(ctx, bad, []byte("aad")); !errors.Is(err, token.ErrOpen) {
			t.Fatalf("bit %d: %v", i, err)
		}
	}
	if _, err := h.OpenSecret(ctx, sealed, []byte("other")); !errors.Is(err, token.ErrOpen) {
		t.Fatalf("other aad: %v", err)
	}
}

func parsePublic[T any](t testing.TB, der []byte) T {
	t.Helper()
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	k, ok := pub.(T)
	if !ok {
		t.Fatalf("public key is a %T", pub)
	}
	return k
}

func checkECDSA(t testing.TB, der, digest, sig []byte) {
	t.Helper()
	pub := parsePublic[*ecdsa.PublicKey](t, der)
	n := (pub.Params().BitSize + 7) / 8
	if len(sig) != 2*n {
		t.Fatalf("signature of %d bytes", len(sig))
	}
	if !ecdsa.Verify(pub, digest, new(big.Int).SetBytes(sig[:n]), new(big.Int).SetBytes(sig[n:])) {
		t.Fatal("signature does not verify")
	}
}

func places(typ token.Type) []token.Place {
	if typ == token.Ed25519 {
		return []token.Place{token.PlaceObject, token.PlaceAuto}
	}
	return []token.Place{token.PlaceWrapped, token.PlaceObject}
}

func TestEveryType(t *testing.T) {
	t.Parallel()
	h := openToken(t, softConfig(t))
	for _, typ := range token.Types() {
		if typ == token.ChaCha20 || typ == token.XChaCha20 {
			if _, err := h.Generate(within(t), newSpec(typ, token.PlaceAuto)); !errors.Is(err, token.ErrUnsupported) {
				t.Errorf("%v: %v", typ, err)
			}
			continue
		}
		for _, place := range places(typ) {
			st, k := generate(t, h, typ, place)
			if place != token.PlaceAuto && st.Place != place || place == token.PlaceAuto && st.Place != token.PlaceObject {
				t.Errorf("%v: place %v instead of %v", typ, st.Place, place)
			}
			exercise(t, st, k)
			if err := h.Destroy(within(t), st); err != nil {
				t.Errorf("destroying %v: %v", typ, err)
			}
			if err := h.Destroy(within(t), st); err != nil {
				t.Errorf("destroying %v again: %v", typ, err)
			}
			if st.Place == token.PlaceObject {
				op := token.Op{Kind: token.Sign, Scheme: token.PKCS1v15}
				if typ.Class() == token.ClassAEAD {
					op = token.Op{Kind: token.Seal}
				} else if typ.Class() == token.ClassHMAC {
					op = token.Op{Kind: token.MAC, Hash: crypto.SHA256}
				}
				err := k.Do(within(t), op, []token.Item{{In: []byte("x"), Nonce: make([]byte, 12)}})
				if !errors.Is(err, token.ErrNotFound) {
					t.Errorf("using a destroyed %v: %v", typ, err)
				}
			}
		}
	}
	if _, err := h.Generate(within(t), newSpec(token.Ed25519, token.PlaceWrapped)); !errors.Is(err, token.ErrUnsupported) {
		t.Errorf("wrapped Ed25519: %v", err)
	}
}

func exercise(t *testing.T, st token.Stored, k token.Key) {
	t.Helper()
	switch st.Type.Class() {
	case token.ClassAEAD:
		exerciseAEAD(t, k)
	case token.ClassECDSA:
		for _, n := range []int{20, 32, 48, 64} {
			digest := make([]byte, n)
			rand.Read(digest)
			checkECDSA(t, st.Public, digest, do1(t, k, token.Op{Kind: token.Sign}, token.Item{In: digest}))
		}
	case token.ClassEd25519:
		for _, msg := range []string{"", "message"} {
			sig := do1(t, k, token.Op{Kind: token.Sign}, token.Item{In: []byte(msg)})
			if !ed25519.Verify(parsePublic[ed25519.PublicKey](t, st.Public), []byte(msg), sig) {
				t.Error("Ed25519 signature does not verify")
			}
		}
	case token.ClassHMAC:
		msg := []byte("message")
		a := do1(t, k, token.Op{Kind: token.MAC, Hash: crypto.SHA256}, token.Item{In: msg, Out: []byte("prefix")})
		b := do1(t, k, token.Op{Kind: token.MAC, Hash: crypto.SHA256}, token.Item{In: msg, Out: []byte("prefix")})
		if len(a) != 6+32 || !bytes.Equal(a, b) {
			t.Errorf("HMAC: %x, %x", a, b)
		}
	case token.ClassRSA:
		exerciseRSA(t, st, k)
	}
}

func exerciseAEAD(t *testing.T, k token.Key) {
	t.Helper()
	nonce := make([]byte, 12)
	rand.Read(nonce)
	for _, n := range []int{0, 1, 16, 1000, 100_000} {
		for _, aad := range []string{"", "associated"} {
			plain := make([]byte, n)
			rand.Read(plain)
			ct := do1(t, k, token.Op{Kind: token.Seal}, token.Item{Nonce: nonce, AAD: []byte(aad), In: plain})
			if len(ct) != n+16 {
				t.Fatalf("ciphertext of %d bytes has %d", n, len(ct))
			}
			got := do1(t, k, token.Op{Kind: token.Open}, token.Item{Nonce: nonce, AAD: []byte(aad), In: ct})
			if !bytes.Equal(got, plain) {
				t.Fatalf("%d bytes do not come back", n)
			}
			ct[len(ct)-1] ^= 1
			items := []token.Item{
				{Nonce: nonce, AAD: []byte(aad), In: ct},
				{Nonce: nonce, AAD: []byte("wrong"), In: ct},
				{Nonce: nonce, In: ct[:15]},
				{Nonce: nonce[:11], In: ct},
			}
			if err := k.Do(within(t), token.Op{Kind: token.Open}, items); err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				if !errors.Is(items[i].Err, token.ErrOpen) {
					t.Errorf("forgery %d: %v", i, items[i].Err)
				}
			}
			if items[3].Err == nil || errors.Is(items[3].Err, token.ErrOpen) {
				t.Errorf("short nonce: %v", items[3].Err)
			}
		}
	}
}

func exerciseRSA(t *testing.T, st token.Stored, k token.Key) {
	t.Helper()
	pub := parsePublic[*rsa.PublicKey](t, st.Public)
	if pub.N.BitLen() != st.Type.Bits() {
		t.Fatalf("%d bits", pub.N.BitLen())
	}
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA512, crypto.SHA3_256} {
		f := h.New()
		f.Write([]byte("message"))
		digest := f.Sum(nil)
		if h != crypto.SHA3_256 {
			sig := do1(t, k, token.Op{Kind: token.Sign, Scheme: token.PKCS1v15, Hash: h}, token.Item{In: digest})
			if err := rsa.VerifyPKCS1v15(pub, h, digest, sig); err != nil {
				t.Errorf("PKCS#1 v1.5 %v: %v", h, err)
			}
		}
		for _, salt := range []int{0, h.Size(), 40} {
			sig := do1(t, k, token.Op{Kind: token.Sign, Scheme: token.PSS, Hash: h, Salt: salt}, token.Item{In: digest})
			if err := rsa.VerifyPSS(pub, h, digest, sig, &rsa.PSSOptions{SaltLength: salt}); err != nil {
				t.Errorf("PSS %v salt %d: %v", h, salt, err)
			}
		}
		for _, label := range []string{"", "label"} {
			ct, err := rsa.EncryptOAEP(h.New(), rand.Reader, pub, []byte("plain"), []byte(label))
			if err != nil {
				t.Fatal(err)
			}
			op := token.Op{Kind: token.Decrypt, Scheme: token.OAEP, Hash: h}
			if got := do1(t, k, op, token.Item{In: ct, AAD: []byte(label)}); string(got) != "plain" {
				t.Errorf("OAEP %v: %q", h, got)
			}
			items := []token.Item{{In: ct, AAD: []byte("other")}, {In: ct[1:]}, {In: bytes.Repeat([]byte{0xFF}, len(ct))}, {In: make([]byte, len(ct))}}
			if err := k.Do(within(t), op, items); err != nil {
				t.Fatal(err)
			}
			for i := range items {
				if items[i].Err != token.ErrOpen {
					t.Errorf("OAEP %v forgery %d: %v", h, i, items[i].Err)
				}
			}
		}
	}
	raw := do1(t, k, token.Op{Kind: token.Sign, Scheme: token.PKCS1v15}, token.Item{In: []byte("raw")})
	if err := rsa.VerifyPKCS1v15(pub, 0, []byte("raw"), raw); err != nil {
		t.Errorf("PKCS#1 v1.5 without a hash: %v", err)
	}
}

func TestBatches(t *testing.T) {
	t.Parallel()
	cfg := softConfig(t)
	cfg.CacheKeys = 3
	h := openToken(t, cfg)
	for range 5 { // more keys than a worker keeps
		_, k := generate(t, h, token.AES256, token.PlaceWrapped)
		items := make([]token.Item, 1000)
		for i := range items {
			items[i] = token.Item{Nonce: make([]byte, 12), In: bytes.Repeat([]byte{byte(i)}, i%70), Out: []byte{1, 2}}
			items[i].Nonce[0], items[i].Nonce[1] = byte(i), byte(i>>8)
		}
		if err := k.Do(within(t), token.Op{Kind: token.Seal}, items); err != nil {
			t.Fatal(err)
		}
		back := make([]token.Item, len(items))
		for i := range items {
			back[i] = token.Item{Nonce: items[i].Nonce, In: items[i].Out[2:]}
		}
		back[500].In = bytes.Clone(back[500].In)
		back[500].In[0] ^= 1
		if err := k.Do(within(t), token.Op{Kind: token.Open}, back); err != nil {
			t.Fatal(err)
		}
		for i := range back {
			if i == 500 {
				if back[i].Err != token.ErrOpen {
					t.Errorf("forged item: %v", back[i].Err)
				}
			} else if back[i].Err != nil || !bytes.Equal(back[i].Out, items[i].In) {
				t.Fatalf("item %d: %v", i, back[i].Err)
			}
		}
	}
}

func TestBlob(t *testing.T) {
	t.Parallel()
	h := openToken(t, softConfig(t))
	st, _ := generate(t, h, token.P256, token.PlaceWrapped)
	digest := sha512.Sum512([]byte("x"))
	for i := range len(st.Blob) {
		bad := st
		bad.Blob = bytes.Clone(st.Blob)
		bad.Blob[i] ^= 1
		k, err := h.Key(bad)
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Do(within(t), token.Op{Kind: token.Sign}, []token.Item{{In: digest[:]}}); !errors.Is(err, token.ErrBlob) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
}

func TestSmallHMACKey(t *testing.T) {
	t.Parallel()
	h := openToken(t, softConfig(t))
	s := newSpec(token.HMAC, token.PlaceAuto)
	s.Size = 32
	st, err := h.Generate(within(t), s)
	if err != nil {
		t.Fatal(err)
	}
	k, _ := h.Key(st)
	do1(t, k, token.Op{Kind: token.MAC, Hash: crypto.SHA256}, token.Item{In: []byte("m")})
	err = k.Do(within(t), token.Op{Kind: token.MAC, Hash: crypto.SHA512}, []token.Item{{In: []byte("m")}})
	if !errors.Is(err, token.ErrUnsupported) {
		t.Errorf("SHA-512 with a key of 32 bytes: %v", err)
	}
}

func TestRandom(t *testing.T) {
	t.Parallel()
	h := openToken(t, softConfig(t))
	a, b := make([]byte, 200_000), make([]byte, 200_000)
	if err := errors.Join(h.Random(within(t), a), h.Random(within(t), b)); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a[:32], b[:32]) || bytes.Equal(a[len(a)-32:], make([]byte, 32)) {
		t.Error("not random")
	}
}

func TestGenerateAgain(t *testing.T) {
	t.Parallel()
	h := openToken(t, softConfig(t))
	s := newSpec(token.P256, token.PlaceObject)
	first, err := h.Generate(within(t), s)
	if err != nil {
		t.Fatal(err)
	}
	second, err := h.Generate(within(t), s)
	if err != nil || bytes.Equal(first.Public, second.Public) {
		t.Fatalf("the second call made no new key: %v", err)
	}
	k, _ := h.Key(second)
	digest := sha256.Sum256(nil)
	checkECDSA(t, second.Public, digest[:], do1(t, k, token.Op{Kind: token.Sign}, token.Item{In: digest[:]}))
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	h := openToken(t, softConfig(t))
	_, k := generate(t, h, token.P256, token.PlaceWrapped)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 50 {
		err := k.Do(ctx, token.Op{Kind: token.Sign}, []token.Item{{In: make([]byte, 32)}})
		if !errors.Is(err, token.ErrUnavailable) {
			t.Fatalf("cancelled: %v", err)
		}
	}
	do1(t, k, token.Op{Kind: token.Sign}, token.Item{In: make([]byte, 32)})
}

// TestObjectsAtOnce makes, uses and destroys token objects from many goroutines:
// every worker has to see what another has just made.
func TestObjectsAtOnce(t *testing.T) {
	t.Parallel()
	cfg := softConfig(t)
	cfg.Workers = 4
	h := openToken(t, cfg)
	waitWorkers(t, h)
	ctx := contextOf(t, time.Minute)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 6 {
				st, err := h.Generate(ctx, newSpec(token.Ed25519, token.PlaceObject))
				if err != nil {
					t.Error(err)
					return
				}
				k, err := h.Key(st)
				if err != nil {
					t.Error(err)
					return
				}
				var users sync.WaitGroup
				for range 8 {
					users.Go(func() {
						items := make([]token.Item, 64)
						if err := k.Do(ctx, token.Op{Kind: token.Sign}, items); err != nil {
							t.Error(err)
						}
					})
				}
				users.Wait()
				if err := h.Destroy(ctx, st); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
}
