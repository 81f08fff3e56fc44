package worker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"

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
	lane    *pkcs11.Lane
	control chan frame    // frames for the thread of Main
	served  chan struct{} // one token when such a frame was

	mod    *pkcs11.Module
	slot   pkcs11.Slot
	mechs  map[pkcs11.CKM]pkcs11.MechanismInfo
	wrap   pkcs11.CKM
	wraps  bool
	setup  setup
	keeper *pkcs11.Session // holds the login and every loaded session object; hot lane only
	hot    *pkcs11.Session
	table  map[uint32]loaded
	// renewed is the number of the operation for which the session was renewed last.
	renewed uint32

	plain     atomic.Bool   // the module takes plain templates of key pairs only
	kek       atomic.Uint64 // handle, 0 if unknown
	kekStrict atomic.Bool   // the KEK is CKA_TRUSTED
	slow      slowLane
}

func serve() int {
	// The heap of a worker is small and its garbage is little: collect seldom.
	debug.SetGCPercent(400)
	runtime.GOMAXPROCS(2)
	lane, err := openLane()
	if err != nil {
		fmt.Fprintln(os.Stderr, "token-worker: preparing the socket:", err)
		return exitWire
	}
	p := &process{lane: lane, control: make(chan frame), served: make(chan struct{}), table: map[uint32]loaded{}}
	p.slow.init(p)
	var code int
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

func openLane() (*pkcs11.Lane, error) {
	if err := syscall.SetNonblock(socketFD, false); err != nil {
		return nil, err
	}
	return pkcs11.NewLane(socketFD)
}

// run is the hot lane: it takes all frames, of which the lane performs those that
// use keys. It returns the exit code.
func (p *process) run() (int, error) {
	for again := false; ; {
		f, err := p.lane.Next(p.hot, again)
		if errors.Is(err, io.EOF) {
			return exitOK, nil
		}
		if err != nil {
			return exitWire, fmt.Errorf("serving the socket: %w", err)
		}
		again = false
		if f.Kind == frameDo {
			again = p.left(f)
		} else {
			p.handle(frame{f.Kind, f.Seq, f.Payload})
		}
	}
}

// answer writes an answer of the hot lane or of control. An error shows at the
// next frame too.
func (p *process) answer(f frame, err error, body func(b []byte) []byte) {
	b := appendAnswer(nil, f, err, body)
	_ = p.lane.Write(b)
	clear(b)
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
	_ = p.lane.Write(b)
	os.Exit(exitSession)
}

// handle performs one frame.
func (p *process) handle(f frame) {
	switch f.kind {
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
