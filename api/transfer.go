package api

// PrepareTransfer makes a KEKEK in this server's HSM token, for keys that come here.
type PrepareTransfer struct {
	Bits int `json:"bits,omitempty" audit:"plain" doc:"size of the RSA pair: 3072 (default) to 4096, a multiple of 256"`
}

// PreparedTransfer is the statement that the source of the keys wants.
type PreparedTransfer struct {
	Statement        string `json:"statement" audit:"-" doc:"the signed statement, one line"`
	Fingerprint      string `json:"fingerprint" audit:"plain" doc:"SHA-256 of the statement, to be compared over another way"`
	KEKEKFingerprint string `json:"kekek_fingerprint" audit:"plain" doc:"SHA-256 of the KEKEK's SubjectPublicKeyInfo"`
}

// StartTransfer begins to export keys to the destination of a statement. Custodians
// must confirm it.
type StartTransfer struct {
	Statement   string   `json:"statement" audit:"-" doc:"the statement of the destination"`
	Fingerprint string   `json:"fingerprint,omitempty" audit:"plain" doc:"what the statement's fingerprint must be, as the destination showed it"`
	KEK         bool     `json:"kek,omitempty" audit:"plain" doc:"export the KEK alone; it must have been made transferable"`
	Mounts      []string `json:"mounts,omitempty" audit:"plain" doc:"export all keys of these transit mounts"`
	Keys        []string `json:"keys,omitempty" audit:"plain" doc:"export these keys, each MOUNT/NAME"`
}

// TransferDevice is what an HSM token says of itself.
type TransferDevice struct {
	Driver       string `json:"driver"`
	Module       string `json:"module"`
	Manufacturer string `json:"manufacturer"`
	Model        string `json:"model"`
	Firmware     string `json:"firmware"`
	Serial       string `json:"serial"`
	Label        string `json:"label"`
}

// TransferStatus describes the export under way. Custodians look at destination and
// fingerprint before they confirm.
type TransferStatus struct {
	Nonce            string            `json:"nonce" audit:"plain" doc:"names the export; custodians give it with their shares"`
	ID               string            `json:"id" audit:"plain" doc:"of the ring"`
	Contents         string            `json:"contents" audit:"plain" doc:"kek or keys"`
	Keys             int               `json:"keys" doc:"named keys that are exported"`
	Chunks           int               `json:"chunks" doc:"lines of the ring behind its header"`
	LeftOut          []string          `json:"left_out" audit:"-" doc:"keys of the mounts that can't leave the HSM token"`
	Reasons          map[string]string `json:"left_out_reasons,omitempty" audit:"-" doc:"why each of left_out stays"`
	Confirmed        bool              `json:"confirmed" doc:"enough custodians gave their shares; the export can be fetched"`
	Progress         int               `json:"progress" doc:"shares given so far"`
	Required         int               `json:"required" doc:"shares that are needed"`
	Fingerprint      string            `json:"fingerprint" audit:"plain" doc:"SHA-256 of the destination's statement"`
	KEKEKFingerprint string            `json:"kekek_fingerprint" audit:"plain"`
	Created          string            `json:"created" doc:"when the statement was made"`
	Destination      TransferDevice    `json:"destination"`
	Bits             int               `json:"bits" doc:"of the KEKEK"`
	Attributes       map[string]bool   `json:"attributes" doc:"of the KEKEK, as its token showed them"`
	Paddings         []string          `json:"paddings" doc:"with which the destination unwraps"`
}

// ConfirmTransfer gives a custodian's share for an export.
type ConfirmTransfer struct {
	Nonce string `json:"nonce" audit:"plain" doc:"of the export, so that no share goes to another one"`
	Key   string `json:"key" audit:"-" doc:"a share in hex or base64"`
}

// FetchTransfer asks for a line of a confirmed export.
type FetchTransfer struct {
	Nonce  string `json:"nonce" audit:"plain" doc:"of the export"`
	Number int    `json:"number" audit:"plain" doc:"0 is the header, 1 to chunks the rest"`
}

// TransferLine is a line of a ring.
type TransferLine struct {
	Line string `json:"line" audit:"-"`
}

// StartImport begins, or resumes, the import of a ring.
type StartImport struct {
	Header string `json:"header" audit:"-" doc:"the ring's first line"`
}

// ImportLine imports one more line of a ring.
type ImportLine struct {
	ID   string `json:"id" audit:"plain" doc:"of the ring"`
	Line string `json:"line" audit:"-" doc:"the next line"`
}

// ImportStatus tells how far the import of a ring is.
type ImportStatus struct {
	ID                string `json:"id" audit:"plain" doc:"of the ring"`
	Keys              int    `json:"keys" doc:"named keys that the ring began with"`
	Chunks            int    `json:"chunks" doc:"lines behind the header"`
	Next              int    `json:"next" doc:"number of the line that is to be imported next"`
	Imported          int    `json:"imported" doc:"keys that came in so far"`
	Complete          bool   `json:"complete"`
	SignerFingerprint string `json:"signer_fingerprint" audit:"plain" doc:"SHA-256 of the public key that signed the ring"`
}
