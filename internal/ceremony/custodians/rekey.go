package custodians

import (
	"context"
	"errors"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// rekey has the server replace the shares. The new ones are on the disk before they
// are given back, and stay there unless it is sure that they never open anything.
func (a *act) rekey(ctx context.Context, name string, place func(string) string) (*api.SignedStatement, error) {
	start, err := a.Server.StartRekey(ctx, api.StartRekey{SecretShares: len(a.keys), SecretThreshold: a.asked.Threshold,
		PGPKeys: publicKeys(a.asked.Shares), RequireVerification: true, NewPIN: a.asked.NewPIN, Ceremony: name})
	if err != nil {
		return nil, err
	}
	f := &files{place: place}
	made, err := a.makeShares(ctx, f, start)
	if err != nil {
		return nil, a.undoRekey(ctx, f, "", err)
	}
	var done *api.RekeyVerifyStatus
	err = a.give(ctx, true, made.T, func(share string) (_ bool, err error) {
		s, err := a.Server.VerifyRekeyShare(ctx, api.GiveRekeyShare{Key: share, Nonce: made.VerificationNonce})
		if err == nil && s.Complete {
			done = s
		}
		return done != nil, err
	})
	if err != nil {
		return nil, a.undoRekey(ctx, f, made.ShareSet.SetID, err)
	}
	return done.Statement, nil
}

// makeShares collects the shares in force and writes the new ones.
func (a *act) makeShares(ctx context.Context, f *files, start *api.RekeyStatus) (*api.RekeyStatus, error) {
	var made *api.RekeyStatus
	err := a.give(ctx, false, start.Required, func(share string) (bool, error) {
		s, err := a.Server.GiveRekeyShare(ctx, api.GiveRekeyShare{Key: share, Nonce: start.Nonce})
		if err == nil && s.Complete {
			made = s
		}
		return made != nil, err
	})
	if err == nil && made.ShareSet == nil {
		err = fault.New(fault.Uncertain, "the server does not say what set the new shares are of")
	}
	if err == nil {
		err = a.shares(f, made.KeysBase64, made.ShareSet)
	}
	return made, err
}

// undoTime is how long the server may take to forget an attempt.
const undoTime = time.Minute

// undoRekey cancels the attempt, and removes the new shares if they are not in force.
func (a *act) undoRekey(ctx context.Context, f *files, newSet string, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	err := a.Server.CancelRekey(ctx)
	var set *api.ShareSet
	if err == nil {
		set, err = a.Server.ShareSet(ctx)
	}
	switch {
	case err != nil:
		return fault.Wrap(fault.Uncertain, errors.Join(cause, err), "%s; and it is unknown what became of the attempt in the server: keep the new shares until it is known",
			message(cause))
	case newSet != "" && set.SetID == newSet:
		return fault.Wrap(fault.Uncertain, cause, "%s; but the new shares are in force", message(cause))
	}
	return errors.Join(cause, f.remove())
}

// message is what an error says to people.
func message(err error) string {
	if _, ok := errors.AsType[*fault.Error](err); !ok || fault.KindOf(err) == fault.Internal {
		return err.Error()
	}
	return fault.Message(err)
}
