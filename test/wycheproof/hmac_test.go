package wycheproof

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// minHMAC is the smallest HMAC key that is imported, in bytes.
const minHMAC = 32

var codeSizes = map[string]int{ // bits
	"sha1": 160, "sha2-224": 224, "sha2-256": 256, "sha2-384": 384, "sha2-512": 512,
	"sha3-224": 224, "sha3-256": 256, "sha3-384": 384, "sha3-512": 512,
}

// hmacs verifies, in one batch for each key and hash.
func hmacs(t *testing.T, s *suite) {
	c := newTally()
	for file, groups := range read(t, "hmac_*_test.json") {
		hash := hmacHash(file)
		byKey := make(map[string][]Vector)
		for _, g := range groups {
			for _, v := range g.Tests {
				if g.TagSize != codeSizes[hash] && v.Result == "valid" {
					v.Result = "cut" // a code is compared whole
				}
				byKey[string(v.Key)] = append(byKey[string(v.Key)], v)
			}
		}
		if hash == "" {
			for _, vectors := range byKey {
				c.left["a hash that is not offered: "+file] += len(vectors)
			}
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(byKey)) {
			s.verifiesCodes(t, c, hash, []byte(key), byKey[key])
		}
	}
	c.report(t, 450)
}

// hmacHash is the API's name of a file's hash, "" if it offers none.
func hmacHash(file string) string {
	name := strings.TrimSuffix(strings.TrimPrefix(file, "hmac_"), "_test.json")
	switch {
	case name == "sha1" || strings.HasPrefix(name, "sha3_"):
		name = strings.ReplaceAll(name, "_", "-")
	case strings.HasPrefix(name, "sha"):
		name = "sha2-" + strings.TrimPrefix(name, "sha")
	}
	if codeSizes[name] == 0 {
		return ""
	}
	return name
}

func (s *suite) verifiesCodes(t *testing.T, c *tally, hash string, key []byte, vectors []Vector) {
	t.Helper()
	name, refusal := s.secret(t, "hmac", key)
	switch {
	case len(key) < minHMAC && refusal == "":
		t.Errorf("an HMAC key of %d bytes was imported", len(key))
	case len(key) < minHMAC:
		c.left["a key of less than 32 bytes, whose import is refused"] += len(vectors)
		return
	case refusal != "":
		t.Fatalf("importing an HMAC key of %d bytes: %s", len(key), refusal)
	}
	items := make([]map[string]any, len(vectors))
	for i, v := range vectors {
		items[i] = map[string]any{"input": encode(v.Msg), "hmac": ciphertext(v.Tag)}
	}
	for i, r := range s.batch(t, "verify/"+name+"/"+hash, items, nil) {
		v := &vectors[i]
		if text, _ := r["error"].(string); strings.Contains(text, "not supported by the HSM token") {
			c.left["a hash that the HSM token lacks: "+hash]++
			continue
		}
		c.checked++
		if r["valid"] != (v.Result == "valid") || r["error"] != nil {
			t.Errorf("%s %d (%s), result to be %s: %v", hash, v.ID, v.Comment, v.Result, r)
		}
		if v.Result == "cut" {
			c.refusals["a code that was cut"]++
		}
	}
}
