package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminals stay open until the process ends: an interrupted prompt still reads
// its descriptor, which must not become that of another file.
var terminals struct {
	sync.Mutex
	open []*os.File
}

// terminal opens a pseudo-terminal: what is written to master is typed.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	terminals.Lock()
	defer terminals.Unlock()
	terminals.open = append(terminals.open, master, slave)
	return master, slave
}

func echoes(t *testing.T, tty *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// silent waits until the terminal echoes no more.
func silent(t *testing.T, tty *os.File) {
	t.Helper()
	for range 3000 {
		if !echoes(t, tty) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the terminal still echoes")
}

type secretAnswer struct {
	secret []byte
	err    error
}

func ask(ctx context.Context, u *ui) <-chan secretAnswer {
	answer := make(chan secretAnswer, 1)
	go func() {
		s, err := u.secret(ctx, "Share")
		answer <- secretAnswer{s, err}
	}()
	return answer
}

func TestSecretIsNotShown(t *testing.T) {
	t.Parallel()
	master, slave := terminal(t)
	var errs bytes.Buffer
	answer := ask(t.Context(), &ui{in: slave, out: &errs, err: &errs})
	silent(t, slave)
	if _, err := master.WriteString("s3cret\n"); err != nil {
		t.Fatal(err)
	}
	if a := <-answer; a.err != nil || string(a.secret) != "s3cret" {
		t.Fatalf("%q, %v", a.secret, a.err)
	}
	if !echoes(t, slave) {
		t.Error("the echo stays off")
	}
	// Whatever the terminal showed before this mark was shown while asking.
	if _, err := slave.WriteString("#"); err != nil {
		t.Fatal(err)
	}
	shown := make([]byte, 256)
	n, err := master.Read(shown)
	if err != nil || string(shown[:n]) != "#" {
		t.Errorf("the terminal shows %q, %v", shown[:n], err)
	}
	if got := errs.String(); got != "Share (not shown): \n" {
		t.Errorf("prompt %q", got)
	}
}

func TestInterruptedPromptRestoresTheEcho(t *testing.T) {
	t.Parallel()
	_, slave := terminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	var errs bytes.Buffer
	answer := ask(ctx, &ui{in: slave, out: &errs, err: &errs})
	silent(t, slave)
	cancel()
	if a := <-answer; a.err == nil {
		t.Errorf("%q, no error", a.secret)
	}
	if !echoes(t, slave) {
		t.Error("the echo stays off")
	}
}

func TestFirstLine(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"a\nb": "a", " a \r\n": "a", "": "", "\n": ""} {
		if got, err := firstLine(strings.NewReader(in)); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	if _, err := firstLine(strings.NewReader(strings.Repeat("x", maxSecret+1))); err == nil {
		t.Error("an endless secret is read")
	}
}
