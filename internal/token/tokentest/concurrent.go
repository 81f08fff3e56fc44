package tokentest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token"
)

// simplest returns an operation that a key of the type does on any such key.
// For RSA it is a signature.
func simplest(typ token.Type) (token.Op, token.Item) {
	in := bytes.Repeat([]byte{7}, 32)
	switch typ.Class() {
	case token.ClassAEAD:
		return sealOp, token.Item{Nonce: bytes.Repeat([]byte{9}, typ.NonceSize()), In: in}
	case token.ClassRSA:
		return token.Op{Kind: token.Sign, Scheme: token.PKCS1v15, Hash: crypto.SHA256}, token.Item{In: in}
	case token.ClassHMAC:
		return token.Op{Kind: token.MAC, Hash: crypto.SHA256}, token.Item{In: in}
	}
	return signOp, token.Item{In: in}
}

// attempt does the simplest operation.
func (k subject) attempt(t *testing.T) ([]byte, error) {
	t.Helper()
	op, it := simplest(k.typ)
	return k.try(t, op, it)
}

// works checks that the simplest operation gives a right result.
func (k subject) works(t *testing.T) {
	t.Helper()
	out, err := k.attempt(t)
	if err != nil {
		t.Fatalf("%s: %v", k.typ, err)
	}
	if err := k.check(t, out); err != nil {
		t.Error(err)
	}
}

// check tells what is wrong with a result of the simplest operation.
func (k subject) check(t *testing.T, out []byte) error {
	t.Helper()
	_, it := simplest(k.typ)
	ok := true
	switch k.typ.Class() {
	case token.ClassAEAD:
		items := []token.Item{{Nonce: it.Nonce, In: out}}
		if err := k.Do(k.s.context(t), openOp, items); err != nil {
			return err
		}
		ok = items[0].Err == nil && bytes.Equal(items[0].Out, it.In)
	case token.ClassEd25519:
		ok = ed25519.Verify(publicKey[ed25519.PublicKey](t, k), it.In, out)
	case token.ClassECDSA:
		k.verifyECDSA(t, it.In, out)
	case token.ClassRSA:
		ok = rsa.VerifyPKCS1v15(publicKey[*rsa.PublicKey](t, k), crypto.SHA256, it.In, out) == nil
	case token.ClassHMAC:
		again, err := k.attempt(t)
		ok = err == nil && bytes.Equal(again, out)
	}
	if !ok {
		return fmt.Errorf("%s: the result %x is wrong", k.typ, out)
	}
	return nil
}

// keptKey is a key with something that it made, to check after a new login.
type keptKey struct {
	token.Stored
	made []byte
}

func (s *suite) keep(t *testing.T, k subject, stored token.Stored) {
	t.Helper()
	made, err := k.attempt(t)
	must(t, err)
	if k.typ.Class() == token.ClassRSA {
		made, err = rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, publicKey[*rsa.PublicKey](t, k), []byte("kept"), nil)
		must(t, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, keptKey{stored, made})
}

// again checks that the key is the one that it was.
func (k keptKey) again(t *testing.T, now subject) {
	now.works(t)
	switch {
	case k.Type.Class() == token.ClassRSA:
		op := token.Op{Kind: token.Decrypt, Scheme: token.OAEP, Hash: crypto.SHA256}
		wantEqual(t, "decrypted", now.one(t, op, token.Item{In: k.made}), []byte("kept"))
	case k.Type.Class() == token.ClassECDSA:
		must(t, now.check(t, k.made))
	default:
		must(t, now.check(t, k.made))
		out, err := now.attempt(t)
		must(t, err)
		wantEqual(t, "deterministic result", out, k.made)
	}
}

