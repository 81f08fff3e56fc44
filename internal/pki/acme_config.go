package pki

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/pki/acme"
	"github.com/claviger/claviger/internal/store"
)

const (
	acmeVerbatim   = "sign-verbatim"
	acmeForbid     = "forbid"
	acmeRolePolicy = "role:"

	eabNotRequired = "not-required"
	eabNewAccount  = "new-account-required"
	eabAlways      = "always-required"
)

// acmeRules returns the rules of a mount and the version of their record, 0 if
// there is none.
func (s *Service) acmeRules(ctx context.Context, mount string) (*api.PKIACME, int64, error) {
	rules := &api.PKIACME{
		AllowedRoles: []string{"*"}, AllowedIssuers: []string{"*"}, DefaultDirectoryPolicy: acmeVerbatim, EABPolicy: eabNotRequired,
		AllowedNetworks: []string{}, Profiles: map[string]string{}, HTTPPort: 80, TLSPort: 443, AccountsPerHour: 1000, OrdersPerHour: 300, FailuresPerHour: 60,
	}
	version, err := s.store.Get(ctx, tableACMEConfig, mount, rules)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return rules, version, storeFault(err, "read the rules of the ACME server")
}

func (s *Service) readACMEConfig(ctx context.Context, c *op.Call, _ *api.Empty) (*api.PKIACME, error) {
	rules, _, err := s.acmeRules(ctx, c.Mount)
	return rules, err
}

func (s *Service) setACMEConfig(ctx context.Context, c *op.Call, r *api.SetPKIACME) (*api.PKIACME, error) {
	rules, version, err := s.acmeRules(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	editACME(rules, r)
	if err := checkACME(st, rules); err != nil {
		return nil, err
	}
	put, err := s.store.Put(tableACMEConfig, c.Mount, version, rules)
	if err != nil {
		return nil, storeFault(err, "store the rules of the ACME server")
	}
	if err := s.store.Apply(ctx, put); err != nil {
		return nil, storeFault(err, "store the rules of the ACME server")
	}
	if rules.Enabled {
		s.log.Info("the ACME server is on: who can prove control of a name gets a certificate, without a client token",
			"mount", c.Mount, "default_directory_policy", rules.DefaultDirectoryPolicy, "eab_policy", rules.EABPolicy, "allowed_networks", rules.AllowedNetworks)
	}
	return rules, nil
}

func editACME(rules *api.PKIACME, r *api.SetPKIACME) {
	set(&rules.Enabled, r.Enabled)
	set(&rules.AllowRoleExtKeyUsage, r.AllowRoleExtKeyUsage)
	set(&rules.DefaultDirectoryPolicy, r.DefaultDirectoryPolicy)
	set(&rules.EABPolicy, r.EABPolicy)
	set(&rules.DNSResolver, r.DNSResolver)
	for _, f := range []struct{ to, from *[]string }{
		{&rules.AllowedRoles, r.AllowedRoles}, {&rules.AllowedIssuers, r.AllowedIssuers}, {&rules.AllowedNetworks, r.AllowedNetworks},
	} {
		if f.from != nil {
			*f.to = list(slices.Clone(*f.from))
		}
	}
	for _, f := range []struct{ to, from *int }{
		{&rules.HTTPPort, r.HTTPPort}, {&rules.TLSPort, r.TLSPort}, {&rules.AccountsPerHour, r.AccountsPerHour},
		{&rules.OrdersPerHour, r.OrdersPerHour}, {&rules.FailuresPerHour, r.FailuresPerHour},
	} {
		set(f.to, f.from)
	}
	if r.Profiles != nil {
		rules.Profiles = maps.Clone(*r.Profiles)
	}
}

func checkACME(st *state, rules *api.PKIACME) error {
	if rules.Enabled && st.config.Cluster.Path == "" {
		return invalid("the ACME server needs to know its URL: set path of config/cluster first, such as https://host/v1/pki")
	}
	if role, ok := strings.CutPrefix(rules.DefaultDirectoryPolicy, acmeRolePolicy); ok {
		if _, err := st.role(role); err != nil {
			return err
		}
		if !slices.Contains(rules.AllowedRoles, "*") && !slices.Contains(rules.AllowedRoles, role) {
			return invalid("default_directory_policy names the role %s, which is not in allowed_roles", role)
		}
	} else if rules.DefaultDirectoryPolicy != acmeVerbatim && rules.DefaultDirectoryPolicy != acmeForbid {
		return invalid("default_directory_policy %q is none of sign-verbatim, forbid and role:NAME", rules.DefaultDirectoryPolicy)
	}
	for _, name := range rules.AllowedRoles {
		if role, err := st.role(name); name != "*" && err != nil {
			return err
		} else if name != "*" && role.NoStore {
			return invalid("the role %s has no_store; ACME needs the certificates that it issued", name)
		}
	}
	for _, ref := range rules.AllowedIssuers {
		if _, err := st.issuer(ref); ref != "*" && err != nil {
			return err
		}
	}
	if !slices.Contains([]string{eabNotRequired, eabNewAccount, eabAlways}, rules.EABPolicy) {
		return invalid("eab_policy %q is none of %s, %s and %s", rules.EABPolicy, eabNotRequired, eabNewAccount, eabAlways)
	}
	if err := checkProfiles(st, rules); err != nil {
		return err
	}
	return checkACMENetwork(rules)
}

func checkACMENetwork(rules *api.PKIACME) error {
	if rules.DNSResolver != "" {
		host, port, err := net.SplitHostPort(rules.DNSResolver)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" {
			return invalid("dns_resolver %q is no address of a name server; one is written 192.0.2.53:53", rules.DNSResolver)
		}
	}
	if _, err := allowedNetworks(rules); err != nil {
		return err
	}
	for name, port := range map[string]int{"http_port": rules.HTTPPort, "tls_port": rules.TLSPort} {
		if port < 1 || port > 65535 {
			return invalid("%s is %d; a port is 1 to 65535", name, port)
		}
	}
	for name, n := range map[string]int{"accounts_per_hour": rules.AccountsPerHour, "orders_per_hour": rules.OrdersPerHour, "failures_per_hour": rules.FailuresPerHour} {
		if n < 1 {
			return invalid("%s is %d; it is 1 or more", name, n)
		}
	}
	return nil
}

func allowedNetworks(rules *api.PKIACME) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range rules.AllowedNetworks {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, invalid("allowed_networks entry %q is no network; one is written 10.0.0.0/8", text)
		}
		if p != p.Masked() {
			return nil, invalid("allowed_networks entry %q has bits beyond its length; write %v", text, p.Masked())
		}
		out = append(out, p)
	}
	return out, nil
}

// validator is who looks whether clients control names, by the rules.
func (d *acmeDir) validator() (*acme.Validator, error) {
	networks, err := allowedNetworks(d.rules)
	return &acme.Validator{Resolver: d.rules.DNSResolver, Networks: networks, HTTPPort: d.rules.HTTPPort, TLSPort: d.rules.TLSPort}, err
}
