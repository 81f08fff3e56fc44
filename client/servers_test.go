package client

import (
	"context"
	"crypto"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// counting is a server that counts its calls.
func counting(t *testing.T, h http.HandlerFunc) (address string, calls *atomic.Int32) {
	t.Helper()
	calls = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { calls.Add(1); h(w, r) }))
	t.Cleanup(s.Close)
	return s.URL, calls
}

func serves(w http.ResponseWriter, r *http.Request) { answer(w, `{"name":"k"}`) }

// nobody is an address at which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func cuts(w http.ResponseWriter, _ *http.Request) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		conn.Close()
	}
}

func TestSeveralAddresses(t *testing.T) {
	t.Parallel()
	says := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { fail(w, status, body) }
	}
	read := func(c *Client) error { _, err := c.ReadKey(context.Background(), "k"); return err }
	rotate := func(c *Client) error { _, err := c.RotateKey(context.Background(), "k"); return err }
	for _, tt := range []struct {
		name    string
		first   http.HandlerFunc // nil: nobody listens
		retries int
		call    func(*Client) error
		ok      bool // served by the second
	}{
		{"nobody there, read", nil, 0, read, true},
		{"nobody there, rotate", nil, 0, rotate, true},
		{"nobody there, no retries", nil, -1, rotate, true},
		{"cut, read", cuts, 0, read, true},
		{"cut, rotate", cuts, 0, rotate, false},
		{"cut, no retries", cuts, -1, read, false},
		{"sealed, read", says(503, `{"errors":["Vault is sealed"]}`), 0, read, true},
		{"sealed, rotate", says(503, `{"errors":["Vault is sealed"]}`), 0, rotate, false},
		{"busy, read", says(503, `{"errors":["the HSM token does not answer"]}`), 0, read, true},
		{"refused, read", says(403, `{"errors":["permission denied"]}`), 0, read, false},
		{"internal error, read", says(500, `{"errors":["internal error"]}`), 0, read, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := nobody(t)
			firstCalls := new(atomic.Int32)
			if tt.first != nil {
				address, firstCalls = counting(t, tt.first)
			}
			second, calls := counting(t, serves)
			c := dial(t, Config{Address: address, Addresses: []string{second}, Retries: tt.retries})
			if err := tt.call(c); (err == nil) != tt.ok || (calls.Load() == 1) != tt.ok {
				t.Fatalf("%v, %d calls of the second", err, calls.Load())
			}
			if firstCalls.Load() > 1 {
				t.Errorf("%d calls of the first", firstCalls.Load())
			}
			if !tt.ok {
				return
			}
			// From now on the second comes first, for copies as well.
			before := firstCalls.Load()
			if err := read(c.WithMount("other")); err != nil || firstCalls.Load() != before || c.Address() != second {
				t.Errorf("%v; then %s is called", err, c.Address())
			}
		})
	}
}

// TestNoAddressServes: an answer tells more than that nobody answers, and the
// number of tries is bounded.
func TestNoAddressServes(t *testing.T) {
	t.Parallel()
	sealedServer, calls := counting(t, func(w http.ResponseWriter, _ *http.Request) { fail(w, 503, `{"errors":["Vault is sealed"]}`) })
	c := dial(t, Config{Addresses: []string{nobody(t), sealedServer, nobody(t)}})
	if _, err := c.ReadKey(t.Context(), "k"); err == nil || err.Error() != "Vault is sealed" || calls.Load() != 1 {
		t.Errorf("%v, %d calls", err, calls.Load())
	}
	h, err := c.Health(t.Context())
	if err == nil || h != nil { // no health in that answer
		t.Errorf("%+v, %v", h, err)
	}
	busy, calls := counting(t, func(w http.ResponseWriter, _ *http.Request) { fail(w, 503, `{"errors":["busy"]}`) })
	c = dial(t, Config{Addresses: []string{busy, busy + "/"}})
	if _, err := c.ReadKey(t.Context(), "k"); err == nil || calls.Load() != 6 {
		t.Errorf("%v, %d calls", err, calls.Load())
	}
}

func TestAddressesAreChecked(t *testing.T) {
	t.Parallel()
	for _, addresses := range [][]string{{"http://a", ""}, {"http://a", "ftp://b"}, {"b:1"}} {
		if _, err := New(Config{Addresses: addresses}); err == nil {
			t.Errorf("%q is taken", addresses)
		}
	}
	c, err := New(Config{Address: "http://a", Addresses: []string{"unix:///s", "http://b", "unix:///t"}})
	if err != nil || c.Address() != "http://a" || len(c.servers.all) != 4 {
		t.Fatalf("%v", err)
	}
	all := c.servers.all
	if all[0].http != all[2].http || all[1].http == all[3].http || all[0].http == all[1].http {
		t.Error("the transports are not one for TCP and one a socket")
	}
}

func TestParsePublicKey(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "x", "AAAA", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"} {
		if k, err := parsePublicKey(text); err == nil {
			t.Errorf("%q is taken: %v", text, k)
		}
	}
}

func FuzzParsePublicKey(f *testing.F) {
	f.Add("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n")
	f.Add("Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=")
	f.Add(strings.Repeat("A", 44))
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := parsePublicKey(text); (k == nil) == (err == nil) {
			t.Errorf("%v, %v", k, err)
		}
	})
}

// TestSignatureOfAnotherVersion: what does not belong to the public key is an error.
func TestSignatureOfAnotherVersion(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"vault:v2:AAAA", "AAAA", "", "vault:v1:?"} {
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				answer(w, `{"latest_version":1,"keys":{"1":{"public_key":"Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="}}}`)
				return
			}
			answer(w, `{"signature":"`+text+`"}`)
		})
		s, err := c.Signer(t.Context(), "k", 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Sign(nil, []byte("x"), crypto.Hash(0)); err == nil {
			t.Errorf("%q is taken for a signature", text)
		}
	}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { answer(w, `{"name":"k"}`) })
	if _, err := c.Sealer("k").Seal(t.Context(), nil, nil); err == nil {
		t.Error("no ciphertext is an answer")
	}
	if _, err := c.Sealer("k").Open(t.Context(), "x", nil); err == nil {
		t.Error("no plaintext is an answer")
	}
}
