package p11kit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/claviger/claviger/internal/p11"
)

const (
	// newest is the highest version of the protocol that is spoken.
	newest = 2
	// callTime is how long a call may take: the protocol names no deadline.
	callTime = 30 * time.Second
	// goodbyeTime is how long the objects of sessions may take to be destroyed
	// after their program went.
	goodbyeTime = 10 * time.Second
	// keepEvery is how often objects of sessions are kept from ending.
	keepEvery = 3 * time.Minute
)

// Options are what connections need. Observe and Logger may be nil.
type Options struct {
	Service *p11.Service
	// Observe is told of every call: its name, the outcome, how long it took.
	Observe func(name string, code p11.Code, d time.Duration)
	Logger  *slog.Logger
}

// NewServer makes a server for p11-kit-client.so.
func NewServer(o Options, peers p11.Peers) *p11.Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return p11.NewServerOf(func(c *p11.Conn) { talk(c, &o) }, peers, o.Logger)
}

// program is what belongs to a connection: what a module keeps for its program.
type program struct {
	*Options
	remote  string
	version uint8

	mu       sync.Mutex // all below; held while a call is performed
	up       bool       // between C_Initialize and C_Finalize
	sessions map[uint64]*session
	last     uint64            // handle of a session or a held object
	logins   map[uint32]string // client token by slot
	owned    map[ownKey]*own
	infos    map[uint32]*info
	held     int // bytes that operations and objects hold
	keeping  bool
	keep     context.Context // ends with the connection
}

func newProgram(ctx context.Context, o *Options, remote string, version uint8) *program {
	p := &program{Options: o, remote: remote, version: version, keep: ctx}
	p.clear()
	return p
}

// clear makes everything as it was before C_Initialize.
func (p *program) clear() {
	p.up, p.held = false, 0
	p.sessions, p.logins = map[uint64]*session{}, map[uint32]string{}
	p.owned, p.infos = map[ownKey]*own{}, map[uint32]*info{}
}

// talk is one connection: a byte of each side with a version, then frames.
func talk(c *p11.Conn, o *Options) {
	first, err := c.Hello(1)
	if err != nil {
		return
	}
	version := min(first[0], newest)
	if c.Write([]byte{version}) != nil {
		return
	}
	ctx, cancel := context.WithCancel(c.Context())
	p := newProgram(ctx, o, c.Remote, version)
	defer p.goodbye(c.Context())
	defer cancel()
	var in, out []byte
	for {
		var code uint32
		if code, in, err = frame(c, in); err != nil {
			return
		}
		if !c.Busy(true) {
			clear(in)
			return
		}
		out = p.handle(c.Context(), in, append(out[:0], make([]byte, headSize)...))
		clear(in)
		binary.BigEndian.PutUint32(out, code)
		binary.BigEndian.PutUint32(out[8:], uint32(len(out)-headSize))
		err := c.Write(out)
		clear(out)
		if err != nil || !c.Busy(false) {
			return
		}
		in, out = p11.Keep(in), p11.Keep(out)
	}
}

// frame reads the next message, and the number that its answer must have.
func frame(c *p11.Conn, b []byte) (code uint32, message []byte, err error) {
	head, err := c.Head(headSize)
	if err != nil {
		return 0, nil, err
	}
	code = binary.BigEndian.Uint32(head)
	options, n := binary.BigEndian.Uint32(head[4:]), binary.BigEndian.Uint32(head[8:])
	if code == 0 || options > maxOptions || n > maxFrame {
		return 0, nil, fmt.Errorf("frame %d of %d and %d bytes", code, options, n)
	}
	if b, err = c.Body(b, int(options)); err != nil { // the name of a module: there is one
		return 0, nil, err
	}
	message, err = c.Body(b, int(n))
	return code, message, err
}

// handle answers a message. The answer is appended to out.
func (p *program) handle(ctx context.Context, message, out []byte) []byte {
	began := time.Now()
	w := &writer{p11.Writer{B: out}}
	name, err := p.perform(ctx, message, w)
	code := p11.CKR_OK
	if err == nil && len(w.B)-len(out) > maxFrame {
		err = refusal(p11.CKR_FUNCTION_FAILED, "the answer is too long")
	}
	if err != nil {
		e, ok := errors.AsType[*p11.Error](err)
		if !ok {
			e = refusal(p11.CKR_GENERAL_ERROR, "internal error")
			p.Logger.Error("PKCS#11 call failed", "call", name, "error", err)
		}
		code = e.Code
		p.Logger.Debug("PKCS#11 call refused", "call", name, "code", fmt.Sprintf("0x%x", uint32(code)), "reason", e.Msg, "caller", p.remote)
		clear(w.B[len(out):])
		w.B = w.B[:len(out)]
		w.begin(callError, "u")
		w.U64(uint64(code))
	}
	if p.Observe != nil {
		p.Observe(name, code, time.Since(began))
	}
	return w.B
}

// perform decodes a call, performs it and puts its answer.
func (p *program) perform(ctx context.Context, message []byte, w *writer) (name string, err error) {
	r := &reader{p11.NewReader(message), p.version}
	number := r.U32()
	signature := r.Bytes()
	if r.Err != nil {
		return unknownCall, r.Err
	}
	if int(number) >= len(calls) || calls[number].name == "" {
		return unknownCall, refusal(p11.CKR_FUNCTION_NOT_SUPPORTED, "the call is none of version 2 of the protocol")
	}
	k := &calls[number]
	if string(signature) != k.request {
		return k.name, refusal(p11.CKR_ARGUMENTS_BAD, "the call has other values than this protocol's")
	}
	if k.do == nil {
		return k.name, refusal(p11.CKR_FUNCTION_NOT_SUPPORTED, "the call is not offered")
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() {
		if v := recover(); v != nil {
			p.Logger.Error("panic in a PKCS#11 call", "call", k.name, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = refusal(p11.CKR_GENERAL_ERROR, "internal error")
		}
	}()
	w.begin(number, k.response)
	return k.name, k.do(&call{program: p, reader: r, writer: w, ctx: ctx})
}

// call is a call under way. Its function takes what it needs, calls end, and puts
// the answer.
type call struct {
	*program
	*reader
	*writer
	ctx context.Context
}

// end says that all values were taken; the module must be initialized.
func (c *call) end() error {
	if err := c.reader.End(); err != nil {
		return err
	}
	if !c.up {
		return refusal(ckrNotInitialized, "C_Initialize comes first")
	}
	return nil
}

// goodbye ends what the program left behind.
func (p *program) goodbye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, goodbyeTime)
	defer cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeAll(ctx)
}
