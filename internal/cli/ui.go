package cli

// Rules of the terminal, kept here and nowhere else:
//
//   - Results go to standard output, in full and nothing but them. Prompts,
//     warnings, errors and hints go to standard error.
//   - Colour marks words on a terminal only, never with NO_COLOR set or
//     TERM=dumb, and says nothing that the words do not say.
//   - What comes from elsewhere is shown with control characters escaped.
//     Binary data is not written to a terminal.
//   - A secret is asked for on the terminal without echo. If standard input is
//     no terminal its first line is the secret, and nothing is asked.
//   - An error is one "Error:" and, where something can be done, one "Hint:".

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// ui is the terminal, or what stands in its place.
type ui struct {
	in       *os.File
	out, err io.Writer
	outTTY   bool // standard output is a terminal
	colour   bool // standard error may be coloured
}

func newUI(in, out, errs *os.File) ui {
	return ui{
		in: in, out: out, err: errs,
		outTTY: isTerminal(out),
		colour: isTerminal(errs) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
	}
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

func (u *ui) paint(code, s string) string {
	if !u.colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (u *ui) red(s string) string  { return u.paint("1;31", s) }
func (u *ui) bold(s string) string { return u.paint("1", s) }

// note writes "label text" to standard error; further lines are indented.
func (u *ui) note(label, text string) {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	fmt.Fprintf(u.err, "%s %s\n", label, strings.Join(lines, "\n  "))
}

// warn shows a warning of the server.
func (u *ui) warn(text string) { u.note(u.bold("Warning:"), text) }

// say writes a line for people to standard error.
func (u *ui) say(format string, args ...any) {
	fmt.Fprintln(u.err, printable(fmt.Sprintf(format, args...)))
}

// lines writes text that has several lines to standard output.
func (u *ui) lines(text string) error {
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		if _, err := fmt.Fprintln(u.out, printable(strings.TrimRight(line, "\r\n"))); err != nil {
			return err
		}
	}
	return nil
}

// printable escapes what could command a terminal.
func printable(s string) string {
	clean := func(r rune) bool { return unicode.IsPrint(r) || r == '\t' }
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !clean(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && s[i] != "\uFFFD"[0]:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case clean(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// maxSecret bounds a share, PIN or token, in bytes. An OpenPGP message of a
// share is the longest of them.
const maxSecret = 64 << 10

// secret asks for a secret, or takes the first line of standard input. The
// caller wipes it.
func (u *ui) secret(ctx context.Context, prompt string) ([]byte, error) {
	if !isTerminal(u.in) {
		return firstLine(u.in)
	}
	line, err := u.hidden(ctx, prompt)
	return bytes.TrimSpace(line), err
}

// hidden asks for a secret on the terminal, and keeps blanks around it.
func (u *ui) hidden(ctx context.Context, prompt string) ([]byte, error) {
	fd := int(u.in.Fd())
	before, err := term.GetState(fd)
	if err == nil {
		err = silence(fd)
	}
	if err != nil {
		return nil, fmt.Errorf("ask for a secret: %w", err)
	}
	type answer struct {
		line []byte
		err  error
	}
	answered := make(chan answer, 1)
	fmt.Fprintf(u.err, "%s (not shown): ", prompt)
	go func() {
		line, err := term.ReadPassword(fd)
		answered <- answer{line, err}
	}()
	select {
	case a := <-answered:
		fmt.Fprintln(u.err)
		if err := errors.Join(a.err, term.Restore(fd, before)); err != nil {
			clear(a.line)
			return nil, fmt.Errorf("read the secret: %w", err)
		}
		return a.line, nil
	case <-ctx.Done():
		fmt.Fprintln(u.err)
		// The reading goes on until the process ends; the echo must not stay off.
		return nil, errors.Join(errors.New("interrupted"), term.Restore(fd, before))
	}
}

// firstLine reads a secret that was piped in.
func firstLine(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("read the secret from standard input: %w", err)
	}
	if len(b) > maxSecret {
		clear(b)
		return nil, fmt.Errorf("the secret on standard input is longer than %d bytes", maxSecret)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return bytes.TrimSpace(line), nil
}
