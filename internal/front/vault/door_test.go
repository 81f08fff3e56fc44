package vault

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/guard"
	"github.com/claviger/claviger/internal/op"
)

// testDoor is a door to a small table of operations: it decodes, performs, and
// remembers the last request. Its only token is "good".
type testDoor struct {
	table []*op.Operation
	last  atomic.Pointer[guard.Request]
}

func (d *testDoor) Handle(ctx context.Context, r *guard.Request) (*guard.Answer, error) {
	d.last.Store(r)
	o := d.find(r)
	if o == nil {
		return nil, fault.New(fault.NotFound, "no handler for route %q. route entry not found.", r.Path)
	}
	if r.Token != "good" && !o.Public {
		return nil, fault.New(fault.Denied, "permission denied")
	}
	req := o.NewRequest()
	unknown, err := r.Decode(req)
	if err != nil {
		return nil, err
	}
	call := &op.Call{}
	data, err := o.Invoke(ctx, call, req)
	if err != nil {
		return nil, err
	}
	if len(unknown) > 0 {
		call.Warn("Endpoint ignored these unrecognized parameters: [%s]", strings.Join(unknown, " "))
	}
	return &guard.Answer{RequestID: "id-1", Op: &o.Meta, Data: data, Warnings: call.Warnings}, nil
}

func (d *testDoor) find(r *guard.Request) *op.Operation {
	i := slices.IndexFunc(d.table, func(o *op.Operation) bool {
		return o.Verb == r.Verb && o.Path == strings.TrimSuffix(r.Path, "/")
	})
	if i < 0 {
		return nil
	}
	return d.table[i]
}

// define adds an operation to the door.
func define[Req, Resp any](d *testDoor, m op.Meta, f func(ctx context.Context, c *op.Call, r *Req) (*Resp, error)) {
	d.table = append(d.table, op.Define(m, f))
}

type server struct {
	t    *testing.T
	door *testDoor
	*httptest.Server
}

func serve(t *testing.T, o Options) *server {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &testDoor{}
	defineTable(d)
	s := httptest.NewServer(New(d, o))
	t.Cleanup(s.Close)
	return &server{t, d, s}
}

type reply struct {
	status int
	header http.Header
	body   string
}

// do sends a request with the good token; headers are "Name: value".
func (s *server) do(method, path, body string, headers ...string) reply {
	s.t.Helper()
	req, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", "good")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(b)}
}
