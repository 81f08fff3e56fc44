package worker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/claviger/claviger/internal/token/pkcs11"
)

// socketFD is the worker's end of the socket pair: the first of its ExtraFiles.
const socketFD = 3

// stageEnv marks a worker that is confined already and was executed again.
const stageEnv = "CLAVIGER_TOKEN_WORKER_STAGE"

// Exit codes of a worker.
const (
	exitOK      = 0
	exitUsage   = 2
	exitSession = 3 // the login or the device is gone
	exitWire    = 4
)

// Main is the worker process: it serves the frames of file descriptor 3 until
// that is closed. It returns the exit code. It is run by `claviger token-worker`
// and is of no use from a shell.
func Main() int {
	if _, err := syscall.Getpeername(socketFD); err != nil {
		fmt.Fprintln(os.Stderr, "token-worker: file descriptor 3 is no socket: the server starts this command itself")
		return exitUsage
	}
	// One thread keeps the restrictions of stage 1 until exec, and serves control after it.
	runtime.LockOSThread()
	if os.Getenv(stageEnv) == "" {
		fmt.Fprintln(os.Stderr, "token-worker:", confineAndExec())
		return exitUsage
	}
	return serve()
}

// confineAndExec is stage 1. It looks at the setup frame without taking it off
// the socket, restricts its own thread by it, and executes the program again,
// whose whole process is then restricted. It returns only if that fails.
func confineAndExec() error {
	s, err := peekSetup()
	if err != nil {
		return fmt.Errorf("reading the setup: %w", err)
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the own program: %w", err)
	}
	report := confine(s, exe)
	env := append(os.Environ(), stageEnv+"="+report.String())
	return fmt.Errorf("executing %s: %w", exe, syscall.Exec(exe, os.Args, env))
}

// peekSetup reads the first frame and leaves it in the socket.
func peekSetup() (setup, error) {
	buf := make([]byte, headerSize)
	for {
		n, _, err := syscall.Recvfrom(socketFD, buf, syscall.MSG_PEEK|syscall.MSG_WAITALL)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return setup{}, err
		}
		if n < len(buf) {
			return setup{}, errFrame
		}
		f, used, need, err := parseFrame(buf)
		switch {
		case err != nil:
			return setup{}, err
		case used > 0 && f.kind == frameSetup:
			return parseSetup(f.payload)
		case used > 0 || need <= len(buf):
			return setup{}, errFrame
		}
		buf = make([]byte, need)
	}
}

// process is the worker after its start.
type process struct {
	socket  *os.File
	control chan frame    // frames for the thread of Main
	served  chan struct{} // one token when such a frame was

	in   []byte // r:w is unread
	r, w int

	out     []byte    // answers of the hot lane that are not written yet
	since   time.Time // when the first of them began
	writeMu sync.Mutex

	mod    *pkcs11.Module
	slot   pkcs11.Slot
	mechs  map[pkcs11.CKM]pkcs11.MechanismInfo
	wrap   pkcs11.CKM
	wraps  bool
	setup  setup
	keeper *pkcs11.Session // holds the login and every loaded session object; hot lane only
	hot    *pkcs11.Session
	table  map[uint32]loaded
	do     doRequest

	plain     atomic.Bool   // the module takes plain templates of key pairs only
	kek       atomic.Uint64 // handle, 0 if unknown
	kekStrict atomic.Bool   // the KEK is CKA_TRUSTED
	slow      slowLane
}

func serve() int {
	// The heap of a worker is small and its garbage is little: collect seldom.
	debug.SetGCPercent(400)
	runtime.GOMAXPROCS(2)
	if err := syscall.SetNonblock(socketFD, true); err != nil {
		fmt.Fprintln(os.Stderr, "token-worker: preparing the socket:", err)
		return exitWire
	}
	p := &process{socket: os.NewFile(socketFD, "server"), control: make(chan frame), served: make(chan struct{}),
		in: make([]byte, 256<<10), out: make([]byte, 0, 256<<10), table: map[uint32]loaded{}}
	p.slow.init(p)
	var code int
	var err error
	go func() {
		defer close(p.control)
		code, err = p.run()
	}()
	for f := range p.control {
		p.controlFrame(f)
		p.served <- struct{}{}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "token-worker:", err)
	}
	return code
}

// run is the hot lane: it takes all frames and performs those that use keys. It
// returns the exit code. Its goroutine is bound to no thread and waits for the
// socket in the scheduler: a thread of its own that is either in read(2) or in the
// module would look like one that never yields, and Go's monitor thread would
// take its processor away again and again.
func (p *process) run() (int, error) {
	for {
		f, err := p.next()
		if errors.Is(err, errEnd) {
			return exitOK, nil
		}
		if err != nil {
			return exitWire, err
		}
		p.handle(f)
	}
}

