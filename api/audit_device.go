package api

// AuditDevices are the audit logs, by path with its slash: the one that the
// configuration names.
type AuditDevices map[string]AuditDevice

// AuditDevice is an audit log.
type AuditDevice struct {
	Path        string            `json:"path"`
	Type        string            `json:"type"`
	Description string            `json:"description"`
	Local       bool              `json:"local"`
	Options     map[string]string `json:"options"`
}

// AuditPath names an audit device.
type AuditPath struct {
	Path string `json:"-" path:"path" audit:"plain" doc:"path of the audit device: file"`
}

// EnableAudit would make an audit device; the configuration does that.
type EnableAudit struct {
	Path        string            `json:"-" path:"path" audit:"plain" doc:"path of the audit device"`
	Type        string            `json:"type" audit:"plain" doc:"its type"`
	Description string            `json:"description,omitempty" audit:"plain" doc:"for people"`
	Options     map[string]string `json:"options,omitempty" doc:"as its type has them"`
	Local       bool              `json:"local,omitempty"`
}

// AuditHash asks how the audit log shows a value.
type AuditHash struct {
	Path  string `json:"-" path:"path" audit:"plain" doc:"path of the audit device: file"`
	Input string `json:"input" doc:"the value"`
}

// AuditHashed is how the audit log shows a value.
type AuditHashed struct {
	Hash string `json:"hash" audit:"plain" doc:"hmac-sha256: and hexadecimal digits"`
}
