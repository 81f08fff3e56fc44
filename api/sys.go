package api

// Init initialises the server: it makes or adopts the HSM token, and the shares.
type Init struct {
	SecretShares      int      `json:"secret_shares,omitempty" doc:"number of shares, 1 to 255"`
	SecretThreshold   int      `json:"secret_threshold,omitempty" doc:"number of shares that unseal, 1 to secret_shares"`
	PGPKeys           []string `json:"pgp_keys,omitempty" audit:"-" doc:"one OpenPGP public key (base64 of the binary form, or armored) a share; the shares are encrypted to them"`
	RootTokenPGPKey   string   `json:"root_token_pgp_key,omitempty" audit:"-" doc:"OpenPGP public key to which the root token is encrypted"`
	RecoveryShares    int      `json:"recovery_shares,omitempty" doc:"number of recovery shares, 1 to 255, on a server that opens by itself; in place of secret_shares"`
	RecoveryThreshold int      `json:"recovery_threshold,omitempty" doc:"number of recovery shares that make a root token or unseal"`
	RecoveryPGPKeys   []string `json:"recovery_pgp_keys,omitempty" audit:"-" doc:"one OpenPGP public key a recovery share, as pgp_keys"`

	HSMToken        string `json:"hsm_token,omitempty" audit:"plain" doc:"create or adopt; default is what the configuration says. Nothing is made without one of both"`
	HSMPIN          string `json:"hsm_pin,omitempty" audit:"-" doc:"user PIN of the HSM token to adopt"`
	TransferableKEK bool   `json:"transferable_kek,omitempty" doc:"whether the KEK may ever be wrapped by another HSM's KEKEK; fixed for ever"`
	Ceremony        string `json:"ceremony,omitempty" audit:"plain" doc:"SHA-256, in hexadecimal, of what describes the act beforehand: the server signs a statement that names it"`
}

// InitStatus tells whether the server was initialised.
type InitStatus struct {
	Initialized bool `json:"initialized"`
}

// InitResult is the answer to Init: shown once, kept nowhere.
type InitResult struct {
	Keys       []string `json:"keys" audit:"-"`        // shares in hex, or OpenPGP messages in hex
	KeysBase64 []string `json:"keys_base64" audit:"-"` // the same in base64
	// The shares of a server that opens by itself, in the same forms.
	RecoveryKeys       []string `json:"recovery_keys,omitempty" audit:"-"`
	RecoveryKeysBase64 []string `json:"recovery_keys_base64,omitempty" audit:"-"`

	RootToken       string   `json:"root_token" audit:"-"`
	PGPFingerprints []string `json:"pgp_fingerprints,omitempty" audit:"plain"`

	// Statement is the signed statement of the act, if a ceremony was named.
	Statement *SignedStatement `json:"statement,omitempty" audit:"-"`
}

// Unseal gives a share.
type Unseal struct {
	Key     string `json:"key,omitempty" audit:"-" doc:"a share in hex or base64"`
	Reset   bool   `json:"reset,omitempty" doc:"forget the shares given so far"`
	Migrate bool   `json:"migrate,omitempty" doc:"give the server the custody that its configuration says (shares, or a provider that opens it), or the unseal secret to its provider anew; the same for all shares"`
}

// SealStatus is the state of the seal.
type SealStatus struct {
	Type         string `json:"type" audit:"plain"`
	Initialized  bool   `json:"initialized"`
	Sealed       bool   `json:"sealed"`
	T            int    `json:"t"`
	N            int    `json:"n"`
	Progress     int    `json:"progress"`
	Nonce        string `json:"nonce" audit:"plain"`
	Version      string `json:"version" audit:"plain"`
	BuildDate    string `json:"build_date" audit:"plain"`
	Migration    bool   `json:"migration"`
	ClusterName  string `json:"cluster_name,omitempty" audit:"plain"`
	ClusterID    string `json:"cluster_id,omitempty" audit:"plain"`
	RecoverySeal bool   `json:"recovery_seal"`
	StorageType  string `json:"storage_type" audit:"plain"`
}

// HealthQuery changes the statuses of Health.
type HealthQuery struct {
	StandbyOK   bool `json:"standbyok,omitempty"`
	ActiveCode  int  `json:"activecode,omitempty"`
	StandbyCode int  `json:"standbycode,omitempty"`
	SealedCode  int  `json:"sealedcode,omitempty"`
	UninitCode  int  `json:"uninitcode,omitempty"`
}

// Health is the state of the server as load balancers ask for it.
type Health struct {
	Initialized                bool   `json:"initialized"`
	Sealed                     bool   `json:"sealed"`
	Standby                    bool   `json:"standby"`
	PerformanceStandby         bool   `json:"performance_standby"`
	ReplicationPerformanceMode string `json:"replication_performance_mode"`
	ReplicationDRMode          string `json:"replication_dr_mode"`
	ServerTimeUTC              int64  `json:"server_time_utc"`
	Version                    string `json:"version"`
	ClusterName                string `json:"cluster_name,omitempty"`
	ClusterID                  string `json:"cluster_id,omitempty"`
	Status                     int    `json:"-"`
}

