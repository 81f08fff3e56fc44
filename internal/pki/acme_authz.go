package pki

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/pki/acme"
)

// acmeAuthz shows or deactivates an authorization (RFC 8555 sections 7.5 and 7.5.2).
func (s *Service) acmeAuthz(ctx context.Context, c *acmeCall) (*api.ACMEAnswer, error) {
	a, err := s.authzByID(ctx, c, c.parts[1])
	if err != nil {
		return nil, err
	}
	if len(c.payload) > 0 {
		var r struct {
			Status string `json:"status"`
		}
		if err := c.decode(&r); err != nil {
			return nil, err
		}
		if r.Status != statusDeactivated {
			return nil, acme.New(acme.Malformed, "the status of an authorization can be changed to deactivated only")
		}
		a.Status = statusDeactivated
		if err := s.putAuthz(ctx, c.mount, a); err != nil {
			return nil, err
		}
	}
	return s.showAuthz(c, a)
}

// shownChallenge is a challenge as clients see it.
type shownChallenge struct {
	Type      string           `json:"type"`
	URL       string           `json:"url"`
	Status    string           `json:"status"`
	Token     string           `json:"token"`
	Validated string           `json:"validated,omitempty"`
	Error     *api.ACMEProblem `json:"error,omitempty"`
}

func (c *acmeCall) shownChallenge(a *acmeAuthz, ch *acmeChallenge) shownChallenge {
	out := shownChallenge{Type: ch.Kind, URL: c.url("challenge", a.ID, ch.Kind), Status: ch.Status, Token: ch.Token, Error: ch.Error}
	if !ch.Validated.IsZero() {
		out.Validated = ch.Validated.Format(time.RFC3339)
	}
	return out
}

func (s *Service) showAuthz(c *acmeCall, a *acmeAuthz) (*api.ACMEAnswer, error) {
	shown := struct {
		Identifier api.ACMEIdentifier `json:"identifier"`
		Status     string             `json:"status"`
		Expires    string             `json:"expires"`
		Wildcard   bool               `json:"wildcard,omitempty"`
		Challenges []shownChallenge   `json:"challenges"`
	}{Identifier: a.Identifier, Status: a.status(s.now()), Expires: a.Expires.Format(time.RFC3339), Wildcard: a.Wildcard}
	for i := range a.Challenges {
		if ch := &a.Challenges[i]; a.Status == statusPending || ch.Status != statusPending {
			shown.Challenges = append(shown.Challenges, c.shownChallenge(a, ch))
		}
	}
	if shown.Challenges == nil {
		shown.Challenges = []shownChallenge{}
	}
	return jsonAnswer(http.StatusOK, shown)
}

// acmeChallenge answers a challenge (RFC 8555 section 7.5.1). The validation is
// made within the request, so that its outcome is recorded with it, and nothing
// is lost if the server ends.
func (s *Service) acmeChallenge(ctx context.Context, c *acmeCall) (*api.ACMEAnswer, error) {
	a, err := s.authzByID(ctx, c, c.parts[1])
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(a.Challenges, func(ch acmeChallenge) bool { return ch.Kind == c.parts[2] })
	if i < 0 {
		return nil, acmeNotFound("the authorization has no challenge of this kind")
	}
	now := s.now()
	if status := a.status(now); len(c.payload) > 0 && status == statusPending {
		if err := s.validate(ctx, c, a, &a.Challenges[i]); err != nil {
			return nil, err
		}
	} else if status == statusExpired {
		return nil, acme.New(acme.Malformed, "the authorization expired at %s; make another order", a.Expires.Format(time.RFC3339))
	}
	answer, err := jsonAnswer(http.StatusOK, c.shownChallenge(a, &a.Challenges[i]))
	answer.Links = []string{`<` + c.url("authorization", a.ID) + `>;rel="up"`}
	return answer, err
}

// validate looks whether the client controls the name, and stores the outcome.
func (s *Service) validate(ctx context.Context, c *acmeCall, a *acmeAuthz, ch *acmeChallenge) error {
	failures := "failures of " + c.mount + c.account.ID
	full, wait := s.acme.limits.Full(failures, c.rules.FailuresPerHour, s.now())
	if err := limited(!full, wait, "too many validations of this account failed within an hour"); err != nil {
		return err
	}
	select {
	case s.acme.validating <- struct{}{}:
		defer func() { <-s.acme.validating }()
	default:
		return limited(false, time.Second, "too many validations are under way; try again")
	}
	subject, err := c.subject(a, ch)
	if err != nil {
		return err
	}
	v, err := c.validator()
	if err != nil {
		return err
	}
	problem := v.Validate(ctx, ch.Kind, subject)
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Unavailable, err, "the validation was cut off; try again")
	}
	if problem != nil {
		s.acme.limits.Add(failures, c.rules.FailuresPerHour, s.now())
		ch.Status, ch.Error, a.Status = statusInvalid, acme.Problem(problem), statusInvalid
		s.log.Info("a validation failed", "mount", c.mount, "account", a.Account, "kind", ch.Kind, "name", a.Identifier.Value, "error", problem)
		return s.putAuthz(ctx, c.mount, a)
	}
	ch.Status, ch.Validated, a.Status = statusValid, s.now().UTC().Truncate(time.Second), statusValid
	return s.putAuthz(ctx, c.mount, a)
}

// subject is what is to be found (RFC 8555 section 8.1).
func (c *acmeCall) subject(a *acmeAuthz, ch *acmeChallenge) (*acme.Subject, error) {
	key, err := c.account.key()
	if err != nil {
		return nil, err
	}
	thumb, err := acme.Thumbprint(key)
	return &acme.Subject{Name: a.Identifier.Value, Token: ch.Token, KeyAuthorization: ch.Token + "." + thumb}, err
}
