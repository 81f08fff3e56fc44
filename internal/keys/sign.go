package keys

import (
	"context"
	"encoding/base64"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/token"
)

// sign signs one input or a batch. A batch always succeeds as a whole; its
// items say how they fared.
func (s *Service) sign(ctx context.Context, c *op.Call, r *api.Sign) (*api.Signature, error) {
	k, err := s.findThis(ctx, c.Mount, r.Name, r.KeyID, msgNoSigningKey)
	if err != nil {
		return nil, err
	}
	if !canSign(k.meta.Type) {
		return nil, invalid("key type %v does not support signing", k.meta.Type)
	}
	if err := k.meta.PKCS11.maySign(r.Name); err != nil {
		return nil, err
	}
	sch, err := parseScheme(k.meta.Type, schemeFields{
		urlHash: r.URLHash, hash: r.HashAlgorithm, algorithm: r.Algorithm, prehashed: r.Prehashed,
		signature: r.SignatureAlgorithm, marshaling: r.MarshalingAlgorithm, saltLength: r.SaltLength,
	})
	if err != nil {
		return nil, err
	}
	sc, err := inputs(k, r.Input, r.BatchInput, r.KeyVersion, "signing", sch.toSign)
	if err != nil {
		return nil, err
	}
	defer sc.giveBack()
	sc.takeContexts(k, r)
	if err := s.signItems(ctx, k, &sch, sc); err != nil {
		return nil, err
	}
	if r.BatchInput == nil {
		w := &sc.work[0]
		if w.err != nil {
			return nil, w.err
		}
		return &api.Signature{Signature: w.text, KeyVersion: w.version, PublicKey: w.public}, nil
	}
	return &api.Signature{BatchResults: sc.signatures(r.BatchInput)}, nil
}

func (sc *scratch) signatures(items []api.InputItem) []api.SignatureResult {
	results := make([]api.SignatureResult, len(sc.work))
	for i := range sc.work {
		w := &sc.work[i]
		results[i].Reference = items[i].Reference
		if w.err != nil {
			results[i].Error = itemText(w.err)
			continue
		}
		results[i].Signature, results[i].KeyVersion, results[i].PublicKey = w.text, w.version, w.public
	}
	return results
}

// inputs moves the input of a request, or of its batch, into work for one key
// version; prepare turns an input into what the key works on. doing is the
// word for it in messages.
func inputs(k *key, input []byte, batch []api.InputItem, version int, doing string, prepare func([]byte) ([]byte, error)) (*scratch, error) {
	if batch != nil && len(batch) == 0 {
		return nil, invalid(msgEmptyBatch)
	}
	v, err := k.forNew(version, doing)
	if err != nil {
		return nil, err
	}
	if batch == nil {
		in, err := prepare(input)
		if err != nil {
			return nil, err
		}
		sc := borrow(1)
		sc.work[0] = work{version: v, in: in}
		return sc, nil
	}
	sc := borrow(len(batch))
	for i := range batch {
		w := &sc.work[i]
		w.version = v
		if w.err = unreadable(&batch[i].BatchItem); w.err == nil {
			w.in, w.err = prepare(batch[i].Input)
		}
	}
	return sc, nil
}

func (s *Service) signItems(ctx context.Context, k *key, sch *scheme, sc *scratch) error {
	return sc.byVersion(func(n int, at []int) error {
		v, err := s.version(ctx, k, n)
		if err != nil {
			return sc.failAll(at, err)
		}
		return s.withKey(ctx, k.name, v, sc, at, func(main token.Key, _ []byte, at []int) error {
			return s.signWith(ctx, k.name, v.prefix, main, sch, sc, at)
		})
	})
}

// signWith signs with one key.
func (s *Service) signWith(ctx context.Context, n keyName, prefix string, main token.Key, sch *scheme, sc *scratch, at []int) error {
	items := sc.tokenItems(len(at))
	for j, i := range at {
		items[j].In = sc.work[i].in
	}
	if err := s.run(ctx, sc, n, main, sch.op(), items, at, "sign"); err != nil {
		return err
	}
	derived, _ := main.(*derivedSigner)
	for _, i := range at {
		w := &sc.work[i]
		if w.err == nil {
			w.text, w.err = sch.encode(prefix, w.out)
		}
		if derived != nil {
			w.public = derived.public()
		}
	}
	return nil
}

// encode is the text of a signature as the token made it.
func (sch *scheme) encode(prefix string, sig []byte) (string, error) {
	if sch.jws {
		return prefix + base64.RawURLEncoding.EncodeToString(sig), nil
	}
	if sch.typ.Class() == token.ClassECDSA {
		if len(sig) != 2*scalarSize(sch.typ) {
			return "", fault.New(fault.Internal, "the HSM token made an ECDSA signature of %d bytes", len(sig))
		}
		der, err := ecdsaDER(sig)
		if err != nil {
			return "", fault.Wrap(fault.Internal, err, "can't encode the signature")
		}
		sig = der
	}
	return prefix + base64.StdEncoding.EncodeToString(sig), nil
}
