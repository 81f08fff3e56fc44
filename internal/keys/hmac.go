package keys

import (
	"context"
	"crypto"
	"crypto/hmac"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/token"
)

// hmac computes one code or a batch: with the key itself for type hmac, else
// with the HMAC secret that every version has beside the key. A batch always
// succeeds as a whole; its items say how they fared.
func (s *Service) hmac(ctx context.Context, c *op.Call, r *api.HMAC) (*api.HMACResult, error) {
	k, err := s.findThis(ctx, c.Mount, r.Name, r.KeyID, msgNoEncryptionKey)
	if err != nil {
		return nil, err
	}
	hash, err := macHash(r.URLAlgorithm, r.Algorithm)
	if err != nil {
		return nil, err
	}
	sc, err := inputs(k, r.Input, r.BatchInput, r.KeyVersion, "HMAC", macInput)
	if err != nil {
		return nil, err
	}
	defer sc.giveBack()
	err = s.macItems(ctx, k, hash, sc, func(prefix string, at []int) {
		size := 0
		for _, i := range at {
			size += textLen(prefix, len(sc.work[i].out))
		}
		sc.writeTexts(prefix, at, size)
	})
	if err != nil {
		return nil, err
	}
	if r.BatchInput == nil {
		if err := sc.work[0].err; err != nil {
			return nil, err
		}
		return &api.HMACResult{HMAC: sc.work[0].text}, nil
	}
	results := make([]api.HMACItemResult, len(sc.work))
	for i := range sc.work {
		results[i].Reference = r.BatchInput[i].Reference
		if err := sc.work[i].err; err != nil {
			results[i].Error = itemText(err)
			continue
		}
		results[i].HMAC = sc.work[i].text
	}
	return &api.HMACResult{BatchResults: results}, nil
}

func macHash(names ...string) (crypto.Hash, error) {
	hash, err := parseHash(names...)
	if err == nil && hash == noHash {
		return 0, invalid("unsupported algorithm \"none\" for an HMAC: it is %s", hashNames)
	}
	return hash, err
}

func macInput(input []byte) ([]byte, error) {
	if input == nil {
		return nil, invalid("missing input for HMAC")
	}
	return input, nil
}

// macItems leaves the code of every item in out, and calls done for the items
// of each version.
func (s *Service) macItems(ctx context.Context, k *key, hash crypto.Hash, sc *scratch, done func(prefix string, at []int)) error {
	return sc.byVersion(func(n int, at []int) error {
		v, err := s.version(ctx, k, n)
		if err != nil {
			return sc.failAll(at, err)
		}
		if v.mac == nil {
			return sc.failAll(at, invalid("version %d of the key has no HMAC secret: the HSM token can't hold one", n).
				WithHint("a key with protection=software can be used for this"))
		}
		items := sc.tokenItems(len(at))
		for j, i := range at {
			items[j].In = sc.work[i].in
		}
		if err := s.run(ctx, sc, k.name, v.mac, token.Op{Kind: token.MAC, Hash: hash}, items, at, "compute an HMAC with this hash"); err != nil {
			return err
		}
		done(v.prefix, at)
		return nil
	})
}

// verifyMACs computes the codes anew and compares them in constant time.
func (s *Service) verifyMACs(ctx context.Context, k *key, r *api.Verify, items []api.VerifyItem, results []api.VerifiedResult, errs []error) error {
	hash, err := macHash(r.URLHash, r.HashAlgorithm, r.Algorithm)
	if err != nil {
		return err
	}
	sc := borrow(len(items))
	defer sc.giveBack()
	given := make([][]byte, len(items))
	for i := range items {
		w := &sc.work[i]
		if w.err = unreadable(&items[i].BatchItem); w.err == nil {
			w.version, given[i], w.err = k.parseMAC(items[i].HMAC)
		}
		if w.err == nil {
			w.in, w.err = macInput(items[i].Input)
		}
	}
	if err := s.macItems(ctx, k, hash, sc, func(string, []int) {}); err != nil {
		return err
	}
	for i := range items {
		w := &sc.work[i]
		errs[i] = w.err
		results[i].Valid = w.err == nil && hmac.Equal(w.out, given[i])
	}
	return nil
}

// parseMAC reads the text of an HMAC of this key.
func (k *key) parseMAC(text string) (int, []byte, error) {
	n, payload, err := parseText(text, "HMAC")
	if err == nil {
		err = k.forOld(n, "HMAC")
	}
	if err != nil {
		return 0, nil, err
	}
	code, ok := decodeBase64(strictBase64, nil, payload)
	if !ok {
		return 0, nil, invalid("invalid HMAC: could not decode base64")
	}
	return n, code, nil
}
