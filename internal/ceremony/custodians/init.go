package custodians

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/ceremony"
	"github.com/claviger/claviger/internal/fault"
)

// publicKeys are OpenPGP keys as the API takes them.
func publicKeys(holders []ceremony.Holder) []string {
	out := make([]string, 0, len(holders))
	for _, h := range holders {
		out = append(out, base64.StdEncoding.EncodeToString(h.PublicKey))
	}
	return out
}

// init has the server initialise itself. From its answer on the encrypted shares are
// nowhere else: if they can't be written they are shown.
func (a *act) init(ctx context.Context, name string, place func(string) string) (*api.SignedStatement, error) {
	req := api.Init{HSMToken: a.asked.HSMToken, TransferableKEK: a.asked.TransferableKEK, Ceremony: name,
		RootTokenPGPKey: base64.StdEncoding.EncodeToString(a.asked.Root.PublicKey)}
	if a.asked.Recovery {
		req.RecoveryShares, req.RecoveryThreshold, req.RecoveryPGPKeys = len(a.keys), a.asked.Threshold, publicKeys(a.asked.Shares)
	} else {
		req.SecretShares, req.SecretThreshold, req.PGPKeys = len(a.keys), a.asked.Threshold, publicKeys(a.asked.Shares)
	}
	if a.asked.HSMToken == "adopt" {
		pin, err := a.PIN(ctx)
		if err != nil {
			return nil, err
		}
		req.HSMPIN = string(pin)
		clear(pin)
	}
	r, err := a.Server.Init(ctx, req)
	if err != nil {
		return nil, err
	}
	shares := r.KeysBase64
	if a.asked.Recovery {
		shares = r.RecoveryKeysBase64
	}
	if err := a.keepInit(ctx, shares, r.RootToken, place); err != nil {
		return nil, a.rescue(err, shares, r.RootToken)
	}
	if a.Rehearsal {
		return r.Statement, a.openScratch(ctx)
	}
	return r.Statement, nil
}

func (a *act) keepInit(ctx context.Context, shares []string, root string, place func(string) string) error {
	var set *api.ShareSet
	var err error
	if a.shareSet != "" {
		if set, err = a.Server.ShareSet(ctx); err != nil {
			return err
		}
	}
	f := &files{place: place}
	message, err := base64.StdEncoding.DecodeString(root)
	if err != nil {
		return fault.New(fault.Uncertain, "the root token of the server is no OpenPGP message in base64")
	}
	if err := f.secret(a.rootFile, message); err != nil {
		return err
	}
	return a.shares(f, shares, set)
}

// rescue shows what can't be written: it is encrypted, and lost otherwise.
func (a *act) rescue(cause error, shares []string, root string) error {
	var b strings.Builder
	b.WriteString("The server is initialised, and not everything that it handed over could be written.\nThis is all of it, encrypted, in base64; it is shown only now:\n\n")
	for i, s := range shares {
		fmt.Fprintf(&b, "Share %d, %s: %s\n", i+1, a.asked.Shares[i%len(a.asked.Shares)].Custodian, s)
	}
	fmt.Fprintf(&b, "Root token: %s\n", root)
	if err := a.Show(b.String()); err != nil {
		cause = fmt.Errorf("%w; and it could not be shown: %w", cause, err)
	}
	return fault.Wrap(fault.Uncertain, cause, "the server is initialised, and what it handed over was not written")
}

// openScratch proves in a rehearsal that the new shares open.
func (a *act) openScratch(ctx context.Context) error {
	return a.give(ctx, true, a.asked.Threshold, func(share string) (bool, error) {
		s, err := a.Server.Unseal(ctx, api.Unseal{Key: share})
		return err == nil && !s.Sealed, err
	})
}
