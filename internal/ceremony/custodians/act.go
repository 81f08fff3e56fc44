package custodians

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/ceremony"
	"github.com/claviger/claviger/internal/fault"
)

// Server is what an act needs of a server; package client has it.
type Server interface {
	SealStatus(ctx context.Context) (*api.SealStatus, error)
	ShareSet(ctx context.Context) (*api.ShareSet, error)
	CeremonyStatement(ctx context.Context, act string) (*api.SignedStatement, error)

	Init(ctx context.Context, r api.Init) (*api.InitResult, error)
	Unseal(ctx context.Context, r api.Unseal) (*api.SealStatus, error)

	RekeyStatus(ctx context.Context) (*api.RekeyStatus, error)
	StartRekey(ctx context.Context, r api.StartRekey) (*api.RekeyStatus, error)
	CancelRekey(ctx context.Context) error
	GiveRekeyShare(ctx context.Context, r api.GiveRekeyShare) (*api.RekeyStatus, error)
	VerifyRekeyShare(ctx context.Context, r api.GiveRekeyShare) (*api.RekeyVerifyStatus, error)

	GenerateRootStatus(ctx context.Context, open bool) (*api.GenerateRootStatus, error)
	StartGenerateRoot(ctx context.Context, open bool, r api.StartGenerateRoot) (*api.GenerateRootStatus, error)
	CancelGenerateRoot(ctx context.Context, open bool) error
	GiveRootShare(ctx context.Context, open bool, r api.GiveRootShare) (*api.GenerateRootStatus, error)
}

// Wanted says which share is asked for.
type Wanted struct {
	New bool // one that was made just now; else one that was in force before
	N   int  // the how many-th, from 1
	Of  int  // how many are needed
}

// Env is where an act happens.
type Env struct {
	Server Server
	// Share asks for a share, which is wiped after use.
	Share func(ctx context.Context, w Wanted) ([]byte, error)
	// PIN asks for the user PIN of the HSM token to adopt, which is wiped after use.
	PIN func(ctx context.Context) ([]byte, error)
	// Refused tells people that a share was refused, and whether another one is asked
	// for in its place.
	Refused func(err error) (again bool)
	// Show tells people what they must know at once.
	Show func(text string) error
	// Rehearsal: the server is a scratch one; an initialisation goes on to its opening,
	// with as many of the new shares as that needs.
	Rehearsal bool
}

// act is a Ceremony with a server.
type act struct {
	*Ceremony
	Env
	scratch *scratchKeys // in a rehearsal without the custodians' keys
}

// Act makes what package ceremony holds. In a rehearsal with scratch, keys in memory
// take the place of the custodians' OpenPGP keys, and open what is made.
func (c *Ceremony) Act(e Env, scratch bool) (ceremony.Remote, error) {
	if e.Rehearsal && c.asked.HSMToken == "adopt" {
		fresh := *c
		fresh.asked.HSMToken = "create" // a scratch server has no HSM token to adopt
		c = &fresh
	}
	a := &act{Ceremony: c, Env: e}
	if !scratch {
		return a, nil
	}
	var err error
	a.Ceremony, a.scratch, err = c.withScratchKeys()
	return a, err
}

// Prepare implements ceremony.Remote.
func (a *act) Prepare(ctx context.Context) (*ceremony.ServerUsed, *ceremony.Asked, error) {
	st, err := a.Server.SealStatus(ctx)
	if err != nil {
		return nil, nil, err
	}
	used := &ceremony.ServerUsed{Address: a.Document.Server.Address, Release: st.Version, Initialized: st.Initialized}
	if a.Rehearsal {
		used.Address = "a scratch server"
	}
	switch first := a.asked.Act == api.ActInit; {
	case first && st.Initialized:
		return nil, nil, fault.New(fault.Conflict, "the server is initialised already; nothing was changed").
			WithHint("if this ceremony was broken off after the server did it: claviger ceremony run --restart")
	case first:
		return used, &a.asked, nil
	case !st.Initialized:
		return nil, nil, fault.New(fault.Uninitialized, "the server is not initialised; nothing was changed")
	case st.Sealed:
		return nil, nil, fault.New(fault.Sealed, "the server is sealed; nothing was changed").WithHint("unseal it first: claviger unseal")
	}
	set, err := a.Server.ShareSet(ctx)
	if err != nil {
		return nil, nil, err
	}
	used.ShareSet, used.Shares, used.Threshold = set.SetID, set.Shares, set.Threshold
	return used, &a.asked, a.idle(ctx)
}

// idle refuses to begin where an attempt is under way.
func (a *act) idle(ctx context.Context) error {
	name, _, err := a.attempt(ctx)
	if err != nil || name == nil {
		return err
	}
	return fault.New(fault.Conflict, "another act of this kind is under way in the server; nothing was changed").
		WithHint("cancel it first, if nobody goes on with it: claviger %s; or, if it is of this document and was broken off, claviger ceremony run --restart",
			map[string]string{api.ActRekey: "custody rekey cancel", api.ActGenerateRoot: "generate-root cancel"}[a.asked.Act])
}

