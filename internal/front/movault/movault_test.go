package movault

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/fault"
)

// memory keeps names of keys; its ciphertext is the plaintext.
type memory struct {
	keys  map[string]bool
	calls int
	err   error
}

func (m *memory) create(_ context.Context, _ string, k *key) error {
	if m.calls++; m.keys[k.name()] {
		return fault.New(fault.Conflict, "there")
	}
	m.keys[k.name()] = true
	return m.err
}

func (m *memory) has(k *key) error {
	if m.calls++; !m.keys[k.name()] {
		return noKey(k)
	}
	return m.err
}

func (m *memory) encrypt(_ context.Context, _ string, k *key, _, in []byte) ([]byte, error) {
	return bytes.Clone(in), m.has(k)
}

func (m *memory) decrypt(_ context.Context, _ string, k *key, _, in []byte) ([]byte, error) {
	return bytes.Clone(in), m.has(k)
}

func (m *memory) sign(_ context.Context, _ string, k *key, digest []byte) ([]byte, error) {
	return bytes.Clone(digest), m.has(k)
}

func (m *memory) verify(_ context.Context, _ string, k *key, digest, signature []byte) (bool, error) {
	return bytes.Equal(digest, signature), m.has(k)
}

func newMemory(token string) (*Front, *memory) {
	m := &memory{keys: map[string]bool{"rsa-v1-p": true, "aes-v1-p": true}}
	return newFront(m, []byte(token), time.Minute, slog.New(slog.DiscardHandler)), m
}

