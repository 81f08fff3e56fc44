package api

// AdoptKey makes a named key of a key that lies in the HSM token already. The key
// stays where it is, and the programs that use it go on to.
type AdoptKey struct {
	Name         string `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	Label        string `json:"label,omitempty" audit:"plain" doc:"CKA_LABEL of the object"`
	ID           string `json:"id,omitempty" audit:"plain" doc:"CKA_ID of the object in hex, 1 to 64 bytes; label or id or both, so that one key fits"`
	Class        string `json:"class,omitempty" audit:"plain" doc:"private or secret, where both fit"`
	DeleteObject bool   `json:"delete_object,omitempty" audit:"plain" doc:"deleting the named key destroys the object too; default false: it stays in the HSM token"`
}

// HSMObjects asks for the keys that lie in the HSM token.
type HSMObjects struct {
	Label string `json:"label,omitempty" audit:"plain" doc:"CKA_LABEL"`
	ID    string `json:"id,omitempty" audit:"plain" doc:"CKA_ID in hex"`
	Class string `json:"class,omitempty" audit:"plain" doc:"private or secret; default both"`
	Limit int    `json:"limit,omitempty" audit:"plain" doc:"most objects to list, 1 to 10000; default 1000"`
}

// HSMObjectList is the answer to HSMObjects.
type HSMObjectList struct {
	Objects []HSMObject `json:"objects" audit:"-"`
	More    bool        `json:"more" doc:"there are more than the limit"`
}

// HSMObject is a private or secret key in the HSM token.
type HSMObject struct {
	Label        string   `json:"label"`
	ID           string   `json:"id" doc:"hex"`
	Class        string   `json:"class" doc:"private or secret"`
	Kind         string   `json:"kind" doc:"such as RSA-2048"`
	Type         string   `json:"type,omitempty" doc:"key type that it would have as a named key; absent if it can't be adopted"`
	KeySize      int      `json:"key_size,omitempty" doc:"bytes, of type hmac"`
	UsedBy       string   `json:"used_by,omitempty" doc:"the key of Claviger that it belongs to"`
	Note         string   `json:"note,omitempty" doc:"why it can't be adopted"`
	System       bool     `json:"system,omitempty" doc:"it is the KEK, the storage key or the audit key"`
	Private      bool     `json:"private" doc:"CKA_PRIVATE"`
	Sensitive    bool     `json:"sensitive" doc:"CKA_SENSITIVE"`
	Extractable  bool     `json:"extractable" doc:"CKA_EXTRACTABLE"`
	PublicObject bool     `json:"public_object" doc:"its public half is an object of the same name"`
	Uses         []string `json:"uses" doc:"what its attributes allow"`
}
