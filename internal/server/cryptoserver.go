package server

import (
	"context"
	"fmt"
	"time"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/front/cryptoserver"
	"github.com/claviger/claviger/internal/guard"
)

// cryptoserver makes the front for clients of cryptoserver, if it is enabled.
func (s *Server) cryptoserver() ([]frontRow, error) {
	c := &s.cfg.Front.Cryptoserver
	if !c.Enabled {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.pools.Check(ctx); err != nil {
		return nil, err
	}
	o := cryptoserver.Options{Mount: c.Mount, MaxBody: int64(s.cfg.Limits.MaxBody), Logger: s.log}
	row := frontRow{FrontRow: config.FrontRow{Name: "cryptoserver", Front: &c.Front}}
	if c.Open {
		id, err := guard.NewIdentity("front/cryptoserver", c.Policies, fmt.Sprintf("path %q { capabilities = [\"update\"] }", c.Mount+"hmac"))
		if err != nil {
			return nil, err
		}
		o.As = id
		row.exposes = "may have HMACs made of everything with the secrets of the pool"
	}
	h := cryptoserver.New(s.guard, o)
	server, err := cryptoserver.NewServer(h, s.httpFront(h))
	if err != nil {
		return nil, err
	}
	row.server = server
	return []frontRow{row}, nil
}
