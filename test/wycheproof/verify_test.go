package wycheproof

import (
	"encoding/base64"
	"strings"
	"testing"
)

// verifies checks a group's signatures in one batch. typ is "" where no key
// type fits the group's key.
func (s *suite) verifies(t *testing.T, c *tally, file, typ string, g *Group, fields map[string]any) {
	t.Helper()
	hash, ok := hashNames[g.Sha]
	switch {
	case typ == "":
		c.left["a key of another size or curve"] += len(g.Tests)
		return
	case !ok && typ != "ed25519":
		c.left["a hash that is not offered: "+g.Sha] += len(g.Tests)
		return
	}
	name, refusal := s.public(t, typ, g.PublicKeyPem)
	if refusal != "" {
		t.Errorf("%s: importing: %s", file, refusal)
		return
	}
	text := func(sig []byte) string { return ciphertext(sig) }
	if fields["marshaling_algorithm"] == "jws" {
		text = func(sig []byte) string { return "vault:v1:" + base64.RawURLEncoding.EncodeToString(sig) }
	}
	items := make([]map[string]any, len(g.Tests))
	for i, v := range g.Tests {
		items[i] = map[string]any{"input": encode(v.Msg), "signature": text(v.Sig)}
	}
	for i, r := range s.batch(t, strings.TrimSuffix("verify/"+name+"/"+hash, "/"), items, fields) {
		s.judge(t, c, file, &g.Tests[i], r)
	}
}

// judge compares the answer for one signature with the vector's result. An
// acceptable one may have either.
func (s *suite) judge(t *testing.T, c *tally, file string, v *Vector, r map[string]any) {
	t.Helper()
	c.checked++
	valid := r["valid"] == true
	switch {
	case v.Result == "acceptable":
		c.refusals[map[bool]string{true: "acceptable, taken", false: "acceptable, refused"}[valid]]++
	case valid != (v.Result == "valid") || valid && r["error"] != nil:
		t.Errorf("%s %d (%s), result to be %s: %v", file, v.ID, v.Comment, v.Result, r)
	case !valid && r["error"] == nil:
		c.refusals["invalid: valid=false"]++
	case !valid:
		text, _, _ := strings.Cut(r["error"].(string), " has ") // without sizes
		c.refusals["invalid: "+text]++
	}
}

func ecdsaVerify(t *testing.T, s *suite) {
	c := newTally()
	types := map[string]string{"secp256r1": "ecdsa-p256", "secp384r1": "ecdsa-p384", "secp521r1": "ecdsa-p521"}
	for file, groups := range read(t, "ecdsa_*_test.json") {
		curve := strings.Split(file, "_")[1]
		for _, g := range groups {
			fields := map[string]any{"marshaling_algorithm": "asn1"}
			switch g.Type {
			case "EcdsaVerify":
			case "EcdsaP1363Verify":
				fields["marshaling_algorithm"] = "jws"
			default:
				c.left["a test of another kind: "+g.Type] += len(g.Tests)
				continue
			}
			s.verifies(t, c, file, types[curve], &g, fields)
		}
	}
	c.report(t, 7000)
}

func ed25519Verify(t *testing.T, s *suite) {
	c := newTally()
	const file = "ed25519_test.json"
	for _, g := range read(t, file)[file] {
		s.verifies(t, c, file, "ed25519", &g, nil)
	}
	c.report(t, 150)
}
