package pki

import (
	"cmp"
	"context"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/zmap/zlint/v3/lint"
)

func (s *Service) roleOperations() []*op.Operation {
	return []*op.Operation{
		op.Define(meta("roles.list", "roles", op.List, "List the roles."), s.listRoles),
		op.Define(meta("roles.read", "roles/{name}", op.Read, "Show a role."), s.readRole),
		op.WithExists(op.Define(meta("roles.set", "roles/{name}", op.Write, "Make or replace a role; absent fields get their defaults."), s.setRole), s.roleExists),
		op.Define(meta("roles.delete", "roles/{name}", op.Delete, "Delete a role; certificates stay as they are."), s.deleteRole),
	}
}

// newRole is a role of which nothing was said.
func newRole() *api.PKIRole {
	return &api.PKIRole{
		IssuerRef: defaultRef, NotBeforeDuration: 30, AllowLocalhost: true, AllowWildcardCertificates: true,
		EnforceHostnames: true, AllowIPSANs: true, ServerFlag: true, ClientFlag: true, KeyType: "rsa",
		UseCSRCommonName: true, UseCSRSANs: true, RequireCN: true,
		KeyUsage:      []string{"DigitalSignature", "KeyAgreement", "KeyEncipherment"},
		CNValidations: []string{"email", "hostname"},
	}
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// editRole puts what a request says into a role.
func editRole(role *api.PKIRole, r *api.SetPKIRole) {
	set(&role.IssuerRef, r.IssuerRef)
	set(&role.TTL, r.TTL)
	set(&role.MaxTTL, r.MaxTTL)
	set(&role.NotAfter, r.NotAfter)
	set(&role.NotBeforeDuration, r.NotBeforeDuration)
	editBounds(role, r)
	set(&role.AllowLocalhost, r.AllowLocalhost)
	set(&role.AllowedDomains, r.AllowedDomains)
	set(&role.AllowedDomainsTemplate, r.AllowedDomainsTemplate)
	set(&role.AllowedURISANsTemplate, r.AllowedURISANsTemplate)
	set(&role.AllowTokenDisplayName, r.AllowTokenDisplayName)
	set(&role.AllowGlobsInTemplates, r.AllowGlobsInTemplates)
	set(&role.AllowBareDomains, r.AllowBareDomains)
	set(&role.AllowSubdomains, r.AllowSubdomains)
	set(&role.AllowGlobDomains, r.AllowGlobDomains)
	set(&role.AllowWildcardCertificates, r.AllowWildcardCertificates)
	set(&role.AllowAnyName, r.AllowAnyName)
	set(&role.EnforceHostnames, r.EnforceHostnames)
	set(&role.AllowIPSANs, r.AllowIPSANs)
	set(&role.AllowedIPSANsCIDR, r.AllowedIPSANsCIDR)
	set(&role.AllowedURISANs, r.AllowedURISANs)
	set(&role.AllowedOtherSANs, r.AllowedOtherSANs)
	set(&role.AllowedSerialNumbers, r.AllowedSerialNumbers)
	set(&role.AllowedUserIDs, r.AllowedUserIDs)
	set(&role.ServerFlag, r.ServerFlag)
	set(&role.ClientFlag, r.ClientFlag)
	set(&role.CodeSigningFlag, r.CodeSigningFlag)
	set(&role.EmailProtectionFlag, r.EmailProtectionFlag)
	set(&role.KeyUsage, r.KeyUsage)
	set(&role.ExtKeyUsage, r.ExtKeyUsage)
	set(&role.ExtKeyUsageOIDs, r.ExtKeyUsageOIDs)
	set(&role.KeyType, r.KeyType)
	set(&role.KeyBits, r.KeyBits)
	set(&role.SignatureBits, r.SignatureBits)
	set(&role.UsePSS, r.UsePSS)
	set(&role.UseCSRCommonName, r.UseCSRCommonName)
	set(&role.UseCSRSANs, r.UseCSRSANs)
	set(&role.RequireCN, r.RequireCN)
	set(&role.CNValidations, r.CNValidations)
	set(&role.OU, r.OU)
	set(&role.Organization, r.Organization)
	set(&role.Country, r.Country)
	set(&role.Locality, r.Locality)
	set(&role.Province, r.Province)
	set(&role.StreetAddress, r.StreetAddress)
	set(&role.PostalCode, r.PostalCode)
	set(&role.GenerateLease, r.GenerateLease)
	set(&role.NoStore, r.NoStore)
	if r.PolicyIdentifiers != nil {
		role.PolicyIdentifiers = splitPolicies(*r.PolicyIdentifiers)
	}
	set(&role.BasicConstraintsValidForNonCA, r.BasicConstraintsValidForNonCA)
	set(&role.LintExceptions, r.LintExceptions)
}

// checkRole refuses what no certificate could be issued with.
func checkRole(role *api.PKIRole) error {
	switch {
	case role.MaxTTL != 0 && role.TTL > role.MaxTTL:
		return invalid(`"ttl" value must be less than "max_ttl" value`)
	case role.GenerateLease:
		return invalid("generate_lease is refused: certificates have no leases; revoke them by serial number")
	case role.NotBeforeDuration < 0:
		return invalid("not_before_duration is negative; it is how far the validity begins in the past")
	}
	if role.NotAfter != "" {
		if _, err := parseTime("not_after", role.NotAfter); err != nil {
			return err
		}
	}
	if err := checkTextual("the role's", slices.Concat(role.OU, role.Organization, role.Country, role.Locality, role.Province,
		role.StreetAddress, role.PostalCode, role.AllowedDomains, role.AllowedURISANs)...); err != nil {
		return err
	}
	if err := checkBounds(role); err != nil {
		return err
	}
	if err := checkTemplates(role); err != nil {
		return err
	}
	if err := checkKeyRule(role); err != nil {
		return err
	}
	if _, err := parseKeyUsage(role.KeyUsage); err != nil {
		return err
	}
	if _, err := extKeyUsages(role); err != nil {
		return err
	}
	if _, err := parsePolicies(role.PolicyIdentifiers); err != nil {
		return err
	}
	return checkRoleLists(role)
}

func checkRoleLists(role *api.PKIRole) error {
	for _, cidr := range role.AllowedIPSANsCIDR {
		if _, _, err := net.ParseCIDR(cidr); err != nil {
			return invalid("allowed_ip_sans_cidr entry %q is no network; one is written 10.0.0.0/8", cidr)
		}
	}
	for _, v := range role.CNValidations {
		if v != "email" && v != "hostname" && v != "disabled" {
			return invalid("unknown value %q of cn_validations: it is email, hostname or disabled", v)
		}
	}
	if len(role.CNValidations) > 1 && slices.Contains(role.CNValidations, "disabled") {
		return invalid("cn_validations has disabled beside others: it stands alone")
	}
	for _, name := range role.LintExceptions {
		if lint.GlobalRegistry().CertificateLints().ByName(name) == nil {
			return invalid("lint_exceptions names %q, which is no lint", name)
		}
	}
	return nil
}

// checkKeyRule checks key_type and key_bits.
func checkKeyRule(role *api.PKIRole) error {
	ok := false
	switch role.KeyType {
	case "rsa":
		ok = slices.Contains([]int{0, 2048, 3072, 4096, 8192}, role.KeyBits)
	case "ec":
		ok = slices.Contains([]int{0, 256, 384, 521}, role.KeyBits)
	case "ed25519", "any":
		ok = true
	default:
		return invalid("unknown key type %s: it is rsa, ec, ed25519 or any", role.KeyType)
	}
	if !ok {
		return invalid("unsupported bit length for %s key: %d", role.KeyType, role.KeyBits)
	}
	if !slices.Contains([]int{0, 256, 384, 512}, role.SignatureBits) {
		return invalid("signature_bits is %d: it is 0 (the usual), 256, 384 or 512", role.SignatureBits)
	}
	return nil
}

func parseTime(field, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, invalid("%s %q is no time; one is written 2030-01-31T12:00:00Z", field, text)
	}
	return t.UTC(), nil
}