// attempt returns the name of the ceremony whose act is under way, nil if there is none.
func (a *act) attempt(ctx context.Context) (name *string, cancel func(context.Context) error, err error) {
	if a.asked.Act == api.ActRekey {
		s, err := a.Server.RekeyStatus(ctx)
		if err != nil || !s.Started {
			return nil, nil, err
		}
		return &s.Ceremony, a.Server.CancelRekey, nil
	}
	s, err := a.Server.GenerateRootStatus(ctx, a.open)
	if err != nil || !s.Started {
		return nil, nil, err
	}
	return &s.Ceremony, func(ctx context.Context) error { return a.Server.CancelGenerateRoot(ctx, a.open) }, nil
}

// Perform implements ceremony.Remote.
func (a *act) Perform(ctx context.Context, name string, place func(string) string) (*api.SignedStatement, error) {
	switch a.asked.Act {
	case api.ActInit:
		return a.init(ctx, name, place)
	case api.ActRekey:
		return a.rekey(ctx, name, place)
	}
	return a.root(ctx, name, place)
}

// Recover looks for what became of a ceremony that was broken off. It returns the
// statement of its act if the server did it. Else it cancels what is left of it in the
// server, and returns nil.
func (c *Ceremony) Recover(ctx context.Context, s Server, cut *ceremony.Cut) (*api.SignedStatement, error) {
	a := &act{Ceremony: c, Env: Env{Server: s}}
	st, err := s.SealStatus(ctx)
	switch {
	case err != nil:
		return nil, err
	case !st.Initialized:
		return nil, nil
	case st.Sealed:
		return nil, fault.New(fault.Sealed, "the server is sealed, and says what it did while it is open only; nothing was changed").
			WithHint("unseal it, set a client token that may read sys/ceremony, and repeat this")
	}
	signed, err := s.CeremonyStatement(ctx, c.asked.Act)
	if err == nil && names(signed, cut.Ceremony) {
		return signed, nil
	}
	if err != nil && kindOf(err) != fault.NotFound {
		return nil, err
	}
	if c.asked.Act == api.ActInit {
		return nil, fault.New(fault.Conflict, "the server was initialised by another act than this ceremony; nothing was changed")
	}
	name, cancel, err := a.attempt(ctx)
	switch {
	case err != nil || name == nil:
		return nil, err
	case *name != cut.Ceremony:
		return nil, fault.New(fault.Conflict, "an act of this kind is under way in the server that is not of this ceremony; nothing was changed")
	}
	return nil, cancel(ctx)
}

// names tells whether a statement is of a ceremony; what it says is verified later.
func names(signed *api.SignedStatement, name string) bool {
	var s api.ActStatement
	return json.Unmarshal(signed.Statement, &s) == nil && s.Ceremony == name
}

// give asks for shares one after another until as many as are needed were taken.
func (a *act) give(ctx context.Context, fresh bool, needed int, take func(share string) (done bool, err error)) error {
	for n := 1; ; {
		share, err := a.Share(ctx, Wanted{New: fresh, N: n, Of: needed})
		if err != nil {
			return err
		}
		if err = ctx.Err(); err != nil {
			clear(share)
			return err
		}
		done, err := take(string(share))
		clear(share)
		switch {
		case err == nil && done:
			return nil
		case err == nil:
			n++
		case kindOf(err) != fault.Invalid || a.Refused == nil || !a.Refused(err):
			return err
		}
	}
}

// kindOf is the kind of an error, of the server's too.
func kindOf(err error) fault.Kind {
	e, ok := errors.AsType[*api.Error](err)
	switch {
	case !ok:
		return fault.KindOf(err)
	case e.Status == http.StatusBadRequest:
		return fault.Invalid
	case e.Status == http.StatusNotFound:
		return fault.NotFound
	}
	return fault.Unavailable
}

// files are the new files of an act.
type files struct {
	place func(string) string
	made  []string
}

// secret writes a file that only its owner reads.
func (f *files) secret(path string, data []byte) error { return f.write(path, data, 0o600) }

func (f *files) write(path string, data []byte, mode os.FileMode) error {
	path = f.place(path)
	if err := ceremony.WriteNew(path, data, mode); err != nil {
		return err
	}
	f.made = append(f.made, path)
	return nil
}

func (f *files) remove() (err error) {
	for _, path := range f.made {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// shares writes the encrypted shares, and the set of shares if the document asks for it.
func (a *act) shares(f *files, messages []string, set *api.ShareSet) error {
	if len(messages) != len(a.files) {
		return fault.New(fault.Uncertain, "the server made %d shares, and %d were asked for", len(messages), len(a.files))
	}
	for i, text := range messages {
		message, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return fault.New(fault.Uncertain, "share %d of the server is no OpenPGP message in base64", i+1)
		}
		if err := f.secret(a.files[i], message); err != nil {
			return err
		}
	}
	a.scratch.keep(messages)
	if a.shareSet == "" {
		return nil
	}
	text, err := json.MarshalIndent(set, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the share set: %w", err)
	}
	return f.write(a.shareSet, append(text, '\n'), 0o644)
}
