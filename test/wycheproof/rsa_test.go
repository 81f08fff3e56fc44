package wycheproof

import (
	"fmt"
	"strings"
	"testing"
)

// rsaType is the type of keys with a modulus of so many bits, "" if there is none.
func rsaType(bits int) string {
	switch bits {
	case 2048, 3072, 4096:
		return fmt.Sprintf("rsa-%d", bits)
	}
	return ""
}

// oaep decrypts, and learns of every invalid ciphertext the same.
func oaep(t *testing.T, s *suite) {
	c := newTally()
	for file, groups := range read(t, "rsa_*oaep_*_test.json") {
		for _, g := range groups {
			typ := rsaType(g.KeySize)
			switch {
			case typ == "":
				c.left["a key of another size"] += len(g.Tests)
				continue
			case g.Sha != "SHA-256" || g.MgfSha != "SHA-256":
				c.left["hashes other than SHA-256"] += len(g.Tests)
				continue
			}
			name, refusal := s.secret(t, typ, g.PrivateKeyPkcs8)
			switch {
			case refusal == "":
				s.decrypts(t, c, file, name, g.Tests)
			case strings.Contains(file, "three_primes"):
				c.left["a key of three primes, whose import is refused"] += len(g.Tests)
			default:
				t.Errorf("%s: importing: %s", file, refusal)
			}
		}
	}
	c.report(t, 100)
	c.uniform(t)
}

func (s *suite) decrypts(t *testing.T, c *tally, file, name string, all []Vector) {
	t.Helper()
	var vectors []Vector
	var items []map[string]any
	for _, v := range all {
		if len(v.Label) > 0 {
			c.left["a label"]++
			continue
		}
		vectors = append(vectors, v)
		items = append(items, map[string]any{"ciphertext": ciphertext(v.CT)})
	}
	if len(items) == 0 {
		return
	}
	for i, r := range s.batch(t, "decrypt/"+name, items, nil) {
		v := &vectors[i]
		got, opened := r["plaintext"]
		c.checked++
		if valid := v.Result == "valid"; opened != valid || valid && got != encode(v.Msg) {
			t.Errorf("%s %d (%s), result to be %s: %v", file, v.ID, v.Comment, v.Result, r)
		}
		if v.Result == "invalid" {
			status, answer := s.Do(t, "POST", "transit/decrypt/"+name, items[i])
			c.refusals[fmt.Sprintf("%s in a batch: %v", refusalOf(status, answer), r["error"])]++
		}
	}
}

// pkcs1Sign makes signatures that are the vectors', byte by byte.
func pkcs1Sign(t *testing.T, s *suite) {
	c := newTally()
	for file, groups := range read(t, "rsa_pkcs1_*_sig_gen_test.json") {
		for _, g := range groups {
			typ, hash := rsaType(g.KeySize), hashNames[g.Sha]
			switch {
			case typ == "":
				c.left["a key of another size"] += len(g.Tests)
				continue
			case hash == "":
				c.left["a hash that is not offered: "+g.Sha] += len(g.Tests)
				continue
			}
			name, refusal := s.secret(t, typ, g.PrivateKeyPkcs8)
			if refusal != "" {
				t.Fatalf("%s: importing: %s", file, refusal)
			}
			items := make([]map[string]any, len(g.Tests))
			for i, v := range g.Tests {
				items[i] = map[string]any{"input": encode(v.Msg)}
			}
			for i, r := range s.batch(t, "sign/"+name+"/"+hash, items, map[string]any{"signature_algorithm": "pkcs1v15"}) {
				v := &g.Tests[i]
				c.checked++
				if r["signature"] != ciphertext(v.Sig) {
					t.Errorf("%s %d (%s): %v", file, v.ID, v.Comment, r)
				}
			}
		}
	}
	c.report(t, 80)
}

func pkcs1Verify(t *testing.T, s *suite) {
	c := newTally()
	for file, groups := range read(t, "rsa_signature_*_test.json") {
		for _, g := range groups {
			s.verifies(t, c, file, rsaType(g.KeySize), &g, map[string]any{"signature_algorithm": "pkcs1v15"})
		}
	}
	c.report(t, 4000)
}

func pssVerify(t *testing.T, s *suite) {
	c := newTally()
	for file, groups := range read(t, "rsa_pss_*_test.json") {
		for _, g := range groups {
			fields := map[string]any{"signature_algorithm": "pss", "salt_length": fmt.Sprint(g.SLen)}
			switch {
			case g.Mgf != "MGF1" || g.MgfSha != g.Sha:
				c.left["another mask, or a mask with another hash"] += len(g.Tests)
				continue
			case g.Type == "RsassaPssWithParametersVerify":
				if _, refusal := s.public(t, rsaType(g.KeySize), g.PublicKeyPem); refusal == "" {
					t.Errorf("%s: a public key with PSS parameters was imported", file)
				}
				c.left["a public key with PSS parameters, whose import is refused"] += len(g.Tests)
				continue
			case g.SLen == 0:
				// salt_length 0 is auto: a signature with any salt verifies.
				g.Tests = without(c, g.Tests, "invalid", "no salt, which can't be asked for")
			}
			s.verifies(t, c, file, rsaType(g.KeySize), &g, fields)
		}
	}
	c.report(t, 1000)
}

func without(c *tally, all []Vector, result, why string) []Vector {
	var rest []Vector
	for _, v := range all {
		if v.Result == result {
			c.left[why]++
			continue
		}
		rest = append(rest, v)
	}
	return rest
}
