package api

// SetExternalConfig describes an HSM whose keys are to be used by name. It is
// always the HSM token of this server, which is configured and logged in to
// elsewhere; the fields say which one is meant.
type SetExternalConfig struct {
	Config     string  `json:"-" path:"config" audit:"plain" doc:"name of the configuration"`
	Plugin     *string `json:"plugin,omitempty" audit:"plain" doc:"must be pkcs11"`
	Lib        *string `json:"lib,omitempty" audit:"plain" doc:"the PKCS#11 module; kept and shown, the server's own is used"`
	Slot       *string `json:"slot,omitempty" audit:"plain" doc:"the slot; kept and shown"`
	TokenLabel *string `json:"token_label,omitempty" audit:"plain" doc:"label of the HSM token; must be that of the server's"`
	Serial     *string `json:"serial,omitempty" audit:"plain" doc:"serial number of the HSM token; must be that of the server's"`
	PIN        *string `json:"pin,omitempty" audit:"-" doc:"not kept: the server is logged in by its own custody"`
	Verify     *bool   `json:"verify,omitempty" audit:"plain" doc:"compare token_label and serial with the HSM token; default true"`
}

// ExternalConfigName names a configuration.
type ExternalConfigName struct {
	Config string `json:"-" path:"config" audit:"plain" doc:"name of the configuration"`
}

// ExternalConfig is a configuration as it is shown.
type ExternalConfig struct {
	Plugin     string `json:"plugin" audit:"plain"`
	Lib        string `json:"lib,omitempty" audit:"plain"`
	Slot       string `json:"slot,omitempty" audit:"plain"`
	TokenLabel string `json:"token_label,omitempty" audit:"plain"`
	Serial     string `json:"serial,omitempty" audit:"plain"`
}

// ExternalPage asks for a part of a list.
type ExternalPage struct {
	After string `json:"after,omitempty" audit:"plain" doc:"name behind which the list begins"`
	Limit int    `json:"limit,omitempty" audit:"plain" doc:"most names; 0 is all"`
}

// ExternalKeyPage asks for a part of the list of a configuration's keys.
type ExternalKeyPage struct {
	Config string `json:"-" path:"config" audit:"plain" doc:"name of the configuration"`
	After  string `json:"after,omitempty" audit:"plain" doc:"name behind which the list begins"`
	Limit  int    `json:"limit,omitempty" audit:"plain" doc:"most names; 0 is all"`
}

// SetExternalKey gives a name to a key that lies in the HSM token.
type SetExternalKey struct {
	Config    string  `json:"-" path:"config" audit:"plain" doc:"name of the configuration"`
	Key       string  `json:"-" path:"key" audit:"plain" doc:"name of the key"`
	Label     *string `json:"label,omitempty" audit:"plain" doc:"CKA_LABEL of the object"`
	ID        *string `json:"id,omitempty" audit:"plain" doc:"CKA_ID of the object in hex; label or id or both, so that one key fits"`
	Class     *string `json:"class,omitempty" audit:"plain" doc:"private or secret, where both fit"`
	Mechanism *string `json:"mechanism,omitempty" audit:"plain" doc:"kept and shown; each operation names its own"`
	Verify    *bool   `json:"verify,omitempty" audit:"plain" doc:"look whether the key is there and can be used; default true"`
}

// ExternalKeyName names a key of a configuration.
type ExternalKeyName struct {
	Config string `json:"-" path:"config" audit:"plain" doc:"name of the configuration"`
	Key    string `json:"-" path:"key" audit:"plain" doc:"name of the key"`
}

// ExternalKey is a key of a configuration as it is shown.
type ExternalKey struct {
	Label     string `json:"label,omitempty" audit:"plain"`
	ID        string `json:"id,omitempty" audit:"plain"`
	Class     string `json:"class,omitempty" audit:"plain"`
	Mechanism string `json:"mechanism,omitempty" audit:"plain"`
}

// ExternalGrant names a mount that may use a key.
type ExternalGrant struct {
	Config string `json:"-" path:"config" audit:"plain" doc:"name of the configuration"`
	Key    string `json:"-" path:"key" audit:"plain" doc:"name of the key"`
	Mount  string `json:"-" path:"mount" audit:"plain" doc:"path of the mount"`
}
