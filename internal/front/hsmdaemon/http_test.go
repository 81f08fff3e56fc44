package hsmdaemon

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token/tokentest"
)

// call sends a request as the PHP client does: no Content-Type, raw body.
func call(t testing.TB, f http.Handler, method, path, token string, body []byte) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("POST", "http://localhost:8513/", bytes.NewReader(body))
	r.Method = method
	r.URL.Path = path
	r.Header = http.Header{}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

type newKeyAnswer struct {
	PublicKey    string `json:"publicKey"`
	PrivateKeyID string `json:"privateKeyId"`
}

func newKey(t testing.TB, f http.Handler) (*rsa.PublicKey, string) {
	t.Helper()
	w := call(t, f, "POST", "/keys/new", clientToken("null"), nil)
	var a newKeyAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != 200 {
		t.Fatalf("status %d %s", w.Code, w.Body)
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(a.PrivateKeyID) {
		t.Errorf("id %q", a.PrivateKeyID)
	}
	block, _ := pem.Decode([]byte(a.PublicKey))
	if block == nil || block.Type != "PUBLIC KEY" {
		t.Fatalf("public key %q", a.PublicKey)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PublicKey), a.PrivateKeyID
}

func encrypt(t testing.TB, key *rsa.PublicKey, plaintext []byte) []byte {
	t.Helper()
	return tokentest.EncryptPKCS1v15(t, key, plaintext)
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	f, d, log := newFront(t)
	key, id := newKey(t, f)
	if got := d.took(); !slices.Equal(got, []string{"write transit/legacy/keys/" + id + " as front/hsmdaemon"}) {
		t.Errorf("calls %q", got)
	}
	plaintext := make([]byte, 32)
	rand.Read(plaintext)
	plaintext[31] = '\n'
	ciphertext := encrypt(t, key, plaintext)
	if n := base64.StdEncoding.EncodedLen(len(ciphertext)); n != 344 {
		t.Errorf("the ciphertext has %d characters in base64", n)
	}
	for _, path := range []string{"/decrypt/" + id, "//decrypt/" + id, "/decrypt//" + id + "/"} {
		w := call(t, f, "POST", path, clientToken("null"), ciphertext)
		if w.Code != 200 || !bytes.Equal(w.Body.Bytes(), plaintext) {
			t.Errorf("%s: status %d, %d bytes", path, w.Code, w.Body.Len())
		}
	}
	for _, line := range []string{`"msg":"generated keypair","tokenID":"` + id + `"`, `"msg":"Got uuid","string":"` + id + `"`, `"msg":"Decrypted"`} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the log lacks %s", line)
		}
	}
	if strings.Contains(log.String(), testSecret) {
		t.Error("the log shows the secret")
	}
}

// TestSubject: the label is the claim sub, null in practice.
func TestSubject(t *testing.T) {
	t.Parallel()
	f, d, _ := newFront(t)
	for sub, status := range map[string]int{`"a label ü"`: 200, `""`: 200, `"a\nb"`: 400, `"` + strings.Repeat("x", 256) + `"`: 400, `7`: 401} {
		if w := call(t, f, "POST", "/keys/new", clientToken(sub), nil); w.Code != status {
			t.Errorf("sub %s: status %d %s", sub, w.Code, w.Body)
		}
	}
	if n := len(d.took()); n != 2 {
		t.Errorf("%d calls", n)
	}
}

