package vault

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/guard"
	"github.com/claviger/claviger/internal/op"
)

// Options tune the front. The zero value is good.
type Options struct {
	// MaxBody is the largest body in bytes; default 32 MiB.
	MaxBody int64
	// MaxDepth is how deep JSON may be nested; default 64.
	MaxDepth int
	// RequestTimeout is how long a request may take, the reading of its body
	// included; default 90 s.
	RequestTimeout time.Duration
	// Logger takes what callers are not told; default slog.Default().
	Logger *slog.Logger
	// Version is shown at the path /.
	Version string
}

type handler struct {
	Options
	door guard.Door
}

// New returns the handler of Vault's HTTP API. It serves all paths: mount it at
// "/", not behind a ServeMux, whose redirects clients of Vault don't follow.
func New(door guard.Door, o Options) http.Handler {
	if o.MaxBody == 0 {
		o.MaxBody = 32 << 20
	}
	if o.MaxDepth == 0 {
		o.MaxDepth = 64
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = 90 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &handler{o, door}
}

// ServeHTTP answers one request, whatever happens.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer h.recoverPanic(w, r)
	if r.URL.Path == "/" || r.URL.Path == "" {
		h.index(w, r)
		return
	}
	if err := h.serve(w, r); err != nil {
		h.refuse(w, r, err)
	}
}

// serve performs a request. The error is what the caller is to be told.
func (h *handler) serve(w http.ResponseWriter, r *http.Request) error {
	verb, path, err := route(r)
	if err != nil {
		return err
	}
	help, err := wantsHelp(r)
	if err != nil {
		return err
	}
	if help {
		verb = op.Read
	}
	if err := checkHeaders(w, r); err != nil {
		return err
	}
	wrapTTL, err := wrapTTL(r.Header)
	if err != nil {
		return err
	}
	ctx := newDeadline(r.Context(), h.RequestTimeout)
	defer ctx.stop()
	c := call{h: h, w: w, r: r, verb: verb, deadline: ctx.deadline}
	c.req = guard.Request{
		Verb:    verb,
		Path:    path,
		Help:    help,
		Token:   clientToken(r.Header),
		Remote:  r.RemoteAddr,
		WrapTTL: wrapTTL,
		Decode:  c.decode,
	}
	answer, err := h.door.Handle(ctx, &c.req)
	if err != nil {
		return outcome(ctx, err)
	}
	return h.answer(w, r, answer)
}

// outcome chooses what the caller is told of a failed operation.
func outcome(ctx context.Context, err error) error {
	if fault.KindOf(err) == fault.Internal && ctx.Err() == context.DeadlineExceeded {
		return fault.Wrap(fault.Uncertain, err, "the time for the request is over; whether it took effect is unknown")
	}
	return err
}

// call is one request on its way.
type call struct {
	h        *handler
	w        http.ResponseWriter
	r        *http.Request
	verb     op.Verb
	deadline time.Time
	req      guard.Request
}

// bodyOfDelete is a request that clients send in the body of a DELETE too.
type bodyOfDelete interface{ BodyOfDelete() }

// decode fills an operation's request; it is guard.Request.Decode.
func (c *call) decode(req any) (unknown []string, err error) {
	if !c.verb.HasBody() {
		c.noteNames(c.r.URL.RawQuery)
		unknown, err = decodeQuery(c.r.URL.RawQuery, req)
		if _, more := req.(bodyOfDelete); err != nil || !more {
			return unknown, err
		}
	}
	if c.r.Body == nil || c.r.ContentLength == 0 {
		return nil, nil
	}
	buf := buffers.get()
	body, err := c.readBody(*buf)
	if err != nil {
		return nil, err
	}
	*buf = body
	defer buffers.put(buf)
	if raw, ok := req.(rawBody); ok {
		return nil, raw.TakeRaw(body)
	}
	if whole, ok := req.(wholeBody); ok {
		return nil, c.takeBody(whole, body)
	}
	if isForm(c.r.Header, body) {
		c.noteNames(string(body))
		return decodeForm(body, req)
	}
	if c.req.WantSent {
		unknown, c.req.Sent, err = decodeNoting(body, req, c.h.MaxDepth)
		return unknown, err
	}
	return decodeJSON(body, req, c.h.MaxDepth)
}

// noteNames notes the names of URL parameters or a form for the guard, if it
// wants them. What is no form is refused by the decoding of its values.
func (c *call) noteNames(text string) {
	if !c.req.WantSent {
		return
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return
	}
	for name := range values {
		if !slices.Contains(reserved, name) {
			c.req.Sent = append(c.req.Sent, name)
		}
	}
}

// index answers the path / for a person with a browser.
func (h *handler) index(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.refuse(w, r, fault.New(fault.Unsupported, ""))
		return
	}
	text := strings.TrimSpace("Claviger "+h.Version) + ": Vault's HTTP API is under /v1/\n"
	if err := write(w, http.StatusOK, plainText, []byte(text)); err != nil {
		h.Logger.Debug("answer not delivered", "error", err)
	}
}

// recoverPanic turns a panic into an answer, so that the connection lives on.
func (h *handler) recoverPanic(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	h.Logger.Error("panic while serving a request", "method", r.Method, "path", r.URL.Path,
		"panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	h.refuse(w, r, fault.New(fault.Internal, "panic"))
}