var errEnd = errors.New("the server closed the socket")

// next returns the next frame. When none is complete in memory it first writes
// the answers that are ready, and then waits for the socket.
func (p *process) next() (frame, error) {
	for {
		f, used, need, err := parseFrame(p.in[p.r:p.w])
		if err != nil {
			return frame{}, err
		}
		if used > 0 {
			p.r += used
			return f, nil
		}
		if err := p.flush(); err != nil {
			return frame{}, err
		}
		p.compact(need)
		n, err := p.socket.Read(p.in[p.w:])
		switch {
		case errors.Is(err, io.EOF):
			return frame{}, errEnd
		case err != nil:
			return frame{}, fmt.Errorf("reading: %w", err)
		}
		p.w += n
	}
}

// compact wipes what was read and makes room for a frame of need bytes.
func (p *process) compact(need int) {
	clear(p.in[:p.r])
	left := p.w - p.r
	const usual = 256 << 10
	switch {
	case need > len(p.in), need <= usual && len(p.in) > usual && left < usual:
		old := p.in
		p.in = make([]byte, max(need, usual))
		copy(p.in, old[p.r:p.w])
		clear(old)
	case p.r > 0 && left > 0:
		copy(p.in, p.in[p.r:p.w])
		clear(p.in[max(left, p.r):p.w])
	}
	p.r, p.w = 0, left
}

// flush writes the answers of the hot lane.
func (p *process) flush() error {
	if len(p.out) == 0 {
		return nil
	}
	err := p.write(p.out)
	clear(p.out)
	if cap(p.out) > 4<<20 {
		p.out = make([]byte, 0, 256<<10)
	}
	p.out = p.out[:0]
	return err
}

// write writes whole frames; both lanes use it.
func (p *process) write(b []byte) error {
	p.writeMu.Lock()
	defer p.writeMu.Unlock()
	if _, err := p.socket.Write(b); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

// answer appends a whole answer of the hot lane or of control.
func (p *process) answer(f frame, err error, body func(b []byte) []byte) {
	p.out = appendAnswer(p.out, f, err, body)
}

func appendAnswer(b []byte, f frame, err error, body func(b []byte) []byte) []byte {
	start := len(b)
	b = beginFrame(b, f.kind|frameAnswer, f.seq)
	if err != nil {
		return endFrame(appendFailure(b, asFailure(err)), start)
	}
	b = append(b, statusOK)
	if body != nil {
		b = body(b)
	}
	return endFrame(b, start)
}

// fatal says why the worker can't go on and ends it. It is called by either lane.
func (p *process) fatal(err error) {
	b := beginFrame(nil, frameFatal, 0)
	b = endFrame(appendFailure(b, asFailure(err)), 0)
	// The server replaces a worker that ends, with or without this frame.
	_ = p.write(b)
	os.Exit(exitSession)
}

// handle performs one frame.
func (p *process) handle(f frame) {
	switch f.kind {
	case frameDo:
		p.doFrame(f)
	case frameLoad:
		p.loadFrame(f)
	case frameUnload:
		if len(f.payload) == 4 {
			p.unload(binary.LittleEndian.Uint32(f.payload))
		}
	case frameRandom:
		p.randomFrame(f)
	case frameGenerate, frameDestroy, frameProvision, frameSystem, frameTry, frameIntake, frameImport, frameObjects, frameAdopt, frameErase, frameMove:
		p.slow.push(f)
	case frameSetup, frameLogin, frameCreate, frameSetPIN, frameTryPIN:
		p.control <- f
		<-p.served
	default:
		p.answer(f, &failure{reason: reasonFrame, msg: fmt.Sprintf("unknown frame kind %d", f.kind)}, nil)
	}
}

// controlFrame performs a frame that belongs to the thread of Main, which alone
// can put off the end of the process (see outlive). The hot lane waits meanwhile.
func (p *process) controlFrame(f frame) {
	switch f.kind {
	case frameSetup:
		v, err := p.start(f.payload)
		p.answer(f, err, v.append)
	case frameLogin:
		var facts facts
		err := outlive(func() (err error) {
			facts, err = p.login(f.payload)
			return err
		})
		clear(f.payload)
		p.answer(f, err, facts.append)
	case frameCreate, frameSetPIN, frameTryPIN:
		do := map[byte]func([]byte) error{frameCreate: p.create, frameSetPIN: p.setPIN, frameTryPIN: p.tryPIN}[f.kind]
		err := outlive(func() error { return do(f.payload) })
		clear(f.payload)
		p.answer(f, err, nil)
	}
}
