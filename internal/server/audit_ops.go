package server

import (
	"context"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

// auditDevice is where the one audit log stands among Vault's audit devices.
const auditDevice = "file/"

// auditOperations show the audit log as an audit device. It is not optional, and
// who may call the API must not be able to turn it off, so nothing can be changed.
func (s *Server) auditOperations() []*op.Operation {
	meta := func(name, path string, verb op.Verb, help string) op.Meta {
		return op.Meta{Name: "sys.audit." + name, Mount: "sys", Path: path, Verb: verb, Sudo: true, Help: help}
	}
	list := meta("list", "audit", op.Read, "List the audit devices: the log that the configuration names.")
	hash := meta("hash", "audit-hash/{path...}", op.Write, "Show how the audit log shows a value, to find it there.")
	list.TopLevel, hash.TopLevel, hash.Sudo = true, true, false
	return []*op.Operation{
		op.Define(list, s.listAudit),
		op.Define(meta("enable", "audit/{path...}", op.Write, "Make an audit device: refused, the configuration names the audit log."), s.enableAudit),
		op.Define(meta("disable", "audit/{path...}", op.Delete, "Remove an audit device: refused, the audit log is not optional."), s.disableAudit),
		op.Define(hash, s.auditHash),
	}
}

func (s *Server) listAudit(context.Context, *op.Call, *api.Empty) (*api.AuditDevices, error) {
	return &api.AuditDevices{auditDevice: {
		Path: auditDevice, Type: "file", Description: "the audit log of the configuration",
		Options: map[string]string{"file_path": s.cfg.Audit.Path},
	}}, nil
}

func (s *Server) enableAudit(_ context.Context, _ *op.Call, req *api.EnableAudit) (*api.Empty, error) {
	if strings.Trim(req.Path, "/")+"/" == auditDevice {
		return nil, fixedAudit("path already in use: the audit log is open at %s", auditDevice)
	}
	return nil, fixedAudit("cannot enable audit device via API: the configuration names the one audit log")
}

func (s *Server) disableAudit(context.Context, *op.Call, *api.AuditPath) (*api.Empty, error) {
	return nil, fixedAudit("cannot disable audit device via API: without the audit log nothing is done")
}

func fixedAudit(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).
		WithHint("set path in the section [audit] of the server's configuration and restart it")
}

func (s *Server) auditHash(_ context.Context, _ *op.Call, req *api.AuditHash) (*api.AuditHashed, error) {
	if path := strings.Trim(req.Path, "/") + "/"; path != auditDevice {
		return nil, fault.New(fault.Invalid, "unknown audit backend %.80q; the audit log is %q", path, auditDevice)
	}
	if req.Input == "" {
		return nil, fault.New(fault.Invalid, "the \"input\" parameter is empty")
	}
	l := s.trail.log.Load()
	if l == nil {
		return nil, fault.New(fault.Sealed, "Vault is sealed")
	}
	input := []byte(req.Input)
	defer clear(input)
	return &api.AuditHashed{Hash: l.Hash(input)}, nil
}
