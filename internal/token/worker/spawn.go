package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// child is a worker process during its start, when frames go to and fro one by one.
type child struct {
	cmd  *exec.Cmd
	file *os.File
	errs *tail
	in   []byte
	seq  uint32
	// writing: it was asked to log in or to create a token, and has not answered.
	writing bool
}

// writeGrace is how long a worker may go on with writing files of the token
// when it is to end. A module that hangs there does not write.
const writeGrace = 5 * time.Second

var (
	forkOnce sync.Once
	forks    chan func()
)

// onForker runs f on a thread that lives as long as the program. The kernel
// sends a worker's parent-death signal when the thread that started it ends.
func onForker(f func()) {
	forkOnce.Do(func() {
		forks = make(chan func())
		go func() {
			runtime.LockOSThread()
			for f := range forks {
				f()
			}
		}()
	})
	done := make(chan struct{})
	forks <- func() { f(); close(done) }
	<-done
}

// spawn starts a worker process.
func spawn(cfg *Config) (*child, error) {
	fds, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("making a socket pair: %w", err)
	}
	for _, fd := range fds {
		for _, opt := range []int{syscall.SO_SNDBUF, syscall.SO_RCVBUF} {
			// More than the default saves wake-ups; it works with less.
			_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, opt, 1<<20)
		}
	}
	theirs := os.NewFile(uintptr(fds[1]), "worker")
	defer theirs.Close()
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		return nil, errors.Join(fmt.Errorf("preparing a socket pair: %w", err), syscall.Close(fds[0]))
	}
	c := &child{file: os.NewFile(uintptr(fds[0]), "worker"), errs: &tail{}}
	c.cmd = exec.Command(cfg.Executable, cfg.Args...)
	c.cmd.Env = environment(cfg.Env)
	c.cmd.ExtraFiles = []*os.File{theirs}
	c.cmd.Stderr = c.errs
	c.cmd.WaitDelay = time.Second
	dieWithParent(c.cmd)
	onForker(func() { err = c.cmd.Start() })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", cfg.Executable, err), c.file.Close())
	}
	return c, nil
}

// socketPair makes a stream socket pair that no other child inherits.
func socketPair() ([2]int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	return fds, err
}

// environment is the server's without what may hold a secret, and with extra.
// A crash must not print registers, which may hold parts of a secret.
func environment(extra []string) []string {
	var env []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		if !secretName(name) {
			env = append(env, e)
		}
	}
	env = append(env, extra...)
	return append(env, "GOTRACEBACK=none")
}

func secretName(name string) bool {
	for _, p := range []string{"CLAVIGER_", "VAULT_", "BAO_"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	name = strings.ToUpper(name)
	return strings.Contains(name, "PASSWORD") || strings.Contains(name, "SECRET") || strings.HasSuffix(name, "_TOKEN")
}

// tail keeps the end of what a worker writes to its standard error.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if n := len(t.buf) - 2048; n > 0 {
		t.buf = append(t.buf[:0], t.buf[n:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}

// end kills the process and waits for it. One that may be writing files of the
// token ends by itself, when it has answered and sees its socket closed.
func (c *child) end() {
	// Each may be over already, which is what is wanted.
	_ = c.file.Close()
	if c.writing {
		late := time.AfterFunc(writeGrace, func() { _ = c.cmd.Process.Kill() })
		defer late.Stop()
	} else {
		_ = c.cmd.Process.Kill()
	}
	_ = c.cmd.Wait()
	clear(c.in)
}

// ask sends one control frame and returns the answer behind its status.
func (c *child) ask(ctx context.Context, kind byte, payload []byte) (reader, error) {
	if ctx.Err() != nil {
		return reader{}, unavailable(ctx, "the call was given up")
	}
	c.seq++
	req := endFrame(append(beginFrame(nil, kind, c.seq), payload...), 0)
	defer clear(req)
	stop := context.AfterFunc(ctx, func() { _ = c.file.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c.writing = kind == frameLogin || kind == frameCreate || kind == frameSetPIN || kind == frameTryPIN
	if _, err := c.file.Write(req); err != nil {
		return reader{}, c.broken(ctx, "sending to", err)
	}
	f, err := c.receive()
	if err != nil {
		return reader{}, c.broken(ctx, "reading from", err)
	}
	c.writing = false
	r := reader{b: f.payload}
	if f.kind == frameFatal {
		err = parseStatus(&r)
	} else if f.kind != kind|frameAnswer || f.seq != c.seq {
		err = errFrame
	} else {
		err = parseStatus(&r)
	}
	return r, err
}

func (c *child) receive() (frame, error) {
	var got []byte
	buf := make([]byte, 64<<10)
	for {
		f, used, _, err := parseFrame(got)
		if err != nil || used > 0 {
			return f, err
		}
		n, err := c.file.Read(buf)
		if err != nil {
			return frame{}, err
		}
		got = append(got, buf[:n]...)
	}
}

func (c *child) broken(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: the worker did not answer in time while it loaded the module or logged in", token.ErrUnavailable)
	}
	c.end()
	if s := c.errs.String(); s != "" {
		return fmt.Errorf("%s the worker: %w; it said: %s", doing, err, s)
	}
	return fmt.Errorf("%s the worker: %w", doing, err)
}

// look starts a worker and lets it load the module.
func look(ctx context.Context, cfg *Config, patient, all bool) (*child, view, error) {
	c, err := spawn(cfg)
	if err != nil {
		return nil, view{}, err
	}
	s := setup{cfg.Module, cfg.Label, cfg.Serial, cfg.ReadPaths, cfg.WritePaths, patient, all}
	r, err := c.ask(ctx, frameSetup, s.append(nil))
	var v view
	if err == nil {
		v, err = parseView(&r)
	}
	if err != nil {
		c.end()
		return nil, view{}, seamError(err)
	}
	return c, v, nil
}

// login lets a worker log in.
func (c *child) login(ctx context.Context, pin []byte) (facts, error) {
	r, err := c.ask(ctx, frameLogin, pin)
	if err != nil {
		return facts{}, seamError(err)
	}
	return parseFacts(&r)
}

// seamError turns a failure of start-up, creation and the like into an error of
// package token, keeping the text.
func seamError(err error) error {
	f, ok := err.(*failure) //nolint:errorlint // one that is wrapped has its seam error already
	if !ok {
		return err
	}
	var seam error
	switch {
	case f.reason == reasonModule:
		seam = token.ErrModule
	case f.reason == reasonAbsent:
		seam = token.ErrAbsent
	case f.reason == reasonExists:
		seam = token.ErrExists
	case f.reason == reasonFind, f.reason == reasonKEK, f.reason == reasonGone:
		seam = token.ErrNotFound
	case f.reason == reasonMany:
		seam = token.ErrAmbiguous
	case f.reason == reasonOpen:
		return token.ErrOpen
	case f.reason == reasonHold:
		seam = token.ErrUnsupported
	case f.code == pkcs11.PINIncorrect, f.code == pkcs11.PINInvalid, f.code == pkcs11.PINLenRange, f.code == pkcs11.PINExpired:
		seam = token.ErrPIN
	case f.code == pkcs11.PINLocked:
		seam = token.ErrLocked
	default:
		return f
	}
	return fmt.Errorf("%w: %w", seam, f)
}
