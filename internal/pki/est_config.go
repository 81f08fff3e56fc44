package pki

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// tableESTConfig has one api.PKIEST a mount, by the mount.
const tableESTConfig = "pki_est_config"

const (
	estVerbatim   = "sign-verbatim"
	estRolePolicy = "role:"

	estCert  = "cert"  // authenticator by client certificate
	estToken = "token" // authenticator by client token
	estCA    = "ca"    // setting of estCert: further authorities
)

// estOperations are the names of EST's resources (RFC 7030 section 3.2.2), which
// can't be labels.
var estOperations = []string{"cacerts", "simpleenroll", "simplereenroll", "fullcmc", "serverkeygen", "csrattrs"}

// estRules returns the rules of a mount and the version of their record, 0 if
// there is none.
func (s *Service) estRules(ctx context.Context, mount string) (*api.PKIEST, int64, error) {
	rules := new(api.PKIEST)
	version, err := s.store.Get(ctx, tableESTConfig, mount, rules)
	if errors.Is(err, store.ErrNotFound) {
		return &api.PKIEST{
			LabelToPathPolicy: map[string]string{}, CSRAttributes: []string{}, AuditFields: []string{},
			Authenticators: map[string]map[string]string{estCert: {}, estToken: {}},
		}, 0, nil
	}
	return rules, version, storeFault(err, "read the rules of the EST server")
}

func (s *Service) readESTConfig(ctx context.Context, c *op.Call, _ *api.Empty) (*api.PKIEST, error) {
	rules, _, err := s.estRules(ctx, c.Mount)
	return rules, err
}

func (s *Service) setESTConfig(ctx context.Context, c *op.Call, r *api.SetPKIEST) (*api.PKIEST, error) {
	if err := refuseEST(r); err != nil {
		return nil, err
	}
	// Labels belong to one mount: nobody else takes one between check and record.
	s.estClaims.Lock()
	defer s.estClaims.Unlock()
	rules, version, err := s.estRules(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	editEST(rules, r)
	if err := checkEST(st, rules); err != nil {
		return nil, err
	}
	if err := s.checkESTClaims(ctx, c.Mount, rules); err != nil {
		return nil, err
	}
	rules.LastUpdated = s.now().UTC().Format(time.RFC3339)
	put, err := s.store.Put(tableESTConfig, c.Mount, version, rules)
	if err != nil {
		return nil, storeFault(err, "store the rules of the EST server")
	}
	if err := s.store.Apply(ctx, put); err != nil {
		return nil, storeFault(err, "store the rules of the EST server")
	}
	if rules.Enabled {
		_, cert := rules.Authenticators[estCert]
		s.log.Info("the EST server is on", "mount", c.At, "default_path_policy", rules.DefaultPathPolicy, "label_to_path_policy", rules.LabelToPathPolicy,
			"by_certificate_without_client_token", cert)
	}
	return rules, nil
}

// refuseEST names what is not to be had here.
func refuseEST(r *api.SetPKIEST) error {
	if r.EnableSentinelParsing != nil && *r.EnableSentinelParsing {
		return invalid("enable_sentinel_parsing is refused: there are no Sentinel policies here; the role says which names are allowed")
	}
	if r.AuditFields != nil && len(*r.AuditFields) > 0 {
		return invalid("audit_fields is refused: the audit log has serial number and subject of every certificate that was made, and of that which the client showed")
	}
	return nil
}

func editEST(rules *api.PKIEST, r *api.SetPKIEST) {
	set(&rules.Enabled, r.Enabled)
	set(&rules.DefaultMount, r.DefaultMount)
	set(&rules.DefaultPathPolicy, r.DefaultPathPolicy)
	set(&rules.RequireChannelBinding, r.RequireChannelBinding)
	if r.LabelToPathPolicy != nil {
		rules.LabelToPathPolicy = map[string]string{}
		maps.Copy(rules.LabelToPathPolicy, *r.LabelToPathPolicy)
	}
	if r.CSRAttributes != nil {
		rules.CSRAttributes = list(slices.Clone(*r.CSRAttributes))
	}
	if r.Authenticators != nil {
		rules.Authenticators = map[string]map[string]string{}
		for name, settings := range *r.Authenticators {
			kept := map[string]string{}
			for setting, value := range settings {
				if value != "" {
					kept[setting] = value
				}
			}
			rules.Authenticators[name] = kept
		}
	}
}

func checkEST(st *state, rules *api.PKIEST) error {
	if rules.DefaultMount && rules.DefaultPathPolicy == "" {
		return invalid("default_mount needs default_path_policy: sign-verbatim or role:NAME")
	}
	if rules.DefaultPathPolicy != "" {
		if err := checkESTPolicy(st, "default_path_policy", rules.DefaultPathPolicy); err != nil {
			return err
		}
	}
	for label, policy := range rules.LabelToPathPolicy {
		if !nameRule.MatchString(label) || slices.Contains(estOperations, label) {
			return invalid("%q is no label: letters, digits, '_', '-' and '.', at most 128, and none of %s", label, strings.Join(estOperations, ", "))
		}
		if err := checkESTPolicy(st, "label_to_path_policy of "+label, policy); err != nil {
			return err
		}
	}
	if rules.Enabled && rules.DefaultPathPolicy == "" && len(rules.LabelToPathPolicy) == 0 {
		return invalid("the EST server needs to know what to issue: set default_path_policy or label_to_path_policy")
	}
	if rules.Enabled && len(rules.Authenticators) == 0 {
		return invalid("the EST server needs authenticators: cert, token or both")
	}
	if _, err := csrAttributes(rules.CSRAttributes); err != nil {
		return err
	}
	return checkESTAuthenticators(rules)
}

func checkESTPolicy(st *state, field, policy string) error {
	role, ok := strings.CutPrefix(policy, estRolePolicy)
	if policy == estVerbatim {
		return nil
	}
	if !ok {
		return invalid("%s is %q; it is sign-verbatim or role:NAME", field, policy)
	}
	_, err := st.role(role)
	return err
}

func checkESTAuthenticators(rules *api.PKIEST) error {
	for name, settings := range rules.Authenticators {
		switch name {
		case estCert, estToken:
		default:
			return invalid("authenticators has %q, which is not here: cert (client certificates) and token (HTTP Basic with a client token as password) are", name)
		}
		for setting := range settings {
			if name == estCert && setting == estCA {
				continue
			}
			return invalid("authenticators.%s.%s is refused: certificates and client tokens are checked without an auth mount; cert takes ca, token takes nothing", name, setting)
		}
	}
	_, err := estAuthorities(rules)
	return err
}

// estAuthorities are the authorities beside the mount's own whose certificates
// may enroll; nil if there are none.
func estAuthorities(rules *api.PKIEST) (*x509.CertPool, error) {
	rest := []byte(rules.Authenticators[estCert][estCA])
	if len(rest) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	for len(strings.TrimSpace(string(rest))) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != pemCertificate {
			return nil, invalid("authenticators.cert.ca is not one or more certificates in PEM")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, invalid("a certificate in authenticators.cert.ca can't be read: %v", err)
		}
		if !cert.IsCA {
			return nil, invalid("the certificate of %s in authenticators.cert.ca is not that of an authority", cert.Subject)
		}
		pool.AddCert(cert)
	}
	return pool, nil
}

