package cryptoserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/guard"
	"github.com/claviger/claviger/internal/op"
)

// times are those that a connection may take.
type times struct {
	first time.Duration // until the first request begins
	part  time.Duration // for the rest of a request that came in part
	idle  time.Duration // between requests, and for an answer
	// renew is how old the deadline of a busy connection may become before it is
	// set anew: setting one costs about as much as the HMAC.
	renew time.Duration
}

var defaultTimes = times{first: 10 * time.Second, part: 30 * time.Second, idle: 2 * time.Minute, renew: 30 * time.Second}

// Server serves connections. Requests in the plain form that all clients of
// cryptoserver send take a short way from the socket to the guard and back;
// a connection with anything else (other methods and paths, chunks, large bodies,
// client tokens) goes to package http for the rest of its life. Both answer alike.
type Server struct {
	handler *handler
	http    *http.Server
	others  *handedOver
	times   times

	closing atomic.Bool
	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	listen  net.Listener
	running sync.WaitGroup
	date    atomic.Pointer[dateLine]
}

// NewServer returns a server of the handler h, which New made; other serves h to
// the connections that do not take the short way.
func NewServer(h http.Handler, other *http.Server) (*Server, error) {
	own, ok := h.(*handler)
	if !ok {
		return nil, fmt.Errorf("a %T is no handler of this package", h)
	}
	other.Handler = h
	return &Server{handler: own, http: other, others: newHandedOver(), times: defaultTimes, conns: map[net.Conn]struct{}{}}, nil
}

// Serve accepts connections until Shutdown; then it returns http.ErrServerClosed.
func (s *Server) Serve(l net.Listener) error {
	if s.handler.As == nil {
		return s.http.Serve(l)
	}
	s.mu.Lock()
	s.listen = l
	s.mu.Unlock()
	s.others.address = l.Addr()
	go s.http.Serve(s.others) // it ends with Shutdown, and has no other error
	var wait time.Duration
	for {
		conn, err := l.Accept()
		if s.closing.Load() {
			if err == nil {
				conn.Close()
			}
			return http.ErrServerClosed
		}
		if err != nil {
			if !temporary(err) {
				return err
			}
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			s.handler.Logger.Error("accepting a connection failed, trying again", "error", err)
			time.Sleep(wait)
			continue
		}
		wait = 0
		if s.track(conn) {
			go s.serve(conn)
		}
	}
}

// temporary tells whether an error of Accept passes, such as that of too many
// open files.
func temporary(err error) bool {
	return !errors.Is(err, net.ErrClosed) && isTemporary(err)
}

func isTemporary(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	return ok && t.Temporary()
}

// track counts a connection as running, unless the server is closing.
func (s *Server) track(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		conn.Close()
		return false
	}
	s.conns[conn] = struct{}{}
	s.running.Add(1)
	return true
}

func (s *Server) untrack(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
	s.running.Done()
}

// Shutdown lets requests under way end, until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.closing.Store(true)
	s.mu.Lock()
	if s.listen != nil {
		s.listen.Close()
	}
	for conn := range s.conns {
		// Who waits for a request wakes up; an answer under way is not cut off.
		conn.SetReadDeadline(time.Unix(1, 0))
	}
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	err := s.http.Shutdown(ctx)
	select {
	case <-ended:
	case <-ctx.Done():
		err = errors.Join(err, ctx.Err())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
	}
	return err
}

