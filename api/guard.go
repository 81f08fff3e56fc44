package api

// Mounts is the answer of sys/mounts and sys/auth: path, with its trailing
// slash, to mount.
type Mounts map[string]Mount

// UIMount is a mount and its path, for callers that look for the mount which
// holds a path.
type UIMount struct {
	Path        string            `json:"path" audit:"plain"`
	Type        string            `json:"type" audit:"plain"`
	Description string            `json:"description" audit:"plain"`
	Accessor    string            `json:"accessor" audit:"plain"`
	UUID        string            `json:"uuid" audit:"plain"`
	Config      MountConfig       `json:"config"`
	Options     map[string]string `json:"options"`
}

// Capabilities asks what a client token may do on paths.
type Capabilities struct {
	Token    string   `json:"token,omitempty" doc:"the client token; the caller's own in capabilities-self"`
	Accessor string   `json:"accessor,omitempty" audit:"plain" doc:"accessor of the client token, in capabilities-accessor"`
	Path     []string `json:"path,omitempty" audit:"plain" doc:"old name of paths"`
	Paths    []string `json:"paths,omitempty" audit:"plain" doc:"paths to ask for"`
}

// CapabilityLists is the answer to Capabilities: path to capabilities in
// alphabetical order; for a single path also under the name "capabilities".
type CapabilityLists map[string][]string

// Accessor names a client token by its accessor.
type Accessor struct {
	Accessor string `json:"accessor" audit:"plain" doc:"accessor of the client token"`
}
