package server

import (
	"context"
	"time"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/custody"
	"github.com/claviger/claviger/internal/custody/provider"
	"github.com/claviger/claviger/internal/fault"
)

// unsealProvider returns the keeper of the unseal secret, nil if the configuration
// names none.
func unsealProvider(c *config.Custody) (custody.Provider, error) {
	if c.Kind != config.CustodyAuto {
		return nil, nil
	}
	switch c.Provider {
	case config.ProviderTPM:
		return &provider.TPM{Device: c.TPM.Device, PCRs: c.TPM.PCRs}, nil
	case config.ProviderCredential:
		return &provider.Credential{CredentialName: c.Credential.Name}, nil
	case config.ProviderTransit:
		t := &c.Transit
		return &provider.Transit{Address: t.Address, CACert: t.CACert, ClientCert: t.ClientCert, ClientKey: t.ClientKey,
			TokenFile: t.TokenFile, Mount: t.Mount, Key: t.Key}, nil
	}
	return provider.NewKMS(c.Provider, c.KMS.Options)
}

// openItself opens an initialised server whose custody is a PIN or a provider. If the
// HSM or the provider does not answer now the server starts sealed, and keepOpening
// goes on; so it does for other reasons, and then somebody has to set that right.
func (s *Server) openItself(ctx context.Context) {
	initialized, _ := s.custody.State()
	if !initialized || s.cfg.Custody.Kind == config.CustodyShares {
		return
	}
	s.mayOpenLater.Store(s.tryToOpen(ctx))
}

// tryToOpen tells whether to try again: while the cause may pass by itself. A PIN
// that was refused is no such cause; a provider that refuses this server is, because
// its administrator can change that.
func (s *Server) tryToOpen(ctx context.Context) (again bool) {
	if s.cfg.Custody.Kind == config.CustodyPIN {
		return fault.KindOf(s.custody.OpenByPIN(ctx)) == fault.Unavailable
	}
	err := s.custody.OpenAuto(ctx)
	kind := fault.KindOf(err)
	return err != nil && (kind == fault.Unavailable || kind == fault.Denied)
}

// renewEvery is how often the provider's own credential is renewed.
const renewEvery = time.Hour

// keepProvider renews the provider's own credential while the server runs, so that
// its next start finds it valid.
func (s *Server) keepProvider(ctx context.Context, p custody.Provider) {
	renewer, ok := p.(interface{ Renew(context.Context) error })
	if !ok {
		return
	}
	for {
		if err := renewer.Renew(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("The client token for the unseal provider was not renewed: when it has ended the server does not open by itself",
				"provider", p.Name(), "error", err, "hint", fault.HintOf(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(renewEvery):
		}
	}
}
