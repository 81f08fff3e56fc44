package api

// TokenRole makes or changes a role of client tokens; absent fields stay as they
// are. Of a field with an old and a new name (period and token_period) the new
// one counts.
type TokenRole struct {
	Name                   string   `json:"-" path:"name" audit:"plain" doc:"name of the role"`
	AllowedPolicies        []string `json:"allowed_policies,omitzero" audit:"plain" doc:"policies that tokens of the role may have, and have if none are asked for"`
	AllowedPoliciesGlob    []string `json:"allowed_policies_glob,omitzero" audit:"plain" doc:"patterns with * of policies that may be asked for as well"`
	DisallowedPolicies     []string `json:"disallowed_policies,omitzero" audit:"plain" doc:"policies that tokens of the role may not have"`
	DisallowedPoliciesGlob []string `json:"disallowed_policies_glob,omitzero" audit:"plain" doc:"patterns with * of policies that tokens of the role may not have"`
	Orphan                 *bool    `json:"orphan,omitempty" doc:"tokens of the role do not end with their maker's; default false"`
	Renewable              *bool    `json:"renewable,omitempty" doc:"whether tokens of the role may be renewed; default true"`
	PathSuffix             *string  `json:"path_suffix,omitempty" audit:"plain" doc:"appended to the path that is noted as the token's origin"`
	TokenType              *string  `json:"token_type,omitempty" audit:"plain" doc:"service, batch, default-service (default) or default-batch; with default- the caller may choose"`
	TokenPeriod            *Seconds `json:"token_period,omitempty" doc:"each renewal gives this; of tokens with a period of their own the lesser"`
	TokenExplicitMaxTTL    *Seconds `json:"token_explicit_max_ttl,omitempty" doc:"no renewal goes beyond this; of tokens with a limit of their own the lesser"`
	TokenNumUses           *int     `json:"token_num_uses,omitempty" doc:"number of calls that tokens are good for, 0 without limit; of tokens with a limit of their own the lesser"`
	TokenNoDefaultPolicy   *bool    `json:"token_no_default_policy,omitempty" doc:"tokens are made without the policy default"`
	TokenBoundCIDRs        []string `json:"token_bound_cidrs,omitzero" audit:"plain" doc:"refused unless it is empty: tokens are not bound to addresses"`
	Period                 *Seconds `json:"period,omitempty" doc:"old name of token_period"`
	ExplicitMaxTTL         *Seconds `json:"explicit_max_ttl,omitempty" doc:"old name of token_explicit_max_ttl"`
	BoundCIDRs             []string `json:"bound_cidrs,omitzero" audit:"plain" doc:"old name of token_bound_cidrs"`
	AllowedEntityAliases   []string `json:"allowed_entity_aliases,omitzero" audit:"plain" doc:"refused unless it is empty: there are no entities"`
}

// TokenRoleName names a role of client tokens.
type TokenRoleName struct {
	Name string `json:"-" path:"name" audit:"plain" doc:"name of the role"`
}

// TokenRoleInfo describes a role of client tokens. Old names are 0 unless they
// were used to set the value.
type TokenRoleInfo struct {
	Name                   string   `json:"name" audit:"plain"`
	AllowedPolicies        []string `json:"allowed_policies" audit:"plain"`
	AllowedPoliciesGlob    []string `json:"allowed_policies_glob" audit:"plain"`
	DisallowedPolicies     []string `json:"disallowed_policies" audit:"plain"`
	DisallowedPoliciesGlob []string `json:"disallowed_policies_glob" audit:"plain"`
	AllowedEntityAliases   []string `json:"allowed_entity_aliases" audit:"plain"`
	Orphan                 bool     `json:"orphan"`
	Renewable              bool     `json:"renewable"`
	PathSuffix             string   `json:"path_suffix" audit:"plain"`
	TokenType              string   `json:"token_type" audit:"plain"`
	Period                 Seconds  `json:"period"`
	TokenPeriod            Seconds  `json:"token_period"`
	ExplicitMaxTTL         Seconds  `json:"explicit_max_ttl"`
	TokenExplicitMaxTTL    Seconds  `json:"token_explicit_max_ttl"`
	TokenNumUses           int      `json:"token_num_uses,omitempty"`
	TokenNoDefaultPolicy   bool     `json:"token_no_default_policy"`
}

// Started is the answer of work that goes on after it: nothing but the status
// 202 and a warning.
type Started struct{}

// HTTPStatus is the status that a front with statuses answers.
func (*Started) HTTPStatus() int { return 202 }

// MarshalJSON writes null: such an answer has no data.
func (Started) MarshalJSON() ([]byte, error) { return []byte("null"), nil }