func ask(f *Front, method, path, contentType, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://127.0.0.1:8443"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

// TestIVs: every AES ciphertext has an initialisation vector of its own, of 16 bytes.
func TestIVs(t *testing.T) {
	t.Parallel()
	f, _ := newMemory("")
	seen := map[string]bool{strings.Repeat("0", 32): true}
	for range 3 {
		w := ask(f, "POST", "/key/encrypt/aes", "application/json", `{"secret_path":"p","secret_version":"1","plaintext":"h"}`)
		var a struct{ IV string }
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || len(a.IV) != 32 || seen[a.IV] {
			t.Errorf("%s, %v", w.Body, err)
		}
		seen[a.IV] = true
	}
}

func TestTexts(t *testing.T) {
	t.Parallel()
	const js, p = "application/json", `{"secret_path":"p","secret_version":"1"`
	const form = "multipart/form-data; boundary=b"
	part := func(disposition, value string) string {
		return "--b\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\n" + value + "\r\n"
	}
	fields := part(`name="secret_path"`, "p") + part(`name="secret_version"`, "1")
	// The SHA-256 of "abc".
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	for _, c := range []struct {
		method, path, contentType, body string
		status                          int
		want                            string
	}{
		{"GET", "/", "", "", 200, "Weclome!"},
		{"GET", "/gen/key/rsa", "", "", 200, `{"Info":"we only support rsa & aes, please use post method"}` + "\n"},
		{"GET", "/key/sign/message", "", "", 200, `{"Info":"Sign only support rsa , please use post method"}` + "\n"},
		{"GET", "/key/verify/file", "", "", 200, `{"Info":"Sign only support rsa , please use post method"}` + "\n"},
		{"POST", "/gen/key/des", js, "", 200, `{"Error":"key type was not supported \n"}` + "\n"},
		{"GET", "/key/encrypt/des", "", "", 200, `{"Error":"key type was not supported \n"}` + "\n"},
		{"POST", "/gen/key/rsa", js, `{"secret_path":"q","secret_version":7}`, 200, `{"Info":"RSA Key with q Generated"}` + "\n"},
		{"POST", "/gen/key/aes", js, `{"secret_path":"q","secret_version":" +7 "}`, 200, `{"Info":"AES Key with q Generated"}` + "\n"},
		{"POST", "/gen/key/rsa", js, p + "}", 200, `{"Info":"Key was exsits"}` + "\n"},
		{"POST", "/gen/key/rsa", js, `{"secret_path":"","secret_version":"1"}`, 200, "Key was exsits"},
		{"POST", "/gen/key/aes", js, `{"secret_path":"z","secret_version":0}`, 200, "Key was exsits"},
		{"POST", "/gen/key/rsa", js, `{"secret_path":"` + strings.Repeat("x", 256) + `","secret_version":"1"}`, 400, "255"},
		{"POST", "/key/encrypt/aes", js, `{"secret_path":"no","secret_version":"1","plaintext":"x"}`, 200, `{"Info":"Key not was exsits"}` + "\n"},
		{"POST", "/key/encrypt/rsa", js, `{"secret_path":"no","secret_version":"1","plaintext":"x"}`, 404, `{"Error":"there is no RSA key`},
		{"POST", "/key/encrypt/rsa", js, p + `,"plaintext":"hi"}`, 200, `{"ciphertext":"6869"}` + "\n"},
		{"POST", "/key/decrypt/rsa", js, p + `,"ciphertext":"68 69\n"}`, 200, `{"plaintext":"hi"}` + "\n"},
		{"POST", "/key/decrypt/rsa", js, p + `,"ciphertext":"fF"}`, 400, "decryption failed"},
		{"POST", "/key/decrypt/rsa", js, p + `,"ciphertext":"6 8"}`, 400, "not hex"},
		{"POST", "/key/decrypt/aes", js, p + `,"ciphertext":"68"}`, 400, "iv is missing"},
		{"POST", "/key/decrypt/aes", js, p + `,"ciphertext":"68","iv":"00"}`, 400, "32 hex digits"},
		{"POST", "/key/encrypt/rsa", js, p + `,"plaintext":"\ud800"}`, 400, "not Unicode"},
		{"POST", "/key/encrypt/rsa", js, p + `,"plaintext":"\ud83d\ude00\ufffd"}`, 200, "f09f9880efbfbd"},
		{"POST", "/key/encrypt/rsa", js, p + `}`, 400, "plaintext is missing"},
		{"POST", "/key/encrypt/rsa", js, `[]`, 400, "JSON object"},
		{"POST", "/key/encrypt/rsa", js, `null`, 400, "JSON object"},
		{"POST", "/key/encrypt/rsa", "text/plain", p + `,"plaintext":"hi"}`, 415, "application/json"},
		{"POST", "/key/encrypt/rsa", js, p + `,"plaintext":"` + strings.Repeat("x", maxBody) + `"}`, 413, "16777216"},
		{"POST", "/key/sign/message", js, p + `,"data":"abc"}`, 200, `{"signature":"` + abc + `"}` + "\n"},
		{"POST", "/key/verify/message", js, p + `,"data":"abc","signature":"` + abc + `"}`, 200, `{"Verify Result":true}` + "\n"},
		{"POST", "/key/verify/message", js, p + `,"data":"abc","signature":"0"}`, 200, `{"Verify Result":false}` + "\n"},
		{"POST", "/key/sign/other", js, p + `,"data":"abc"}`, 404, "a message or a file"},
		{"POST", "/key/sign/file", form, part(`name="data"; filename="a.TXT"`, "abc") + fields + "--b--", 200, abc},
		{"POST", "/key/verify/file", form, fields + part(`name="signature"`, abc) + part(`name="data"; filename="a.b.pdf"`, "abc") + "--b--", 200, "true"},
		{"POST", "/key/sign/file", form, part(`name="data"; filename="a.exe"`, "abc") + fields + "--b--", 400, "must end in a dot"},
		{"POST", "/key/sign/file", form, part(`name="data"; filename="txt"`, "abc") + fields + "--b--", 400, "must end in a dot"},
		{"POST", "/key/sign/file", form, part(`name="data"`, "abc") + fields + "--b--", 400, "the file is missing"},
		{"POST", "/key/sign/file", form, fields, 400, "can't be read"},
		{"POST", "/key/sign/file", form, strings.Repeat(fields, 40) + "--b--", 400, "more than 64 parts"},
		{"POST", "/key/sign/file", js, p + "}", 415, "multipart/form-data"},
		{"GET", "/download", "", "", 404, "no such path"},
		{"POST", "/gen/key/rsa/x", js, "", 404, "no such path"},
		{"PUT", "/gen/key/rsa", js, "", 405, "the method must be"},
	} {
		f, _ := newMemory("")
		if w := ask(f, c.method, c.path, c.contentType, c.body); w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s %.80s: %d %s, want %d %q", c.method, c.path, c.body, w.Code, w.Body, c.status, c.want)
		}
	}
}

