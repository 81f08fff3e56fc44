package keys

import (
	"bytes"
	"context"
	"errors"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// adoptedAlready tells whether n is a key of this object (done), or has become one
// again: an object that came from a backup into another HSM token has another name than
// the one that its key knows. A key of anything else is an error.
func (s *Service) adoptedAlready(ctx context.Context, n keyName, tok token.Token, stored *token.Stored) (done, again bool, err error) {
	k, err := s.key(ctx, n)
	if errors.Is(err, errNoKey) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	if k.meta.Adopted {
		of, err := s.versionOf(ctx, k, stored.Name)
		if err != nil || of != 0 {
			return of != 0, false, err
		}
		number, err := s.versionWithout(ctx, k, tok, stored.Public)
		if err != nil {
			return false, false, err
		}
		if number != 0 {
			return false, true, s.putObject(ctx, k, number, stored)
		}
	}
	return false, false, fault.New(fault.Conflict, "the key %s exists already, and is not of this object", n.name).
		WithHint("adopt the object under another name; only one with the public key of a version whose object is gone takes its place")
}

// versionWithout returns the newest version of a key that has a public key and whose
// object is not in the HSM token; 0 if there is none.
func (s *Service) versionWithout(ctx context.Context, k *key, tok token.Token, public []byte) (int, error) {
	for number := k.meta.Latest; number >= k.oldestStored() && public != nil; number-- {
		r, err := s.versionRecord(ctx, k, number)
		object := r.Main.Object.name()
		same := bytes.Equal(r.Main.Public, public)
		r.wipe()
		if err != nil {
			return 0, err
		}
		if !same || object == nil {
			continue
		}
		switch _, err := tok.Adopt(ctx, *object); {
		case errors.Is(err, token.ErrNotFound):
			return number, nil
		case err != nil && !errors.Is(err, token.ErrAmbiguous) && !errors.Is(err, token.ErrUnsupported):
			return 0, tokenFault(err, "look for the key object")
		}
	}
	return 0, nil
}

// putObject makes an object the secret of a version with the same public key.
func (s *Service) putObject(ctx context.Context, k *key, number int, stored *token.Stored) error {
	return s.changeVersion(ctx, k, number, func(r *versionRecord) error {
		if r.Main.Place != api.ProtectionToken || !bytes.Equal(r.Main.Public, stored.Public) {
			return invalid("version %d was changed meanwhile", number)
		}
		r.Main = recordOf(*stored)
		return nil
	})
}
