package server

import (
	"fmt"
	"net"
	"os"

	"github.com/claviger/claviger/internal/config"
	frontp11 "github.com/claviger/claviger/internal/front/p11"
	"github.com/claviger/claviger/internal/p11"
)

// pkcs11 makes the socket for the PKCS#11 module, if it is enabled.
func (s *Server) pkcs11() ([]frontRow, error) {
	c := &s.cfg.Front.PKCS11
	if !c.Enabled {
		return nil, nil
	}
	gid, err := config.GroupID(c.Group)
	if err != nil {
		return nil, fmt.Errorf("the group of the front pkcs11: %w", err)
	}
	o := frontp11.Options{Door: s.guard, Peers: p11.Peers{UIDs: c.UIDs, GIDs: c.GIDs}, Version: s.version, Logger: s.log}
	for _, slot := range c.Slots {
		o.Slots = append(o.Slots, p11.Slot{Label: slot.Label, Mounts: slot.Mounts, Issuers: slot.Issuers})
	}
	server, err := frontp11.New(o)
	if err != nil {
		return nil, err
	}
	path, _ := c.Socket()
	return []frontRow{{FrontRow: config.FrontRow{Name: "pkcs11", Front: &c.Front}, server: groupServer{server, path, gid}}}, nil
}

// groupServer gives the socket to a group before anybody is served.
type groupServer struct {
	*p11.Server
	path string
	gid  int
}

// Serve is that of the server.
func (g groupServer) Serve(l net.Listener) error {
	if g.gid >= 0 {
		if err := os.Chown(g.path, -1, g.gid); err != nil {
			return fmt.Errorf("giving the socket %s to group %d: %w", g.path, g.gid, err)
		}
	}
	return g.Server.Serve(l)
}
