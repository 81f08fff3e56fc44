package api

import "time"

// CreateToken makes a client token, by a role if there is one.
type CreateToken struct {
	Role            string            `json:"-" path:"role" audit:"plain" doc:"name of the role"`
	Policies        []string          `json:"policies,omitempty" audit:"plain" doc:"policies of the token; default those of the caller"`
	TTL             Seconds           `json:"ttl,omitempty" doc:"time to live"`
	Lease           Seconds           `json:"lease,omitempty" doc:"old name of ttl"`
	ExplicitMaxTTL  Seconds           `json:"explicit_max_ttl,omitempty" doc:"no renewal goes beyond this"`
	Period          Seconds           `json:"period,omitempty" doc:"each renewal gives this; needs sudo"`
	NumUses         int               `json:"num_uses,omitempty" doc:"number of calls that the token is good for, 0 without limit"`
	Renewable       *bool             `json:"renewable,omitempty" doc:"default true"`
	NoParent        bool              `json:"no_parent,omitempty" doc:"the token does not end with its parent; needs sudo"`
	NoDefaultPolicy bool              `json:"no_default_policy,omitempty" doc:"without the policy default"`
	DisplayName     string            `json:"display_name,omitempty" audit:"plain" doc:"for people and the audit log"`
	Meta            map[string]string `json:"meta,omitempty" audit:"plain" doc:"for the audit log"`
	Type            string            `json:"type,omitempty" audit:"plain" doc:"service (default) or batch: a batch token is stored nowhere, can't be renewed or revoked, and ends with its maker's"`
	EntityAlias     string            `json:"entity_alias,omitempty" audit:"plain" doc:"refused unless it is empty: there are no entities"`
	ID              string            `json:"id,omitempty" audit:"-" doc:"text of the token instead of a random one; needs sudo"`
}

// Auth is the part of an answer that carries a client token.
type Auth struct {
	ClientToken    string            `json:"client_token" audit:"-"`
	Accessor       string            `json:"accessor" audit:"plain"`
	Policies       []string          `json:"policies" audit:"plain"`
	TokenPolicies  []string          `json:"token_policies" audit:"plain"`
	Metadata       map[string]string `json:"metadata" audit:"plain"`
	LeaseDuration  Seconds           `json:"lease_duration"`
	Renewable      bool              `json:"renewable"`
	EntityID       string            `json:"entity_id"`
	TokenType      string            `json:"token_type" audit:"plain"`
	Orphan         bool              `json:"orphan"`
	MFARequirement *Empty            `json:"mfa_requirement"`
	NumUses        int               `json:"num_uses"`
}

// TokenID names a client token by its text.
type TokenID struct {
	Token string `json:"token" doc:"the client token"`
}

// RenewToken asks for more time.
type RenewToken struct {
	Token     string  `json:"token,omitempty" doc:"the client token; the caller's own in renew-self"`
	Increment Seconds `json:"increment,omitempty" doc:"time wished for"`
}

// RenewAccessor asks for more time for the token of an accessor.
type RenewAccessor struct {
	Accessor  string  `json:"accessor" audit:"plain" doc:"accessor of the client token"`
	Increment Seconds `json:"increment,omitempty" doc:"time wished for"`
}

// TokenInfo describes a client token.
type TokenInfo struct {
	ID             string            `json:"id" audit:"-"`
	Accessor       string            `json:"accessor" audit:"plain"`
	CreationTime   int64             `json:"creation_time"`
	CreationTTL    Seconds           `json:"creation_ttl"`
	DisplayName    string            `json:"display_name" audit:"plain"`
	EntityID       string            `json:"entity_id"`
	ExpireTime     *time.Time        `json:"expire_time"`
	ExplicitMaxTTL Seconds           `json:"explicit_max_ttl"`
	IssueTime      *time.Time        `json:"issue_time,omitempty"`
	LastRenewal    *time.Time        `json:"last_renewal,omitempty" doc:"absent if it was never renewed"`
	LastRenewedAt  int64             `json:"last_renewal_time,omitempty" doc:"the same in Unix seconds"`
	Meta           map[string]string `json:"meta" audit:"plain"`
	NumUses        int               `json:"num_uses"`
	Orphan         bool              `json:"orphan"`
	Path           string            `json:"path" audit:"plain"`
	Period         Seconds           `json:"period,omitempty"`
	Policies       []string          `json:"policies" audit:"plain"`
	Renewable      bool              `json:"renewable"`
	Role           string            `json:"role,omitempty" audit:"plain"`
	TTL            Seconds           `json:"ttl"`
	Type           string            `json:"type" audit:"plain"`
}
