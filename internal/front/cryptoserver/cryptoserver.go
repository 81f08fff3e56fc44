package cryptoserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/guard"
	"github.com/claviger/claviger/internal/op"
)

// Options tune the front.
type Options struct {
	// Mount is the path of the pool's mount: "hmacpool".
	Mount string
	// As is the identity that calls. Without one every request must show a client
	// token: X-Vault-Token, or Authorization: Bearer.
	As *guard.Identity
	// MaxBody is the largest body in bytes; default 32 MiB.
	MaxBody int64
	// Logger takes what callers are not told; default slog.Default().
	Logger *slog.Logger
}

type handler struct {
	Options
	door guard.Door
	path string
}

// New returns the handler. It serves all paths.
func New(door guard.Door, o Options) http.Handler {
	if o.MaxBody == 0 {
		o.MaxBody = 32 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &handler{o, door, strings.Trim(o.Mount, "/") + "/hmac"}
}

var (
	octets     = []string{"application/octet-stream"}
	codeLength = []string{"32"}
	nothing    = []string{"0"}
)

// errRequest is a request that is none of this protocol.
var errRequest = errors.New("not a POST of at least one byte to /hmac")

// ServeHTTP answers one request, whatever happens.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if v := recover(); v != nil {
			h.Logger.Error("panic while serving a request", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			h.refuse(w, http.StatusBadRequest)
		}
	}()
	code, err := h.serve(w, r)
	switch {
	case err == nil:
		header := w.Header()
		header["Content-Type"], header["Content-Length"] = octets, codeLength
		if _, err := w.Write(code); err != nil {
			h.Logger.Debug("answer not delivered", "error", err)
		}
	case fault.KindOf(err) == fault.Denied:
		h.refuse(w, http.StatusForbidden)
	default:
		h.note(r.RemoteAddr, err)
		h.refuse(w, http.StatusBadRequest)
	}
}

func (h *handler) refuse(w http.ResponseWriter, status int) {
	w.Header()["Content-Length"] = nothing
	w.WriteHeader(status)
}

// serve computes the code.
func (h *handler) serve(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.Method != http.MethodPost || r.URL.Path != "/hmac" || r.URL.RawPath != "" || r.ContentLength == 0 {
		return nil, errRequest
	}
	b := bodies.Get().(*body)
	defer b.release()
	req := guard.Request{Verb: op.Write, Path: h.path, As: h.As, Remote: r.RemoteAddr}
	if h.As == nil {
		req.Token = clientToken(r.Header)
	}
	req.Decode = func(into any) ([]string, error) {
		if err := b.read(r, h.MaxBody); err != nil {
			// What was not read stands in the way of the next request.
			w.Header().Set("Connection", "close")
			return nil, err
		}
		in, ok := into.(*api.PoolHMAC)
		if !ok {
			return nil, h.wrongRequest(into)
		}
		in.Input = b.data
		return nil, nil
	}
	return h.call(r.Context(), &req)
}

func (h *handler) wrongRequest(into any) error {
	return fmt.Errorf("%s takes a %T, not the input of an HMAC", h.path, into)
}

// note logs why a request is refused: loudly what an operator has to put right and
// the guard does not log, that there is no pool.
func (h *handler) note(remote string, err error) {
	if fault.KindOf(err) == fault.NotFound {
		h.Logger.Warn("there is no pool to serve", "mount", h.Mount, "error", err)
		return
	}
	h.Logger.Debug("request refused", "remote", remote, "error", err)
}

// call has the operation done.
func (h *handler) call(ctx context.Context, req *guard.Request) ([]byte, error) {
	answer, err := h.door.Handle(ctx, req)
	if err != nil {
		return nil, err
	}
	codes, ok := answer.Data.(*api.PoolCodes)
	if !ok || len(codes.HMAC) != 32 {
		return nil, fmt.Errorf("%s answered a %T that is no HMAC", h.path, answer.Data)
	}
	return codes.HMAC, nil
}

// clientToken finds the client token in either of its headers.
func clientToken(h http.Header) string {
	if t := h.Get("X-Vault-Token"); t != "" {
		return t
	}
	const scheme = "bearer "
	a := h.Get("Authorization")
	if len(a) > len(scheme) && strings.EqualFold(a[:len(scheme)], scheme) {
		return strings.TrimSpace(a[len(scheme):])
	}
	return ""
}

// body is a request's body in a buffer that is used again.
type body struct{ data []byte }

const (
	firstSize = 4 << 10
	keepBelow = 1 << 20 // larger buffers are not kept
)

var bodies = sync.Pool{New: func() any { return &body{make([]byte, 0, firstSize)} }}

// release wipes the body: it may be a secret of the caller.
func (b *body) release() {
	clear(b.data)
	if cap(b.data) <= keepBelow {
		b.data = b.data[:0]
		bodies.Put(b)
	}
}

// read fills the buffer, which grows only as fast as bytes come. An empty body
// is an error, and one of more than limit bytes.
func (b *body) read(r *http.Request, limit int64) error {
	if r.ContentLength > limit {
		return tooLarge(limit)
	}
	for {
		if len(b.data) == cap(b.data) {
			larger := append(b.data, 0)[:len(b.data)]
			clear(b.data)
			b.data = larger
		}
		n, err := r.Body.Read(b.data[len(b.data):cap(b.data)])
		b.data = b.data[:len(b.data)+n]
		switch {
		case int64(len(b.data)) > limit:
			return tooLarge(limit)
		case err == io.EOF && len(b.data) == 0:
			return fault.New(fault.Invalid, "the body is empty")
		case err == io.EOF:
			return nil
		case err != nil:
			return fault.Wrap(fault.Invalid, err, "the body ended early or came too slowly")
		}
	}
}

func tooLarge(limit int64) error {
	return fault.New(fault.TooLarge, "the body is larger than %d bytes", limit)
}
