// Package conns takes the connections of protocols that are not HTTP, and ends
// them in order.
package conns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server takes connections and hands each to a function.
type Server struct {
	talk func(net.Conn)
	name string
	log  *slog.Logger

	mu      sync.Mutex
	closing bool
	conns   map[net.Conn]bool // true while a request is under way
	accepts map[net.Listener]bool
	work    sync.WaitGroup
}

// New makes a server of the protocol of a name, for the log. talk is called for each
// connection, in a goroutine of its own, and ends it by returning.
func New(name string, talk func(net.Conn), log *slog.Logger) *Server {
	return &Server{talk: talk, name: name, log: log, conns: map[net.Conn]bool{}, accepts: map[net.Listener]bool{}}
}

// Serve takes connections until Shutdown; then it returns http.ErrServerClosed.
func (s *Server) Serve(l net.Listener) error {
	if !s.begin(l) {
		return http.ErrServerClosed
	}
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
		case s.Closing():
			return http.ErrServerClosed
		case isTemporary(err):
			time.Sleep(10 * time.Millisecond) // too many open files: some will close
			continue
		default:
			return err
		}
		if !s.add(conn) {
			conn.Close()
			return http.ErrServerClosed
		}
		go s.serve(conn)
	}
}

func isTemporary(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Temporary()
}

func (s *Server) begin(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.accepts[l] = true
	return true
}

func (s *Server) add(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.conns[conn] = false
	s.work.Add(1)
	return true
}

func (s *Server) remove(conn net.Conn) {
	conn.Close()
	s.mu.Lock()
	delete(s.conns, conn)
	s.mu.Unlock()
	s.work.Done()
}

func (s *Server) serve(conn net.Conn) {
	defer s.remove(conn)
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("panic on a connection", "protocol", s.name, "panic", fmt.Sprint(v))
		}
	}()
	s.talk(conn)
}

// Closing tells whether Shutdown was called.
func (s *Server) Closing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// Busy notes that a request of a connection is under way, or that it has its answer.
// It returns false if the connection is to end: a request that begins is not to be
// performed then, since nobody would get its answer.
func (s *Server) Busy(conn net.Conn, under bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.conns[conn]; ok {
		s.conns[conn] = under
	}
	return !s.closing
}

// Connections is how many are open.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Shutdown closes the connections that wait, lets requests under way end until ctx
// does, and then closes all.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for l := range s.accepts {
		l.Close()
	}
	for conn, under := range s.conns {
		if !under {
			conn.Close()
		}
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.work.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
	}
	return ctx.Err()
}
