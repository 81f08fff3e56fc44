package programs

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// CKR codes that are expected, as testdata/p11user.c prints them.
const (
	ckrOK            = "0x0"
	ckrDeviceError   = "0x30"
	ckrHandleInvalid = "0x60"
	ckrNotPermitted  = "0x68"
	ckrPINIncorrect  = "0xa0"
	ckrPINExpired    = "0xa3"
	ckrNotLoggedIn   = "0x101"
)

var user struct {
	once sync.Once
	path string
	err  error
}

// application is a program that uses the module: testdata/p11user.c.
type application struct {
	*process
	in    io.WriteCloser
	lines chan string
}

// newApplication compiles the program, once, and starts it.
func newApplication(t testing.TB, p *provider) *application {
	t.Helper()
	cc := need(t, "cc", "gcc")
	user.once.Do(func() {
		user.path = filepath.Join(scratch, "p11user")
		out, err := exec.Command(cc, "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-I../../pkcs11", "-o", user.path, "testdata/p11user.c", "-ldl", "-pthread").CombinedOutput()
		if err != nil {
			user.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if user.err != nil {
		t.Fatal(user.err)
	}
	a := &application{lines: make(chan string, 100)}
	in, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	a.in = to
	a.process = startWith(t, p.environ(), in, out, user.path, p.module)
	in.Close()
	out.Close()
	t.Cleanup(func() { to.Close() })
	go func() {
		defer from.Close()
		for sc := bufio.NewScanner(from); sc.Scan(); {
			a.lines <- sc.Text()
		}
	}()
	return a
}

// answer is what came of a call.
type answer struct {
	code string
	took time.Duration
	rest string
}

// ask gives the program a line without waiting for the answer.
func (a *application) ask(t testing.TB, line string, args ...any) {
	t.Helper()
	if _, err := fmt.Fprintf(a.in, line+"\n", args...); err != nil {
		t.Fatal(err)
	}
}

// hear waits for an answer, for a minute at most.
func (a *application) hear(t testing.TB) answer {
	t.Helper()
	select {
	case line := <-a.lines:
		code, rest, _ := strings.Cut(line, " ")
		ms, rest, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(ms)
		if err != nil {
			t.Fatalf("the program printed %q", line)
		}
		return answer{code, time.Duration(n) * time.Millisecond, rest}
	case <-a.done:
		t.Fatalf("the program ended: %s", a.out.String())
	case <-time.After(time.Minute):
		t.Fatal("the program hangs")
	}
	return answer{}
}

// do asks and expects one of the codes, within the module's deadline and a
// second for a busy machine.
func (a *application) do(t testing.TB, codes string, line string, args ...any) answer {
	t.Helper()
	a.ask(t, line, args...)
	return a.expect(t, codes, fmt.Sprintf(line, args...))
}

func (a *application) expect(t testing.TB, codes, what string) answer {
	t.Helper()
	got := a.hear(t)
	if !strings.Contains(" "+codes+" ", " "+got.code+" ") {
		t.Fatalf("%s: %s, not %s (%v) %s", what, got.code, codes, got.took, got.rest)
	}
	if limit := moduleDeadline + 1500*time.Millisecond; got.took > limit && !strings.HasPrefix(what, "threads") {
		t.Errorf("%s: %s after %v", what, got.code, got.took)
	}
	return got
}

var digest = sha256.Sum256([]byte("what is to be signed"))

// signs checks that a signature is made and is that of the key.
func (a *application) signs(t testing.TB, k *key) {
	t.Helper()
	a.right(t, k, a.do(t, ckrOK, "sign %x", digest))
}

// right checks a signature.
func (a *application) right(t testing.TB, k *key, got answer) {
	t.Helper()
	if !verifies(got.rest, k) {
		t.Errorf("the signature is wrong: %q", got.rest)
	}
}

// verifies tells whether a signature of the digest, r and s in hexadecimal, is
// that of a P-256 key.
func verifies(signature string, k *key) bool {
	raw, err := hex.DecodeString(signature)
	if err != nil || len(raw) != 64 {
		return false
	}
	r, s := new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])
	return ecdsa.Verify(k.public.(*ecdsa.PublicKey), digest[:], r, s)
}

// ready starts an application that has found its key and signed with it.
func ready(t testing.TB, p *provider, k *key) *application {
	t.Helper()
	a := newApplication(t, p)
	a.do(t, ckrOK, "open %s", tokenLabel)
	if p.pin != "" {
		a.do(t, ckrOK, "login %s", p.pin)
	}
	a.do(t, ckrOK, "find %s", k.name)
	a.signs(t, k)
	return a
}

// TestOutages lets the server and the agent die, stop and come back below an
// application: the right code within the deadline, and everything works again
// without anything done to the application.
func TestOutages(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, p *provider) {
		c := p.claviger
		k := p.key(t, "app", "ecdsa-p256")
		// What is started again lives as long as this test.
		restart := func(testing.TB) { c.restart(t) }
		startAgent := func(testing.TB) { c.startAgent(t) }
		faults := map[string]struct{ away, back func(t testing.TB) }{
			"server killed":  {func(testing.TB) { c.server.Kill() }, restart},
			"server ended":   {func(testing.TB) { c.server.Stop() }, restart},
			"server stopped": {signal(func() int { return c.server.PID() }, syscall.SIGSTOP), signal(func() int { return c.server.PID() }, syscall.SIGCONT)},
		}
		if c.agent != nil {
			faults["agent killed"] = struct{ away, back func(t testing.TB) }{func(testing.TB) { c.agent.kill() }, startAgent}
			faults["agent ended"] = struct{ away, back func(t testing.TB) }{func(testing.TB) { c.agent.stop() }, startAgent}
			pid := func() int { return c.agent.Process.Pid }
			faults["agent stopped"] = struct{ away, back func(t testing.TB) }{signal(pid, syscall.SIGSTOP), signal(pid, syscall.SIGCONT)}
		}
		for name, fault := range faults {
			t.Run(name, func(t *testing.T) {
				a := ready(t, p, k)
				// Longer than the deadline.
				fault.away(t)
				from := time.Now()
				a.do(t, ckrDeviceError, "sign %x", digest)
				if took := time.Since(from); took < moduleDeadline-time.Second {
					t.Errorf("it gave up after %v", took)
				}
				fault.back(t)
				a.signs(t, k)
				// Shorter: the call itself succeeds.
				fault.away(t)
				a.ask(t, "sign %x", digest)
				time.Sleep(300 * time.Millisecond)
				fault.back(t)
				a.right(t, k, a.expect(t, ckrOK, "sign in a short outage"))
				// A process that forks meanwhile.
				fault.away(t)
				a.ask(t, "fork %x", digest)
				time.Sleep(300 * time.Millisecond)
				fault.back(t)
				a.right(t, k, a.expect(t, ckrOK, "sign in a child, in a short outage"))
				a.signs(t, k)
				// In the middle of many signatures.
				a.ask(t, "threads 8 60 %s", k.name)
				time.Sleep(50 * time.Millisecond)
				fault.away(t)
				time.Sleep(100 * time.Millisecond)
				fault.back(t)
				if got := a.expect(t, ckrOK, "threads"); !strings.HasSuffix(got.rest, "threads=8 0x0=480") {
					t.Errorf("in a short outage: %s", got.rest)
				}
			})
		}
	})
}

