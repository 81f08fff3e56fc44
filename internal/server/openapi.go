package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/guard"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/openapi"
)

// document is an OpenAPI document as JSON.
type document struct {
	text []byte
}

// Raw is the body of the answer.
func (d *document) Raw() (contentType string, body []byte) { return "application/json", d.text }

func (s *Server) documentOperations() []*op.Operation {
	meta := op.Meta{Mount: "sys", Verb: op.Read, AnyToken: true, Bare: true}
	spec, help := meta, meta
	spec.Name, spec.Path = "sys.openapi", "internal/specs/openapi"
	spec.Help = "Describe the operations of all mounts that the caller may use something of, as an OpenAPI 3.1 document."
	help.Name, help.Path = "sys.help", guard.HelpPath+"/{path...}"
	help.Help = "Explain a path, or a whole mount, that the caller may use something of; the same as GET of that path with help=1."
	return []*op.Operation{
		op.Define(spec, s.openAPI),
		op.Define(help, s.pathHelp),
	}
}

func (s *Server) openAPI(_ context.Context, c *op.Call, _ *api.Empty) (*document, error) {
	mounts, err := s.guard.Mounts(c)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(openapi.New(s.guard.Table(), mounts, s.version))
	if err != nil {
		return nil, fmt.Errorf("encoding the OpenAPI document: %w", err)
	}
	return &document{text}, nil
}

func (s *Server) pathHelp(_ context.Context, c *op.Call, req *api.HelpPath) (*api.PathHelp, error) {
	mount, kind, ops, err := s.guard.Explain(c, req.Path)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(openapi.New(ops, map[string]string{mount: kind}, s.version))
	if err != nil {
		return nil, fmt.Errorf("encoding the OpenAPI document: %w", err)
	}
	return &api.PathHelp{Help: openapi.Text(ops, mount), OpenAPI: text}, nil
}

// Table returns the operations of this build, in the order of mount, path and
// verb. They describe themselves; nothing stands behind them that could perform
// them.
func Table() ([]*op.Operation, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s := &Server{cfg: config.Dev(""), log: slog.New(slog.DiscardHandler), version: "0.0.0", metrics: newMetrics()}
	defer s.close()
	if err := s.openStore(ctx, true); err != nil {
		return nil, err
	}
	device, err := s.device(true)
	if err != nil {
		return nil, err
	}
	if err := s.buildServices(device); err != nil {
		return nil, err
	}
	return s.guard.Table(), nil
}
