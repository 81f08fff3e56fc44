package pki

import (
	"context"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

func (s *Service) patchOperations() []*op.Operation {
	return []*op.Operation{
		op.Define(meta("issuers.patch", "issuer/{issuer}", op.Patch, "Change an issuer; absent fields stay as they are."), s.patchIssuer),
		op.Define(meta("roles.patch", "roles/{name}", op.Patch, "Change a role; absent fields stay as they are."), s.patchRole),
	}
}

func (s *Service) patchIssuer(ctx context.Context, c *op.Call, r *api.SetPKIIssuer) (*api.PKIIssuer, error) {
	return s.editIssuer(ctx, c.Mount, r, func(*issuerRecord) {})
}

func (s *Service) patchRole(ctx context.Context, c *op.Call, r *api.SetPKIRole) (*api.PKIRole, error) {
	var out *api.PKIRole
	err := s.change(ctx, c.Mount, func(next *state) ([]store.Change, error) {
		old, ok := next.roles[r.Name]
		if !ok {
			return nil, fault.New(fault.NotFound, "unknown role: %s", r.Name)
		}
		role := *old.value // whoever uses the old role at this moment keeps it
		editRole(&role, r)
		if err := checkRole(&role); err != nil {
			return nil, err
		}
		out = shownRole(&role)
		put, err := s.putRole(c, next, r.Name, &role)
		return []store.Change{put}, err
	})
	return out, err
}

// putRole is the change that stores a role in next.
func (s *Service) putRole(c *op.Call, next *state, name string, role *api.PKIRole) (store.Change, error) {
	if _, err := next.issuer(role.IssuerRef); err != nil && role.IssuerRef != defaultRef {
		c.Warn("issuer_ref %q names no issuer of this mount now", role.IssuerRef)
	}
	version := next.roles[name].version
	put, err := s.store.Put(tableRoles, c.Mount+name, version, role)
	next.roles[name] = named[*api.PKIRole]{role, version + 1}
	return put, storeFault(err, "store the role")
}