// signal returns a function that sends a signal to a process.
func signal(pid func() int, s syscall.Signal) func(testing.TB) {
	return func(t testing.TB) {
		t.Helper()
		if err := syscall.Kill(pid(), s); err != nil {
			t.Fatal(err)
		}
		if s != syscall.SIGSTOP {
			return
		}
		t.Cleanup(func() { syscall.Kill(pid(), syscall.SIGCONT) }) // or nothing ends it in order
		for end := time.Now().Add(5 * time.Second); !stopped(pid()); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the process does not stop")
			}
		}
	}
}

// stopped tells whether every thread of a process has stopped.
func stopped(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, path := range threads {
		b, err := os.ReadFile(path)
		if _, rest, _ := strings.Cut(string(b), ") "); err == nil && !strings.HasPrefix(rest, "T") {
			return false
		}
	}
	return len(threads) > 0
}

// TestManyConnections lets a thousand sessions sign at the same time. They wait
// longer than by default: it takes the machine's cores for a while.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, p *provider) {
		p.env = append(p.env, "CLAVIGER_PKCS11_TIMEOUT=60000")
		k := p.key(t, "app", "ecdsa-p256")
		a := ready(t, p, k)
		got := a.do(t, ckrOK, "threads 1000 2 %s", k.name)
		if !strings.HasSuffix(got.rest, "threads=1000 0x0=2000") {
			t.Error(got.rest)
		}
		t.Log(got.rest)
		a.signs(t, k)
	})
}
