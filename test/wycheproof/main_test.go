package wycheproof

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

// importProtection is where the vectors' secrets are kept; "" leaves the choice
// to the server, and what its HSM token can't hold is then kept in software.
const importProtection = ""

func TestMain(m *testing.M) { harness.Main(m) }

// TestVectors gives every vector that fits to the API of a server, with the
// embedded token and with SoftHSM2.
func TestVectors(t *testing.T) {
	t.Parallel()
	kinds := []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"AEAD", aead}, {"HMAC", hmacs}, {"OAEP", oaep}, {"PKCS1Sign", pkcs1Sign}, {"PKCS1Verify", pkcs1Verify},
		{"PSSVerify", pssVerify}, {"ECDSA", ecdsaVerify}, {"Ed25519", ed25519Verify}, {"KWP", kwp},
	}
	for name, start := range map[string]func(t *testing.T) *harness.Server{
		"embedded": func(t *testing.T) *harness.Server { return harness.Dev(t) },
		"softhsm":  func(t *testing.T) *harness.Server { return harness.SoftHSM(t, harness.Options{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			s := &suite{Server: server, wrapping: server.WrappingKey(t), keys: make(map[string]*importedKey)}
			for _, k := range kinds {
				t.Run(k.name, func(t *testing.T) {
					t.Parallel()
					k.run(t, s)
				})
			}
		})
	}
}

// suite is a server and the keys that were imported into it.
type suite struct {
	*harness.Server
	wrapping *rsa.PublicKey

	mu   sync.Mutex
	keys map[string]*importedKey
}

// importedKey is what the server made of a key: a name, or why it refused it.
type importedKey struct {
	once          sync.Once
	name, refusal string
}

// secret imports a secret, once for each type.
func (s *suite) secret(t *testing.T, typ string, secret []byte) (name, refusal string) {
	t.Helper()
	return s.imported(t, typ, string(secret), func() map[string]any {
		kek := make([]byte, 32)
		rand.Read(kek)
		blob := harness.ImportBlob(t, s.wrapping, kek, harness.KeyWrap(t, kek, secret))
		return map[string]any{"ciphertext": encode(blob)}
	})
}

// public imports a public key, once for each type.
func (s *suite) public(t *testing.T, typ, text string) (name, refusal string) {
	t.Helper()
	return s.imported(t, typ, text, func() map[string]any { return map[string]any{"public_key": text} })
}

func (s *suite) imported(t *testing.T, typ, material string, fields func() map[string]any) (name, refusal string) {
	t.Helper()
	s.mu.Lock()
	k := s.keys[typ+material]
	if k == nil {
		k = &importedKey{name: fmt.Sprintf("k%d", len(s.keys))}
		s.keys[typ+material] = k
	}
	s.mu.Unlock()
	k.once.Do(func() { k.refusal = s.tryImport(t, k.name, typ, fields()) })
	return k.name, k.refusal
}

// tryImport returns why the server refused to import, "" if it did not.
func (s *suite) tryImport(t *testing.T, name, typ string, fields map[string]any) string {
	t.Helper()
	fields["type"] = typ
	if importProtection != "" && fields["protection"] == nil {
		fields["protection"] = importProtection
	}
	status, answer := s.Do(t, "POST", "transit/keys/"+name+"/import", fields)
	switch {
	case status < 300:
		return ""
	case fields["protection"] == nil && strings.Contains(refusalOf(status, answer), "can't hold keys of type"):
		fields["protection"] = "software"
		return s.tryImport(t, name, typ, fields)
	case status != 400:
		t.Errorf("importing a key of type %s: status %d: %v", typ, status, answer)
	}
	return refusalOf(status, answer)
}

// refusalOf is all that a caller learns of a refusal.
func refusalOf(status int, answer map[string]any) string { return fmt.Sprint(status, answer["errors"]) }

// batch sends items and returns the result of each.
func (s *suite) batch(t *testing.T, path string, items []map[string]any, fields map[string]any) []map[string]any {
	t.Helper()
	body := map[string]any{"batch_input": items}
	maps.Copy(body, fields)
	status, answer := s.Do(t, "POST", "transit/"+path, body)
	data, _ := answer["data"].(map[string]any)
	list, _ := data["batch_results"].([]any)
	if len(list) != len(items) {
		t.Fatalf("%s: status %d, %d results for %d items: %.300v", path, status, len(list), len(items), answer)
	}
	results := make([]map[string]any, len(list))
	for i := range list {
		results[i] = list[i].(map[string]any)
	}
	return results
}

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func ciphertext(parts ...[]byte) string { return "vault:v1:" + encode(slices.Concat(parts...)) }

// read returns the groups of the files that a pattern fits, by file.
func read(t *testing.T, pattern string) map[string][]Group {
	t.Helper()
	files, err := Files(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(files), err)
	}
	all := make(map[string][]Group, len(files))
	for _, file := range files {
		if all[file], err = Read(file); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// tally counts vectors: none is left out silently.
type tally struct {
	checked  int
	left     map[string]int // those that do not fit, by reason
	refusals map[string]int // of invalid vectors, by all that the caller learns
}

func newTally() *tally { return &tally{left: make(map[string]int), refusals: make(map[string]int)} }

func (c *tally) report(t *testing.T, atLeast int) {
	t.Helper()
	var lines []string
	for _, counts := range []map[string]int{c.left, c.refusals} {
		for _, why := range slices.Sorted(maps.Keys(counts)) {
			lines = append(lines, fmt.Sprintf("%6d %s", counts[why], why))
		}
	}
	t.Logf("%d vectors checked; inapplicable, and refusals of invalid ones:\n%s", c.checked, strings.Join(lines, "\n"))
	if c.checked < atLeast {
		t.Errorf("%d vectors were checked, want at least %d", c.checked, atLeast)
	}
}

// uniform fails unless callers learned one and the same of every invalid vector.
func (c *tally) uniform(t *testing.T) {
	t.Helper()
	if len(c.refusals) != 1 {
		t.Errorf("refusals differ: %v", c.refusals)
	}
}

var hashNames = map[string]string{
	"SHA-1": "sha1", "SHA-224": "sha2-224", "SHA-256": "sha2-256", "SHA-384": "sha2-384", "SHA-512": "sha2-512",
	"SHA3-224": "sha3-224", "SHA3-256": "sha3-256", "SHA3-384": "sha3-384", "SHA3-512": "sha3-512",
}
