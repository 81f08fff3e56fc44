package keys

import (
	"context"
	"errors"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

func (s *Service) encryptExists(ctx context.Context, c *op.Call, r *api.Encrypt) (bool, error) {
	return s.exists(ctx, keyName{c.Mount, r.Name})
}

// encrypt encrypts one plaintext or a batch. Where there is no key and the
// caller may create one, it is made first: clients such as SOPS rely on it.
func (s *Service) encrypt(ctx context.Context, c *op.Call, r *api.Encrypt) (*api.Encrypted, error) {
	if err := checkPartial(r.PartialFailure); err != nil {
		return nil, err
	}
	sc, err := plaintexts(r)
	if err != nil {
		return nil, err
	}
	defer sc.giveBack()
	k, err := s.key(ctx, keyName{c.Mount, r.Name})
	if errors.Is(err, errNoKey) {
		k, err = s.upsert(ctx, c, r, sc)
	}
	if err == nil {
		err = k.usable()
	}
	if err == nil {
		err = checkCanEncrypt(k.meta.Type, "encryption")
	}
	if err == nil {
		err = s.seal(ctx, k, sc)
	}
	if err != nil {
		return nil, err
	}
	if r.BatchInput == nil {
		return sc.encrypted()
	}
	out := &api.Encrypted{Status: sc.batchStatus(r.PartialFailure)}
	out.BatchResults = sc.encryptedBatch(func(i int) string { return r.BatchInput[i].Reference })
	return out, nil
}

// plaintexts moves the request's plaintexts into work.
func plaintexts(r *api.Encrypt) (*scratch, error) {
	if r.BatchInput == nil {
		if r.Plaintext == nil {
			return nil, invalid(msgNoPlaintext)
		}
		sc := borrow(1)
		sc.work[0] = work{version: r.KeyVersion, in: r.Plaintext, aad: r.AssociatedData, context: r.Context}
		return sc, nil
	}
	if len(r.BatchInput) == 0 {
		return nil, invalid(msgEmptyBatch)
	}
	if err := mixedContext(len(r.BatchInput), func(i int) []byte { return r.BatchInput[i].Context }); err != nil {
		return nil, err
	}
	sc := borrow(len(r.BatchInput))
	for i := range r.BatchInput {
		item := &r.BatchInput[i]
		sc.work[i] = work{version: item.KeyVersion, in: item.Plaintext, aad: item.AssociatedData, context: item.Context}
		if sc.work[i].err = unreadable(&item.BatchItem); sc.work[i].err == nil && item.Plaintext == nil {
			sc.work[i].err = invalid(msgNoPlaintext)
		}
	}
	return sc, nil
}

// upsert makes the key that a request needs, unless the request would fail
// with any key: then nothing is made.
func (s *Service) upsert(ctx context.Context, c *op.Call, r *api.Encrypt, sc *scratch) (*key, error) {
	if !c.MayCreate {
		return nil, invalid(msgNoEncryptionKey)
	}
	if err := s.mayUpsert(ctx, c.Mount); err != nil {
		return nil, err
	}
	derived := len(sc.work[0].context) > 0 // as all items: see plaintexts
	if r.ConvergentEncryption && !derived {
		return nil, invalid("convergent encryption requires derivation to be enabled, so context is required")
	}
	p, err := s.planKey(ctx, keyName{c.Mount, r.Name}, &api.CreateKey{
		Name: r.Name, Type: r.Type, Derived: derived, ConvergentEncryption: r.ConvergentEncryption,
	})
	if err == nil {
		err = checkCanEncrypt(p.typ, "encryption")
	}
	if err != nil {
		return nil, err
	}
	unborn := &key{name: p.name, meta: keyRecord{Type: p.typ, Latest: 1, Derived: p.derived, Convergent: p.convergent}}
	var first error
	for i := range sc.work {
		w := &sc.work[i]
		err := w.err
		if err == nil {
			_, err = unborn.forNew(w.version, "encryption")
		}
		if err == nil {
			err = unborn.checkSealed(w)
		}
		if err == nil {
			k, _, err := s.create(ctx, p)
			return k, err
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// encrypted is the answer of a request without a batch.
func (sc *scratch) encrypted() (*api.Encrypted, error) {
	w := &sc.work[0]
	if w.err != nil {
		return nil, w.err
	}
	return &api.Encrypted{Ciphertext: w.text, KeyVersion: w.version}, nil
}

func (sc *scratch) encryptedBatch(reference func(i int) string) []api.EncryptedResult {
	results := make([]api.EncryptedResult, len(sc.work))
	for i := range sc.work {
		w := &sc.work[i]
		results[i].Reference = reference(i)
		if w.err != nil {
			results[i].Error = itemText(w.err)
			continue
		}
		results[i].Ciphertext, results[i].KeyVersion = w.text, w.version
	}
	return results
}
