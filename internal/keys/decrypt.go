package keys

import (
	"context"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

// decrypt decrypts one ciphertext or a batch.
func (s *Service) decrypt(ctx context.Context, c *op.Call, r *api.Decrypt) (*api.Decrypted, error) {
	if err := checkPartial(r.PartialFailure); err != nil {
		return nil, err
	}
	switch {
	case r.BatchInput == nil && r.Ciphertext == "":
		return nil, invalid(msgNoCiphertext)
	case r.BatchInput != nil && len(r.BatchInput) == 0:
		return nil, invalid(msgEmptyBatch)
	}
	if err := mixedContext(len(r.BatchInput), func(i int) []byte { return r.BatchInput[i].Context }); err != nil {
		return nil, err
	}
	k, err := s.find(ctx, c.Mount, r.Name, msgNoEncryptionKey)
	if err == nil {
		err = checkCanEncrypt(k.meta.Type, "decryption")
	}
	if err != nil {
		return nil, err
	}
	if r.BatchInput != nil {
		return s.decryptBatch(ctx, k, r)
	}
	sc := borrow(1)
	defer sc.giveBack()
	sc.work[0].aad, sc.work[0].context = r.AssociatedData, r.Context
	if err := s.open(ctx, k, sc, func(int) string { return r.Ciphertext }); err != nil {
		return nil, err
	}
	if err := sc.work[0].err; err != nil {
		return nil, err
	}
	return &api.Decrypted{Plaintext: shown(sc.work[0].out)}, nil
}

func (s *Service) decryptBatch(ctx context.Context, k *key, r *api.Decrypt) (*api.Decrypted, error) {
	sc := borrow(len(r.BatchInput))
	defer sc.giveBack()
	for i := range r.BatchInput {
		item := &r.BatchInput[i]
		sc.work[i].aad, sc.work[i].context, sc.work[i].err = item.AssociatedData, item.Context, unreadable(&item.BatchItem)
	}
	if err := s.open(ctx, k, sc, func(i int) string { return r.BatchInput[i].Ciphertext }); err != nil {
		return nil, err
	}
	results := make([]api.DecryptedResult, len(sc.work))
	for i := range sc.work {
		results[i].Reference = r.BatchInput[i].Reference
		if err := sc.work[i].err; err != nil {
			results[i].Error = itemText(err)
			continue
		}
		results[i].Plaintext = shown(sc.work[i].out)
	}
	return &api.Decrypted{BatchResults: results, Status: sc.batchStatus(r.PartialFailure)}, nil
}

// shown makes a plaintext that is there even if it is empty.
func shown(plaintext []byte) *[]byte {
	if plaintext == nil {
		plaintext = []byte{}
	}
	return &plaintext
}
