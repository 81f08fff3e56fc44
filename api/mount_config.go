package api

// MountSettings are what can be set of a mount beside its lease times. What is
// absent stays as it is. Those without an effect are kept and shown.
type MountSettings struct {
	ForceNoCache              *bool    `json:"force_no_cache,omitempty" doc:"kept and shown, without an effect"`
	ListingVisibility         *string  `json:"listing_visibility,omitempty" audit:"plain" doc:"unauth: sys/internal/ui/mounts shows the mount to callers without a client token; hidden or empty: it does not"`
	TokenType                 *string  `json:"token_type,omitempty" audit:"plain" doc:"of auth mounts: default-service"`
	PluginVersion             *string  `json:"plugin_version,omitempty" audit:"plain" doc:"must be empty: engines are parts of this program"`
	AuditNonHMACRequestKeys   []string `json:"audit_non_hmac_request_keys,omitzero" audit:"plain" doc:"kept and shown, without an effect: what the audit log shows plain is fixed"`
	AuditNonHMACResponseKeys  []string `json:"audit_non_hmac_response_keys,omitzero" audit:"plain" doc:"kept and shown, without an effect"`
	PassthroughRequestHeaders []string `json:"passthrough_request_headers,omitzero" audit:"plain" doc:"kept and shown, without an effect"`
	AllowedResponseHeaders    []string `json:"allowed_response_headers,omitzero" audit:"plain" doc:"kept and shown, without an effect"`
	AllowedManagedKeys        []string `json:"allowed_managed_keys,omitzero" audit:"plain" doc:"kept and shown, without an effect"`
}

// NewMountConfig is the tuning that a mount begins with.
type NewMountConfig struct {
	DefaultLeaseTTL string `json:"default_lease_ttl,omitempty" audit:"plain" doc:"time of a lease for which nothing else is said, such as 1h"`
	MaxLeaseTTL     string `json:"max_lease_ttl,omitempty" audit:"plain" doc:"longest time of a lease, such as 24h"`
	MountSettings
}

// NewMountFlags are what Vault's clients say of a new mount beside its type.
type NewMountFlags struct {
	Config                NewMountConfig    `json:"config,omitzero" doc:"the tuning that the mount begins with"`
	Options               map[string]string `json:"options,omitempty" audit:"plain" doc:"kept and shown, without an effect"`
	Local                 bool              `json:"local,omitempty" doc:"kept and shown, without an effect: there is one server"`
	SealWrap              bool              `json:"seal_wrap,omitempty" doc:"kept and shown, without an effect: every record is sealed under a key of the HSM token"`
	ExternalEntropyAccess bool              `json:"external_entropy_access,omitempty" doc:"kept and shown, without an effect: the HSM token's random numbers are used in any case"`
	PluginName            string            `json:"plugin_name,omitempty" audit:"plain" doc:"old name of type"`
}

// EnableAuth would make a way to log in; there is none beside client tokens.
type EnableAuth struct {
	Path        string `json:"-" path:"path" audit:"plain" doc:"path of the auth mount, below auth/"`
	Type        string `json:"type" audit:"plain" doc:"the kind of login"`
	Description string `json:"description,omitempty" audit:"plain" doc:"for people"`
	NewMountFlags
}

// AuthPath names an auth mount.
type AuthPath struct {
	Path string `json:"-" path:"path" audit:"plain" doc:"path of the auth mount, below auth/: token"`
}

// TuneAuth changes the tuning of an auth mount. What is absent stays as it is.
type TuneAuth struct {
	Path            string  `json:"-" path:"path" audit:"plain" doc:"path of the auth mount, below auth/: token"`
	Description     *string `json:"description,omitempty" audit:"plain" doc:"for people"`
	DefaultLeaseTTL string  `json:"default_lease_ttl,omitempty" audit:"plain" doc:"time of a client token for which nothing else is said, such as 1h; system for the server's"`
	MaxLeaseTTL     string  `json:"max_lease_ttl,omitempty" audit:"plain" doc:"longest time of a client token without a period, such as 24h; system for the server's"`
	MountSettings
}

// UIMounts are the mounts that a caller may know, by path with its slash.
type UIMounts struct {
	Auth   map[string]UIMountEntry `json:"auth" audit:"-"`
	Secret map[string]UIMountEntry `json:"secret" audit:"-"`
}

// UIMountEntry is a mount as those see it who may only know of it.
type UIMountEntry struct {
	Type        string            `json:"type"`
	Description string            `json:"description"`
	Options     map[string]string `json:"options"`
}

// Remount moves a mount.
type Remount struct {
	From string `json:"from" audit:"plain" doc:"path of the mount"`
	To   string `json:"to" audit:"plain" doc:"its new path"`
}

// Remounted names the move.
type Remounted struct {
	MigrationID string `json:"migration_id" audit:"plain" doc:"for sys/remount/status"`
}

// MigrationID names a move.
type MigrationID struct {
	ID string `json:"-" path:"id" audit:"plain" doc:"as sys/remount returned it"`
}

// RemountStatus tells how a move ended.
type RemountStatus struct {
	MigrationID   string        `json:"migration_id" audit:"plain"`
	MigrationInfo MigrationInfo `json:"migration_info"`
}

// MigrationInfo describes a move.
type MigrationInfo struct {
	SourceMount string `json:"source_mount" audit:"plain"`
	TargetMount string `json:"target_mount" audit:"plain"`
	Status      string `json:"status" audit:"plain" doc:"success: a move is done when sys/remount answers"`
}
