package server

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/guard"
	"github.com/claviger/claviger/internal/op"
)

// Files in the directory of a server that stands alone.
const (
	standaloneRootToken = "root-token"
	standaloneSocket    = "claviger.sock"
	// pendingRootToken is in the file while the first start is not complete.
	pendingRootToken = "pending"
)

// Standalone is a server in the place of an older program, started as that was:
// its configuration is made from the older one's settings, its HSM token is opened
// by the configured PIN, and on its first start it initialises itself. The
// command that starts it is the explicit act that asks for that.
type Standalone struct {
	// Dir is the state directory: store, audit log, API socket, root token.
	Dir string
	// Module, Label and Serial name the initialised HSM token that the first start
	// adopts. Without a module the first start makes an embedded software token.
	Module, Label, Serial string
	// PIN returns the user PIN; it is called a few times, and its answer wiped.
	PIN func() ([]byte, error)
	// NoAPI leaves out the unix socket at which the API is served.
	NoAPI bool
	// Mounts are engines that the first start mounts beside transit/: kind by path.
	Mounts map[string]string
}

// Config returns the configuration, for the caller to enable fronts in. An error
// is config.Problems of Config.Validate, or of the directory.
func (a *Standalone) Config() (*config.Config, error) {
	dir, err := filepath.Abs(a.Dir)
	if err != nil {
		return nil, fmt.Errorf("the state directory %s: %w", a.Dir, err)
	}
	c := config.Dev(dir)
	c.Log.Format = "json"
	if a.Module != "" {
		c.Token.Driver, c.Token.OnInit = config.DriverPKCS11, config.OnInitAdopt
		c.Token.Label, c.Token.PKCS11.Module, c.Token.PKCS11.Serial = a.Label, a.Module, a.Serial
	}
	c.Custody = config.Custody{Kind: config.CustodyPIN, PIN: a.PIN}
	c.Listeners = []config.Listener{{Address: "unix:" + a.Socket(), Mode: "0600"}}
	return c, c.Validate()
}

// Socket is the path of the API's unix socket.
func (a *Standalone) Socket() string { return filepath.Join(absolute(a.Dir), standaloneSocket) }

// RootTokenFile is the path of the file with the root token.
func (a *Standalone) RootTokenFile() string {
	return filepath.Join(absolute(a.Dir), standaloneRootToken)
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// lockWait is how long a start waits for a process that works in the directory:
// commands that live for a moment come after each other.
const lockWait = 10 * time.Second

// lockDir keeps other processes out of the data directory until close.
func (s *Server) lockDir(ctx context.Context) error {
	f, err := os.OpenFile(filepath.Join(s.cfg.DataDir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("locking the state directory: %w", err)
	}
	s.lock = f
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("locking the state directory: %w", err)
		}
		select {
		case <-ctx.Done():
			return fault.New(fault.Conflict, "another process works in %s", s.cfg.DataDir)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// startAlone initialises on the first start and opens on every start. What the
// first start could not complete the next one does.
func (s *Server) startAlone(ctx context.Context, a *Standalone) error {
	if initialized, _ := s.custody.State(); !initialized {
		if err := s.initAlone(ctx, a); err != nil {
			return err
		}
	}
	if err := s.custody.OpenByPIN(ctx); err != nil {
		return err
	}
	token, err := os.ReadFile(a.RootTokenFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its owner took it away
	}
	if err != nil {
		return fmt.Errorf("reading the root token: %w", err)
	}
	if strings.TrimSpace(string(token)) != pendingRootToken {
		return nil
	}
	return s.completeAlone(ctx, a)
}

func (s *Server) initAlone(ctx context.Context, a *Standalone) error {
	if err := writeSecret(a.RootTokenFile(), pendingRootToken); err != nil {
		return err
	}
	// The root token of the answer is not kept: completeAlone makes another, so
	// that a start which ends in between leaves nothing that nobody can use.
	_, err := s.custody.Init(ctx, &api.Init{})
	return err
}

// completeAlone makes a root token, mounts the engines with it, and then leaves
// it in the file.
func (s *Server) completeAlone(ctx context.Context, a *Standalone) error {
	b := make([]byte, 24)
	rand.Read(b)
	token := "root." + base64.RawURLEncoding.EncodeToString(b)
	if err := s.guard.CreateRootToken(ctx, token); err != nil {
		return fmt.Errorf("making the root token: %w", err)
	}
	for path, kind := range a.Mounts {
		_, err := s.guard.Handle(ctx, &guard.Request{Verb: op.Write, Path: "sys/mounts/" + path, Token: token, Remote: "start",
			Decode: func(req any) ([]string, error) {
				req.(*api.CreateMount).Type = kind
				return nil, nil
			}})
		if err != nil && !strings.Contains(fault.Message(err), "already in use") {
			return fmt.Errorf("mounting %s: %w", path, err)
		}
	}
	return writeSecret(a.RootTokenFile(), token)
}

// writeSecret replaces a file in one step; only this user can read it.
func writeSecret(path, secret string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(secret + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