// testBatch mixes good and bad items: each has its own end, in its own place.
func (s *suite) testBatch(t *testing.T, k subject) {
	op, good := simplest(k.typ)
	bad := good
	switch k.typ.Class() {
	case token.ClassAEAD:
		bad.Nonce = bad.Nonce[1:]
	case token.ClassECDSA:
		bad.In = nil
	case token.ClassRSA:
		bad.In = bad.In[1:]
	default:
		bad = good // every input is good
	}
	n := 60
	if k.typ.Class() == token.ClassRSA {
		n = 9
	}
	items := make([]token.Item, n)
	for i := range items {
		if items[i] = good; i%3 == 1 {
			items[i] = bad
		}
		items[i].Out = []byte{byte(i)}
	}
	items = k.do(t, op, items...)
	for i, it := range items {
		if fails := i%3 == 1 && !(bytes.Equal(bad.In, good.In) && bytes.Equal(bad.Nonce, good.Nonce)); fails {
			if it.Err == nil {
				t.Errorf("item %d of a batch is bad and succeeded", i)
			}
			continue
		}
		if it.Err != nil || it.Out[0] != byte(i) {
			t.Fatalf("item %d of a batch: error %v, output %x", i, it.Err, it.Out)
		}
		if i%10 == 0 {
			must(t, k.check(t, it.Out[1:]))
		}
	}
	must(t, k.Do(s.context(t), op, nil))
}

// testContexts: a caller whose time is over gets an answer, and nobody else is harmed.
func (s *suite) testContexts(t *testing.T, tok token.Token) {
	typ, place := s.cheapest(t, tok)
	stored := s.generate(t, tok, token.Spec{Type: typ, Place: place, ID: newID()})
	k := s.subject(t, tok, stored)
	expired, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	for what, ctx := range map[string]context.Context{"cancelled": cancelled(), "expired": expired} {
		op, it := simplest(typ)
		_, err := tok.Generate(ctx, token.Spec{Type: typ, Place: place, ID: newID(), Size: stored.Size})
		_, err2 := tok.SealSecret(ctx, []byte("x"), nil)
		for call, err := range map[string]error{
			"Do": k.Do(ctx, op, []token.Item{it}), "Random": tok.Random(ctx, make([]byte, 16)),
			"Generate": err, "SealSecret": err2,
		} {
			if !errors.Is(err, token.ErrUnavailable) && !errors.Is(err, ctx.Err()) {
				t.Errorf("%s with a context that is %s: error %v", call, what, err)
			}
		}
		k.works(t)
	}
	if place == token.PlaceObject {
		must(t, tok.Destroy(s.context(t), stored))
	}
}

// cheapest returns a type and place that the token holds and is quick to make.
func (s *suite) cheapest(t *testing.T, tok token.Token) (token.Type, token.Place) {
	held := s.held(tok)
	for _, typ := range []token.Type{token.AES256, token.P256, token.HMAC, token.RSA2048} {
		if places := held[typ]; len(places) > 0 {
			return typ, places[0]
		}
	}
	t.Fatal("the token holds nothing that this suite knows")
	return 0, 0
}

// testManyAtOnce uses several keys from 16 goroutines while others are made.
func (s *suite) testManyAtOnce(t *testing.T, tok token.Token) {
	if s.Sequential {
		t.Skip("the module can't hold many keys in use at once")
	}
	held := s.held(tok)
	var keys []subject
	for _, typ := range []token.Type{token.AES256, token.P256, token.HMAC, token.Ed25519, token.RSA2048} {
		for _, place := range held[typ] {
			stored := s.generate(t, tok, token.Spec{Type: typ, Place: place, ID: newID(), Label: "many"})
			keys = append(keys, s.subject(t, tok, stored))
			defer func() { must(t, tok.Destroy(s.context(t), stored)) }()
		}
	}
	var all sync.WaitGroup
	for g := range 16 {
		all.Go(func() {
			for i := range 12 {
				k := keys[(g+i)%len(keys)]
				out, err := k.attempt(t)
				if err == nil {
					err = k.check(t, out)
				}
				if err != nil {
					t.Errorf("%s in goroutine %d: %v", k.typ, g, err)
				}
			}
			if g%4 == 0 {
				typ, place := s.cheapest(t, tok)
				stored, err := tok.Generate(s.context(t), token.Spec{Type: typ, Place: place, ID: newID(), Label: "meanwhile"})
				if err == nil {
					err = tok.Destroy(s.context(t), stored)
				}
				if err != nil {
					t.Errorf("Generate and Destroy meanwhile: %v", err)
				}
			}
		})
	}
	all.Wait()
}