// TestAdmit: a refused caller reaches no key.
func TestAdmit(t *testing.T) {
	t.Parallel()
	const body = `{"secret_path":"p","secret_version":"1","plaintext":"x"}`
	for header, status := range map[[2]string]int{
		{"X", ""}: 401, {"X-Vault-Token", "secret"}: 200, {"Authorization", "bearer secret"}: 200, {"Authorization", "secret"}: 401,
		{"X-Vault-Token", "secret2"}: 401,
	} {
		f, m := newMemory("secret")
		if w := ask(f, "POST", "/key/encrypt/rsa", "application/json", body, header[:]...); w.Code != status || m.calls > 0 != (status == 200) {
			t.Errorf("%v: %d %s", header, w.Code, w.Body)
		}
	}
	f, m := newMemory("")
	if w := ask(f, "POST", "/key/encrypt/rsa", "application/json", body, "Sec-Fetch-Site", "cross-site"); w.Code != 403 || m.calls != 0 {
		t.Errorf("another site: %d", w.Code)
	}
	for kind, status := range map[fault.Kind]int{fault.Sealed: 503, fault.Unavailable: 503, fault.Denied: 403, fault.Internal: 500} {
		if m.err = fault.New(kind, "no"); ask(f, "POST", "/key/encrypt/rsa", "application/json", body).Code != status {
			t.Errorf("%v is not %d", kind, status)
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	got := map[string]string{}
	for _, text := range []string{"1", " -12\n", "1_000", "+3", "007", "", "_1", "1_", "1__0", "--1", "1.5", "1e2", "x", "٣", strings.Repeat("1", 161)} {
		if v, err := parseVersion(text); err == nil {
			got[text] = v.String()
		}
	}
	if want := map[string]string{"1": "1", " -12\n": "-12", "1_000": "1000", "+3": "3", "007": "7"}; !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if (&key{path: "p", version: new(big.Int).Lsh(big.NewInt(1), 511)}).possible() {
		t.Error("a version of 65 bytes is possible")
	}
}

func FuzzJSON(f *testing.F) {
	f.Add("/key/encrypt/rsa", []byte(`{"secret_path":"p","secret_version":"1","plaintext":"\ud83d\ude00"}`))
	f.Add("/key/decrypt/aes", []byte(`{"secret_path":"p","secret_version":1,"ciphertext":"00","iv":"00112233445566778899aabbccddeeff"}`))
	f.Add("/key/verify/message", []byte(`{"secret_path":"p","secret_version":-1,"data":"","signature":"0"}`))
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		front, _ := newMemory("")
		fuzzed(t, front, "/"+path, "application/json", body)
	})
}

func FuzzForm(f *testing.F) {
	f.Add([]byte("--b\r\nContent-Disposition: form-data; name=\"data\"; filename=\"a.txt\"\r\n\r\nx\r\n--b\r\nContent-Disposition: form-data; name=\"secret_path\"\r\n\r\np\r\n--b--"))
	f.Fuzz(func(t *testing.T, body []byte) {
		front, _ := newMemory("")
		fuzzed(t, front, "/key/verify/file", "multipart/form-data; boundary=b", body)
	})
}

// fuzzed: whatever comes, the answer is JSON, and no fault of ours.
func fuzzed(t *testing.T, front *Front, path, contentType string, body []byte) {
	r := httptest.NewRequest("POST", "http://x/", bytes.NewReader(body))
	r.URL.Path = path
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	front.ServeHTTP(w, r)
	if w.Code >= http.StatusInternalServerError || !json.Valid(w.Body.Bytes()) {
		t.Errorf("%s %q: %d %s", path, body, w.Code, w.Body)
	}
}

func FuzzHex(f *testing.F) {
	f.Add("0 1")
	f.Add("AAbb cc\n")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := parseHex("x", text)
		if err != nil {
			return
		}
		if again, err := parseHex("x", hex.EncodeToString(b)); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q is %x, then %x %v", text, b, again, err)
		}
	})
}
