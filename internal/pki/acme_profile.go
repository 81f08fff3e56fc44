package pki

import (
	"fmt"
	"regexp"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/pki/acme"
)

// maxProfiles is how many profiles a mount may have: a directory lists them all.
const maxProfiles = 100

var profileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// checkProfiles refuses profiles with names that clients can't write, or whose
// role is not there or not allowed.
func checkProfiles(st *state, rules *api.PKIACME) error {
	if len(rules.Profiles) > maxProfiles {
		return invalid("profiles has %d entries; at most %d are taken", len(rules.Profiles), maxProfiles)
	}
	d := &acmeDir{st: st, rules: rules}
	for name, role := range rules.Profiles {
		if !profileName.MatchString(name) {
			return invalid("the profile name %q is not taken: it is 1 to 64 letters, digits, dots, underscores and hyphens, the first a letter or a digit", name)
		}
		r, err := d.namedRole(role)
		if err != nil {
			return invalid("the profile %s is of the role %q, which is not there, not in allowed_roles, or of an issuer that is not in allowed_issuers", name, role)
		}
		if r.NoStore {
			return invalid("the profile %s is of the role %s, which has no_store; ACME needs the certificates that it issued", name, role)
		}
	}
	return nil
}

// profiles are the profiles of a directory with a text for people each
// (draft-ietf-acme-profiles section 3). The directory of a role has none: it is
// of one role.
func (d *acmeDir) profiles() map[string]string {
	if d.byRole {
		return nil
	}
	out := map[string]string{}
	for name, roleName := range d.rules.Profiles {
		if role, err := d.namedRole(roleName); err == nil && !role.NoStore {
			out[name] = profileText(roleName, role)
		}
	}
	return out
}

func profileText(name string, role *api.PKIRole) string {
	text := "certificates by the role " + name
	if ttl := role.TTL.Duration(); ttl >= 48*time.Hour {
		text += fmt.Sprintf(", for %d days", ttl/(24*time.Hour))
	} else if ttl > 0 {
		text += fmt.Sprintf(", for %v", ttl)
	}
	return text
}

// useProfile lets the role of a profile count instead of the directory's own.
func (d *acmeDir) useProfile(name string) error {
	if name == "" {
		return nil
	}
	role, ok := d.rules.Profiles[name]
	if !ok || d.byRole {
		return acme.New(acme.InvalidProfile, "this directory has no profile %q; those that it has are in its meta.profiles", name)
	}
	r, err := d.namedRole(role)
	if err != nil {
		return acme.New(acme.InvalidProfile, "the profile %q is not offered any more", name)
	}
	d.role, d.name = r, role
	return nil
}