// role finds a role.
func (st *state) role(name string) (*api.PKIRole, error) {
	if r, ok := st.roles[name]; ok {
		return r.value, nil
	}
	return nil, invalid("unknown role: %s", name)
}

func (s *Service) listRoles(ctx context.Context, c *op.Call, _ *api.Empty) (*api.Keys, error) {
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	return &api.Keys{Keys: slices.Sorted(maps.Keys(st.roles))}, nil
}

func (s *Service) readRole(ctx context.Context, c *op.Call, r *api.PKIRoleName) (*api.PKIRole, error) {
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	found, ok := st.roles[r.Name]
	if !ok {
		return nil, fault.New(fault.NotFound, "")
	}
	return shownRole(found.value), nil
}

// shownRole has empty lists instead of nil.
func shownRole(role *api.PKIRole) *api.PKIRole {
	out := *role
	out.NotBeforeBound, out.NotAfterBound = cmp.Or(out.NotBeforeBound, boundPermit), cmp.Or(out.NotAfterBound, boundPermit)
	for _, l := range []*[]string{
		&out.AllowedDomains, &out.AllowedIPSANsCIDR, &out.AllowedURISANs, &out.AllowedOtherSANs, &out.AllowedSerialNumbers,
		&out.AllowedUserIDs, &out.KeyUsage, &out.ExtKeyUsage, &out.ExtKeyUsageOIDs, &out.CNValidations, &out.OU, &out.Organization,
		&out.Country, &out.Locality, &out.Province, &out.StreetAddress, &out.PostalCode, &out.PolicyIdentifiers, &out.LintExceptions,
	} {
		*l = list(*l)
	}
	return &out
}

func (s *Service) roleExists(ctx context.Context, c *op.Call, r *api.SetPKIRole) (bool, error) {
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return false, err
	}
	_, ok := st.roles[r.Name]
	return ok, nil
}

func (s *Service) setRole(ctx context.Context, c *op.Call, r *api.SetPKIRole) (*api.PKIRole, error) {
	if !nameRule.MatchString(r.Name) {
		return nil, invalid("%q is no name for a role: letters, digits, '_', '-' and '.', at most 128", r.Name)
	}
	role := newRole()
	editRole(role, r)
	if err := checkRole(role); err != nil {
		return nil, err
	}
	err := s.change(ctx, c.Mount, func(next *state) ([]store.Change, error) {
		put, err := s.putRole(c, next, r.Name, role)
		return []store.Change{put}, err
	})
	if err != nil {
		return nil, err
	}
	return shownRole(role), nil
}

func (s *Service) deleteRole(ctx context.Context, c *op.Call, r *api.PKIRoleName) (*api.Empty, error) {
	return nil, s.change(ctx, c.Mount, func(next *state) ([]store.Change, error) {
		old, ok := next.roles[r.Name]
		if !ok {
			return nil, nil
		}
		delete(next.roles, r.Name)
		return []store.Change{s.store.Remove(tableRoles, c.Mount+r.Name, old.version)}, nil
	})
}
