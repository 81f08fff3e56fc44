package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
)

// Scratch is a server of its own in a directory that is removed with it: a software
// token, a store, and a socket that only its owner reaches. It is for rehearsals.
type Scratch struct {
	Address string // as clients name it

	dir    string
	stop   context.CancelFunc
	served chan error
}

// NewScratch starts a server that is not initialised.
func NewScratch(release string) (*Scratch, error) {
	dir, err := os.MkdirTemp("", "claviger-rehearsal-")
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "no directory can be made for the rehearsal")
	}
	cfg := config.Dev(dir)
	socket := filepath.Join(dir, "socket")
	cfg.Listeners = []config.Listener{{Address: "unix:" + socket, Mode: "0600"}}
	cfg.Custody.GenerateRootWithoutToken = true
	s, err := New(cfg, Options{Version: release, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a server for the rehearsal: %w", err), os.RemoveAll(dir))
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &Scratch{Address: "unix://" + socket, dir: dir, stop: stop, served: make(chan error, 1)}
	go func() { r.served <- s.Run(ctx) }()
	return r, nil
}

// Close ends the server and removes everything.
func (s *Scratch) Close() error {
	s.stop()
	return errors.Join(<-s.served, os.RemoveAll(s.dir))
}
