package p11

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is the time that a caller has. An idle connection may stay.
type patience struct {
	hello time.Duration // to send its first bytes
	frame time.Duration // to send the rest of a frame
	write time.Duration // to take an answer, at least; at most twice that
}

var usual = patience{hello: 10 * time.Second, frame: 30 * time.Second, write: 5 * time.Second}

const (
	// smallFrame is how much memory a connection keeps; larger frames get their own.
	smallFrame = 4 << 10
	magic      = "CLVP"
)

// Peers says which users and groups may connect, besides what the socket's
// permissions say. Both empty: everybody.
type Peers struct {
	UIDs, GIDs []int
}

// Server serves a protocol on Unix sockets.
type Server struct {
	talk   func(*Conn)
	peers  Peers
	times  patience
	log    *slog.Logger
	ctx    context.Context // ends when requests under way are cut off
	cancel context.CancelFunc

	mu      sync.Mutex
	closing bool
	conns   map[net.Conn]bool // true while a request is under way
	accepts map[net.Listener]bool
	work    sync.WaitGroup
}

// NewServer makes a server of this package's protocol.
func NewServer(s *Service, peers Peers) *Server { return NewServerOf(s.talk, peers, s.log) }

// NewServerOf makes a server of another protocol: talk is called for each
// connection, in a goroutine of its own, and ends it by returning.
func NewServerOf(talk func(*Conn), peers Peers, log *slog.Logger) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	return &Server{talk: talk, peers: peers, times: usual, log: log, ctx: ctx, cancel: cancel,
		conns: map[net.Conn]bool{}, accepts: map[net.Listener]bool{}}
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
		case s.isClosing():
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

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
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

// busy notes that a request is under way, and tells whether there is to be another.
func (s *Server) busy(conn net.Conn, under bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[conn] = under
	return !s.closing
}

// Connections is how many are open.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Shutdown closes the connections that wait, lets requests under way end until ctx
// does, and then cuts them off.
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
	defer s.cancel()
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

// serve is one connection.
func (s *Server) serve(conn net.Conn) {
	defer s.remove(conn)
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("panic on a PKCS#11 connection", "panic", fmt.Sprint(v))
		}
	}()
	remote, err := s.peer(conn)
	if err != nil {
		s.log.Warn("PKCS#11 connection refused", "reason", err.Error())
		return
	}
	s.talk(&Conn{Remote: remote, conn: conn, r: bufio.NewReaderSize(conn, 1024), server: s})
}

// peer returns who connected, by the kernel's word (SO_PEERCRED, unix(7)).
func (s *Server) peer(conn net.Conn) (string, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return "", errors.New("the connection is not one of a Unix socket")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return "", err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return "", err
	}
	if cerr != nil {
		return "", fmt.Errorf("asking who connects: %w", cerr)
	}
	if len(s.peers.UIDs)+len(s.peers.GIDs) > 0 &&
		!slices.Contains(s.peers.UIDs, int(cred.Uid)) && !slices.Contains(s.peers.GIDs, int(cred.Gid)) {
		return "", fmt.Errorf("user %d of group %d is none of those that may connect", cred.Uid, cred.Gid)
	}
	return fmt.Sprintf("unix:uid=%d,pid=%d", cred.Uid, cred.Pid), nil
}