// claims tells whether requests for a label, "" for none, are a mount's.
func claims(rules *api.PKIEST, label string) bool {
	if label == "" {
		return rules.DefaultMount
	}
	_, ok := rules.LabelToPathPolicy[label]
	return ok
}

// checkESTClaims refuses what another mount has already, whether its EST server
// is on or off.
func (s *Service) checkESTClaims(ctx context.Context, mount string, rules *api.PKIEST) error {
	return storeFault(s.each(ctx, tableESTConfig, "", func(other string, e store.Entry) error {
		if other == mount {
			return nil
		}
		var theirs api.PKIEST
		if err := e.Decode(&theirs); err != nil {
			return err
		}
		if rules.DefaultMount && theirs.DefaultMount {
			return fault.New(fault.Conflict, "default_mount is that of %s already: there is one", other)
		}
		for label := range rules.LabelToPathPolicy {
			if claims(&theirs, label) {
				return fault.New(fault.Conflict, "the label %s is that of %s already", label, other)
			}
		}
		return nil
	}), "read the rules of other EST servers")
}

// ESTMount finds the mount that serves a label under /.well-known/est/, "" for
// none: the name that its engine knows it by, with a trailing slash. An error of
// kind NotFound says that no mount does.
func (s *Service) ESTMount(ctx context.Context, label string) (string, error) {
	found := ""
	err := s.each(ctx, tableESTConfig, "", func(mount string, e store.Entry) error {
		var rules api.PKIEST
		err := e.Decode(&rules)
		if err == nil && rules.Enabled && found == "" && claims(&rules, label) {
			found = mount
		}
		return err
	})
	switch {
	case err != nil:
		return "", storeFault(err, "read the rules of the EST servers")
	case found == "" && label == "":
		return "", fault.New(fault.NotFound, "there is no EST server without a label here: no mount has default_mount")
	case found == "":
		return "", fault.New(fault.NotFound, "there is no EST server with the label %q here", label)
	}
	return found, nil
}