// HTTPStatus is the status that a front with statuses answers.
func (h *Health) HTTPStatus() int { return h.Status }

// Leader is the answer of sys/leader on a server that stands alone.
type Leader struct {
	HAEnabled            bool   `json:"ha_enabled"`
	IsSelf               bool   `json:"is_self"`
	LeaderAddress        string `json:"leader_address"`
	LeaderClusterAddress string `json:"leader_cluster_address"`
}

// TokenStatus is the state of the HSM token and its workers.
type TokenStatus struct {
	Driver       string               `json:"driver" audit:"plain"`
	Module       string               `json:"module,omitempty" audit:"plain"`
	Label        string               `json:"label" audit:"plain"`
	Serial       string               `json:"serial" audit:"plain"`
	Manufacturer string               `json:"manufacturer" audit:"plain"`
	Model        string               `json:"model" audit:"plain"`
	Firmware     string               `json:"firmware,omitempty" audit:"plain"`
	Transferable bool                 `json:"transferable_kek"`
	KeyTypes     map[string]TokenHold `json:"key_types" audit:"-"`
	Quirks       []string             `json:"quirks" audit:"-"`
	// AuditPublicKey verifies the audit log's checkpoints: PEM of PKIX.
	AuditPublicKey string `json:"audit_public_key" audit:"-"`
}

// TokenHold says how the HSM token holds a key type.
type TokenHold struct {
	Wrapped bool   `json:"wrapped"`
	Token   bool   `json:"token"`
	Import  bool   `json:"import"`
	Note    string `json:"note,omitempty"`
}

// MountPath names a mount.
type MountPath struct {
	Path string `json:"-" path:"path" audit:"plain" doc:"path of the mount"`
}

// CreateMount mounts an engine.
type CreateMount struct {
	Path        string `json:"-" path:"path" audit:"plain" doc:"path of the mount"`
	Type        string `json:"type" audit:"plain" doc:"transit"`
	Description string `json:"description,omitempty" audit:"plain" doc:"for people"`
	NewMountFlags
}

// Mount is a mounted engine.
type Mount struct {
	Type                  string            `json:"type"`
	Description           string            `json:"description"`
	Accessor              string            `json:"accessor"`
	UUID                  string            `json:"uuid"`
	Local                 bool              `json:"local"`
	SealWrap              bool              `json:"seal_wrap"`
	ExternalEntropyAccess bool              `json:"external_entropy_access"`
	Config                MountConfig       `json:"config"`
	Options               map[string]string `json:"options"`
	PluginVersion         string            `json:"plugin_version"`
	RunningPluginVersion  string            `json:"running_plugin_version"`
	RunningSHA256         string            `json:"running_sha256"`
	DeprecationStatus     string            `json:"deprecation_status,omitempty"`
}

// MountConfig is the tuning of a mount.
type MountConfig struct {
	DefaultLeaseTTL Seconds `json:"default_lease_ttl"`
	MaxLeaseTTL     Seconds `json:"max_lease_ttl"`
	ForceNoCache    bool    `json:"force_no_cache"`
	TokenType       string  `json:"token_type,omitempty" doc:"of auth mounts"`

	ListingVisibility         string   `json:"listing_visibility,omitempty"`
	AuditNonHMACRequestKeys   []string `json:"audit_non_hmac_request_keys,omitempty"`
	AuditNonHMACResponseKeys  []string `json:"audit_non_hmac_response_keys,omitempty"`
	PassthroughRequestHeaders []string `json:"passthrough_request_headers,omitempty"`
	AllowedResponseHeaders    []string `json:"allowed_response_headers,omitempty"`
	AllowedManagedKeys        []string `json:"allowed_managed_keys,omitempty"`
}

// PolicyName names a policy.
type PolicyName struct {
	Name string `json:"-" path:"name" audit:"plain" doc:"name of the policy"`
}

// WritePolicy makes or replaces a policy.
type WritePolicy struct {
	Name   string `json:"-" path:"name" audit:"plain" doc:"name of the policy"`
	Policy string `json:"policy" audit:"plain" doc:"the rules, in HCL or JSON, or base64 of them"`
	Rules  string `json:"rules,omitempty" audit:"plain" doc:"old name of policy"`
}

// Policy is a policy's text. Old callers read rules.
type Policy struct {
	Name   string `json:"name" audit:"plain"`
	Policy string `json:"policy,omitempty" audit:"plain"`
	Rules  string `json:"rules,omitempty" audit:"plain"`
}

// Policies is the answer of the old list of policies.
type Policies struct {
	Keys     []string `json:"keys" audit:"plain"`
	Policies []string `json:"policies" audit:"plain"`
}
