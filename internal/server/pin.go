package server

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"
)

// pinSource keeps the PIN that came in an environment variable.
type pinSource struct{ fromEnv []byte }

func (p *pinSource) wipe() { clear(p.fromEnv) }

// pinProvider yields the user PIN of the HSM token, from where the configuration
// says that it is: for custody by a PIN, or for the initialisation that adopts a
// token. It is nil if the configuration names no source.
func (s *Server) pinProvider() func() ([]byte, error) {
	c := &s.cfg.Custody
	switch {
	case c.PIN != nil:
		return c.PIN
	case c.PINEnv != "":
		return s.pinFromEnv(c.PINEnv)
	case c.PINFile != "":
		return pinFromFile(c.PINFile)
	case s.cfg.Token.PKCS11.PINFile != "":
		return pinFromFile(s.cfg.Token.PKCS11.PINFile)
	}
	return nil
}

// pinFromEnv takes the variable out of the environment, which the processes
// that drive the module inherit.
func (s *Server) pinFromEnv(name string) func() ([]byte, error) {
	value, found := os.LookupEnv(name)
	s.pin.fromEnv = []byte(value)
	os.Unsetenv(name)
	return func() ([]byte, error) {
		if !found {
			return nil, fmt.Errorf("the environment variable %s, which holds the PIN, is not set", name)
		}
		return bytes.Clone(s.pin.fromEnv), nil
	}
}

func pinFromFile(path string) func() ([]byte, error) {
	return func() ([]byte, error) {
		pin, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading the PIN file: %w", err)
		}
		for len(pin) > 0 && (pin[len(pin)-1] == '\n' || pin[len(pin)-1] == '\r') {
			pin = pin[:len(pin)-1]
		}
		return pin, nil
	}
}

// How long keepOpening waits between two attempts.
const (
	openAgainAfter = 2 * time.Second
	openAgainMost  = time.Minute
)

// keepOpening tries again while that may help, see tryToOpen.
func (s *Server) keepOpening(ctx context.Context) {
	for wait := openAgainAfter; s.mayOpenLater.Load(); wait = min(2*wait, openAgainMost) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		s.mayOpenLater.Store(s.tryToOpen(ctx))
	}
}
