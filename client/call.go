package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
)

// maxAnswer bounds an answer's body in bytes.
const maxAnswer = 128 << 20

// request is one call before it is sent.
type request struct {
	method  string
	path    string // below /v1/, its segments escaped
	query   string
	body    any           // nil sends none
	repeat  bool          // may be sent again although the server may have done it
	lenient bool          // every status is an answer, not an error
	wrap    time.Duration // asks for a wrapped answer that is kept so long
}

// at joins path segments; each argument is escaped, so that a name is always
// one segment. An empty name would be another path: it is an error.
func at(parts ...string) (string, error) {
	escaped := make([]string, len(parts))
	for i, p := range parts {
		if p == "" || p == "." || p == ".." {
			return "", fmt.Errorf("%q is no name", p)
		}
		escaped[i] = url.PathEscape(p)
	}
	return strings.Join(escaped, "/"), nil
}

// below is at with the path of a mount in front, which may have several segments.
func below(mount string, parts ...string) (string, error) {
	return at(append(strings.Split(mount, "/"), parts...)...)
}

// send sends r, again if that is safe and may help, and returns the answer.
func (c *Client) send(ctx context.Context, r request) (status int, body []byte, err error) {
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	payload, err := encode(r.body)
	if err != nil {
		return 0, nil, err
	}
	for try := 0; ; try++ {
		a := c.round(ctx, r, payload)
		if try >= c.retries || !worthRepeating(r, a) || ctx.Err() != nil || c.pause(ctx, try, a.wait) != nil {
			return a.status, a.body, a.err
		}
	}
}

func encode(body any) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	b, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	return b, nil
}

// reply is what came back of one try.
type reply struct {
	status int
	body   []byte
	wait   time.Duration // how long the server asks to wait before the next try
	err    error         // there was no answer
}

// once sends r to one server.
func (c *Client) once(ctx context.Context, to *server, r request, payload []byte) reply {
	req, err := c.prepare(ctx, to, r, payload)
	if err != nil {
		return reply{err: err}
	}
	resp, err := to.http.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return reply{err: fmt.Errorf("read the answer: %w", err)}
	}
	if len(body) > maxAnswer {
		return reply{err: fmt.Errorf("the answer is longer than %d bytes", maxAnswer)}
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return reply{err: fmt.Errorf("the server redirects to %s; redirects are not followed, use that server's address", resp.Header.Get("Location"))}
	}
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return reply{status: resp.StatusCode, body: body, wait: time.Duration(seconds) * time.Second}
}

