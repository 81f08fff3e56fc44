package api

// TuneMount changes the tuning of a mount. What is absent stays as it is.
type TuneMount struct {
	Path            string            `json:"-" path:"path" audit:"plain" doc:"path of the mount"`
	Description     *string           `json:"description,omitempty" audit:"plain" doc:"for people"`
	DefaultLeaseTTL string            `json:"default_lease_ttl,omitempty" audit:"plain" doc:"time of a lease for which nothing else is said, such as 1h; system for the server's"`
	MaxLeaseTTL     string            `json:"max_lease_ttl,omitempty" audit:"plain" doc:"longest time of a lease, such as 24h; system for the server's"`
	Options         map[string]string `json:"options,omitzero" audit:"plain" doc:"added to those that are there; an empty value removes one; without an effect"`
	MountSettings
}

// MountTuning is the tuning of a mount that counts.
type MountTuning struct {
	Description string            `json:"description" audit:"plain"`
	Options     map[string]string `json:"options,omitempty" audit:"plain"`
	MountConfig
}
