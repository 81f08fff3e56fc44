package worker

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// Device is a token of a PKCS#11 module, before login. It implements token.Device.
type Device struct {
	cfg   Config
	start chan struct{} // has room for one: workers of a token start one after another
}

var _ token.Device = (*Device)(nil)

// NewDevice checks the configuration. It does not load the module.
func NewDevice(cfg Config) (*Device, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return newDeviceOf(cfg), nil
}

// newDeviceOf makes a Device of a configuration that was checked.
func newDeviceOf(cfg Config) *Device {
	return &Device{cfg: cfg, start: make(chan struct{}, 1)}
}

// alone runs f while no other worker of this token starts, within StartTimeout.
func (d *Device) alone(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.StartTimeout)
	defer cancel()
	select {
	case d.start <- struct{}{}:
	case <-ctx.Done():
		return unavailable(ctx, "another worker of the token is starting")
	}
	defer func() { <-d.start }()
	if d.cfg.LockFile != "" {
		unlock, err := lockFile(ctx, d.cfg.LockFile)
		if err != nil {
			return err
		}
		defer unlock()
	}
	if ctx.Err() != nil {
		return unavailable(ctx, "the call was given up")
	}
	return f(ctx)
}

// lockFile takes an exclusive flock(2), polling so that ctx can end the wait.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock file of the token: %w", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("%w: another process holds the lock file %s", token.ErrUnavailable, path)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// State implements token.Device.
func (d *Device) State(ctx context.Context) (st token.State, err error) {
	err = d.alone(ctx, func(ctx context.Context) error {
		c, v, err := look(ctx, &d.cfg, false, false)
		if err != nil {
			return err
		}
		c.end()
		st = stateOf(v, &d.cfg)
		return nil
	})
	return st, err
}

func stateOf(v view, cfg *Config) token.State {
	var free *slotView
	for i := range v.slots {
		s := &v.slots[i]
		if matches(s, cfg.Label, cfg.Serial) {
			return token.State{
				Present: true, Initialized: s.token.Flags&pkcs11.FlagUserPINSet != 0,
				Label: s.token.Label, Serial: s.token.Serial, PINLocked: s.token.Flags&pkcs11.FlagPINLocked != 0,
				MinPIN: s.token.MinPIN, MaxPIN: s.token.MaxPIN,
			}
		}
		if s.token.Flags&pkcs11.FlagInitialized == 0 && free == nil {
			free = s
		}
	}
	if free == nil {
		return token.State{}
	}
	return token.State{Present: true, Serial: free.token.Serial, MinPIN: free.token.MinPIN, MaxPIN: free.token.MaxPIN}
}

// Create implements token.Device.
func (d *Device) Create(ctx context.Context, soPIN, userPIN []byte) error {
	if d.cfg.Label == "" {
		return fmt.Errorf("creating a token needs a label")
	}
	return d.alone(ctx, func(ctx context.Context) error {
		c, _, err := look(ctx, &d.cfg, false, false)
		if err != nil {
			return err
		}
		defer c.end()
		b := appendBytes(appendBytes(make([]byte, 0, 256), soPIN), userPIN)
		b = appendBytes(b, d.cfg.Label)
		defer clear(b)
		if _, err := c.ask(ctx, frameCreate, b); err != nil {
			return seamError(err)
		}
		return nil
	})
}

// Open implements token.Device. The first worker logs in before Open returns;
// the others follow in the background.
func (d *Device) Open(ctx context.Context, userPIN []byte) (token.Token, error) {
	return d.open(ctx, userPIN)
}

func (d *Device) open(ctx context.Context, userPIN []byte) (*hsm, error) {
	p := newPool(d, userPIN)
	first, v, err := p.startProc(ctx, 0)
	if err != nil {
		p.wipe()
		return nil, err
	}
	h := newHSM(d, p, v, first.facts)
	p.run(first)
	if err := h.learn(ctx); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}
