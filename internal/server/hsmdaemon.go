package server

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/front/hsmdaemon"
	"github.com/claviger/claviger/internal/guard"
)

// hsmdaemon makes the front for clients of ownCloud's hsmdaemon: its HTTP API and
// the sockets of its line protocol, as far as they are enabled.
func (s *Server) hsmdaemon() ([]frontRow, error) {
	c := &s.cfg.Front.HSMDaemon
	var enabled []config.FrontRow
	for _, row := range s.cfg.Fronts() {
		if row.Enabled && (row.Name == "hsmdaemon" || strings.HasPrefix(row.Name, "hsmdaemon.")) {
			enabled = append(enabled, row)
		}
	}
	if len(enabled) == 0 {
		return nil, nil
	}
	front, err := s.newHSMDaemon(c)
	if err != nil {
		return nil, err
	}
	var rows []frontRow
	var lines *hsmdaemon.LineServer
	for _, row := range enabled {
		if row.Front == &c.Front {
			rows = append(rows, frontRow{FrontRow: row, server: s.httpFront(front)})
			continue
		}
		if lines == nil {
			if lines, err = s.hsmdaemonLines(front); err != nil {
				return nil, err
			}
		}
		rows = append(rows, frontRow{FrontRow: row, server: lines})
	}
	return rows, nil
}

func (s *Server) newHSMDaemon(c *config.HSMDaemon) (*hsmdaemon.Front, error) {
	id, err := guard.NewIdentity("front/hsmdaemon", c.Policies, hsmdaemon.Policy(c.Mount))
	if err != nil {
		return nil, err
	}
	secret := c.JWTSecret
	if c.Enabled && len(secret) == 0 {
		if secret, err = os.ReadFile(c.JWTSecretFile); err != nil {
			return nil, fmt.Errorf("reading the JWT secret of the front hsmdaemon: %w", err)
		}
		secret = bytes.TrimRight(secret, "\r\n")
		defer clear(secret)
	}
	if err := checkJWTSecret(c, secret); err != nil {
		return nil, err
	}
	return hsmdaemon.New(hsmdaemon.Options{
		Door: s.guard, As: id, Mount: c.Mount, Secret: secret, Leeway: c.JWTLeeway.Duration,
		Timeout: s.cfg.Limits.RequestTimeout.Duration, Logger: s.log,
	})
}

func checkJWTSecret(c *config.HSMDaemon, secret []byte) error {
	switch {
	case !c.Enabled:
		return nil
	case len(secret) == 0:
		return fault.New(fault.Invalid, "the JWT secret of the front hsmdaemon is empty")
	case string(secret) == config.DefaultJWTSecret && !c.InsecureSecret:
		return fault.New(fault.Invalid, "the JWT secret of the front hsmdaemon is the one that ownCloud has by default, %q: everybody knows it", config.DefaultJWTSecret).
			WithHint("make one with cat /proc/sys/kernel/random/uuid, and give it to ownCloud too: occ config:app:set encryption hsm.jwt.secret --value …; insecure_secret = true takes the default all the same")
	}
	return nil
}

// hsmdaemonLines makes the server of the line protocol, and tells its token.
func (s *Server) hsmdaemonLines(front *hsmdaemon.Front) (*hsmdaemon.LineServer, error) {
	c := &s.cfg.Front.HSMDaemon
	token, err := hsmdaemon.LineToken(c.LineTokenFile)
	if err != nil {
		return nil, err
	}
	if c.LineTokenURL != "" {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			if err := hsmdaemon.TellToken(ctx, c.LineTokenURL, token); err != nil {
				s.log.Error("the token of the line protocol could not be told", "error", err)
				return
			}
			s.log.Info("told the token of the line protocol", "url", c.LineTokenURL)
		}()
	}
	return front.Lines(token, c.LineKey), nil
}
