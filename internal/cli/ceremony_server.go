package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/ceremony"
	"github.com/claviger/claviger/internal/ceremony/custodians"
	"github.com/claviger/claviger/internal/server"
)

// serverCeremony reads a document of an act that a server performs, with the file of
// confirmations if there is one. It returns nil for a document of another act.
func serverCeremony(path string, f *ceremonyFlags) (*custodians.Ceremony, *ceremony.Confirmations, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read the document: %w", err)
	}
	kind, err := ceremony.KindOf(text)
	if err != nil || !custodians.Is(kind) {
		return nil, nil, err
	}
	c, err := custodians.Parse(text, path, time.Now())
	if err != nil {
		return nil, nil, err
	}
	yes, err := readConfirmations(f)
	return c, yes, err
}

// ceremonyClient is a client of the server that the document names.
func (a *app) ceremonyClient(c *custodians.Ceremony) (*client.Client, error) {
	at := c.Document.Server
	if a.address != "" && a.address != at.Address {
		return nil, usagef("--address %s: the document says %s", a.address, at.Address)
	}
	a.address = at.Address
	if at.CACert != "" {
		a.caCert = c.Document.Path(at.CACert)
	}
	return a.client()
}

// holdServerCeremony holds a ceremony with a running server.
func (a *app) holdServerCeremony(ctx context.Context, c *custodians.Ceremony, yes *ceremony.Confirmations, f *ceremonyFlags) error {
	o, err := a.ceremonyOptions(yes)
	if err != nil {
		return err
	}
	s, err := a.ceremonyClient(c)
	if err != nil {
		return err
	}
	act, err := c.Act(a.ceremonyEnv(s, f), false)
	if err != nil {
		return err
	}
	if f.restart {
		r, err := a.restartCeremony(ctx, c, s, act)
		if err != nil || r != nil {
			return errors.Join(err, a.showFinished(r))
		}
	}
	r, err := ceremony.Hold(ctx, c.Document, act, o.Options)
	if err != nil {
		return err
	}
	return a.showCeremony(r)
}

func (a *app) showFinished(r *ceremony.Result) error {
	if r == nil {
		return nil
	}
	a.say("The server did it before the ceremony was broken off: the transcript is complete now.")
	return a.showCeremony(r)
}

// restartCeremony completes what was broken off if the server did it, or takes it back,
// so that the ceremony can be held anew.
func (a *app) restartCeremony(ctx context.Context, c *custodians.Ceremony, s custodians.Server, act ceremony.Remote) (*ceremony.Result, error) {
	cut, err := ceremony.ReadCut(c.Document)
	if err != nil {
		return nil, err
	}
	signed, err := c.Recover(ctx, s, cut)
	if err != nil {
		return nil, err
	}
	if signed != nil {
		return cut.Finish(signed)
	}
	a.say("The server did not do it: what is left is put aside, and the ceremony is held anew.")
	return nil, cut.PutAside(c.Document, act)
}

// ceremonyEnv is the terminal, or what flags name in its place.
func (a *app) ceremonyEnv(s custodians.Server, f *ceremonyFlags) custodians.Env {
	ask := a.secretReader()
	lines := secretSource{what: "share"}
	return custodians.Env{
		Server: s,
		Share: func(ctx context.Context, w custodians.Wanted) ([]byte, error) {
			if f.shareFD >= 0 {
				return lines.line(rawFD(f.shareFD))
			}
			which := "Share in force"
			if w.New {
				which = "New share"
			}
			return ask(ctx, fmt.Sprintf("%s %d of %d", which, w.N, w.Of))
		},
		PIN: func(ctx context.Context) ([]byte, error) { return a.adoptPIN(ctx, f) },
		Refused: func(err error) bool {
			if f.shareFD >= 0 || !isTerminal(a.in) {
				return false
			}
			a.warn(err.Error())
			return true
		},
		Show: newPeople(a).Show,
	}
}

// adoptPIN is the user PIN of the HSM token to adopt; "" leaves it to the server.
func (a *app) adoptPIN(ctx context.Context, f *ceremonyFlags) ([]byte, error) {
	switch {
	case f.pinFD >= 0 && f.pinFile != "":
		return nil, usagef("--pin-fd and --pin-file exclude each other")
	case f.pinFD >= 0:
		source := secretSource{what: "PIN"}
		return source.line(rawFD(f.pinFD))
	}
	return a.pin(ctx, f.pinFile)
}

