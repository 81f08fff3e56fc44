package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// maxInput is the most that is read into memory, in bytes. As base64 it fills
// the largest body that a server takes by default.
const maxInput = 24 << 20

// input is the flags that say where data comes from.
type input struct {
	what string // "plaintext"
	file string
	text string
}

// flags adds --in and --text to cmd.
func (in *input) flags(cmd *cobra.Command, what string) {
	in.what = what
	cmd.Flags().StringVar(&in.file, "in", "", "read the "+what+" from this file; default is standard input")
	cmd.Flags().StringVar(&in.text, "text", "", "the "+what+" itself, if it is no secret: others can read arguments")
}

// open returns the data as a stream.
func (a *app) open(cmd *cobra.Command, in *input) (io.ReadCloser, error) {
	text := cmd.Flags().Changed("text")
	switch {
	case text && in.file != "":
		return nil, usagef("--in and --text exclude each other")
	case text:
		return io.NopCloser(strings.NewReader(in.text)), nil
	case in.file != "" && in.file != "-":
		f, err := os.Open(in.file)
		if err != nil {
			return nil, fmt.Errorf("read the %s: %w", in.what, err)
		}
		return f, nil
	}
	if isTerminal(a.in) {
		a.say("Enter the %s, then Ctrl-D.", in.what)
	}
	return io.NopCloser(a.in), nil
}

// bytes returns the data, never nil.
func (a *app) bytes(cmd *cobra.Command, in *input) ([]byte, error) {
	r, err := a.open(cmd, in)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := readAtMost(r, maxInput)
	if err != nil {
		return nil, fmt.Errorf("read the %s: %w", in.what, err)
	}
	return b, nil
}

// line returns data that is text, without blanks around it.
func (a *app) line(cmd *cobra.Command, in *input) (string, error) {
	b, err := a.bytes(cmd, in)
	if err != nil {
		return "", err
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return "", usagef("there is no %s", in.what)
	}
	return s, nil
}

func readAtMost(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		clear(b)
		return nil, fmt.Errorf("it is longer than %d bytes", limit)
	}
	return b, nil
}

// readFile reads a small file that the user names: a key, a PIN, a policy.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := readAtMost(f, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}

// binding is the flags of data that is authenticated or derives a key.
type binding struct {
	aad, aadFile, context string
}

// flags adds --aad, --aad-file and --context to cmd.
func (c *binding) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.aad, "aad", "", "associated data, not secret: authenticated, and needed to decrypt")
	f.StringVar(&c.aadFile, "aad-file", "", "file that holds the associated data")
	f.StringVar(&c.context, "context", "", "context of a derived key")
}

// values returns the associated data and the context, nil if not given.
func (c *binding) values() (aad, context []byte, err error) {
	if c.context != "" {
		context = []byte(c.context)
	}
	switch {
	case c.aad != "" && c.aadFile != "":
		return nil, nil, usagef("--aad and --aad-file exclude each other")
	case c.aad != "":
		aad = []byte(c.aad)
	case c.aadFile != "":
		if aad, err = readFile(c.aadFile); err != nil {
			return nil, nil, fmt.Errorf("read the associated data: %w", err)
		}
	}
	return aad, context, nil
}
