package server

import (
	"fmt"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/soft"
	"github.com/claviger/claviger/internal/token/worker"
)

// device is the HSM token of the configuration, not yet open.
func (s *Server) device(dev bool) (token.Device, error) {
	c := &s.cfg.Token
	if c.Driver == config.DriverSoft {
		dir := c.Soft.Dir
		if dev {
			dir = "" // in memory
		}
		return soft.NewDevice(soft.Config{Dir: dir, Label: c.Label}), nil
	}
	wc := WorkerConfig(c)
	wc.Logger = s.log
	wc.Observe = s.metrics.workers(wc.Workers)
	d, err := worker.NewDevice(wc)
	if err != nil {
		return nil, fmt.Errorf("PKCS#11 module %s: %w", c.PKCS11.Module, err)
	}
	return d, nil
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
