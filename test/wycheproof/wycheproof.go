// Package wycheproof reads the files of Project Wycheproof: vectors that have
// caught errors in many cryptographic libraries. Its tests give them to the
// HTTP API.
package wycheproof

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"

	source "github.com/c2sp/wycheproof"
)

// Hex is a field of bytes, hexadecimal in the files.
type Hex []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hex) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// Vector is one test. Which fields are there depends on the file.
type Vector struct {
	ID                                     int `json:"tcId"`
	Comment                                string
	Key, IV, AAD, Msg, CT, Tag, Label, Sig Hex
	Result                                 string // valid, invalid or acceptable
}

// Group is the tests that share a key, or sizes in bits; SLen is in bytes.
type Group struct {
	Type                     string
	KeySize, IVSize, TagSize int
	SLen                     int
	Sha, Mgf, MgfSha         string
	PrivateKeyPkcs8          Hex
	PublicKeyPem             string
	Tests                    []Vector
}

// Files returns the names that a pattern of path.Match fits.
func Files(pattern string) ([]string, error) { return fs.Glob(source.TestVectors, pattern) }

// Read returns the groups of a file.
func Read(file string) ([]Group, error) {
	raw, err := fs.ReadFile(source.TestVectors, file)
	if err != nil {
		return nil, err
	}
	var all struct{ TestGroups []Group }
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return all.TestGroups, nil
}
