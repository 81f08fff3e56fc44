package keys

import (
	"context"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

// rewrap decrypts and encrypts again. The plaintexts stay in this process and
// are wiped. A batch always succeeds as a whole; its items say how they fared.
func (s *Service) rewrap(ctx context.Context, c *op.Call, r *api.Rewrap) (*api.Encrypted, error) {
	items := r.BatchInput
	switch {
	case items == nil && r.Ciphertext == "":
		return nil, invalid(msgNoCiphertext)
	case items == nil:
		items = []api.RewrapItem{{Ciphertext: r.Ciphertext, AssociatedData: r.AssociatedData, Context: r.Context, KeyVersion: r.KeyVersion}}
	case len(items) == 0:
		return nil, invalid(msgEmptyBatch)
	}
	if err := mixedContext(len(items), func(i int) []byte { return items[i].Context }); err != nil {
		return nil, err
	}
	k, err := s.find(ctx, c.Mount, r.Name, msgNoEncryptionKey)
	if err == nil {
		err = checkCanEncrypt(k.meta.Type, "decryption")
	}
	if err != nil {
		return nil, err
	}
	sc := borrow(len(items))
	defer sc.giveBack()
	if err := s.rewrapItems(ctx, k, sc, items); err != nil {
		return nil, err
	}
	if r.BatchInput == nil {
		return sc.encrypted()
	}
	return &api.Encrypted{BatchResults: sc.encryptedBatch(func(i int) string { return items[i].Reference })}, nil
}

func (s *Service) rewrapItems(ctx context.Context, k *key, sc *scratch, items []api.RewrapItem) error {
	for i := range items {
		sc.work[i].aad, sc.work[i].context = items[i].AssociatedData, items[i].Context
		// Whether the new version may be used is known before anything is opened.
		if sc.work[i].err = unreadable(&items[i].BatchItem); sc.work[i].err == nil {
			_, sc.work[i].err = k.forNew(items[i].KeyVersion, "encryption")
		}
	}
	err := s.open(ctx, k, sc, func(i int) string { return items[i].Ciphertext })
	plain := make([][]byte, len(sc.work))
	for i := range sc.work {
		w := &sc.work[i]
		plain[i] = w.out
		w.version, w.in, w.out = items[i].KeyVersion, w.out, nil
	}
	if err == nil {
		err = s.seal(ctx, k, sc)
	}
	for _, p := range plain {
		clear(p)
	}
	return err
}
