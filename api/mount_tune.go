package api

// TuneMount changes the tuning of a mount. What is absent stays as it is.
type TuneMount struct {
	Path            string  `json:"-" path:"path" audit:"plain" doc:"path of the mount"`
	Description     *string `json:"description,omitempty" audit:"plain" doc:"for people"`
	DefaultLeaseTTL string  `json:"default_lease_ttl,omitempty" audit:"plain" doc:"time of a lease for which nothing else is said, such as 1h; system for the server's"`
	MaxLeaseTTL     string  `json:"max_lease_ttl,omitempty" audit:"plain" doc:"longest time of a lease, such as 24h; system for the server's"`
}

// MountTuning is the tuning of a mount that counts.
type MountTuning struct {
	Description     string  `json:"description" audit:"plain"`
	DefaultLeaseTTL Seconds `json:"default_lease_ttl"`
	MaxLeaseTTL     Seconds `json:"max_lease_ttl"`
	ForceNoCache    bool    `json:"force_no_cache"`
}
