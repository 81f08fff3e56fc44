package vault

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/guard"
	"github.com/claviger/claviger/internal/op"
)

func smallRequest() []byte {
	return []byte(`{"plaintext":"` + base64.StdEncoding.EncodeToString(make([]byte, 64)) + `"}`)
}

// batchRequest has n items of size bytes.
func batchRequest(n, size int) []byte {
	plaintext := make([]byte, size)
	for i := range plaintext {
		plaintext[i] = byte(i * 7)
	}
	var b bytes.Buffer
	b.WriteString(`{"batch_input":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"plaintext":"%s","reference":"%d"}`, base64.StdEncoding.EncodeToString(plaintext), i)
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

func BenchmarkDecode(b *testing.B) {
	small, batch := smallRequest(), batchRequest(100, 1024)
	b.Run("encrypt64", func(b *testing.B) { benchDecode(b, small, new(api.Encrypt), 1) })
	b.Run("encrypt100x1KiB", func(b *testing.B) { benchDecode(b, batch, new(api.Encrypt), 100) })
	var cipher bytes.Buffer
	cipher.WriteString(`{"batch_input":[`)
	for i := range 100 {
		if i > 0 {
			cipher.WriteByte(',')
		}
		fmt.Fprintf(&cipher, `{"ciphertext":"vault:v1:%s"}`, strings.Repeat("abcd", 351))
	}
	cipher.WriteString(`]}`)
	b.Run("decrypt100x1KiB", func(b *testing.B) { benchDecode(b, cipher.Bytes(), new(api.Decrypt), 100) })
}

func benchDecode[T any](b *testing.B, in []byte, req *T, items int) {
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		*req = *new(T)
		if _, err := decodeJSON(in, req, 64); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*items), "ns/item")
}

func BenchmarkEncode(b *testing.B) {
	cipher := "vault:v1:" + strings.Repeat("abcd", 351)
	one := &guard.Answer{RequestID: "6f0f1c3e-0000-4000-8000-000000000000", Data: &api.Encrypted{Ciphertext: cipher[:140], KeyVersion: 1}}
	many := &api.Encrypted{}
	plain := &api.Decrypted{}
	for range 100 {
		many.BatchResults = append(many.BatchResults, api.EncryptedResult{Ciphertext: cipher, KeyVersion: 1})
		p := make([]byte, 1024)
		plain.BatchResults = append(plain.BatchResults, api.DecryptedResult{Plaintext: &p})
	}
	for _, c := range []struct {
		name  string
		a     *guard.Answer
		items int
	}{
		{"encrypted64", one, 1},
		{"encrypted100x1KiB", &guard.Answer{Data: many}, 100},
		{"decrypted100x1KiB", &guard.Answer{Data: plain}, 100},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var buf []byte
			for b.Loop() {
				var err error
				if buf, err = appendAnswer(buf[:0], c.a); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(len(buf)))
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c.items), "ns/item")
		})
	}
}

// sameDoor decodes an encryption request and gives always the same answer.
type sameDoor struct{ answer guard.Answer }

func (d *sameDoor) Handle(_ context.Context, r *guard.Request) (*guard.Answer, error) {
	var req api.Encrypt
	_, err := r.Decode(&req)
	return &d.answer, err
}

func newSameDoor() *sameDoor {
	return &sameDoor{guard.Answer{
		RequestID: "6f0f1c3e-0000-4000-8000-000000000000",
		Op:        &op.Meta{},
		Data:      &api.Encrypted{Ciphertext: "vault:v1:" + strings.Repeat("abcd", 32), KeyVersion: 1},
	}}
}

// nullWriter is a ResponseWriter that costs nothing.
type nullWriter struct{ header http.Header }

func (w *nullWriter) Header() http.Header               { return w.header }
func (w *nullWriter) WriteHeader(int)                   {}
func (w *nullWriter) Write(b []byte) (int, error)       { return len(b), nil }
func (w *nullWriter) SetReadDeadline(_ time.Time) error { return nil }

// BenchmarkHandler is the front's own cost of an encryption of 64 bytes.
func BenchmarkHandler(b *testing.B) {
	h := New(newSameDoor(), Options{})
	body := smallRequest()
	reader := bytes.NewReader(body)
	r, err := http.NewRequest("PUT", "/v1/transit/encrypt/app", io.NopCloser(reader))
	if err != nil {
		b.Fatal(err)
	}
	r.ContentLength = int64(len(body))
	r.Header.Set("X-Vault-Token", "s.abcdefgh")
	w := &nullWriter{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		h.ServeHTTP(w, r)
	}
}

// BenchmarkServer is the same over HTTP on the loopback interface, client included.
func BenchmarkServer(b *testing.B) {
	s := newBenchServer(b, New(newSameDoor(), Options{}))
	body := smallRequest()
	b.ReportAllocs()
	for b.Loop() {
		s.put(b, body)
	}
}

type benchServer struct {
	url    string
	client *http.Client
}

func newBenchServer(b *testing.B, h http.Handler) *benchServer {
	s := httptest.NewServer(h)
	b.Cleanup(s.Close)
	return &benchServer{s.URL + "/v1/transit/encrypt/app", s.Client()}
}

func (s *benchServer) put(b *testing.B, body []byte) {
	req, err := http.NewRequest("PUT", s.url, bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
		b.Fatal(resp.Status, err)
	}
	resp.Body.Close()
}
