package pki

import (
	"time"

	"github.com/claviger/claviger/api"
)

// Values of not_before_bound and not_after_bound; an end of validity is one of
// the latter too. Roles of before they were known have none, which permits.
const (
	boundPermit   = "permit"
	boundForbid   = "forbid"
	boundDuration = "duration"    // not_before
	boundTTL      = "ttl-limited" // not_after
)

// editBounds puts what a request says of times into a role.
func editBounds(role *api.PKIRole, r *api.SetPKIRole) {
	set(&role.NotBefore, r.NotBefore)
	set(&role.NotBeforeBound, r.NotBeforeBound)
	set(&role.NotAfterBound, r.NotAfterBound)
}

func checkBounds(role *api.PKIRole) error {
	switch role.NotBeforeBound {
	case "", boundPermit, boundForbid, boundDuration:
	default:
		return invalid("not_before_bound %q: it is permit, forbid or duration", role.NotBeforeBound)
	}
	switch role.NotAfterBound {
	case "", boundPermit, boundForbid, boundTTL:
	default:
		if _, err := time.Parse(time.RFC3339, role.NotAfterBound); err != nil {
			return invalid("not_after_bound %q: it is permit, forbid, ttl-limited, or a time such as 2030-01-31T12:00:00Z", role.NotAfterBound)
		}
	}
	if role.NotBefore == "" {
		return nil
	}
	_, err := parseTime("not_before", role.NotBefore)
	return err
}

// limitsOf are those of a role.
func limitsOf(role *api.PKIRole) limits {
	return limits{
		ttl: role.TTL.Duration(), max: role.MaxTTL.Duration(), notAfter: role.NotAfter, notBefore: role.NotBeforeDuration.Duration(),
		begin: role.NotBefore, beginBound: role.NotBeforeBound, endBound: role.NotAfterBound,
	}
}

// permits applies the bounds of a role to what a request asks for; from is its
// not_before.
func (l *limits) permits(now, from time.Time, r *api.PKIValidity) error {
	switch {
	case r.NotBefore == "":
	case l.beginBound == boundForbid:
		return invalid("not_before_bound is set to forbid. not_before cannot be provided.")
	case l.beginBound == boundDuration && from.Before(now.Add(-l.notBefore)):
		return invalid("not_before_bound is set to duration. Cannot satisfy request as it would result in notBefore of %s that is older than the allowed not_before_duration of %s",
			from.Format(time.RFC3339Nano), l.notBefore)
	}
	if r.NotAfter != "" && l.endBound == boundForbid {
		return invalid("not_after_bound is set to forbid. not_after cannot be provided.")
	}
	return nil
}

// permitsEnd applies not_after_bound to an end of validity; ttl is the role's,
// or the mount's.
func (l *limits) permitsEnd(now, until time.Time, ttl time.Duration, asked bool) error {
	switch l.endBound {
	case "", boundPermit, boundForbid:
		return nil
	case boundTTL:
		if asked && until.After(now.Add(ttl)) {
			return invalid("not_after_bound is set to ttl-limited. Cannot satisfy request as that would result in notAfter of %s that is beyond the TTL of %s",
				until.Format(time.RFC3339Nano), ttl)
		}
		return nil
	}
	latest, err := parseTime("not_after_bound", l.endBound)
	if err == nil && until.After(latest) {
		err = invalid("not_after_bound is set to %s. Cannot satisfy request as that would result in notAfter of %s", l.endBound, until.Format(time.RFC3339Nano))
	}
	return err
}
