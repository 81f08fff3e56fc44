package p11

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/claviger/claviger/internal/conns"
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
	*conns.Server
	talk   func(*Conn)
	peers  Peers
	times  patience
	log    *slog.Logger
	ctx    context.Context // ends when requests under way are cut off
	cancel context.CancelFunc
}

// NewServer makes a server of this package's protocol.
func NewServer(s *Service, peers Peers) *Server { return NewServerOf(s.talk, peers, s.log) }

// NewServerOf makes a server of another protocol: talk is called for each
// connection, in a goroutine of its own, and ends it by returning.
func NewServerOf(talk func(*Conn), peers Peers, log *slog.Logger) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{talk: talk, peers: peers, times: usual, log: log, ctx: ctx, cancel: cancel}
	s.Server = conns.New("PKCS#11", s.serve, log)
	return s
}

// Shutdown closes the connections that wait, lets requests under way end until ctx
// does, and then cuts them off.
func (s *Server) Shutdown(ctx context.Context) error {
	defer s.cancel()
	return s.Server.Shutdown(ctx)
}

// serve is one connection.
func (s *Server) serve(conn net.Conn) {
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
