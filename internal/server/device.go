package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/soft"
	"github.com/claviger/claviger/internal/token/worker"
)

// device is the HSM token of the configuration, not yet open.
func (s *Server) device(dev bool) (token.Device, error) {
	c := &s.cfg.Token
	if c.Driver == config.DriverSoft && dev {
		return soft.NewDevice(soft.Config{Label: c.Label}), nil // in memory
	}
	return tokenDevice(c, s.log, s.metrics.workers)
}

// TokenDevice is the HSM token of a configuration, not yet open, for work without a
// server.
func TokenDevice(c *config.Token, log *slog.Logger) (token.Device, error) {
	return tokenDevice(c, log, func(int) worker.Observer { return worker.Observer{} })
}

func tokenDevice(c *config.Token, log *slog.Logger, observe func(workers int) worker.Observer) (token.Device, error) {
	if c.Driver == config.DriverSoft {
		return soft.NewDevice(soft.Config{Dir: c.Soft.Dir, Label: c.Label}), nil
	}
	wc := WorkerConfig(c)
	wc.Logger = log
	wc.Observe = observe(wc.Workers)
	d, err := worker.NewDevice(wc)
	if err != nil {
		return nil, fmt.Errorf("PKCS#11 module %s: %w", c.PKCS11.Module, err)
	}
	return d, nil
}

// ScratchToken opens a software token that lives in memory and ends with Close, for
// rehearsals.
func ScratchToken(ctx context.Context, label string) (token.Token, error) {
	d := soft.NewDevice(soft.Config{Label: label})
	pin := make([]byte, 32)
	rand.Read(pin)
	defer clear(pin)
	if err := d.Create(ctx, pin, pin); err != nil {
		return nil, fmt.Errorf("make a scratch token: %w", err)
	}
	return d.Open(ctx, pin)
}

// WorkerConfig translates the configuration of a PKCS#11 token.
func WorkerConfig(c *config.Token) worker.Config {
	p := &c.PKCS11
	return worker.Config{
		Module:        p.Module,
		Label:         c.Label,
		Serial:        p.Serial,
		Workers:       p.WorkerCount(),
		CallTimeout:   p.CallTimeout.Duration,
		KeygenTimeout: p.KeygenTimeout.Duration,
		LockFile:      p.LockFile,
		ReadPaths:     p.ReadPaths,
		WritePaths:    p.WritePaths,
		Env:           p.Environ(),
	}
}