// rehearseServerCeremony plays a ceremony on a server that is made for it.
func (a *app) rehearseServerCeremony(ctx context.Context, c *custodians.Ceremony, yes *ceremony.Confirmations, f *ceremonyFlags) (err error) {
	o, err := a.ceremonyOptions(yes)
	if err != nil {
		return err
	}
	remove, err := o.rehearse(f.out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	scratch, err := server.NewScratch(version)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	s, share, err := scratchClient(ctx, scratch.Address, c.Asked().Act != api.ActInit)
	if err != nil {
		return err
	}
	env := a.ceremonyEnv(s, f)
	env.Rehearsal = true
	ask := env.Share
	env.Share = func(ctx context.Context, w custodians.Wanted) ([]byte, error) {
		if w.New {
			return ask(ctx, w)
		}
		return []byte(share), nil
	}
	act, err := c.Act(env, f.scratchKeys)
	if err != nil {
		return err
	}
	if !f.scratchKeys && f.out == "" && c.Asked().Act != api.ActGenerateRoot {
		a.say("The encrypted shares of the rehearsal are in %s while it lasts.", o.Out)
	}
	r, err := ceremony.Hold(ctx, c.Document, act, o.Options)
	if err != nil {
		return err
	}
	if f.out == "" {
		r.Transcript, r.Files = "", nil
	}
	return a.showCeremony(r)
}

// scratchClient is a client of a scratch server, which is initialised with one share
// and open if the act needs that.
func scratchClient(ctx context.Context, address string, initialized bool) (c *client.Client, share string, err error) {
	if c, err = client.New(client.Config{Address: address}); err != nil || !initialized {
		return c, "", err
	}
	r, err := c.Init(ctx, api.Init{SecretShares: 1, SecretThreshold: 1, HSMToken: "create"})
	if err != nil {
		return nil, "", fmt.Errorf("initialise the server of the rehearsal: %w", err)
	}
	share = r.KeysBase64[0]
	if _, err = c.Unseal(ctx, api.Unseal{Key: share}); err != nil {
		return nil, "", fmt.Errorf("unseal the server of the rehearsal: %w", err)
	}
	return c.WithToken(r.RootToken), share, nil
}

// showDocument shows what a document says.
func (a *app) showDocument(path string) error {
	c, _, err := serverCeremony(path, &ceremonyFlags{})
	if err != nil {
		return err
	}
	if c == nil {
		return usagef("%s is of an act with an HSM token: claviger ceremony rehearse shows what it signs", path)
	}
	if a.format == "json" {
		return a.showJSON(struct {
			Kind     string          `json:"kind"`
			Title    string          `json:"title"`
			Date     string          `json:"date,omitempty"`
			Document string          `json:"document_sha256"`
			Server   string          `json:"server"`
			Asked    *ceremony.Asked `json:"request"`
		}{c.Document.Kind, c.Document.Title, c.Document.Date, c.Document.Digest(), c.Document.Server.Address, c.Asked()})
	}
	act, err := c.Act(custodians.Env{}, false)
	if err != nil {
		return err
	}
	return a.lines(strings.TrimRight(ceremony.Show(c.Document, act), "\n"))
}

// signTranscript writes what custodians sign, or adds a signature to the transcript.
func (a *app) signTranscript(path, custodian, signature string) error {
	text, err := readTranscript(path)
	if err != nil {
		return err
	}
	if custodian == "" {
		body, err := ceremony.Body(text)
		if err == nil {
			_, err = a.out.Write(body)
		}
		return err
	}
	sig, err := readFile(signature)
	if err != nil {
		return fmt.Errorf("read the signature: %w", err)
	}
	next, err := ceremony.Approve(text, custodian, sig)
	if err != nil {
		return err
	}
	if err := ceremony.Replace(path, next); err != nil {
		return err
	}
	a.say("The transcript has the signature of %s now.", printable(custodian))
	return nil
}

func readTranscript(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the transcript: %w", err)
	}
	defer f.Close()
	b, err := readAtMost(f, ceremony.MaxTranscript)
	if err != nil {
		return nil, fmt.Errorf("read the transcript: %w", err)
	}
	return b, nil
}
