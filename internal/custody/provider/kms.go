package provider

import (
	"context"
	"errors"
	"fmt"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"google.golang.org/protobuf/proto"

	"github.com/claviger/claviger/internal/fault"
)

// KMS encrypts with a key of a cloud's key management service.
type KMS struct {
	name    string
	make    func() wrapping.Wrapper
	options map[string]string
}

// NewKMS returns a provider that uses go-kms-wrapping's wrapper "awskms", "gcpckms"
// or "azurekeyvault" with that wrapper's options. It calls nothing yet. Programs that
// were built without the tag "kms" have none of them.
func NewKMS(name string, options map[string]string) (*KMS, error) {
	newWrapper := clouds[name]
	if newWrapper == nil {
		return nil, fmt.Errorf("this program was built without the KMS provider %q: build it with -tags kms", name)
	}
	return &KMS{name: name, make: newWrapper, options: options}, nil
}

// Name returns the wrapper's name.
func (k *KMS) Name() string { return k.name }

// Seal returns the protobuf encoding of a wrapping.BlobInfo.
func (k *KMS) Seal(ctx context.Context, key []byte) ([]byte, error) {
	return k.with(ctx, func(w wrapping.Wrapper) ([]byte, error) {
		blob, err := w.Encrypt(ctx, key)
		if err != nil {
			return nil, err
		}
		return proto.Marshal(blob)
	})
}

// Open is the reverse of Seal.
func (k *KMS) Open(ctx context.Context, blob []byte) ([]byte, error) {
	var info wrapping.BlobInfo
	if err := proto.Unmarshal(blob, &info); err != nil {
		return nil, fault.Wrap(fault.Conflict, err, "what it keeps in the database was altered")
	}
	return k.with(ctx, func(w wrapping.Wrapper) ([]byte, error) { return w.Decrypt(ctx, &info) })
}

// with calls f with a wrapper that was configured for it: that reads credentials,
// which may have changed, and calls the KMS, which need not be there when the server
// starts. Wrappers do not all heed the context.
func (k *KMS) with(ctx context.Context, f func(wrapping.Wrapper) ([]byte, error)) ([]byte, error) {
	type answer struct {
		out []byte
		err error
	}
	done := make(chan answer, 1)
	go func() {
		defer func() {
			// Of a blob that was altered in the database some wrappers believe everything.
			if r := recover(); r != nil {
				done <- answer{nil, fault.New(fault.Conflict, "it can't read what it made: that was altered in the database (%v)", r)}
			}
		}()
		w := k.make()
		_, err := w.SetConfig(ctx, wrapping.WithConfigMap(k.options))
		if err != nil {
			done <- answer{nil, fmt.Errorf("configure it: %w", err)}
			return
		}
		out, err := f(w)
		done <- answer{out, err}
	}()
	select {
	case a := <-done:
		if _, ok := errors.AsType[*fault.Error](a.err); ok {
			return nil, a.err
		}
		// The wrappers do not tell the reasons apart; the cause is for the log.
		return a.out, fault.Wrap(fault.Unavailable, a.err, "the KMS refused or did not answer")
	case <-ctx.Done():
		return nil, fault.Wrap(fault.Unavailable, ctx.Err(), "the KMS did not answer")
	}
}
