package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/spf13/cobra"
)

// secretSource is where a secret comes from: a file, a file descriptor, or a prompt.
type secretSource struct {
	what string // "PIN", for flags and messages
	flag string // "pin"
	file string
	fd   int
}

// flags adds --FLAG-file and --FLAG-fd to cmd and its commands.
func (s *secretSource) flags(cmd *cobra.Command, flag, what string) {
	s.flag, s.what = flag, what
	f := cmd.PersistentFlags()
	f.StringVar(&s.file, flag+"-file", "", "file whose first line is the "+what)
	f.IntVar(&s.fd, flag+"-fd", -1, "open file descriptor whose next line is the "+what)
}

// read returns the secret, without the end of its line; blanks count. With
// stdinTaken the data of the command come by standard input, so that the question
// goes to the terminal. The caller wipes it.
func (s *secretSource) read(ctx context.Context, a *app, prompt string, stdinTaken bool) ([]byte, error) {
	switch {
	case s.file != "" && s.fd >= 0:
		return nil, usagef("--%s-file and --%s-fd exclude each other", s.flag, s.flag)
	case s.file != "":
		f, err := os.Open(s.file)
		if err != nil {
			return nil, fmt.Errorf("read the %s: %w", s.what, err)
		}
		defer f.Close()
		return s.line(f)
	case s.fd == 0 && stdinTaken:
		return nil, usagef("--%s-fd 0: standard input is the file; name that with --input", s.flag)
	case s.fd >= 0:
		// The descriptor is the caller's, and another secret may follow in it.
		return s.line(rawFD(s.fd))
	case !stdinTaken && !isTerminal(a.in):
		return s.line(a.in)
	case isTerminal(a.in):
		return a.hidden(ctx, prompt)
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, usagef("there is no terminal to ask for the %s: give --%s-file or --%s-fd", s.what, s.flag, s.flag)
	}
	defer tty.Close()
	asked := a.ui
	asked.in = tty
	return asked.hidden(ctx, prompt)
}

// line reads up to the end of a line and no further.
func (s *secretSource) line(r io.Reader) ([]byte, error) {
	line := make([]byte, 0, maxSecret)
	one := make([]byte, 1)
	for {
		switch _, err := io.ReadFull(r, one); {
		case err == io.EOF && len(line) > 0, err == nil && one[0] == '\n':
			return bytes.TrimSuffix(line, []byte("\r")), nil
		case err != nil:
			clear(line)
			return nil, fmt.Errorf("read the %s: %w", s.what, err)
		case len(line) == maxSecret:
			clear(line)
			return nil, fmt.Errorf("the %s is longer than %d bytes", s.what, maxSecret)
		}
		line = append(line, one[0])
	}
}

// rawFD reads a file descriptor that belongs to the caller, and never closes it.
type rawFD int

func (f rawFD) Read(b []byte) (int, error) {
	for {
		n, err := syscall.Read(int(f), b)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
