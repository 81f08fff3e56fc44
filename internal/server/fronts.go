package server

import (
	"fmt"
	"net/http"
	"time"

	"github.com/claviger/claviger/internal/config"
)

// frontTimeout bounds the reading of a request and the writing of an answer on a
// front of its own, whose bodies are small.
const frontTimeout = 30 * time.Second

// frontConnections is how many connections a front has open at a time, unless
// the configuration says.
const frontConnections = 1024

// frontRow is a front with a listener of its own.
type frontRow struct {
	config.FrontRow
	// server serves its connections; see httpFront.
	server connServer
	// exposes says what everybody may do who reaches the address; "" if callers
	// have to show who they are.
	exposes string
	// asksCerts: clients may show certificates, which the front verifies.
	asksCerts bool
}

// frontRows makes the fronts that the configuration enables.
func (s *Server) frontRows() ([]frontRow, error) {
	var all []frontRow
	for _, rows := range []func() ([]frontRow, error){s.hsmdaemon, s.cryptoserver, s.movault, s.est, s.distribution, s.pkcs11} {
		some, err := rows()
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// httpFront serves a front that is an http.Handler.
func (s *Server) httpFront(h http.Handler) *http.Server {
	server := newHTTPServer(h, frontTimeout, s.log)
	server.WriteTimeout = s.cfg.Limits.RequestTimeout.Duration + frontTimeout
	server.IdleTimeout = 2 * time.Minute
	server.MaxHeaderBytes = 16 << 10
	return server
}

// listenFronts opens the listeners of the fronts, and says loudly what stands open.
func (s *Server) listenFronts() error {
	rows, err := s.frontRows()
	if err != nil {
		return err
	}
	for _, row := range rows {
		connections := row.MaxConnections
		if connections == 0 {
			connections = frontConnections
		}
		l, err := newListener(row.Listener, s.own, row.server, connections, row.asksCerts)
		if err != nil {
			return fmt.Errorf("front %s at %s: %w", row.Name, row.Address, err)
		}
		l.front = row.Name
		s.fronts = append(s.fronts, l)
		if row.exposes != "" {
			s.log.Warn("THIS FRONT ASKS NOBODY WHO HE IS", "front", row.Name, "address", l.address, "everybody_who_reaches_it", row.exposes)
		}
	}
	return nil
}

// FrontAddress returns where a front is served, as clients name it; "" if it is
// not enabled.
func (s *Server) FrontAddress(name string) string {
	for _, l := range s.fronts {
		if l.front == name {
			return l.address
		}
	}
	return ""
}
