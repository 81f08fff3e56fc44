package hmacpool

import (
	"context"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

// maxBatch bounds the items of a batch.
const maxBatch = 10_000

// hmac computes one code or a batch, whose items say how they fared.
func (s *Service) hmac(ctx context.Context, c *op.Call, r *api.PoolHMAC) (*api.PoolCodes, error) {
	switch {
	case len(r.BatchInput) > maxBatch:
		return nil, fault.New(fault.Invalid, "batch_input has %d items; it may have %d", len(r.BatchInput), maxBatch)
	case r.BatchInput != nil && len(r.BatchInput) == 0:
		return nil, fault.New(fault.Invalid, "batch_input is empty")
	case r.BatchInput == nil && len(r.Input) == 0:
		return nil, errNoInput
	}
	p, err := s.pool(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	if r.BatchInput != nil {
		return s.batch(ctx, p, r.BatchInput)
	}
	code, err := p.code(nil, r.Input)
	if err != nil {
		return nil, err
	}
	return &api.PoolCodes{HMAC: code}, nil
}

var errNoInput = fault.New(fault.Invalid, "missing input: a message of one byte or more")

func (s *Service) batch(ctx context.Context, p *pool, items []api.PoolItem) (*api.PoolCodes, error) {
	results := make([]api.PoolCode, len(items))
	codes := make([]byte, 0, len(items)*SecretSize)
	for i, item := range items {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		results[i].Reference = item.Reference
		if len(item.Input) == 0 {
			results[i].Error = errNoInput.Msg
			continue
		}
		all, err := p.code(codes, item.Input)
		if err != nil {
			s.log.Error("a code of a batch failed", "error", err)
			results[i].Error = fault.Message(err)
			continue
		}
		results[i].HMAC, codes = all[len(codes):len(all):len(all)], all
	}
	return &api.PoolCodes{BatchResults: results}, nil
}
