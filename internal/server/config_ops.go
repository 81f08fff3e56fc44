package server

import (
	"context"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

// configOperations show what Vault lets its operators ask for of the
// configuration, and that can't be changed by callers here.
func (s *Server) configOperations() []*op.Operation {
	meta := func(name, path, help string) op.Meta {
		return op.Meta{Name: "sys.config." + name, Mount: "sys", Path: "config/" + path, Verb: op.Read, Sudo: true, Help: help}
	}
	cors := meta("cors", "cors", "Show whether browsers on other origins are answered: they are not.")
	headers := meta("request-headers", "auditing/request-headers", "List the headers that the audit log shows: there is none.")
	cors.TopLevel, headers.TopLevel = true, true
	return []*op.Operation{
		op.Define(cors, s.readCORS),
		op.Define(headers, s.readRequestHeaders),
		op.Define(meta("state", "state/sanitized", "Show the configuration in force, without secrets."), s.readConfigState),
	}
}

func (s *Server) readCORS(context.Context, *op.Call, *api.Empty) (*api.CORS, error) {
	return &api.CORS{}, nil
}

func (s *Server) readRequestHeaders(context.Context, *op.Call, *api.Empty) (*api.RequestHeaders, error) {
	return &api.RequestHeaders{Headers: map[string]api.RequestHeader{}}, nil
}

func (s *Server) readConfigState(context.Context, *op.Call, *api.Empty) (*api.ConfigState, error) {
	state := &api.ConfigState{
		ClusterName: s.cfg.ClusterName, LogLevel: s.cfg.Log.Level, LogFormat: s.cfg.Log.Format,
		Listeners: []api.ListenerState{}, Seals: []api.SealState{{Type: "shamir"}},
		Storage: api.StorageState{Type: s.cfg.Store.Driver, DisableClustering: true},
	}
	for i := range s.cfg.Listeners {
		l := &s.cfg.Listeners[i]
		kind := "tcp"
		if _, ok := l.Socket(); ok {
			kind = "unix"
		}
		state.Listeners = append(state.Listeners, api.ListenerState{Type: kind,
			Config: api.ListenerConfig{Address: l.Address, TLSDisable: !l.TLS(), RequireClientTLS: l.ClientCA != ""}})
	}
	return state, nil
}
