package api

import "time"

// Which versions of keys a snapshot has test ciphertexts of.
const (
	ProofsAll    = "all"    // all versions; the default
	ProofsLatest = "latest" // the newest version of each key
	ProofsNone   = "none"
)

// TakeSnapshot asks for a snapshot of the store.
type TakeSnapshot struct {
	Proofs string `json:"proofs,omitempty" audit:"plain" doc:"which versions of keys get a test ciphertext for a rehearsal: all (the default), latest or none"`
}

// SnapshotStatus tells when the store was last saved.
type SnapshotStatus struct {
	ID      string    `json:"id" audit:"plain" doc:"of the last snapshot"`
	Created time.Time `json:"created" audit:"plain" doc:"when it was taken"`
	Size    int64     `json:"size" audit:"plain" doc:"of the file, in bytes"`
	SHA256  string    `json:"sha256" audit:"plain" doc:"of the file, in hex"`
	Records int64     `json:"records" audit:"plain" doc:"how many records it holds"`
}
