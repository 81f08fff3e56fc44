package server

import (
	"context"
	"net/http"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/front/est"
	"github.com/claviger/claviger/internal/guard"
	"github.com/claviger/claviger/internal/pki"
)

// estFront serves EST, and hands all else to next.
func (s *Server) estFront(next http.Handler) (http.Handler, error) {
	id, err := guard.NewIdentity("front/est", s.cfg.Front.EST.Policies, est.Policy())
	if err != nil {
		return nil, err
	}
	return est.New(next, est.Options{
		Door: s.guard, As: id, Mount: s.estMount, RequestTimeout: s.cfg.Limits.RequestTimeout.Duration, Logger: s.log,
	}), nil
}

// est makes the listener of EST that asks for certificates, if it is enabled.
func (s *Server) est() ([]frontRow, error) {
	c := &s.cfg.Front.EST
	if !c.Enabled {
		return nil, nil
	}
	h, err := s.estFront(http.NotFoundHandler())
	if err != nil {
		return nil, err
	}
	return []frontRow{{FrontRow: config.FrontRow{Name: "est", Front: &c.Front}, server: s.httpFront(h), asksCerts: true}}, nil
}

// estMount is the path of the mount that serves a label of EST.
func (s *Server) estMount(ctx context.Context, label string) (string, error) {
	name, err := s.pki.ESTMount(ctx, label)
	if err != nil {
		return "", err
	}
	for path, mount := range s.guard.Mounted(pki.MountKind) {
		if mount == name {
			return path, nil
		}
	}
	return "", fault.New(fault.NotFound, "the EST server of this path is being removed")
}
