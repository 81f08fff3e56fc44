package api

// CORS is the answer of sys/config/cors.
type CORS struct {
	Enabled bool `json:"enabled" doc:"false: browsers on other origins are not answered"`
}

// RequestHeaders are the headers that the audit log shows.
type RequestHeaders struct {
	Headers map[string]RequestHeader `json:"headers" audit:"-" doc:"empty: none is recorded"`
}

// RequestHeader says how the audit log shows a header.
type RequestHeader struct {
	HMAC bool `json:"hmac"`
}

// ConfigState is the configuration in force, without secrets.
type ConfigState struct {
	APIAddress      string          `json:"api_addr" audit:"-" doc:"empty: the server does not know how callers reach it"`
	ClusterAddress  string          `json:"cluster_addr" audit:"-" doc:"empty: there is no cluster"`
	ClusterName     string          `json:"cluster_name" audit:"-"`
	DefaultLeaseTTL Seconds         `json:"default_lease_ttl" doc:"0: the built-in time"`
	MaxLeaseTTL     Seconds         `json:"max_lease_ttl" doc:"0: the built-in time"`
	DisableCache    bool            `json:"disable_cache"`
	DisableMlock    bool            `json:"disable_mlock"`
	LogLevel        string          `json:"log_level" audit:"-"`
	LogFormat       string          `json:"log_format" audit:"-"`
	Listeners       []ListenerState `json:"listeners" audit:"-"`
	Seals           []SealState     `json:"seals" audit:"-"`
	Storage         StorageState    `json:"storage" audit:"-"`
}

// ListenerState is a listener.
type ListenerState struct {
	Type   string         `json:"type" doc:"tcp or unix"`
	Config ListenerConfig `json:"config"`
}

// ListenerConfig is how a listener is configured.
type ListenerConfig struct {
	Address          string `json:"address"`
	TLSDisable       bool   `json:"tls_disable"`
	RequireClientTLS bool   `json:"tls_require_and_verify_client_cert"`
}

// SealState is a seal.
type SealState struct {
	Type     string `json:"type" doc:"shamir"`
	Disabled bool   `json:"disabled"`
}

// StorageState is the store.
type StorageState struct {
	Type              string `json:"type"`
	RedirectAddress   string `json:"redirect_addr"`
	ClusterAddress    string `json:"cluster_addr"`
	DisableClustering bool   `json:"disable_clustering"`
}
