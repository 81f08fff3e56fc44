package unsealer

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/tpm"
)

// maxShare is beyond any share in text form, in bytes.
const maxShare = 1024

// share is where the share comes from. It may be used by several goroutines.
type share struct {
	source string // as in the configuration, for the log
	mu     sync.Mutex
	fill   func(*secret) error
	kept   *secret // what came from standard input, else nil
}

// newShare returns the configured source and tries it once. Standard input is
// read to the end of its first line and kept.
func newShare(c config.UnsealerShare, stdin io.Reader) (*share, error) {
	s := &share{source: c.Source}
	switch c.Source {
	case config.ShareFile:
		s.fill = func(to *secret) error { return to.readFile(c.File) }
	case config.ShareTPM:
		s.fill = func(to *secret) error { return unsealFrom(c, to) }
	case config.ShareCredential:
		s.fill = func(to *secret) error { return to.readCredential(c.Credential) }
	default:
		kept, err := newSecret()
		if err != nil {
			return nil, err
		}
		if err := kept.readLine(stdin, "standard input"); err != nil {
			kept.free()
			return nil, err
		}
		s.kept = kept
		s.fill = func(to *secret) error {
			to.text = to.mapped[:copy(to.mapped, kept.text)]
			return nil
		}
	}
	first, err := s.read()
	first.free()
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// close wipes what was kept.
func (s *share) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept.free()
}

// read returns the share as text that was checked; the caller frees it. Its
// errors are *fault.Error and show nothing of it.
func (s *share) read() (*secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	to, err := newSecret()
	if err != nil {
		return nil, err
	}
	if err = s.fill(to); err == nil {
		err = CheckShare(to.text)
	}
	if err != nil {
		to.free()
		return nil, err
	}
	return to, nil
}

func (s *secret) readFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "read the share")
	}
	defer f.Close()
	return s.readLine(f, path)
}

// readLine reads the first line, without blanks around it.
func (s *secret) readLine(r io.Reader, name string) error {
	n, err := io.ReadFull(r, s.mapped[:maxShare+1])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return fault.Wrap(fault.Unavailable, err, "read %s", name)
	}
	line, _, found := bytes.Cut(s.mapped[:n], []byte("\n"))
	if n > maxShare && !found {
		return fault.New(fault.Invalid, "%s is too long: a secret there has at most %d bytes", name, maxShare)
	}
	s.text = bytes.TrimSpace(line)
	return nil
}

// readCredential reads a file that systemd made for this process (systemd.exec(5),
// CREDENTIALS).
func (s *secret) readCredential(name string) error {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return fault.New(fault.Invalid, "systemd gave this process no credentials: CREDENTIALS_DIRECTORY is not set").
			WithHint("the unit needs LoadCredentialEncrypted=%s:FILE, or LoadCredential=", name)
	}
	return s.readFile(filepath.Join(dir, name))
}

// unsealFrom opens what claviger unsealer enroll sealed to the TPM.
func unsealFrom(c config.UnsealerShare, to *secret) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "read the sealed share")
	}
	sealed, err := tpm.ParseSealed(text)
	if err != nil {
		return err
	}
	password, err := newSecret()
	if err != nil {
		return err
	}
	defer password.free()
	if c.PasswordFile != "" {
		err = password.readFile(c.PasswordFile)
	} else if c.PasswordCredential != "" {
		err = password.readCredential(c.PasswordCredential)
	}
	if err != nil {
		return err
	}
	device, err := tpm.Open(c.Device)
	if err != nil {
		return err
	}
	defer device.Close()
	opened, err := device.Unseal(sealed, password.text)
	defer clear(opened)
	if err == nil {
		to.text = to.mapped[:copy(to.mapped, opened)]
	}
	return err
}

// Check sees that the configured share can be had and is one. It is for another
// source than standard input. Errors are as those of New.
func Check(c *config.Unsealer) error {
	s, err := newShare(c.Share, nil)
	if err == nil {
		s.close()
	}
	return err
}

// CheckShare refuses what no server could take: a share in hex or base64 is sent
// as it is, whatever its length. The error is a *fault.Error of kind Invalid.
func CheckShare(text []byte) error {
	switch {
	case len(text) == 0:
		return fault.New(fault.Invalid, "the share is empty")
	case bytes.Contains(text, []byte("BEGIN PGP")):
		return fault.New(fault.Invalid, "the share is still encrypted").WithHint("decrypt it first: gpg --decrypt")
	case len(text) > maxShare || bytes.ContainsFunc(text, func(r rune) bool { return !digit(r) }):
		return fault.New(fault.Invalid, "the share is no text in hex or base64")
	}
	return nil
}

// digit tells whether r stands in hex or base64 of either alphabet.
func digit(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '+' || r == '/' || r == '-' || r == '_' || r == '='
}
