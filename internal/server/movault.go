package server

import (
	"bytes"
	"fmt"
	"os"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/front/movault"
	"github.com/claviger/claviger/internal/guard"
)

// movault makes the front for clients of Mo-Vault, if it is enabled.
func (s *Server) movault() ([]frontRow, error) {
	c := &s.cfg.Front.MoVault
	if !c.Enabled {
		return nil, nil
	}
	id, err := guard.NewIdentity("front/movault", c.Policies, movault.Policy(c.Mount))
	if err != nil {
		return nil, err
	}
	row := frontRow{FrontRow: config.FrontRow{Name: "movault", Front: &c.Front}}
	var token []byte
	if c.Open {
		row.exposes = "may make keys, and encrypt, decrypt and sign with every key of the HSM token whose label and version he knows"
	} else {
		if token, err = os.ReadFile(c.TokenFile); err != nil {
			return nil, fmt.Errorf("reading the token of the front movault: %w", err)
		}
		defer clear(token)
		if token = bytes.TrimSpace(token); len(token) < 16 {
			return nil, fault.New(fault.Invalid, "the token of the front movault in %s has %d bytes; it needs 16", c.TokenFile, len(token))
		}
	}
	h, err := movault.New(movault.Options{Door: s.guard, As: id, Mount: c.Mount, Token: token, Timeout: s.cfg.Limits.RequestTimeout.Duration, Logger: s.log})
	if err != nil {
		return nil, err
	}
	row.server = s.httpFront(h)
	return []frontRow{row}, nil
}
