package keys

import (
	"context"

	"github.com/claviger/claviger/internal/token"
)

// open decrypts texts[i] into the out of item i, for every item that has not
// failed. The plaintexts are parts of a buffer of their own. The error
// concerns the whole call.
func (s *Service) open(ctx context.Context, k *key, sc *scratch, texts func(i int) string) error {
	size := 0
	for i := range sc.work {
		if sc.work[i].err == nil {
			size += len(texts(i)) // more than the decoded payload
		}
	}
	raw := sc.room(size)[:0]
	for i := range sc.work {
		if w := &sc.work[i]; w.err == nil {
			raw, w.err = k.parse(w, raw, texts(i))
		}
	}
	return sc.byVersion(func(n int, at []int) error {
		v, err := s.version(ctx, k, n)
		if err != nil {
			return sc.failAll(at, err)
		}
		return s.withKey(ctx, k.name, v, sc, at, func(main token.Key, _ []byte, at []int) error {
			return s.openWith(ctx, k, main, sc, at)
		})
	})
}

// parse reads a ciphertext into w; the payload is appended to raw.
func (k *key) parse(w *work, raw []byte, text string) ([]byte, error) {
	if text == "" {
		return raw, invalid(msgNoCiphertext)
	}
	n, payload, err := parseText(text, "ciphertext")
	if err == nil {
		err = k.forOld(n, "ciphertext")
	}
	if err == nil {
		err = noAAD(k.meta.Type, w.aad)
	}
	if err == nil {
		err = k.checkContext(w.context)
	}
	if err != nil {
		return raw, err
	}
	start := len(raw)
	raw, ok := decodeBase64(strictBase64, raw, payload)
	if !ok {
		return raw[:start], invalid("invalid ciphertext: could not decode base64")
	}
	w.version, w.in = n, raw[start:len(raw):len(raw)]
	if k.meta.Type.Class() == token.ClassAEAD && len(w.in) < k.meta.Type.NonceSize()+aeadTag {
		return raw, invalid("invalid ciphertext: too short")
	}
	return raw, nil
}

func (s *Service) openWith(ctx context.Context, k *key, main token.Key, sc *scratch, at []int) error {
	o := token.Op{Kind: token.Open}
	nonce := k.meta.Type.NonceSize()
	if k.meta.Type.Class() == token.ClassRSA {
		o = token.Op{Kind: token.Decrypt, Scheme: token.OAEP, Hash: oaep}
	}
	size := 0
	for _, i := range at {
		size += len(sc.work[i].in) - nonce
	}
	out := make([]byte, size)
	items := sc.tokenItems(len(at))
	for j, i := range at {
		w := &sc.work[i]
		n := len(w.in) - nonce
		items[j] = token.Item{Nonce: w.in[:nonce], AAD: w.aad, In: w.in[nonce:], Out: out[:0:n]}
		out = out[n:]
	}
	return s.run(ctx, sc, k.name, main, o, items, at, "decrypt")
}
