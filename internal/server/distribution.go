package server

import (
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/front/distribution"
)

// distribution makes the front that serves what is public of the authorities, if it
// is enabled.
func (s *Server) distribution() ([]frontRow, error) {
	c := &s.cfg.Front.Distribution
	if !c.Enabled {
		return nil, nil
	}
	h, err := distribution.New(distribution.Options{Door: s.guard, Mounts: c.Mounts, Timeout: frontTimeout, Logger: s.log})
	if err != nil {
		return nil, err
	}
	return []frontRow{{
		FrontRow: config.FrontRow{Name: "distribution", Front: &c.Front},
		server:   s.httpFront(h),
		exposes:  "may read certificates, CRLs and OCSP answers of the authorities",
	}}, nil
}