func (c *Client) prepare(ctx context.Context, to *server, r request, payload []byte) (*http.Request, error) {
	u := *to.base
	u.RawPath = u.EscapedPath() + "/v1/" + r.path
	var err error
	if u.Path, err = url.PathUnescape(u.RawPath); err != nil {
		return nil, fmt.Errorf("path %q: %w", r.path, err)
	}
	u.RawQuery = r.query
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), bytes.NewReader(payload))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("X-Vault-Request", "true")
	if c.token != "" {
		req.Header.Set("X-Vault-Token", c.token)
	}
	if r.wrap > 0 {
		req.Header.Set("X-Vault-Wrap-TTL", strconv.FormatInt(int64(r.wrap/time.Second), 10))
	}
	switch {
	case r.method == http.MethodPatch:
		req.Header.Set("Content-Type", "application/merge-patch+json") // RFC 7396
	case r.body != nil:
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// worthRepeating tells whether another try is safe and may end better.
func worthRepeating(r request, a reply) bool {
	return worthElsewhere(r, a) && (a.err != nil || !sealed(a.body))
}

// neverSent tells whether no connection could be made.
func neverSent(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "dial" && !errors.Is(err, context.Canceled)
}

// broken tells whether the connection ended before the answer.
func broken(err error) bool {
	_, network := errors.AsType[*net.OpError](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// sealed tells whether a 503 is one that only custodians can end.
func sealed(body []byte) bool {
	var e api.ErrorResponse
	return json.Unmarshal(body, &e) == nil && len(e.Errors) > 0 && strings.Contains(e.Errors[0], "sealed")
}

// backOff waits about 100 ms, 200 ms, 400 ms …, at least least, and returns an
// error if ctx would end before.
func backOff(ctx context.Context, try int, least time.Duration) error {
	wait := 100 * time.Millisecond << min(try, 6)
	wait = max(least, wait/2+rand.N(wait))
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
		return context.DeadlineExceeded
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// frame is every form that a body can have.
type frame struct {
	api.Envelope
	Errors *[]string `json:"errors"`
}

// exchange sends r and returns the envelope, nil if the answer has no body.
func (c *Client) exchange(ctx context.Context, r request) (*api.Envelope, error) {
	status, body, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer clear(body)
	var f frame
	if len(bytes.TrimSpace(body)) > 0 {
		if err := json.Unmarshal(body, &f); err != nil {
			return nil, notOurs(status, body)
		}
	}
	for _, w := range f.Warnings {
		if c.warn != nil {
			c.warn(w)
		}
	}
	// A batch with failed items has an error's status and results all the same.
	if status >= 400 && (f.Errors != nil || len(f.Data) == 0 || string(f.Data) == "null") {
		e := &api.Error{Status: status}
		if f.Errors != nil {
			e.Errors = *f.Errors
		}
		return nil, e
	}
	if len(body) == 0 {
		return nil, nil
	}
	return &f.Envelope, nil
}

// notOurs describes an answer that is no JSON: a proxy's or another program's.
func notOurs(status int, body []byte) error {
	text := string(body[:min(len(body), 80)])
	if status >= 400 {
		return &api.Error{Status: status, Errors: []string{fmt.Sprintf("status %d with an answer that is no JSON: %q", status, text)}}
	}
	return fmt.Errorf("the server's answer is no JSON, is it a Claviger server? It begins with %q", text)
}

// call sends r and decodes the answer's data.
func call[T any](ctx context.Context, c *Client, r request) (*T, error) {
	env, err := c.exchange(ctx, r)
	if err != nil {
		return nil, err
	}
	if env == nil || len(env.Data) == 0 || string(env.Data) == "null" {
		return nil, fmt.Errorf("the server's answer to %s %s has no data", r.method, r.path)
	}
	defer clear(env.Data)
	out := new(T)
	if err := json.Unmarshal(env.Data, out); err != nil {
		return nil, fmt.Errorf("decode the answer to %s %s: %w", r.method, r.path, err)
	}
	return out, nil
}

// bare sends r and decodes an answer that has no envelope.
func bare[T any](ctx context.Context, c *Client, r request) (*T, error) {
	status, body, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	return decodeBare[T](r, status, body)
}

func decodeBare[T any](r request, status int, body []byte) (*T, error) {
	defer clear(body)
	var failed api.ErrorResponse
	if err := json.Unmarshal(body, &failed); err != nil {
		return nil, notOurs(status, body)
	}
	if status >= 400 && (!r.lenient || failed.Errors != nil) {
		return nil, &api.Error{Status: status, Errors: failed.Errors}
	}
	out := new(T)
	if err := json.Unmarshal(body, out); err != nil {
		return nil, fmt.Errorf("decode the answer to %s %s: %w", r.method, r.path, err)
	}
	return out, nil
}

// do sends r and expects nothing back.
func (c *Client) do(ctx context.Context, r request) error {
	_, err := c.exchange(ctx, r)
	return err
}

// list sends r and returns names; an empty list is "not found" on the wire.
func (c *Client) list(ctx context.Context, path string) ([]string, error) {
	keys, err := call[api.Keys](ctx, c, request{method: http.MethodGet, path: path, query: "list=true", repeat: true})
	if e, ok := errors.AsType[*api.Error](err); ok && e.Status == http.StatusNotFound && len(e.Errors) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return keys.Keys, nil
}