// serve answers the requests of one connection.
func (s *Server) serve(conn net.Conn) {
	c := &connection{s: s, conn: conn, buf: make([]byte, 0, maxRequest), remote: conn.RemoteAddr().String()}
	defer func() {
		if v := recover(); v != nil {
			s.handler.Logger.Error("panic while serving a connection", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
		s.untrack(conn)
		if !c.gone {
			clear(c.buf[:cap(c.buf)])
			conn.Close()
		}
	}()
	c.run()
}

// connection is one on the short way.
type connection struct {
	s      *Server
	conn   net.Conn
	remote string
	buf    []byte    // what came and was not answered yet
	answer []byte    // room for an answer
	set    time.Time // when the deadline was set
	part   bool      // a request is there in part
	gone   bool      // package http has the connection
}

func (c *connection) run() {
	c.deadline(c.s.times.first)
	for !c.s.closing.Load() {
		is, body, size := parse(c.buf)
		switch {
		case is == foundOther:
			c.handOver()
			return
		case is == foundPlain:
			if !c.serve(body) {
				return
			}
			c.drop(size)
		case !c.read():
			return
		}
	}
}

// deadline sets how long the connection may wait.
func (c *connection) deadline(d time.Duration) {
	c.set = time.Now()
	// A connection that knows no deadlines is closed already, which shows soon.
	_ = c.conn.SetDeadline(c.set.Add(d))
}

// read gets more of a request.
func (c *connection) read() bool {
	if len(c.buf) > 0 && !c.part {
		c.part = true
		c.deadline(c.s.times.part)
	}
	if c.s.closing.Load() { // Shutdown may have set its deadline before ours
		return false
	}
	n, err := c.conn.Read(c.buf[len(c.buf):cap(c.buf)])
	c.buf = c.buf[:len(c.buf)+n]
	return err == nil || n > 0
}

// drop forgets the request that was answered.
func (c *connection) drop(size int) {
	rest := copy(c.buf, c.buf[size:])
	clear(c.buf[rest:])
	c.buf = c.buf[:rest]
	if c.part || time.Since(c.set) > c.s.times.renew {
		c.part = false
		c.deadline(c.s.times.idle)
	}
}

// serve answers a plain request.
func (c *connection) serve(body []byte) bool {
	h := c.s.handler
	call := guard.Request{Verb: op.Write, Path: h.path, As: h.As, Remote: c.remote, Decode: func(into any) ([]string, error) {
		in, ok := into.(*api.PoolHMAC)
		if !ok {
			return nil, h.wrongRequest(into)
		}
		in.Input = body
		return nil, nil
	}}
	code, err := h.call(context.Background(), &call)
	b := append(c.answer[:0], statusLine(err)...)
	b = c.s.appendDate(b)
	if err == nil {
		b = append(b, goodHead...)
		b = append(b, code...)
	} else {
		h.note(c.remote, err)
		b = append(b, badHead...)
	}
	c.answer = b
	_, err = c.conn.Write(b)
	return err == nil
}

const (
	goodHead = "Content-Type: application/octet-stream\r\nContent-Length: 32\r\n\r\n"
	badHead  = "Content-Length: 0\r\n\r\n"
)

func statusLine(err error) string {
	switch {
	case err == nil:
		return "HTTP/1.1 200 OK\r\n"
	case fault.KindOf(err) == fault.Denied:
		return "HTTP/1.1 403 Forbidden\r\n"
	}
	return "HTTP/1.1 400 Bad Request\r\n"
}

// dateLine is the header Date of one second.
type dateLine struct {
	second int64
	line   string
}

func (s *Server) appendDate(b []byte) []byte {
	now := time.Now()
	d := s.date.Load()
	if d == nil || d.second != now.Unix() {
		d = &dateLine{now.Unix(), "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"}
		s.date.Store(d)
	}
	return append(b, d.line...)
}

// handOver gives the connection to package http, with the bytes that came.
func (c *connection) handOver() {
	if c.conn.SetDeadline(time.Time{}) != nil {
		return
	}
	c.gone = c.s.others.give(&replayed{Conn: c.conn, before: c.buf})
}

// replayed is a connection of which some bytes were read already.
type replayed struct {
	net.Conn
	before []byte
}

// Read returns the bytes that were read already, then those that come.
func (r *replayed) Read(b []byte) (int, error) {
	if len(r.before) == 0 {
		return r.Conn.Read(b)
	}
	n := copy(b, r.before)
	clear(r.before[:n])
	r.before = r.before[n:]
	return n, nil
}

// handedOver is a listener that accepts what is given to it.
type handedOver struct {
	address net.Addr
	conns   chan net.Conn
	once    sync.Once
	done    chan struct{}
}

func newHandedOver() *handedOver {
	return &handedOver{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *handedOver) give(conn net.Conn) bool {
	select {
	case l.conns <- conn:
		return true
	case <-l.done:
		return false
	}
}

// Accept waits for a connection that is handed over.
func (l *handedOver) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (l *handedOver) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr is the address of the listener that connections came from.
func (l *handedOver) Addr() net.Addr { return l.address }
