package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// Config describes a PKCS#11 token and how its workers run.
type Config struct {
	Module string // path of the PKCS#11 module
	Label  string // CKA label of the token, at most 32 bytes
	Serial string // serial number, if the label alone is ambiguous

	Workers       int           // processes; default runtime.NumCPU()
	CallTimeout   time.Duration // a worker that makes no progress for so long is killed; default 5 s
	KeygenTimeout time.Duration // the same for key generation and destruction; default 60 s
	StartTimeout  time.Duration // for loading the module and logging in; default 20 s
	CacheKeys     int           // loaded keys per worker; default 10,000

	// LockFile, if set, is locked while a worker starts, so that other processes
	// with the same token don't start theirs at the same time.
	LockFile string
	// ReadPaths and WritePaths are what the module needs beside what is known of
	// it: Landlock denies all other files.
	ReadPaths, WritePaths []string
	// Env is added to the environment of the workers ("SOFTHSM2_CONF=…").
	Env []string
	// Executable and Args start a worker; default this program with "token-worker".
	Executable string
	Args       []string

	Logger  *slog.Logger // default slog.Default()
	Observe Observer
}

// Observer is told what happens, for metrics. Each function may be nil; they
// are called on the hot path and must not block.
type Observer struct {
	Restart func(reason string)                // a worker has ended and is replaced
	Retry   func()                             // a call is repeated with another worker
	Queue   func(worker int, outstanding int)  // after each change
	Call    func(what string, d time.Duration) // after each call of a Key or Token
}

const maxLabel = 32

// workerCommand is the first argument of the program as a worker.
const workerCommand = "token-worker"

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Module == "":
		return c, errors.New("the path of a PKCS#11 module is needed")
	case !filepath.IsAbs(c.Module):
		return c, fmt.Errorf("the path of the PKCS#11 module must be absolute, and %q is not", c.Module)
	case len(c.Label) > maxLabel:
		return c, fmt.Errorf("the label of a token has at most %d bytes, and %q has %d", maxLabel, c.Label, len(c.Label))
	case c.Workers < 0 || c.CacheKeys < 0 || c.CallTimeout < 0 || c.KeygenTimeout < 0 || c.StartTimeout < 0:
		return c, errors.New("numbers and durations of a worker configuration must not be negative")
	}
	def(&c.Workers, runtime.NumCPU())
	def(&c.CacheKeys, 10_000)
	def(&c.CallTimeout, 5*time.Second)
	def(&c.KeygenTimeout, 60*time.Second)
	def(&c.StartTimeout, 20*time.Second)
	if c.Executable == "" {
		exe, err := os.Executable()
		if err != nil {
			return c, fmt.Errorf("finding the own program: %w", err)
		}
		c.Executable = exe
	}
	if c.Args == nil {
		c.Args = []string{workerCommand}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func (o *Observer) restart(reason string) {
	if o.Restart != nil {
		o.Restart(reason)
	}
}

func (o *Observer) retry() {
	if o.Retry != nil {
		o.Retry()
	}
}

func (o *Observer) queue(worker, n int) {
	if o.Queue != nil {
		o.Queue(worker, n)
	}
}

// call is to be deferred with the time of the beginning.
func (o *Observer) call(what string, begin time.Time) {
	if o.Call != nil {
		o.Call(what, time.Since(begin))
	}
}
