package wycheproof

import "testing"

type cipherKey struct {
	typ    string
	secret string
}

// aead decrypts, in one batch for each key. The text of a ciphertext holds the
// nonce without its size, so a nonce of another size never opens.
func aead(t *testing.T, s *suite) {
	c := newTally()
	types := map[string]map[int]string{
		"aes_gcm_test.json":            {128: "aes128-gcm96", 256: "aes256-gcm96"},
		"chacha20_poly1305_test.json":  {256: "chacha20-poly1305"},
		"xchacha20_poly1305_test.json": {256: "xchacha20-poly1305"},
	}
	nonces := map[string]int{"aes_gcm_test.json": 96, "chacha20_poly1305_test.json": 96, "xchacha20_poly1305_test.json": 192}
	byKey := make(map[cipherKey][]Vector)
	for file := range types {
		for _, g := range read(t, file)[file] {
			typ := types[file][g.KeySize]
			switch {
			case typ == "":
				c.left["a key of another size"] += len(g.Tests)
				continue
			case g.TagSize != 128:
				c.left["a tag of another size"] += len(g.Tests)
				continue
			}
			for _, v := range g.Tests {
				if g.IVSize != nonces[file] {
					v.Result = "another nonce"
				}
				k := cipherKey{typ, string(v.Key)}
				byKey[k] = append(byKey[k], v)
			}
		}
	}
	for k, vectors := range byKey {
		s.opens(t, c, k, vectors)
	}
	c.report(t, 800)
	c.uniform(t)
}

func (s *suite) opens(t *testing.T, c *tally, k cipherKey, vectors []Vector) {
	t.Helper()
	name, refusal := s.secret(t, k.typ, []byte(k.secret))
	if refusal != "" {
		t.Fatalf("importing %s: %s", k.typ, refusal)
	}
	items := make([]map[string]any, len(vectors))
	for i, v := range vectors {
		items[i] = map[string]any{"ciphertext": ciphertext(v.IV, v.CT, v.Tag), "associated_data": encode(v.AAD)}
	}
	for i, r := range s.batch(t, "decrypt/"+name, items, nil) {
		v := &vectors[i]
		got, opened := r["plaintext"]
		c.checked++
		if valid := v.Result == "valid"; opened != valid || valid && got != encode(v.Msg) {
			t.Errorf("%s %d (%s), result to be %s: %v", k.typ, v.ID, v.Comment, v.Result, r)
		}
		if v.Result == "invalid" {
			status, answer := s.Do(t, "POST", "transit/decrypt/"+name, items[i])
			c.refusals[refusalOf(status, answer)+" in a batch: "+r["error"].(string)]++
		}
	}
}
