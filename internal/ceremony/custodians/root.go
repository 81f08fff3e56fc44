package custodians

import (
	"context"
	"encoding/base64"
	"errors"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// root has the server make a root token.
func (a *act) root(ctx context.Context, name string, place func(string) string) (*api.SignedStatement, error) {
	req := api.StartGenerateRoot{Ceremony: name}
	if a.rootKey != nil {
		req.PGPKey = base64.StdEncoding.EncodeToString(a.asked.Root.PublicKey)
	}
	start, err := a.Server.StartGenerateRoot(ctx, a.open, req)
	if err != nil {
		return nil, err
	}
	f := &files{place: place}
	if a.padFile != "" {
		if err := f.secret(a.padFile, []byte(start.OTP)); err != nil {
			return nil, a.undoRoot(ctx, f, err)
		}
	}
	var done *api.GenerateRootStatus
	err = a.give(ctx, false, start.Required, func(share string) (bool, error) {
		s, err := a.Server.GiveRootShare(ctx, a.open, api.GiveRootShare{Key: share, Nonce: start.Nonce})
		if err == nil && s.Complete {
			done = s
		}
		return done != nil, err
	})
	if err != nil {
		return nil, a.undoRoot(ctx, f, err)
	}
	encoded := []byte(done.EncodedToken)
	if a.rootKey != nil {
		if encoded, err = base64.StdEncoding.DecodeString(done.EncodedToken); err != nil {
			return nil, fault.New(fault.Uncertain, "the root token of the server is no OpenPGP message in base64")
		}
	}
	if err := f.secret(a.rootFile, encoded); err != nil {
		return nil, fault.Wrap(fault.Uncertain, err, "a root token was made, and could not be written; nobody has it")
	}
	return done.Statement, nil
}

// undoRoot cancels the attempt.
func (a *act) undoRoot(ctx context.Context, f *files, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if err := a.Server.CancelGenerateRoot(ctx, a.open); err != nil {
		return fault.Wrap(fault.Uncertain, errors.Join(cause, err), "%s; and the attempt in the server could not be cancelled", message(cause))
	}
	return errors.Join(cause, f.remove())
}
