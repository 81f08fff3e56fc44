package keys

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"strings"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// aeadTag is the length in bytes of the tag of every AEAD type.
const aeadTag = 16

// oaep is how every RSA key encrypts: RFC 8017 section 7.1 with SHA-256 for
// the hash and MGF1, no label.
const oaep = crypto.SHA256

func checkCanEncrypt(t token.Type, doing string) error {
	if !canEncrypt(t) {
		return invalid("message %s not supported for key type %v", doing, t)
	}
	return nil
}

// noAAD refuses associated data where nothing would authenticate it.
func noAAD(t token.Type, aad []byte) error {
	if len(aad) > 0 && t.Class() != token.ClassAEAD {
		return invalid("associated_data is not possible with key type %v; it needs an AEAD type such as aes256-gcm96", t)
	}
	return nil
}

// seal encrypts the in of every item with the version that it asks for and
// leaves the ciphertext in text. The error concerns the whole call.
func (s *Service) seal(ctx context.Context, k *key, sc *scratch) error {
	if err := k.meta.PKCS11.mayTransit(k.name.name); err != nil {
		return err
	}
	for i := range sc.work {
		w := &sc.work[i]
		if w.err == nil {
			w.version, w.err = k.forNew(w.version, "encryption")
		}
		if w.err == nil {
			w.err = k.checkSealed(w)
		}
	}
	return sc.byVersion(func(n int, at []int) error {
		v, err := s.version(ctx, k, n)
		if err != nil {
			return sc.failAll(at, err)
		}
		if pub, ok := v.public.(*rsa.PublicKey); ok {
			sc.sealRSA(v, pub, at)
			return nil
		}
		return s.sealAEAD(ctx, k, v, sc, at)
	})
}

// sealAEAD makes nonce ‖ ciphertext ‖ tag of every item in one buffer, and
// then all texts in another, of which the results are parts.
func (s *Service) sealAEAD(ctx context.Context, k *key, v *version, sc *scratch, at []int) error {
	if v.seals != nil {
		if err := v.seals.take(ctx, int64(len(at))); err != nil {
			return err
		}
	}
	return s.withKey(ctx, k.name, v, sc, at, func(main token.Key, nonceKey []byte, at []int) error {
		return s.sealWith(ctx, k, v.prefix, main, nonceKey, sc, at)
	})
}

// sealWith is sealAEAD for one key. Nonces are random, or come from the
// plaintexts if there is a nonceKey.
func (s *Service) sealWith(ctx context.Context, k *key, prefix string, main token.Key, nonceKey []byte, sc *scratch, at []int) error {
	nonce := k.meta.Type.NonceSize()
	overhead := nonce + aeadTag
	total, texts := 0, 0
	for _, i := range at {
		n := overhead + len(sc.work[i].in)
		total += n
		texts += textLen(prefix, n)
	}
	raw := sc.room(len(at)*nonce + total)
	nonces, raw := raw[:len(at)*nonce], raw[len(at)*nonce:]
	rand.Read(nonces)
	items := sc.tokenItems(len(at))
	for j, i := range at {
		w := &sc.work[i]
		n := overhead + len(w.in)
		if nonceKey != nil {
			convergentNonce(nonces[j*nonce:(j+1)*nonce], nonceKey, w.in)
		}
		out := append(raw[:0:n], nonces[j*nonce:(j+1)*nonce]...)
		items[j] = token.Item{Nonce: out, AAD: w.aad, In: w.in, Out: out}
		raw = raw[n:]
	}
	if err := s.run(ctx, sc, k.name, main, token.Op{Kind: token.Seal}, items, at, "encrypt"); err != nil {
		return err
	}
	sc.writeTexts(prefix, at, texts)
	return nil
}

// writeTexts turns the raw results into texts, which take size bytes in all.
func (sc *scratch) writeTexts(prefix string, at []int, size int) {
	var b strings.Builder
	b.Grow(size)
	for _, i := range at {
		w := &sc.work[i]
		if w.err != nil {
			continue
		}
		start := b.Len()
		writeText(&b, prefix, w.out)
		w.text = b.String()[start:]
		w.out = nil
	}
}

// sealRSA encrypts with the public key, which needs no token.
func (sc *scratch) sealRSA(v *version, pub *rsa.PublicKey, at []int) {
	longest := pub.Size() - 2*oaep.Size() - 2
	texts := 0
	for _, i := range at {
		w := &sc.work[i]
		if len(w.in) > longest {
			w.err = invalid("plaintext of %d bytes is too long: an RSA key of %d bits encrypts at most %d; encrypt a data key instead",
				len(w.in), pub.N.BitLen(), longest)
			continue
		}
		out, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, w.in, nil)
		w.out, w.err = out, fault.Wrap(fault.Internal, err, "can't encrypt")
		texts += textLen(v.prefix, len(out))
	}
	sc.writeTexts(v.prefix, at, texts)
}