// TestForeignKey: a key that the original made is found by the bytes of its UUID.
func TestForeignKey(t *testing.T) {
	t.Parallel()
	f, d, log := newFront(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.MustParse("1262668f-d09b-11eb-b283-960000c05f34")
	d.token[hex.EncodeToString(id[:])] = key
	w := call(t, f, "POST", "/decrypt/"+id.String(), clientToken("null"), encrypt(t, &key.PublicKey, []byte("foobar")))
	if w.Code != 200 || w.Body.String() != "foobar" {
		t.Errorf("status %d %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), `"msg":"found object","id":"\u0012bf`) {
		t.Errorf("the log says %s", log)
	}
	if w := call(t, f, "POST", "/decrypt/1262668F-D09B-11EB-B283-960000C05F34", clientToken("null"), []byte("x")); w.Code != 404 {
		t.Errorf("another spelling: status %d", w.Code)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	f, d, _ := newFront(t)
	_, id := newKey(t, f)
	d.took()
	good := clientToken("null")
	for _, c := range []struct {
		name, method, path, token string
		body                      []byte
		status                    int
		word                      string
	}{
		{"no token", "POST", "/keys/new", "", nil, 401, "no bearer token"},
		{"wrong token", "POST", "/decrypt/" + id, known, nil, 401, "expired"},
		{"foreign token", "POST", "/keys/new", token(header, `{"aud":"hsmdaemon","exp":9e9}`, "secret"), nil, 401, "not signed"},
		{"GET", "GET", "/keys/new", good, nil, 405, "POST"},
		{"DELETE", "DELETE", "/decrypt/" + id, good, nil, 405, "POST"},
		{"no path", "POST", "/", good, nil, 404, "no such path"},
		{"unknown path", "POST", "/keys/list", good, nil, 404, "no such path"},
		{"longer path", "POST", "/keys/new/x", good, nil, 404, "no such path"},
		{"no key", "POST", "/decrypt/", good, nil, 404, "no such path"},
		{"unknown key", "POST", "/decrypt/11111111-1111-4111-8111-111111111111", good, []byte("x"), 404, "there is no key"},
		{"no UUID", "POST", "/decrypt/master", good, []byte("x"), 404, "there is no key"},
		{"impossible key", "POST", "/decrypt/a\nb", good, []byte("x"), 404, "there is no key"},
		{"dots", "POST", "/decrypt/..", good, []byte("x"), 404, "there is no key"},
		{"no ciphertext", "POST", "/decrypt/" + id, good, nil, 400, "ciphertext"},
		{"large body", "POST", "/decrypt/" + id, good, make([]byte, maxBody+1), 413, "65536"},
	} {
		w := call(t, f, c.method, c.path, c.token, c.body)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.word) {
			t.Errorf("%s: status %d %s, want %d %q", c.name, w.Code, w.Body, c.status, c.word)
		}
		if w.Code == 405 && w.Header().Get("Allow") != "POST" {
			t.Errorf("%s: Allow %q", c.name, w.Header().Get("Allow"))
		}
	}
	for _, made := range d.took() {
		if !strings.Contains(made, "11111111") && !strings.Contains(made, "master") {
			t.Errorf("a refused request reached the guard: %s", made)
		}
	}
}

// TestOneDecryptionError: whatever is wrong with a ciphertext, the answer is one.
func TestOneDecryptionError(t *testing.T) {
	t.Parallel()
	f, _, _ := newFront(t)
	key, id := newKey(t, f)
	altered := encrypt(t, key, []byte("foobar"))
	altered[100] ^= 1
	for name, body := range map[string][]byte{
		"altered": altered, "random": bytes.Repeat([]byte{7}, 256), "zero": make([]byte, 256), "short": {1}, "long": make([]byte, 300),
		"above the modulus": bytes.Repeat([]byte{255}, 256),
	} {
		w := call(t, f, "POST", "/decrypt/"+id, clientToken("null"), body)
		if w.Code != 500 || w.Body.String() != "decryption failed\n" {
			t.Errorf("%s: status %d %q", name, w.Code, w.Body)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	f, d, _ := newFront(t)
	for _, c := range []struct {
		err    error
		status int
		text   string
	}{
		{fault.New(fault.Sealed, "Vault is sealed"), 503, "Vault is sealed\n"},
		{fault.New(fault.Unavailable, "the HSM token does not answer"), 503, "the HSM token does not answer\n"},
		{fault.New(fault.Denied, "permission denied"), 403, "permission denied\n"},
		{fault.New(fault.Uncertain, "unknown"), 500, "unknown\n"},
		{errors.New("inner detail"), 500, "internal error\n"},
	} {
		d.fail(c.err)
		for _, path := range []string{"/keys/new", "/decrypt/x"} {
			w := call(t, f, "POST", path, clientToken("null"), []byte("x"))
			if w.Code != c.status || w.Body.String() != c.text {
				t.Errorf("%v at %s: status %d %q", c.err, path, w.Code, w.Body)
			}
		}
	}
}

// TestNoRedirect: over a real server, with a client that would follow one.
func TestNoRedirect(t *testing.T) {
	t.Parallel()
	f, _, _ := newFront(t)
	s := httptest.NewServer(f)
	defer s.Close()
	key, id := newKey(t, f)
	req, err := http.NewRequest("POST", s.URL+"//decrypt/"+id, bytes.NewReader(encrypt(t, key, []byte("foobar"))))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+clientToken("null"))
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(body) != "foobar" {
		t.Errorf("%s %s %v", resp.Status, body, err)
	}
}

// TestTimeout: a call that the guard does not answer ends.
func TestTimeout(t *testing.T) {
	t.Parallel()
	f, d, _ := newFront(t, func(o *Options) { o.Timeout = 20 * time.Millisecond })
	d.block = make(chan struct{})
	if w := call(t, f, "POST", "/keys/new", clientToken("null"), nil); w.Code != 503 {
		t.Errorf("status %d", w.Code)
	}
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	f, _, _ := newFront(t)
	key, id := newKey(t, f)
	var wait sync.WaitGroup
	for i := range 16 {
		wait.Go(func() {
			text := fmt.Sprint("message ", i)
			w := call(t, f, "POST", "/decrypt/"+id, clientToken("null"), encrypt(t, key, []byte(text)))
			if w.Code != 200 || w.Body.String() != text {
				t.Errorf("%d: status %d %s", i, w.Code, w.Body)
			}
		})
	}
	wait.Wait()
}

func FuzzHTTP(f *testing.F) {
	front, _, _ := newFront(f)
	_, id := newKey(f, front)
	for _, path := range []string{"/keys/new", "/decrypt/" + id, "//decrypt//x/", "/decrypt/..", "/", ""} {
		f.Add("POST", path, []byte("x"))
	}
	f.Add("GET", "/keys/new", []byte{})
	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		w := call(t, front, method, path, clientToken("null"), body)
		if w.Code < 200 || w.Code >= 300 && w.Code < 400 {
			t.Errorf("%s %q: status %d", method, path, w.Code)
		}
		if strings.Contains(w.Body.String(), "of these details") {
			t.Errorf("%q tells %q", path, w.Body)
		}
	})
}
